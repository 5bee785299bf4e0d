"""The index of records: it answers as the records do, whatever became of it or of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from adamwprune.records.index import FILE, Index, opened

from adamwprune.base.errors import UserError
from adamwprune.records import index, staleness
from adamwprune.records.code import Code
from adamwprune.records.record import Brief
from adamwprune.records.store import RESULT, TICK, Store, publish
from tests.support.records import expand, synthetic

SPECS = expand("memory-comparison")[:4]
HERE = Code({"adamwprune.train.loop": "0123456789"})
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path) -> Store:
    """Three runs that were done, one of them by other code, one that failed."""
    store = Store(tmp_path)
    for spec in SPECS[:3]:
        ended(store, spec)
    ended(store, SPECS[1], code=Code({"adamwprune.train.loop": "old"}).to_json())
    ended(store, SPECS[2], status="failed", error="Traceback\n  in here\nValueError: diverged\n")
    return store


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Which records are read from now on."""
    read, found = Store.result, []

    def noted(self, spec):
        found.append(spec.run_id)
        return read(self, spec)

    monkeypatch.setattr(Store, "result", noted)
    return found


def ended(store: Store, spec, **changes: object) -> None:
    made = replace(synthetic(spec), **{"code": HERE.to_json(), **changes})
    store.folder(spec).mkdir(parents=True, exist_ok=True)
    publish(store.folder(spec), made)


def later(monkeypatch) -> None:
    """So long after what was written that the clock has gone on."""
    now = time.time_ns
    monkeypatch.setattr(index.time, "time_ns", lambda: now() + 2 * TICK)


def verdicts(store: Store) -> list[tuple[str, str]]:
    with opened(store) as runs:
        return [staleness.verdict(runs.result(spec), HERE) for spec in SPECS]


EXPECTED = [
    ("done", ""),
    ("stale", "changed since: training"),
    ("failed", "ValueError: diverged"),
    ("missing", ""),
]


def test_what_was_read_is_not_read_again(store, reads, monkeypatch):
    later(monkeypatch)
    assert verdicts(store) == EXPECTED
    assert reads == [spec.run_id for spec in SPECS[:3]]
    reads.clear()
    assert verdicts(store) == EXPECTED
    assert reads == []
    brief = Index(store).result(SPECS[2])
    assert brief == Brief(SPECS[2], "failed", HERE.to_json(), "ValueError: diverged")


def test_without_it_the_answer_is_the_same(store, reads, monkeypatch):
    later(monkeypatch)
    verdicts(store)
    (store.root / FILE).unlink()
    reads.clear()
    assert verdicts(store) == EXPECTED
    assert len(reads) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: b"\0" * len(data),
        lambda data: data.replace(b'"done"', b'"none"'),
        lambda data: data.replace(b'"failed"', b'"done"', 1),
        lambda data: data.replace(data[:10], b"0123456789"),  # as another version writes it
        lambda data: data.split(b"\n", 1)[1],
        lambda data: b"[" * 100_000,
        lambda data: index._head(b"[]") + b"\n[]",
        lambda data: index._head(b'{"runs": {"a": 3}}') + b'\n{"runs": {"a": 3}}',
        lambda data: index._head(b"[" * 100_000) + b"\n" + b"[" * 100_000,
    ],
)
def test_what_is_damaged_is_as_good_as_none(store, reads, monkeypatch, damage):
    later(monkeypatch)
    verdicts(store)
    whole = (store.root / FILE).read_bytes()
    assert damage(whole) != whole
    (store.root / FILE).write_bytes(damage(whole))
    reads.clear()
    assert verdicts(store) == EXPECTED
    assert len(reads) == 3
    assert (store.root / FILE).read_bytes() == whole, "and is written anew"


def test_another_version_s_is_not_read(store, reads, monkeypatch):
    later(monkeypatch)
    verdicts(store)
    reads.clear()
    monkeypatch.setattr(index, "_version", lambda: "another")
    assert verdicts(store) == EXPECTED
    assert len(reads) == 3


def test_a_record_that_was_just_written_is_not_entered(store, reads):
    """What replaces it within the same tick of the clock could not be told from it."""
    assert verdicts(store) == EXPECTED
    assert verdicts(store) == EXPECTED
    assert len(reads) == 6
    assert not (store.root / FILE).exists()


def test_a_record_that_is_replaced_is_read_again(store, monkeypatch):
    later(monkeypatch)
    verdicts(store)
    for code, name in ((Code({"a": "b"}), "stale"), (HERE, "done"), (Code({"a": "c"}), "stale")):
        ended(store, SPECS[0], code=code.to_json())
        assert verdicts(store)[0][0] == name


