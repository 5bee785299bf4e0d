"""make status: what is on disk, whatever state it is in."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Set
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from adamwprune.base.errors import UserError
from adamwprune.plan.spec import RunSpec
from adamwprune.progress import history, status, steps
from adamwprune.progress.eta import Estimate
from adamwprune.progress.history import Score
from adamwprune.records import locks
from adamwprune.records.code import Code
from adamwprune.records.state import decide
from adamwprune.records.store import LOCK, RESULT, Store, publish
from adamwprune.scheduler.devices import Slot
from tests.support.records import expand, synthetic

SPECS = expand("memory-comparison")[:6]
ROOT = Path(__file__).resolve().parents[2]


CODE = Code({"adamwprune.train.loop": "0123456789"})


@pytest.fixture(autouse=True)
def _nothing_is_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine's user has measured plays no part."""
    monkeypatch.setattr(steps, "_STEP", SimpleNamespace(known=lambda values: None))


class Runs(Store):
    """A store whose runs are locked by being in a set."""

    def __init__(self, root: Path, locked: Set[RunSpec] = frozenset()) -> None:
        super().__init__(root)
        vars(self)["locked"] = locked

    def files(self, spec):
        return super().files(spec) | ({LOCK} if spec in self.locked else set())

    def is_running(self, spec):
        return spec in self.locked


def told(spec, **values: object) -> str:
    plain = {
        "event": "progress",
        "epoch": 3,
        "step": 300,
        "train_loss": 0.04,
        "test_accuracy": 0.98,
    }
    plain["code"] = CODE.digest
    return json.dumps({**plain, "sparsity": 0.5, "rate": 10.0, "updated": time.time(), **values})


def left_by(runs: Runs, spec, content: str | bytes) -> None:
    folder = runs.folder(spec)
    folder.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    (folder / "progress.json").write_bytes(data)
    (folder / "checkpoint.pt").touch()


def ended(runs: Runs, spec, **changes: object) -> None:
    here = {"host": os.uname().nodename, "device": "cpu", "threads": 1}
    made = replace(
        synthetic(spec),
        code=CODE.to_json(),
        environment=here,
        seconds={"total": 118.0, "train": 118.0},
    )
    runs.folder(spec).mkdir(parents=True, exist_ok=True)
    publish(runs.folder(spec), replace(made, **changes))


def report(runs: Runs, width: int = 200, slots: int = 2) -> list[str]:
    states = [decide(runs, spec, CODE) for spec in SPECS]
    places = lambda count: [Slot("cpu", 1)] * slots  # noqa: E731
    return status.report(".config", states, runs.root, places, width)


def test_a_matrix_in_full_swing(tmp_path):
    runs = Runs(tmp_path, {SPECS[2], SPECS[3]})
    ended(runs, SPECS[0])
    ended(runs, SPECS[1], status="failed", error="Traceback\nValueError: training diverged")
    left_by(runs, SPECS[2], told(SPECS[2], updated=time.time() - 65, device="cpu"))
    left_by(runs, SPECS[4], told(SPECS[4]))
    lines = report(runs)
    assert lines[0] == (".config: 6 runs: 1 done, 1 failed, 2 running, 1 interrupted, 1 missing")
    assert lines[1].startswith(f"failed  {SPECS[1].slug}  ValueError: training diverged")
    assert lines[2] == (
        f"{SPECS[4].slug}: interrupted at step 300 of 1180, goes on from its checkpoint"
    )
    assert lines[3].split() == [
        *("run", "epoch", "loss", "accuracy", "sparsity", "steps/s", "updated", "left", "device")
    ]
    assert lines[4].split() == [
        *(SPECS[2].slug, "3/10", "0.0400", "98.00%", "50.0%", "10.0", "1:05", "ago", "1:28", "cpu")
    ]
    assert lines[5].split() == [SPECS[3].slug, "starting"]
    assert lines[6].startswith("eta     ")
    assert lines[6].endswith("  2 at a time")
    assert len(lines) == 7
    assert all(len(line) <= 80 for line in report(runs, 80) if line.startswith(("run", "lenet5..")))


