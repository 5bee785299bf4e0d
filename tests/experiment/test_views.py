"""A run's state is the same in plan, status, why, watch, the report and make."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from adamwprune.commands import html_report, matrix, plan, status, why
from adamwprune.config.sources import Workspace
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.experiment.experiment import Experiment
from adamwprune.page.live.seen import Watched
from adamwprune.plan.spec import RunSpec
from adamwprune.records.code import Code, Sources
from adamwprune.records.locks import lock
from adamwprune.records.published import write_published
from adamwprune.records.state import NAMES
from adamwprune.records.store import CHECKPOINTS, LOCK, PROGRESS, RESULT, prepare, publish
from tests.support.records import synthetic

OTHER = Code({"adamwprune.train.loop": "0" * 10})
SITUATIONS = (
    *("missing", "done", "stale", "failed", "failed and stale", "running", "running and stale"),
    *("interrupted", "interrupted and stale", "stale with a checkpoint of other code"),
    *("stale with an older checkpoint", "published", "done with a newer checkpoint"),
)
EXPECTED = [next(name for name in NAMES if each.startswith(name)) for each in SITUATIONS]
EXPECTED[SITUATIONS.index("failed and stale")] = "stale"


class Runs:
    """A run in each situation: the seeds of one cell, in the situations' order."""

    def __init__(self, root: Path, *settings: str) -> None:
        seeds = " ".join(map(str, range(len(SITUATIONS))))
        words = dict(each.split("=", 1) for each in settings)
        self.workspace = Workspace({"O": str(root), "CONFIG": "sgd", "SEED": seeds, **words})
        self.experiment = Experiment.load(self.workspace)
        self.specs = self.experiment.matrix.specs
        self.code = Sources()

    def leave(self, held: ExitStack) -> None:
        """Write the files of each situation."""
        for spec, situation in zip(self.specs, SITUATIONS, strict=True):
            if situation in ("missing", "published"):
                continue
            folder = prepare(self.experiment.root / spec.run_id, spec)
            if situation.startswith(("done", "stale", "failed")) or "and stale" in situation:
                self._record(folder, spec, situation)
            if "checkpoint" in situation or situation.startswith("interrupted"):
                self._checkpoint(folder, spec, situation)
            if situation.startswith("running"):
                held.enter_context(lock(folder / LOCK, print))
        here = self.experiment.published / "sgd.jsonl"
        frozen = self.specs[SITUATIONS.index("published")]
        write_published(here, [replace(synthetic(frozen), code=OTHER.to_json())])

    def _record(self, folder: Path, spec: RunSpec, situation: str) -> None:
        code = OTHER if "stale" in situation else self.code.of(spec)
        failed = situation.startswith("failed")
        made = synthetic(spec, status="failed" if failed else "done")
        publish(folder, replace(made, code=code.to_json()))
        os.utime(folder / RESULT, (1000, 1000))

    def _checkpoint(self, folder: Path, spec: RunSpec, situation: str) -> None:
        code = OTHER if "other code" in situation else self.code.of(spec)
        (folder / CHECKPOINTS[0]).touch()
        (folder / PROGRESS).write_text(json.dumps({"step": 30, "code": code.digest}))
        when = 500 if "older" in situation else 2000
        os.utime(folder / PROGRESS, (when, when))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Experiment, "published", tmp_path / "published")
    return tmp_path


@pytest.fixture
def runs(root: Path) -> Iterator[Runs]:
    made = Runs(root)
    with ExitStack() as held:
        made.leave(held)
        yield made


def printed(command, runs: Runs, capsys: pytest.CaptureFixture[str], **settings: str) -> list[str]:
    workspace = replace(runs.workspace, variables={**runs.workspace.variables, **settings})
    command.main(workspace, argparse.Namespace())
    return capsys.readouterr().out.splitlines()


def counts(line: str) -> Counter[str]:
    """``3 done, 1 stale`` as numbers."""
    found = re.findall(r"(\d+) (\w+)", line)
    return Counter({name: int(count) for count, name in found if name in NAMES})


def views(runs: Runs, capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    """The state of each run, by who shows it."""
    names: dict[str, list[str]] = {}
    lines = {line.split()[1].rstrip(":"): line for line in printed(plan, runs, capsys)[:-1]}
    names["plan"] = [lines[spec.run_id].split()[0] for spec in runs.specs]
    names["why"] = []
    for spec in runs.specs:
        first = printed(why, runs, capsys, RUN=spec.run_id)[0]
        names["why"].append(first.split(": ")[1])
    watched = Watched(runs.experiment)
    report = json.loads(watched.report().body)["runs"]
    live = json.loads(watched.live().body)["runs"]
    names["watch"] = [shown(run, live.get(str(at), {})) for at, run in enumerate(report)]
    html_report.write(Catalogue.of(runs.experiment))
    page = (runs.experiment.root / "report.html").read_text()
    plain = json.loads(page.split('id="data">')[1].split("</script>")[0])
    names["report"] = [shown(run, {}) for run in plain["runs"]]
    by_id = {run["id"]: at for at, run in enumerate(report)}
    order = [by_id[spec.run_id] for spec in runs.specs]
    for view in ("watch", "report"):
        names[view] = [names[view][at] for at in order]
    return names


def shown(run: dict, now: dict) -> str:
    """What a page shows of a run: its script adds what is in hand to a record that counts."""
    marks = [mark for mark in run["marks"] if mark in NAMES]
    return now["status"] if now else (marks or [run["status"]])[0]


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["", "KEEP_STALE=1", "PUBLISHED=1"])
def test_every_view_says_the_same(root, capsys, setting):
    settings = [setting] if setting else []
    runs = Runs(root, *settings)
    with ExitStack() as held:
        runs.leave(held)
        catalogue = Catalogue.of(runs.experiment)
        expected = [state.name for state in catalogue.states.values()]
        for view, names in views(runs, capsys).items():
            told = dict(zip(SITUATIONS, names, strict=True))
            assert told == dict(zip(SITUATIONS, expected, strict=True)), view
        first = printed(status, runs, capsys)[0]
        assert counts(first) == Counter(expected)
        due = [cell.spec for cell in catalogue.missing()]
        assert f"{len(due)} to train" in matrix._counts(runs.experiment)


def test_the_states_are_those_of_the_situations(runs):
    def names(*settings: str) -> list[str]:
        found = Catalogue.of(Runs(Path(runs.workspace.variables["O"]), *settings).experiment)
        return [state.name for state in found.states.values()]

    unpublished = ["missing" if name == "published" else name for name in EXPECTED]
    assert names() == unpublished
    assert names("PUBLISHED=1") == EXPECTED
    kept = ["stale" if each == "interrupted and stale" else name
            for each, name in zip(SITUATIONS, unpublished, strict=True)]  # fmt: skip
    assert names("KEEP_STALE=1") == kept