def test_a_record_that_is_changed_in_place_is_read_again(store, monkeypatch):
    """Of the same size, and with its old time given back."""
    later(monkeypatch)
    verdicts(store)
    path = store.folder(SPECS[0]) / RESULT
    before, stat = path.read_text(), path.stat()
    time.sleep(0.02)  # a tick of the file system's clock
    path.write_text(before.replace(HERE.digest, HERE.digest[::-1]))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert verdicts(store)[0][0] == "stale"


def test_records_that_change_places_are_told_apart(store, monkeypatch):
    later(monkeypatch)
    verdicts(store)
    one, other = store.folder(SPECS[0]), store.folder(SPECS[1])
    one.rename(store.root / "aside")
    other.rename(one)
    (store.root / "aside").rename(other)
    with pytest.raises(UserError, match="is the record of another run"):
        Index(store).result(SPECS[0])


def test_a_damaged_record_is_an_error_every_time(store, monkeypatch):
    later(monkeypatch)
    verdicts(store)
    path = store.folder(SPECS[0]) / RESULT
    path.write_text(path.read_text()[:-20])
    for _ in range(2):
        with opened(store) as runs, pytest.raises(UserError, match=r"result\.json: "):
            runs.result(SPECS[0])


def test_code_that_changes_makes_what_is_in_it_stale(store, monkeypatch):
    later(monkeypatch)
    verdicts(store)
    changed = Code({"adamwprune.train.loop": "new"})
    brief = Index(store).result(SPECS[0])
    assert staleness.verdict(brief, changed) == ("stale", "changed since: training")


def test_runs_that_are_gone_are_forgotten(store, monkeypatch):
    later(monkeypatch)
    verdicts(store)
    (store.folder(SPECS[0]) / RESULT).unlink()
    assert verdicts(store)[0] == ("missing", "")
    store.folder(SPECS[0]).rmdir()
    ended(store, SPECS[3])
    assert [name for name, _ in verdicts(store)] == ["missing", "stale", "failed", "done"]
    body = (store.root / FILE).read_bytes().split(b"\n", 1)[1]
    assert set(json.loads(body)["runs"]) == {spec.run_id for spec in SPECS[1:]}


def test_code_that_made_no_record_any_more_is_forgotten(store, monkeypatch):
    later(monkeypatch)
    verdicts(store)
    size = (store.root / FILE).stat().st_size
    for number in range(20):
        ended(store, SPECS[1], code=Code({"adamwprune.train.loop": f"{number:03}"}).to_json())
        assert verdicts(store) == EXPECTED
    body = (store.root / FILE).read_bytes().split(b"\n", 1)[1]
    assert len(json.loads(body)["codes"]) == 2
    assert (store.root / FILE).stat().st_size == size
    assert [Index(store).result(spec).code["digest"] for spec in SPECS[:3]] == [
        HERE.digest, Code({"adamwprune.train.loop": "019"}).digest, HERE.digest]  # fmt: skip


def test_a_directory_that_refuses_is_left_alone(store, monkeypatch):
    later(monkeypatch)

    def refuse(*arguments, **named):
        raise PermissionError(13, "read-only")

    monkeypatch.setattr(index, "write_bytes", refuse)
    assert verdicts(store) == EXPECTED
    assert not (store.root / FILE).exists()


def test_nothing_is_made_where_there_are_no_results(tmp_path):
    store = Store(tmp_path / "results")
    assert {name for name, _ in verdicts(store)} == {"missing"}
    assert not store.root.exists()


def test_who_writes_at_the_same_time_leaves_a_whole_index(store):
    """Eight processes, twenty times each, every one with another half of the runs."""
    code = """
import sys
from pathlib import Path
from adamwprune.records import index
from adamwprune.records.store import Store
from tests.support.records import expand
index.TICK = -10**12
specs = expand("memory-comparison")[:4]
for number in range(20):
    with index.opened(Store(Path(sys.argv[1]))) as runs:
        for spec in specs[int(sys.argv[2]) % 2 :: 2]:
            runs._entries.pop(spec.run_id, None)
            runs.result(spec)
"""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'lib'}{os.pathsep}{ROOT}"}
    words = [sys.executable, "-c", code, str(store.root)]
    each = [subprocess.Popen([*words, str(n)], env=environment, cwd=ROOT) for n in range(8)]
    assert [process.wait() for process in each] == [0] * 8
    assert Index(store)._entries, "it can be read"
    assert verdicts(store) == EXPECTED
    assert sorted(path.name for path in store.root.iterdir() if path.is_file()) == [FILE]


def test_many_known_records_are_not_written_anew_for_one(store, monkeypatch):
    later(monkeypatch)
    verdicts(store)
    written = (store.root / FILE).stat().st_ino
    monkeypatch.setattr(index, "WORTH", 2)
    ended(store, SPECS[3])
    verdicts(store)
    assert (store.root / FILE).stat().st_ino == written
    monkeypatch.setattr(index, "WORTH", 4)
    verdicts(store)
    assert (store.root / FILE).stat().st_ino != written
