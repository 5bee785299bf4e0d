"""What a page of ``make watch`` shows: the report's values, and how far the runs in hand are.

A look costs one ``stat`` a run where nothing has changed. The report's values are worked out anew
when a record came or went, and seldom enough that this takes a tenth of the time at most: until
then what is new is told beside them. What a page is handed is named by a digest, and a page asks
only for what it does not have.
"""

import hashlib
import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from adamwprune.base.errors import UserError
from adamwprune.base.forms import number
from adamwprune.base.metrics import Metric, second
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.experiment.experiment import Experiment
from adamwprune.experiment.looks import EVERY, Looks, Seen, record_stamp
from adamwprune.page import data, html
from adamwprune.page.data import Plain
from adamwprune.plan.spec import RunSpec
from adamwprune.progress import history, status
from adamwprune.progress.eta import Paces
from adamwprune.records import code
from adamwprune.records.brief import Brief
from adamwprune.records.metrics import FORMER
from adamwprune.records.record import RunResult
from adamwprune.records.state import IN_HAND, State
from adamwprune.records.store import METRICS, Stamp, Store

SHARE = 10  # the report's values are worked out in one of so many parts of the time


@dataclass(frozen=True)
class Remembering(Store):
    """A store that reads a record once, while its file is the one that was read."""

    known: dict[str, tuple[Stamp, RunResult]] = field(default_factory=dict, compare=False)

    def result(self, spec: RunSpec) -> RunResult | None:
        """The record of a run, done or failed, or None where there is none."""
        now = record_stamp(self, spec)
        if now is None:
            return None
        known = self.known.get(spec.run_id)
        if known is not None and known[0] == now:
            return known[1]
        found = super().result(spec)
        if found is not None:
            self.known[spec.run_id] = now, found
        return found

    def brief(self, spec: RunSpec) -> Brief | None:
        """What the record of a run says beside its numbers, or None where there is none."""
        found = self.result(spec)
        return None if found is None else Brief.of(found)


@dataclass(frozen=True)
class Answer:
    """What a page is handed."""

    body: bytes
    kind: str  # its media type
    digest: str  # of the body

    @classmethod
    def of(cls, plain: Plain) -> Self:
        """Values as JSON."""
        text = json.dumps(plain, allow_nan=False, separators=(",", ":"))
        return cls.holding(text, "application/json")

    @classmethod
    def holding(cls, text: str, kind: str) -> Self:
        """A text of this kind."""
        body = text.encode()
        return cls(body, kind, hashlib.sha256(body).hexdigest()[:32])


@dataclass(frozen=True)
class Report:
    """The report's values, and the records that they are of."""

    plain: Plain
    metrics: Sequence[Metric]  # of the records
    records: Mapping[str, Stamp | None]  # by run id
    answer: Answer
    paces: Paces  # of past runs, for an estimate


