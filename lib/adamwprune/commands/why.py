"""``make why RUN=…``: what is there of one run, what it is worth, and what ``make`` would do."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from adamwprune.base.errors import UserError
from adamwprune.config.sources import Workspace
from adamwprune.experiment.experiment import Experiment
from adamwprune.plan.spec import RunSpec
from adamwprune.records import provenance, staleness
from adamwprune.records.record import RunResult
from adamwprune.records.staleness import DONE, FAILED, MISSING, State

VERDICTS = {
    DONE: "done: make has nothing to do",
    MISSING: "missing: make trains it",
    FAILED: "failed: make leaves it, make retry trains it again",
}


def explain(experiment: Experiment, prefix: str) -> Iterator[str]:
    """Lines on the one run whose identity starts with ``prefix``.

    :class:`UserError` where none or several are found (:meth:`Experiment.named`).
    """
    spec = _in_matrix(experiment, prefix, "make why")
    if spec is not None:
        yield from _of_cell(experiment, spec)
    else:
        yield from _of_record(experiment, experiment.find(prefix))


def spec_of(experiment: Experiment, prefix: str, command: str) -> RunSpec:
    """The one run that ``command`` was given, found where :func:`explain` looks for it."""
    return _in_matrix(experiment, prefix, command) or experiment.find(prefix).spec


def _in_matrix(experiment: Experiment, prefix: str, command: str) -> RunSpec | None:
    if not prefix:
        raise UserError(
            f"{command} needs RUN=, a run's id or the start of it (make plan lists them)"
        )
    return {spec.run_id: spec for spec in experiment.matrix.specs}.get(experiment.named(prefix))


def _of_cell(experiment: Experiment, spec: RunSpec) -> Iterator[str]:
    state = experiment.state(spec)
    yield f"{spec.run_id}: {_verdict(experiment, state)}"
    if state.result is None and state.why:
        yield f"it is {state.why}" if state.why.startswith("running") else f"it was {state.why}"
    if state.result is not None:
        yield from _of_result(state.result)
        return
    records = {result.spec: result for result in experiment.store.sound_results()}
    near = staleness.nearest(spec, records)
    if near is not None:
        yield f"the nearest record is {near.run_id}; from there to this run:"
        yield from (f"    {line}" for line in staleness.differences(near, spec))


def _verdict(experiment: Experiment, state: State) -> str:
    if state.name in VERDICTS:
        return VERDICTS[state.name]
    does = "accepts it, marked" if experiment.keeps_stale else "trains it again"
    return f"stale: {state.why}; make{' KEEP_STALE=1' * experiment.keeps_stale} {does}"


def _of_result(result: RunResult) -> Iterator[str]:
    place = result.environment
    commit = f"commit {place.get('commit') or 'unknown'}"
    kept = " and ".join(f"{diff}.diff" for diff in provenance.diffs(place))
    patch = f" and changes kept as {kept}" if kept else ""
    yield f"its record is of {place.get('ended', 'an unknown time')}, {commit}{patch}"
    if "members" in place:
        yield f"members from outside the tree: commit {place['members']['commit'] or 'unknown'}"
    attempts = place.get("attempts", [])
    if len(attempts) > 1:
        steps = ", ".join(str(attempt["from_step"]) for attempt in attempts[1:])
        yield f"it was interrupted and resumed: from step {steps}"
    if result.status == FAILED:
        yield from (f"    {line}" for line in result.error.strip().splitlines())


def _of_record(experiment: Experiment, result: RunResult) -> Iterator[str]:
    """A record that the configuration does not ask for."""
    yield f"{result.run_id}: {result.status}, but no run of {experiment.source}"
    yield from _of_result(result)
    outdated = staleness.changes(result, experiment.code.of(result.spec))
    if outdated:
        yield f"stale: {outdated}"
    near = staleness.nearest(result.spec, experiment.matrix.specs)
    if near is not None:
        yield f"the nearest run of the matrix is {near.run_id}; from the record to it:"
        yield from (f"    {line}" for line in staleness.differences(result.spec, near))


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    experiment = Experiment.load(workspace)
    for line in explain(experiment, experiment.workspace.variables.get("RUN", "")):
        print(line)
    return 0
