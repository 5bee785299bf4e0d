"""A record is what its readers take it for, in every part, or it is damaged and is named."""

from __future__ import annotations

import copy
import io
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest

from adamwprune.base.errors import UserError
from adamwprune.base.forms import ANY, misfit, number
from adamwprune.page import data
from adamwprune.progress import history, rows
from adamwprune.progress.eta import Paces, Work, remaining
from adamwprune.records.published import read_published
from adamwprune.records.record import _NEEDED, RunResult
from adamwprune.records.store import Store
from adamwprune.report import export, present
from adamwprune.report.present import Request
from adamwprune.scheduler.devices import Slot
from adamwprune.scheduler.packing import History
from tests.support.records import expand, synthetic

SPEC = expand("memory-comparison", OPTIMIZER="adamwspam", TARGET_SPARSITY="0.7")[2]
SOUND = json.loads(json.dumps(synthetic(SPEC, gpu=True).to_json()))
SOUND["environment"] |= {"host": "here", "attempts": [{"from_step": 0}]}
SOUND["memory"]["device"]["reserved"] = 10**9
SOUND["code"] = {"digest": "0123", "modules": {"training": "4567"}}
WRONG: list[Any] = [None, [], {}, [None], 3, -1, "x", True, 10**400, 1e307, 5e-324, math.nan]


LACKING = object()


def changed(path: str, value: object) -> dict[str, Any]:
    """A record with another value at a path, ``memory.device`` say."""
    plain = copy.deepcopy(SOUND)
    *way, last = path.split(".")
    part: Any = plain
    for name in way:
        part = part[int(name) if isinstance(part, list) else name]
    at = int(last) if isinstance(part, list) else last
    if value is LACKING:
        del part[at]
    else:
        part[at] = value
    return plain


PARTS = [(part, name) for part, names in _NEEDED.items() for name in names]


@pytest.mark.parametrize(("part", "name"), PARTS)
def test_a_record_without_an_entry_that_tables_need_is_named(part, name, tmp_path):
    folder = tmp_path / SPEC.run_id
    folder.mkdir()
    for lacking, told in ((f"{part}.{name}", name), (part, r"\w+")):
        (folder / "result.json").write_text(json.dumps(changed(lacking, LACKING)))
        expected = rf"result\.json: not a record: {part}\.{told} is missing; remove it"
        with pytest.raises(UserError, match=expected):
            Store(tmp_path).result(SPEC)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *((name, []) for name in ("environment", "seconds", "memory", "final", "pruning", "code")),
        *((name, {}) for name in ("history", "param_groups", "weights", "error")),
        ("memory.device", 3),
        ("memory.device", {"reserved": "x"}),
        ("memory.device.timeline.1.0", None),
        ("memory.total", 10**400),
        ("memory.pruner", {"masks": 1.5}),
        ("seconds.total", "14.2"),
        ("seconds.total", None),
        ("history.3", []),
        ("history.0.test_loss", "low"),
        ("pruning.zeros", True),
        ("pruning.updates.2.step", []),
        ("pruning.updates.1.changed", 1.5),
        ("pruning.updates.1.magnitude_agreement", "x"),
        ("pruning.mean_density", None),
        ("operations.multiply_adds_left", 1.5),
        ("operations.layers.0", None),
        ("speed.examples_per_second", "x"),
        ("memory.device.sensors", {"power": ["x"]}),
        ("pruning.layers.0", None),
        ("trace.norm.0", "x"),
        ("environment.attempts", [3]),
        ("environment.commit", 7),
        ("code.modules", ["adamwprune.train.loop"]),
        ("spec.LR", []),
    ],
)
def test_a_part_that_is_something_else_is_named(tmp_path, path, value):
    folder = tmp_path / SPEC.run_id
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps(changed(path, value)))
    with pytest.raises(UserError, match=r"result\.json: not a record: [\w.]+ has another form; "):
        Store(tmp_path).result(SPEC)
    assert history.records(tmp_path) == []
    part = path.partition(".")[0]
    with pytest.raises(ValueError, match=rf"not a record: {part}\b"):
        RunResult.from_json(changed(path, value))


@pytest.mark.parametrize("value", [-0.1, 3, 1e307, math.nan, math.inf])
def test_an_accuracy_is_a_fraction(value):
    with pytest.raises(ValueError, match="is no test accuracy"):
        RunResult.from_json(changed("final.test_accuracy", value))


def test_what_readers_do_not_rely_on_may_be_anything():
    plain = changed("environment.more", [{}])
    plain["memory"]["device"]["another"] = "x"
    assert RunResult.from_json(plain).environment["more"] == [{}]
    assert RunResult.from_json(changed("memory.device", None)).memory["device"] is None


def test_every_published_record_is_one(repository):
    assert len(read_published(repository / "results" / "published")) > 900


def paths(value: object, path: str = "") -> Iterator[str]:
    """Of all parts of a plain value; of a list, those of its first element."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        inner = list(enumerate(value[:1]))
    for name, part in inner:
        yield from paths(part, f"{path}.{name}".lstrip("."))


def used(record: RunResult) -> None:
    """What commands do with a record that they find."""
    for device, threads in (("cpu", 1), ("cuda:0", 2)):
        works = [Work(SPEC, 100, 1e-6)], [Work(SPEC, 100)]
        left = remaining(*works, [Slot(device, threads)], Paces([record]))
        assert left is not None
        rows.quantiles(left)
    History([record]).bytes_of(SPEC)
    present.tables_of([SPEC], [record], "text", True)
    json.dumps(data.of([SPEC], [record], {}, Request()), allow_nan=False)
    export.to_csv(export.table([record], []), io.BytesIO())


@pytest.mark.parametrize("part", [name for name in SOUND if name not in ("spec", "trace")])
def test_what_is_read_can_be_used(part):
    """Whatever one part of it is: refused, or good for tables, pages and estimates."""
    read = 0
    for path in paths(SOUND[part], part):
        for value in (*WRONG, LACKING):
            try:
                record = RunResult.from_json(changed(path, value))
            except ValueError:
                continue
            used(record)
            read += 1
    assert read or part in ("run_id", "status", "schema", "param_groups")


def test_numbers():
    for value in (1, 0, -2.5, 5e-324, 10**300):
        assert number(value) is value
    for value in (None, True, "1", [], math.nan, -math.inf, 10**309):
        assert number(value) is None


@pytest.mark.parametrize(
    ("value", "form", "path"),
    [
        ({"a": 1, "b": "x"}, {"a": int}, None),
        ({"a": 1, "b": "x"}, {"a": int, ANY: float}, ".b"),
        ({"a": [1, 2.0, 10**400]}, {"a": [float]}, ".a.2"),
        ([[1], [2, "x"]], [[int]], ".1.1"),
        ([1, 2.0], [int], ".1"),
        ([1, math.nan, -math.inf], [float], None),
        (True, int, ""),
        (True, float, ""),
        (None, (int, None), None),
        (False, (int, None), ""),
        ([], {}, ""),
        ({}, [int], ""),
    ],
)
def test_where_a_value_is_not_of_its_form(value, form, path):
    assert misfit(value, form) == path