class Watched:
    """The runs of an experiment, looked at when a page asks; asked by several threads at once.

    Raises :class:`~adamwprune.base.errors.UserError` where the first look fails; what fails later
    is told on the page, which keeps what it has.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._lock = threading.Lock()
        self._experiment, self._store = experiment, Remembering(experiment.root)
        self._code = code.stamps()
        self._outdated, self._due = False, 0.0  # the report's values; when they may be made anew
        self._looks = Looks(Catalogue(experiment, self._store))
        self._report = self._worked_out()  # which imports what it needs, and says nothing of costs
        self._places = {run["id"]: n for n, run in enumerate(self._report.plain["runs"])}
        self._colours = data.look(experiment.matrix.specs)
        self._page = html.digest({"runs": list(self._places)}, live=True)
        self._document: Answer | None = None  # with the report's values, once it was asked for
        self._live = Answer.of(self._now(""))
        self._next = time.monotonic() + EVERY

    def live(self) -> Answer:
        """Runs in hand: state, steps and curves so far; and which report goes with them."""
        with self._lock:
            if time.monotonic() >= self._next:
                self._live = Answer.of(self._now(self._refresh()))
                self._next = time.monotonic() + EVERY
            return self._live

    def report(self) -> Answer:
        """The report's values."""
        with self._lock:
            return self._report.answer

    def document(self) -> Answer:
        """The page, with the report's values in it."""
        self.live()
        with self._lock:
            if self._document is None:
                version = self._report.answer.digest
                plain = {**self._report.plain, "version": version, "page": self._page}
                text = html.render(plain, self._colours, self._page, live=True)
                self._document = Answer.holding(text, "text/html; charset=utf-8")
            return self._document

    # -- looking -------------------------------------------------------------------

    def _refresh(self) -> str:
        """Look again; what stands in the way, in words."""
        try:
            self._outdated |= self._is_other_code()
            self._looks.again()
            self._outdated |= any(self._is_new(seen) for seen in self._looks.seen.values())
            if self._outdated and time.monotonic() >= self._due:
                self._report = self._made()
                self._document, self._outdated = None, False
        except UserError as error:
            return str(error)
        except OSError as error:
            return f"{error.filename or self._store.root}: {error.strerror or error}"
        return ""

    def _is_other_code(self) -> bool:
        """Whether the code that judges records is another; then all of them are judged anew."""
        found = code.stamps()
        if found == self._code:
            return False
        self._code, self._looks = found, Looks(Catalogue(self._experiment, self._store))
        return True

    def _is_new(self, seen: Seen) -> bool:
        """Whether the report's values do not have what was seen of a record."""
        return self._report.records[seen.state.spec.run_id] != seen.record

    def _made(self) -> Report:
        began = time.thread_time()
        try:
            return self._worked_out()
        finally:
            self._due = time.monotonic() + SHARE * (time.thread_time() - began)

    def _worked_out(self) -> Report:
        stamps = {name: seen.record for name, seen in self._looks.seen.items()}
        catalogue, experiment = replace(self._looks.catalogue), self._experiment
        records = catalogue.records()
        others = data.uncounted(catalogue.states.values(), self._store.result, live=True)
        samples = self._store.samples(record.spec for record in records)
        plain = data.of(experiment.matrix.specs, records, others, experiment.request, samples)
        paces = Paces(history.records(self._store.root))
        return Report(plain, data.judged_by(records), stamps, Answer.of(plain), paces)

    # -- what is told ----------------------------------------------------------------

    def _now(self, note: str) -> Plain:
        """By the number of a run what the report's values do not say of it."""
        runs, metrics = {}, dict.fromkeys(self._report.metrics)
        for name, seen in self._looks.seen.items():
            in_hand = seen.state.name in IN_HAND
            if in_hand or self._is_new(seen):
                told, own = (self._in_hand if in_hand else self._ended)(seen.state)
                runs[self._places[name]] = told
                metrics.update(dict.fromkeys(own))
        return {
            "page": self._page,
            "report": self._report.answer.digest,
            "runs": runs,
            "measures": data.measures(list(metrics)),
            "left": self._left(),
            "note": note,
        }

    def _left(self) -> Plain | None:
        """Seconds until all runs are done, None where none runs or nothing is known of one."""
        states = [seen.state for seen in self._looks.seen.values()]
        left = status.running_left(states, self._report.paces)
        return None if left is None else {"p50": round(left.p50), "p90": round(left.p90)}

    def _in_hand(self, state: State) -> tuple[Plain, Sequence[Metric]]:
        """How far a run is, None for what it has not said yet; and its metrics."""
        epochs = finished(self._store.folder(state.spec))
        now = status.reading(state)
        if now is None:
            metrics = self._report.metrics or FORMER
            return {"status": state.name, "curves": data.curves(epochs, metrics)}, metrics
        told = {n: v for n, v in vars(now).items() if n not in ("metrics", "trained")}
        told["left"] = number(now.left / now.rate) if now.rate else None
        told["score"] = None if now.score is None else now.metrics[0].number(now.score)
        if now.trained is not None:
            told["trained"] = f"{second(now.metrics).label} {now.trained:.4g}"
        told["curves"] = data.curves(epochs, now.metrics)
        return {"status": state.name, **told}, now.metrics

    def _ended(self, state: State) -> tuple[Plain, Sequence[Metric]]:
        """A run whose record came or went since the report's values were worked out."""
        result = self._store.result(state.spec) if state.record else None
        epochs, metrics = (result.history, result.judged_by) if result else ([], ())
        return {"status": state.name, "curves": data.curves(epochs, metrics)}, metrics


def finished(folder: Path) -> list[dict[str, Any]]:
    """The epochs that a run has finished; what stands behind a damaged line does not count."""
    found: list[dict[str, Any]] = []
    try:
        for line in (folder / METRICS).read_bytes().splitlines():
            entry = json.loads(line)
            if not isinstance(entry, dict):
                break
            found.append(entry)
    except (OSError, ValueError, RecursionError):  # the last line may be half-written
        pass
    return found
