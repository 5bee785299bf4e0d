"""Which records count for an experiment, and why: one look at its directory of runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from adamwprune.base.errors import UserError
from adamwprune.base.files import is_there, refusing
from adamwprune.base.wording import did_you_mean, plain
from adamwprune.experiment.experiment import Experiment
from adamwprune.plan.matrix import Cell
from adamwprune.plan.names import differing, may_be_called
from adamwprune.plan.spec import RunSpec
from adamwprune.records import provenance, staleness, state
from adamwprune.records.brief import read_result
from adamwprune.records.code import Sources
from adamwprune.records.published import read_published
from adamwprune.records.record import STALE, RunResult
from adamwprune.records.state import DAMAGED, DONE, State
from adamwprune.records.store import RESULT, SPEC, Store

NAMED = 8  # runs that a message names


@dataclass(frozen=True)
class Catalogue:
    """The runs of an experiment as one look at the disk finds them.

    A later look, after a training say, is a new catalogue; the code may have changed, too.
    """

    experiment: Experiment
    store: Store
    code: Sources = field(default_factory=Sources)  # the code that is here

    @classmethod
    def of(cls, experiment: Experiment) -> Catalogue:
        """A look at the experiment's own directory of results."""
        return cls(experiment, Store(experiment.root))

    # -- the states of the matrix --------------------------------------------------

    @cached_property
    def states(self) -> dict[RunSpec, State]:
        """The state of each run of the matrix, in its order."""
        return {spec: self.state(spec) for spec in self.experiment.matrix.specs}

    def state(self, spec: RunSpec) -> State:
        """The state of one run, looked up anew."""
        return state.decide(
            self.store,
            spec,
            self.code.of(spec),
            accepts_stale=self.experiment.accepts_stale,
            published=self.experiment.takes_published and spec in self.frozen_specs,
        )

    def missing(self) -> list[Cell]:
        """The cells that make trains: without a record that counts or has failed.

        Raises :class:`UserError` for a damaged record, which only the user may remove.
        """
        for each in self.states.values():
            if each.name == DAMAGED:
                raise UserError(each.why)
        return [cell for cell in self._cells if self.states[cell.spec].is_due]

    def failed(self) -> list[Cell]:
        """The cells that make retry trains."""
        return [cell for cell in self._cells if self.states[cell.spec].is_failed]

    def unmeasured(self) -> list[Cell]:
        """Cells without a record of a run that was alone on its device from start to end."""
        missing = {cell.spec for cell in self.missing()}
        return [
            cell
            for cell in self._cells
            if cell.spec in missing
            or ((result := self.store.result(cell.spec)) and not result.environment.get("alone"))
        ]

    def sweep(self) -> None:
        """Remove what killed commands left of runs that are done, which nobody trains again."""
        littered = [spec for spec, each in self.states.items() if each.littered]
        if self.store.root.is_dir():
            self.store.sweep(littered)

    @property
    def _cells(self) -> Sequence[Cell]:
        return self.experiment.matrix.cells

    # -- records ---------------------------------------------------------------------

    def records(self) -> list[RunResult]:
        """The records that count, done and failed, in the matrix's order.

        Stale ones count only if they are accepted, and published ones only if they are taken.
        """
        if self.experiment.takes_published:
            return self.records_or_published()
        return list(self._records_here())

    def records_or_published(self) -> list[RunResult]:
        """The records of this matrix: where a run was not done here, its published one."""
        here = {r.spec: r for r in self._records_here()}
        frozen = {r.spec: r for r in self.frozen()}
        fresh = {s: r for s, r in here.items() if r.status == DONE and STALE not in r.marks}
        pool = {**here, **frozen, **fresh}
        return [pool[cell.spec] for cell in self._cells if cell.spec in pool]

    def _records_here(self) -> Iterator[RunResult]:
        """The records below the directory of results that count; accepted stale ones marked."""
        for spec, each in self.states.items():
            if each.name == DAMAGED:
                raise UserError(each.why)
            result = self.store.result(spec) if each.counts else None
            if result is not None:
                outdated = bool(staleness.changes(result, self.code.of(spec)))
                yield replace(result, marks=frozenset({STALE})) if outdated else result

    @cached_property
    def _published(self) -> list[RunResult]:
        own = self.experiment.defconfig or self.experiment.workspace.variables.get("CONFIG", "")
        return read_published(self.experiment.published, own)

    @cached_property
    def frozen_specs(self) -> frozenset[RunSpec]:
        """The runs of the matrix that have a published record."""
        specs = set(self.experiment.matrix.specs)
        return frozenset(result.spec for result in self._published if result.spec in specs)

    def frozen(self) -> list[RunResult]:
        """The published records of this matrix, verbatim, marked unless the code here made them."""
        found = (result for result in self._published if result.spec in self.frozen_specs)
        return [staleness.frozen(result, self.code.of(result.spec)) for result in found]

    def publish(self, name: str, records: Sequence[RunResult], *, memory: bool) -> None:
        """Write these records of the matrix, their table, and the uncommitted changes that they
        were made with, to the tracked folder; says which changes are lost.
        """
        from adamwprune.report import present  # takes as long to import as all the rest

        matrix, folder = self.experiment.matrix, self.experiment.published
        present.publish(folder, name, matrix.specs, records, memory, matrix.deciders)
        made_with = [diff for r in records for diff in provenance.diffs(r.environment)]
        for diff in provenance.publish_diffs(made_with, self.store.root, folder):
            count = made_with.count(diff)
            print(f"note: {count} of these runs had uncommitted changes that are lost ({diff})")

    # -- by name -----------------------------------------------------------------------

    def named(self, prefix: str) -> str:
        """The id of the one run that ``prefix`` is the id of, the start of its id, or what make
        calls it; a run of the present configuration before others.

        It is looked for in the matrix, in the directory of runs, begun ones among them, and in
        the published records. Raises :class:`UserError` where there is none or are several.
        """
        known = {spec.run_id for spec in self.experiment.matrix.specs}
        known |= self.store.begun_names()
        if prefix not in known:  # reading the published records takes a moment
            known |= {result.run_id for result in self._published}
        found = self._of_the_matrix(prefix) or self._of_all(prefix, sorted(known))
        if not found:
            near = did_you_mean(prefix, sorted(known))
            raise UserError(f"{self.store.root}: no run starts with {prefix!r}{near}")
        return found

    def _of_all(self, name: str, ids: Sequence[str]) -> str:
        """The one of these ids that is ``name`` or starts so, or whose run another configuration
        calls so; empty where there is none. Raises :class:`UserError` where several are.
        """
        if name in ids:
            return name
        found, relation = [each for each in ids if each.startswith(name)], "start"
        if not found:
            alike = [each for each in ids if name.startswith(each.rpartition("-s")[0])]
            specs = {each: spec for each in alike if (spec := self._spec(each))}
            found = [each for each, spec in specs.items() if may_be_called(spec, name)]
            relation = "name"
        if len(found) > 1:
            raise UserError(self._several(f"{name!r} is the {relation}", found))
        return "".join(found)

    @cached_property
    def _known_specs(self) -> dict[str, RunSpec]:
        """By run id, those of the matrix and of the published records."""
        specs = (*self.experiment.matrix.specs, *(each.spec for each in self._published))
        return {spec.run_id: spec for spec in specs}

    def _spec(self, run_id: str) -> RunSpec | None:
        """The spec of a run of the matrix, of a published one or of one that was begun here."""
        return self._known_specs.get(run_id) or self.store.spec(run_id)

    def _several(self, begin: str, ids: Sequence[str]) -> str:
        """What to say where several runs are meant: each, and in what it differs."""
        shown = {each: self._spec(each) for each in ids[:NAMED]}
        specs = [spec for spec in shown.values() if spec]
        telling = differing(specs, self.experiment.matrix.varying())
        apart = [*telling, *(["SEED"] if len({spec["SEED"] for spec in specs}) > 1 else [])]
        lines = [f"{begin} of {len(ids)} runs:"]
        for run_id, spec in shown.items():
            differs = ", ".join(f"{n}={plain(spec[n])}" for n in apart if n in spec) if spec else ""
            lines.append(f"  {run_id}  {differs}".rstrip())
        more = len(ids) - NAMED
        return "\n".join([*lines, *([f"  and {more} more"] if more > 0 else [])])

    def _of_the_matrix(self, name: str) -> str:
        """The id of the run of the present configuration that has this name; empty where none has.

        Raises :class:`UserError` where several are, and says in what they differ.
        """
        names = self.experiment.names
        found = (
            [spec for spec in names if names[spec] == name],
            [spec for spec in names if spec.slug == name],
            [spec for spec in names if spec.slug.rpartition("-s")[0] == name],
        )
        meant = next(filter(None, found), [])
        if not meant:
            return ""
        if len(meant) == 1:
            return meant[0].run_id
        raise UserError(self._several(f"{name!r} is the name", [spec.run_id for spec in meant]))

    def begun(self, run_id: str) -> RunSpec | None:
        """The spec of a run that was begun here and has no record, nor a published one."""
        has_record = is_there(self.store.root / run_id / RESULT) or any(
            result.run_id == run_id for result in self._published
        )
        return None if has_record else self.store.spec(run_id)

    def find(self, prefix: str) -> RunResult:
        """The record of the run that is :meth:`named` so: here, or else a published one.

        Raises :class:`UserError` where that run has none.
        """
        name = self.named(prefix)
        path = self.store.root / name / RESULT
        with refusing(str(path)):
            there = is_there(path)
        if there:
            return read_result(path)
        published = {result.run_id: result for result in self._published}
        if name not in published:
            begun = path.with_name(SPEC).is_file()
            raise UserError(
                f"{name}: has not finished; make trains it on"
                if begun
                else f"{name}: has no record; make trains it"
            )
        return published[name]
