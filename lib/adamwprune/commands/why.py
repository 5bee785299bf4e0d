"""Explain a run, RUN=: what is there of it, what that is worth, and what make would do."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from adamwprune.base.errors import UserError
from adamwprune.config.sources import Workspace
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.experiment.experiment import Experiment
from adamwprune.plan.spec import RunSpec
from adamwprune.records import provenance, staleness
from adamwprune.records.record import RunResult
from adamwprune.records.state import (
    DAMAGED,
    DONE,
    FAILED,
    INTERRUPTED,
    MISSING,
    PUBLISHED,
    RUNNING,
    STALE,
    State,
)

VARIABLES = ("RUN",)
VERDICTS = {
    DONE: "done: make has nothing to do",
    PUBLISHED: "published: PUBLISHED=1 takes its record, make has nothing to do",
    FAILED: "failed: make leaves it, make retry trains it again",
    MISSING: "missing: make trains it",
    RUNNING: "running: another process trains it",
    INTERRUPTED: "interrupted: make trains it on",
}
IN_HAND = {
    RUNNING: "it is running, {}",
    INTERRUPTED: "it was interrupted {}",
    MISSING: "it was {}",  # and starts anew
}


def explain(catalogue: Catalogue, prefix: str) -> Iterator[str]:
    """Lines on the one run whose identity starts with ``prefix``.

    :class:`UserError` where none or several are found (:meth:`Catalogue.named`).
    """
    spec = _in_matrix(catalogue, prefix, "make why")
    if spec is not None:
        yield from _of_cell(catalogue, spec)
    elif begun := catalogue.begun(catalogue.named(prefix)):
        yield from _of_begun(catalogue, begun)
    else:
        yield from _of_record(catalogue, catalogue.find(prefix))


def spec_of(catalogue: Catalogue, prefix: str, command: str) -> RunSpec:
    """The one run that ``command`` was given, found where :func:`explain` looks for it."""
    return _in_matrix(catalogue, prefix, command) or catalogue.find(prefix).spec


def _in_matrix(catalogue: Catalogue, prefix: str, command: str) -> RunSpec | None:
    if not prefix:
        raise UserError(
            f"{command} needs RUN=, a run's id or the start of it (make plan lists them)"
        )
    specs = catalogue.experiment.matrix.specs
    return {spec.run_id: spec for spec in specs}.get(catalogue.named(prefix))


def _of_cell(catalogue: Catalogue, spec: RunSpec) -> Iterator[str]:
    state = catalogue.state(spec)
    yield f"{spec.run_id}: {_verdict(state)}"
    if state.name in IN_HAND and state.why:
        yield IN_HAND[state.name].format(state.why)
    if state.record is not None or state.name == PUBLISHED:
        yield from _of_result(catalogue, catalogue.find(spec.run_id))
    elif state.name != DAMAGED:
        yield from _nearest_record(catalogue, spec)


def _nearest_record(catalogue: Catalogue, spec: RunSpec) -> Iterator[str]:
    records = {result.spec: result for result in catalogue.store.sound_results()}
    near = staleness.nearest(spec, records)
    if near is not None:
        yield f"the nearest record is {near.run_id}; from there to this run:"
        yield from (f"    {line}" for line in staleness.differences(near, spec))


def _verdict(state: State) -> str:
    if state.name == STALE:
        does = "accepts it, marked" if state.counts else "trains it again"
        return f"stale: {state.why}; make{' KEEP_STALE=1' * state.counts} {does}"
    return VERDICTS.get(state.name) or f"{state.name}: {state.why}"


def _of_result(catalogue: Catalogue, result: RunResult) -> Iterator[str]:
    place = result.environment
    commit = f"commit {place.get('commit') or 'unknown'}"
    kept = " and ".join(f"{diff}.diff" for diff in provenance.diffs(place))
    patch = f" and changes kept as {kept}" if kept else ""
    yield f"its record is of {place.get('ended', 'an unknown time')}, {commit}{patch}"
    if "members" in place:
        yield f"members from outside the tree: commit {place['members']['commit'] or 'unknown'}"
    proof = staleness.proof(result, catalogue.code.of(result.spec))
    if proof:
        yield proof
    attempts = place.get("attempts", [])
    if len(attempts) > 1:
        steps = ", ".join(str(attempt["from_step"]) for attempt in attempts[1:])
        yield f"it was interrupted and resumed: from step {steps}"
    if result.status == FAILED:
        yield from (f"    {line}" for line in result.error.strip().splitlines())


def _of_begun(catalogue: Catalogue, spec: RunSpec) -> Iterator[str]:
    """A run without a record that the configuration does not ask for."""
    state = catalogue.state(spec)
    at = f" {state.why}" if state.why else ""
    source = catalogue.experiment.source
    yield f"{spec.run_id}: {state.name}{at}, but no run of {source}, whose make does not train it"
    yield from _nearest_cell(catalogue, spec)


def _of_record(catalogue: Catalogue, result: RunResult) -> Iterator[str]:
    """A record that the configuration does not ask for."""
    yield f"{result.run_id}: {result.status}, but no run of {catalogue.experiment.source}"
    yield from _of_result(catalogue, result)
    outdated = staleness.changes(result, catalogue.code.of(result.spec))
    if outdated:
        yield f"stale: {outdated}"
    yield from _nearest_cell(catalogue, result.spec)


def _nearest_cell(catalogue: Catalogue, spec: RunSpec) -> Iterator[str]:
    near = staleness.nearest(spec, catalogue.experiment.matrix.specs)
    if near is not None:
        yield f"the nearest run of the matrix is {near.run_id}; from this one to it:"
        yield from (f"    {line}" for line in staleness.differences(spec, near))


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    experiment = Experiment.load(workspace)
    for line in explain(Catalogue.of(experiment), experiment.workspace.variables.get("RUN", "")):
        print(line)
    return 0
