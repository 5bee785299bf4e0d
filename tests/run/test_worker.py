"""The worker process by itself, spoken to as the scheduler does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from adamwprune.records.code import LIBRARY
from tests.support.runs import job_of, specs

pytestmark = pytest.mark.slow


def test_code_that_was_edited_is_not_mixed_with_what_is_loaded(tmp_path):
    """A worker that finds other code than it began with says so, and trains nothing."""
    shutil.copytree(LIBRARY, tmp_path / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(LIBRARY.parent / "results", tmp_path / "results", ignore=lambda *_: ["*"])
    (tmp_path / "Kconfig").touch()
    worker = subprocess.Popen(
        [sys.executable, "-m", "adamwprune.run.worker", "cpu"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "lib"), "PYTHONSAFEPATH": "1"},
        text=True,
    )
    assert worker.stdin is not None
    assert worker.stdout is not None

    def events_of(name: str) -> list[dict]:
        job = job_of(specs(EPOCHS="1")[0], tmp_path / name)
        worker.stdin.write(json.dumps(job.to_json()) + "\n")
        worker.stdin.flush()
        events = []
        while not events or events[-1]["event"] in ("accepted", "progress", "memory"):
            events.append(json.loads(worker.stdout.readline()))
        return events

    assert events_of("one")[-1] == {"event": "end", "status": "done"}
    assert events_of("two")[-1] == {"event": "end", "status": "done"}
    path = tmp_path / "lib" / "adamwprune" / "optimizers" / "sgd.py"
    path.write_text(path.read_text().replace("dampening=0,", "dampening=0.5,"))
    assert events_of("three") == [{"event": "accepted"}, {"event": "outdated"}]
    assert list((tmp_path / "three").iterdir()) == []
    worker.stdin.close()
    assert worker.wait(timeout=30) == 0
