"""A record's brief: the first two lines of its file, or the whole of an older one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from adamwprune.base.errors import UserError
from adamwprune.plan.spec import RunSpec
from adamwprune.records import brief
from adamwprune.records.brief import Brief, encode, read_brief, read_result
from adamwprune.records.record import RunResult
from tests.support.records import expand, synthetic

SPEC, OTHER = expand("quickstart")[:2]
CODE = {"digest": "0" * 16, "modules": {"adamwprune.train.loop": "0" * 10}}
FAILED = replace(synthetic(SPEC, status="failed"), error="Traceback\n  in here\nValueError: no\n")
LONG = replace(FAILED, error="x" * 30_000 + "\nValueError: no")


def older(result: RunResult) -> str:
    """The file's text as it was laid out before."""
    return json.dumps(result.to_json(), indent=1) + "\n"


@pytest.mark.parametrize("result", [synthetic(SPEC), FAILED, LONG], ids=["done", "failed", "long"])
@pytest.mark.parametrize("layout", [encode, older])
def test_a_brief_is_what_the_record_says(tmp_path, result, layout):
    result = replace(result, code=CODE)
    path = tmp_path / "result.json"
    path.write_text(layout(result))
    assert read_result(path) == result
    error = "ValueError: no" if result.status == "failed" else ""
    assert read_brief(str(path), SPEC) == Brief(SPEC, result.status, CODE, error)


def test_the_numbers_are_not_read(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    path.write_text(encode(replace(synthetic(SPEC), code=CODE)))
    monkeypatch.setattr(Path, "read_bytes", None)  # whoever called them would fail
    monkeypatch.setattr(brief, "read_result", None)
    assert read_brief(str(path), SPEC).status == "done"


@pytest.mark.parametrize("layout", [encode, older])
@pytest.mark.parametrize("size", [0, 1, 40, 2000, -1, -2])
def test_half_a_file_is_a_damaged_record(tmp_path, layout, size):
    path = tmp_path / "result.json"
    path.write_text(layout(synthetic(SPEC))[:size].rstrip())
    whole = json.loads(layout(synthetic(SPEC)))
    if size == -1:  # without its last line end
        assert json.loads(path.read_text()) == whole
        assert read_brief(str(path), SPEC).status == "done"
        return
    with pytest.raises(UserError, match="remove it to train the run again"):
        read_brief(str(path), SPEC)


@pytest.mark.parametrize(
    "changes",
    [{"status": "dnoe"}, {"error": 3}, {"spec": []}, {"schema": 99}, {"code": []},
     {"code": {"digest": 3}}, {"run_id": "x"}],
)  # fmt: skip
@pytest.mark.parametrize("is_head", [True, False])
def test_a_field_of_another_form_is_damage(tmp_path, changes, is_head):
    plain = {**json.loads(encode(replace(synthetic(SPEC), code=CODE))), **changes}
    names = ("schema", "run_id", "status", "error", "spec")
    first = json.dumps({name: plain.pop(name) for name in names})[:-1]
    code, rest = json.dumps(plain.pop("code")), json.dumps(plain, indent=1)
    text = f'{first},\n"code": {code},\n{rest[2:]}\n'
    path = tmp_path / "result.json"
    path.write_text(text if is_head else json.dumps(json.loads(text)))
    with pytest.raises(UserError, match=r"result\.json: "):
        read_brief(str(path), SPEC)


def test_the_record_of_another_run_is_not_believed(tmp_path):
    path = tmp_path / "result.json"
    path.write_text(encode(synthetic(OTHER)))
    with pytest.raises(UserError, match=f"is the record of another run, {OTHER.run_id}"):
        read_brief(str(path), SPEC)


def test_no_file_is_no_record_and_a_link_is_damage(tmp_path):
    path = tmp_path / "result.json"
    assert read_brief(str(path), SPEC) is None
    assert read_brief(str(path / "below"), SPEC) is None
    (tmp_path / "elsewhere").write_text(encode(synthetic(SPEC)))
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"nothing is opened through a link here$"):
        read_brief(str(path), SPEC)


def test_a_symbol_that_came_later_is_no_other_run(tmp_path):
    values = {name: value for name, value in SPEC.values.items() if name != "VALIDATION_EXAMPLES"}
    old = RunSpec(values)
    assert old == SPEC
    path = tmp_path / "result.json"
    path.write_text(encode(replace(synthetic(SPEC), spec=old)))
    found = read_brief(str(path), SPEC)
    assert found.spec["VALIDATION_EXAMPLES"] == 0
