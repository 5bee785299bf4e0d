"""Whether a run that was repeated gave the same result; a function of two records."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from adamwprune.base.errors import UserError
from adamwprune.base.metrics import Metric
from adamwprune.base.wording import last_line
from adamwprune.config.options import Value
from adamwprune.records.metrics import difference_error
from adamwprune.records.record import RunResult

IDENTICAL, WITHIN, DIFFERENT = "identical", "within tolerance", "different"
ERRORS = 3  # standard errors within which two scores may differ by chance
SEEDS = 3  # that the spread of scores is taken from, at least
_TIMES = "seconds"
_LISTED = 3  # metrics of an epoch, or causes, that a line names
_PLACE = ("device", "device_name", "threads", "torch", "driver")  # of a record's environment
_KERNELS = ("mkl", "cuda", "cudnn")  # of its packages: those whose arithmetic it is
_History = list[dict[str, float]]


@dataclass(frozen=True)
class Comparison:
    """What became of a repetition."""

    verdict: str  # IDENTICAL, WITHIN or DIFFERENT
    compared: tuple[str, ...] = ()  # parts that both records hold: history, final, …
    differing: tuple[str, ...] = ()  # those of them that are not equal to the bit
    epoch: int | None = None  # the first one with other metrics
    by: Mapping[str, float] = field(default_factory=dict)  # there: metric -> repeated - original
    metric: Metric | None = None  # what the two are judged by; None where one failed
    scores: tuple[float, float] | None = None  # of the original and repeated, in its unit
    zeros: tuple[int, int] | None = None  # weights that are zero at the end, likewise
    tolerance: float | None = None  # of the scores' difference; None where nothing gives one
    failures: tuple[str, ...] = ()  # of the two runs: which one, and its last words
    causes: tuple[str, ...] = ()  # what differs in where and by what code they were run

    def text(self) -> str:
        """One to three lines for people: the verdict, where it began, the probable reason."""
        return "\n".join(filter(None, (self._verdict(), self._began(), self._reason())))

    def _verdict(self) -> str:
        if self.metric is None or self.scores is None or self.zeros is None:
            return f"{self.verdict}: {'; '.join(self.failures)}"
        first, second = map(self.metric.text, self.scores)
        if self.verdict == IDENTICAL:
            return f"{self.verdict}: {', '.join(self.compared)} are equal to the bit, {first}"
        told = f"{self.verdict}: {first} and {second} in the end"
        if self.zeros[0] != self.zeros[1]:
            return f"{told}, {self.zeros[0]:,} and {self.zeros[1]:,} weights zero"
        if self.tolerance is not None:
            allowed = f"{self.tolerance:.{self.metric.digits(self.scores)}f}"
            return f"{told}; {ERRORS} standard errors are {allowed} {self.metric.difference_unit}"
        if self.metric.is_fraction:
            return f"{told}, and the size of the test set is not known"
        return f"{told}; what chance makes of it would take {SEEDS} seeds of this run to say"

    def _began(self) -> str:
        if self.epoch is None:
            return f"differing: {', '.join(self.differing)}" if self.differing else ""
        largest = sorted(self.by, key=lambda name: (-abs(self.by[name]), name))
        metrics = ", ".join(f"{name} by {self.by[name]:+.3g}" for name in largest[:_LISTED])
        return f"differing from epoch {self.epoch} on: {metrics or 'one run has no such epoch'}"

    def _reason(self) -> str:
        if self.verdict == IDENTICAL:
            return f"although other: {_short(self.causes)}" if self.causes else ""
        if not self.causes:
            return "device, threads, torch and code are the same: no reason is recorded"
        return f"probably because of: {_short(self.causes)}"


def compare(
    original: RunResult, repeated: RunResult, seeds: Iterable[RunResult] = ()
) -> Comparison:
    """Compare a run's record with the record of the same run, repeated.

    ``identical``: the metrics of every epoch but its seconds, the final ones and all of the
    pruning's counts are equal bit for bit, and so is the digest of the final weights where both
    records hold one. ``within tolerance``: the same number of weights is zero, and the final
    scores differ by no more than three standard errors. Of shares p and q of n examples that is
    the error of the difference of two binomial proportions::

        |p - q| <= 3 * sqrt((p * (1 - p) + q * (1 - q)) / n)

    Both runs see the same examples, whose luck is theirs in common: the true error is smaller, so
    that this is what chance alone would very rarely exceed, and not a proof of equality. Of any
    other metric it is sqrt(2) times the standard deviation of the scores over seeds: the original's
    and those of ``seeds``, records of the same run with others; of fewer than three there is none,
    and no tolerance. ``different``: everything else, a run that failed included. The verdict on
    shares does not depend on the order of the two.

    Raises :class:`~adamwprune.base.errors.UserError` for records of two runs.
    """
    if original.spec != repeated.spec:
        raise UserError(f"{repeated.run_id} is no repetition of {original.run_id}: another run")
    causes = tuple(_causes(original, repeated))
    failures = tuple(_failures(original, repeated))
    if failures:
        return Comparison(DIFFERENT, failures=failures, causes=causes)
    parts = {
        "history": (_epochs(original), _epochs(repeated)),
        "final": (original.final, repeated.final),
        "pruning": _in_common(original.pruning, repeated.pruning),
        "weights": (original.weights or None, repeated.weights or None),
    }
    compared = tuple(name for name, values in parts.items() if None not in values)
    differing = tuple(name for name in compared if _differ(*parts[name]))
    metric, scores = original.headline, (original.score, repeated.score)
    zeros = original.pruning["zeros"], repeated.pruning["zeros"]
    tolerance = _tolerance(original, repeated, seeds)
    apart = abs(scores[0] - scores[1])
    close = tolerance is not None and apart <= tolerance and zeros[0] == zeros[1]
    return Comparison(
        IDENTICAL if not differing else WITHIN if close else DIFFERENT,
        compared,
        differing,
        *_first_difference(_epochs(original), _epochs(repeated)),
        metric=metric,
        scores=scores,
        zeros=zeros,
        tolerance=tolerance,
        causes=causes,
    )


def _tolerance(
    original: RunResult, repeated: RunResult, seeds: Iterable[RunResult]
) -> float | None:
    """The largest difference of two scores that chance explains; see :func:`compare`."""
    metric = original.headline
    if repeated.headline != metric:
        return None
    if metric.is_fraction:
        p, q = (score / metric.scale for score in (original.score, repeated.score))
        examples = original.measured_on
        return ERRORS * metric.scale * difference_error(p, q, examples) if examples else None
    scores = [seed.score for seed in (original, *seeds) if seed.headline == metric]
    return ERRORS * math.sqrt(2) * statistics.stdev(scores) if len(scores) >= SEEDS else None


def other_seeds(original: RunResult, records: Iterable[RunResult]) -> Iterator[RunResult]:
    """The completed ones of the same run with other seeds."""
    own = _seedless(original)
    for record in records:
        if record.status == "done" and record.spec != original.spec and _seedless(record) == own:
            yield record


def _seedless(record: RunResult) -> dict[str, Value]:
    return {**record.spec.values, "SEED": 0}


def _epochs(record: RunResult) -> _History:
    """The metrics of each epoch: what depends on the run, and not on how busy the machine was."""
    return [{k: v for k, v in entry.items() if k != _TIMES} for entry in record.history]


def _in_common(first: Any, second: Any) -> tuple[Any, Any]:
    """What both records say, in lists of entries too: one of a later date says more."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        both = {n: _in_common(first[n], second[n]) for n in first.keys() & second.keys()}
        return {n: one for n, (one, _) in both.items()}, {n: two for n, (_, two) in both.items()}
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        pairs = [_in_common(one, two) for one, two in zip(first, second, strict=True)]
        return [one for one, _ in pairs], [two for _, two in pairs]
    return first, second