def test_an_eta_from_the_past_when_nothing_runs(tmp_path):
    runs = Runs(tmp_path)
    assert report(runs) == [".config: 6 runs: 6 missing", "eta     not known yet"]
    for spec in SPECS[:2]:
        ended(runs, spec)
    Score(Estimate(80, 100), 90, 3).append_to(tmp_path)
    Score(Estimate(80, 100), 110, 3).append_to(tmp_path)
    lines = report(runs)
    assert lines[0] == ".config: 6 runs: 2 done, 4 missing"
    assert lines[1].startswith("eta     4:")
    assert lines[1].endswith("if make starts now, 2 at a time")
    assert lines[2] == "past estimates: 1 of 2 within P90"
    for spec in SPECS[1:]:
        ended(runs, spec)
    assert report(runs)[:-1] == [".config: 6 runs: 6 done"], "nothing is left to estimate"
    ended(runs, SPECS[0], status="failed")
    assert len(report(runs)) == 3, "what failed is not trained again by itself"


def test_a_device_that_is_not_here_gives_no_eta(tmp_path):
    def none(count: int) -> list[Slot]:
        raise UserError("DEVICE=cuda: there is no CUDA device")

    states = [decide(Runs(tmp_path), spec, CODE) for spec in SPECS]
    lines = status.report(".config", states, tmp_path, none, 80)
    assert lines[-1] == "eta     not known yet"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"event": "progress", "st',
        b"[]",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        told(None, step="x", rate="fast", updated="now", threads=[], device=3),
        told(None, step=float("nan"), rate=float("inf"), updated=float("nan"), loss=float("-inf")),
        told(None, step=10**400, epoch=-5, sparsity=7, threads=0, updated=-1),
    ],
)
def test_a_damaged_progress_is_as_good_as_none(tmp_path, content):
    runs = Runs(tmp_path, {SPECS[0]})
    left_by(runs, SPECS[0], content)
    left_by(runs, SPECS[1], content)
    ended(runs, SPECS[2])
    lines = report(runs)
    assert "1 running" in lines[0]
    assert "inf" not in " ".join(lines).replace("interrupted", "")
    assert "nan" not in " ".join(lines)


def test_a_damaged_record_is_named(tmp_path):
    runs = Runs(tmp_path)
    runs.folder(SPECS[0]).mkdir(parents=True)
    (runs.folder(SPECS[0]) / RESULT).write_text("{")
    lines = report(runs)
    assert lines[0] == ".config: 6 runs: 1 damaged, 5 missing"
    assert "remove it to train the run again" in lines[1]


def test_a_stale_record_is_to_be_trained_again(tmp_path):
    runs = Runs(tmp_path)
    for spec in SPECS:
        ended(runs, spec)
    ended(runs, SPECS[0], code={"digest": "0" * 16, "modules": {}})
    lines = report(runs)
    assert lines[0] == ".config: 6 runs: 5 done, 1 stale"
    assert lines[1].startswith(("eta     2:0", "eta     1:5"))


def test_only_the_latest_records_are_read(tmp_path, monkeypatch):
    runs = Runs(tmp_path)
    for age, spec in enumerate(SPECS):
        ended(runs, spec)
        os.utime(runs.folder(spec) / RESULT, (10**9 - age, 10**9 - age))
    (runs.folder(SPECS[0]) / RESULT).write_text("{")
    monkeypatch.setattr(history, "LATEST", 3)
    assert {result.spec for result in history.records(tmp_path)} == {SPECS[1], SPECS[2]}
    with contextlib.suppress(FileNotFoundError):
        assert history.records(tmp_path / "none") == []


def test_the_command_needs_no_torch_and_succeeds_with_nothing_there(tmp_path):
    assert _status_of_quickstart(tmp_path) == [
        "defconfig quickstart: 10 runs: 10 missing",
        "eta     not known yet",
        "[]",
    ]


def test_a_make_with_other_settings_is_named(tmp_path):
    (tmp_path / "results").mkdir()
    with locks.lock(tmp_path / "results" / LOCK, print):
        lines = _status_of_quickstart(tmp_path)
    assert lines[2] == (
        f"make (process {os.getpid()}) trains runs of other settings; make stop stops it"
    )


def _status_of_quickstart(tmp_path) -> list[str]:
    """What the command prints, and which heavy packages it has imported."""
    probe = (
        "import sys\n"
        "from adamwprune.records.store import Store\n"
        "Store.is_running = lambda self, spec: False\n"
        "from adamwprune.__main__ import main\n"
        "assert main(['status']) == 0\n"
        "print([name for name in ('torch', 'matplotlib') if name in sys.modules])\n"
    )
    environment = {
        **os.environ,
        "MAKEFLAGS": f"-- O={tmp_path} CONFIG=quickstart DEVICE=cpu",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),  # a step may have been measured before
    }
    done = subprocess.run(
        [sys.executable, "-c", probe],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()
