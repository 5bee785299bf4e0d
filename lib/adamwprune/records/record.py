"""A run's record: what ``result.json`` holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adamwprune.base.forms import ANY, Form, misfit
from adamwprune.base.metrics import Metric
from adamwprune.plan.spec import SCHEMA, RunSpec
from adamwprune.records.metrics import FORMER, former_examples

# Marks of a record, given by whoever reads it.
STALE = "stale"  # other code produced it than is here now, and it was accepted all the same
FROZEN = "frozen"  # it was published

# Of what readers rely on, as far as it is there; whatever else a record has may be anything.
_FORM: dict[str, Form] = {
    "spec": {ANY: (str, float, bool)},
    "history": [{ANY: float}],
    "final": {ANY: float},
    "metrics": [dict],
    "examples": int,
    "pruning": {
        "requested": float,
        "k": int,
        "zeros": int,
        "prunable": int,
        "returned": int,
        "mean_density": float,
        "parameters": int,
        "left_out": [{"name": str, "reason": str}],
        "layers": [{"name": str, "numel": int, "zeros": int}],
        "updates": [
            {
                "step": int,
                "target": float,
                "zeros": int,
                "returned": int,
                "changed": int,
                "magnitude_overlap": float,
                "magnitude_agreement": float,
            }
        ],
        "histogram": {"low": float, "high": float, "before": ([int], None), "after": [int]},
        "mask_storage": (str, None),
    },
    "trace": {
        "interval": int,
        "step": [int],
        "lr": [float],
        "norm": [float],
        "norm_max": [float],
        "spikes": ([int], None),
        "resets": [int],
    },
    "param_groups": [dict],
    "memory": {
        "total": int,
        "weights": int,
        "gradients": int,
        "buffers": int,
        "optimizer": {ANY: int},
        "pruner": {ANY: int},
        "peak": int,
        "course": {ANY: [int]},
        "mask_update": ({ANY: int}, None),
        "device": (
            {
                "peak": int,
                "reserved": int,
                "phases": {ANY: int},
                "timeline": [[float]],
                "sensors": {ANY: [float]},
            },
            None,
        ),
    },
    "seconds": {ANY: float},
    "speed": {ANY: float},
    "operations": {
        "multiply_adds": int,
        "multiply_adds_left": int,
        "layers": [{"name": str, "multiply_adds": int, "mean_density": float}],
        "training_flops": int,
        "training_flops_sparse": int,
    },
    "environment": {
        "commit": (str, None),
        "diff": (str, None),
        "members": {"commit": (str, None), "diff": (str, None)},
        "device": str,
        "device_name": str,
        "threads": int,
        "ranks": int,
        "sharded": bool,
        "packages": (dict, None),
        "cpu": (dict, None),
        "determinism": (dict, None),
        "attempts": [{"from_step": int}],
    },
    "weights": str,
    "code": {"digest": str, "modules": {ANY: str}},
    "error": str,
}


# What every table of runs that are done needs: a record without it is none.
_NEEDED = {
    "pruning": ("requested", "k", "zeros", "prunable"),
    "memory": ("total", "weights", "gradients", "buffers", "optimizer", "pruner"),
    "seconds": ("total",),
}
# Fields that older records lack.
_LATER = ("code", "trace", "weights", "metrics", "examples", "speed", "operations")


@dataclass(frozen=True)
class RunResult:
    """One run's record, as published in ``result.json``. Units: seconds, bytes, fractions of 1."""

    run_id: str
    status: str  # "done" or "failed"
    spec: RunSpec
    history: list[dict[str, float]] = field(default_factory=list)  # one entry an epoch
    final: dict[str, float] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(
        default_factory=list
    )  # what it is judged by; headline first
    examples: int = 0  # that the test (or validation) values were measured on
    pruning: dict[str, Any] = field(default_factory=dict)
    trace: dict[str, Any] = field(default_factory=dict)  # gradient norms and rates over the steps
    param_groups: list[dict[str, Any]] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    speed: dict[str, float] = field(default_factory=dict)  # examples and tokens a second
    operations: dict[str, Any] = field(default_factory=dict)  # multiply-adds, dense and left
    environment: dict[str, Any] = field(default_factory=dict)
    weights: str = ""  # SHA-256 over the final weights
    code: dict[str, Any] = field(default_factory=dict)  # digest of the code that produced it
    error: str = ""  # the traceback of a failed run
    schema: int = SCHEMA
    marks: frozenset[str] = field(default=frozenset(), compare=False)  # STALE, FROZEN; not stored

    def to_json(self) -> dict[str, Any]:
        """Plain data, ready for ``json.dump``. Fields that older records do not have are left
        out where they are empty: a published record stays what it was.
        """
        later = [name for name in _LATER if not getattr(self, name)]
        hidden = ("spec", "marks", *later)
        plain = {name: value for name, value in vars(self).items() if name not in hidden}
        return {**plain, "spec": dict(self.spec.values)}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any], *, whole: bool = True) -> RunResult:
        """The inverse of :meth:`to_json`; ``ValueError`` for another schema, a missing field
        or one of another form. ``whole``: it has all that tables need.
        """
        try:
            if plain["schema"] != SCHEMA:
                raise ValueError(f"record has schema {plain['schema']}, expected {SCHEMA}")
            wrong = misfit(dict(plain), _FORM)
            if wrong is not None:
                raise ValueError(f"not a record: {wrong.removeprefix('.')} has another form")
            result = cls(**{**plain, "spec": RunSpec(plain["spec"])})
            if result.run_id != result.spec.run_id:
                raise ValueError(f"its id is {result.run_id!r}, its spec's {result.spec.run_id!r}")
            if result.status not in ("done", "failed"):
                raise ValueError(f"unknown status {result.status!r}")
            if result.status == "done":
                if whole:
                    result._check_needed()
                _ = result.pruning["zeros"], result.history[-1]
                headline, value = result.headline, result.final[f"test_{result.headline.name}"]
                if headline.noise == "binomial" and not 0 <= value <= 1:
                    raise ValueError(f"{value} is no test {headline.label}")
            return result
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"not a record: {error}") from None

    def _check_needed(self) -> None:
        for part, names in _NEEDED.items():
            for name in names:
                if name not in getattr(self, part):
                    raise ValueError(f"not a record: {part}.{name} is missing")

    @property
    def judged_by(self) -> tuple[Metric, ...]:
        """Its metrics, the headline first."""
        return tuple(map(Metric.from_json, self.metrics)) or FORMER

    @property
    def headline(self) -> Metric:
        """The metric that the run is ranked by."""
        return self.judged_by[0]

    @property
    def score(self) -> float:
        """The headline's test (or validation) value after the last epoch, in its unit."""
        return self.headline.shown(self.final[f"test_{self.headline.name}"])

    @property
    def measured_on(self) -> int | None:
        """How many examples that value was measured on; None if that is not known."""
        return self.examples or former_examples(self.spec)