def _differ(first: object, second: object) -> bool:
    return _bits(first) != _bits(second)


def _bits(value: object) -> str:
    """A text that two values of a record share just if every bit of them is equal.

    JSON writes a float so that it comes back as it was, and tells 1 from 1.0 and 0.0 from -0.0.
    """
    return json.dumps(value, sort_keys=True)


def _first_difference(before: _History, after: _History) -> tuple[int | None, dict[str, float]]:
    """The first epoch, counted from 1, that is not the same, and by how much each metric is not."""
    for number, (first, second) in enumerate(zip(before, after, strict=False), 1):
        if _differ(first, second):
            both = [name for name in first if name in second]
            return number, {n: second[n] - first[n] for n in both if _differ(first[n], second[n])}
    if len(before) != len(after):
        return min(len(before), len(after)) + 1, {}
    return None, {}


def _failures(original: RunResult, repeated: RunResult) -> list[str]:
    return [
        f"the {which} run {record.status}: {last_line(record.error) or '?'}"
        for which, record in (("original", original), ("repeated", repeated))
        if record.status != "done"
    ]


def _causes(original: RunResult, repeated: RunResult) -> list[str]:
    """What both records hold of the circumstances and is not the same: ``threads 1, then 2``."""
    first, second = _circumstances(original), _circumstances(repeated)
    if original.code and repeated.code and not _differ(original.code, repeated.code):
        # Another commit, and of what makes this run not a byte is other.
        first = {name: text for name, text in first.items() if name not in ("code", "members")}
    return [
        f"{name} {first[name]}, then {second[name]}"
        for name in first
        if name in second and _differ(first[name], second[name])
    ]


def _circumstances(record: RunResult) -> dict[str, Any]:
    """What the last bits of a result depend on, by name, the likeliest reasons first."""
    place = record.environment
    found = {name: place[name] for name in _PLACE if name in place}
    found["code"] = _code(place)
    if "members" in place:
        found["members"] = _code(place["members"])
    versions, cpu = place.get("packages") or {}, place.get("cpu") or {}
    found.update({name: versions[name] for name in _KERNELS if name in versions})
    found.update({"instructions": cpu["instructions"]} if "instructions" in cpu else {})
    return {**found, **(place.get("determinism") or {})}


def _code(place: Mapping[str, Any]) -> str:
    changes = place.get("diff") or ("changed" if place.get("dirty") else "")
    return f"{place.get('commit') or 'unknown'} {changes}".strip()


def _short(causes: tuple[str, ...]) -> str:
    more = f"; and {len(causes) - _LISTED} more" if len(causes) > _LISTED else ""
    return "; ".join(causes[:_LISTED]) + more
