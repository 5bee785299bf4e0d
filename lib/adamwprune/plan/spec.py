"""A run's specification: it travels from ``.config`` to the figure, and nobody repacks it."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from adamwprune.base import registry
from adamwprune.base.sparsity import SETTLING
from adamwprune.plan.lineage import NEUTRAL, RENAMED

if TYPE_CHECKING:
    from adamwprune.config.options import Value

EVALUATIONS = 10  # of a run whose length is given in steps
# Options that are a number of steps or a fraction of the training.
IN_STEPS = ("PRUNING_WARMUP", "PRUNING_INTERVAL", "LR_WARMUP", "EVALUATION_INTERVAL")
SCHEMA = 1  # version of the record's form; part of every identity
COMPONENTS = registry.PACKAGES  # of a run, and the package that each one's members are in
_UNSAFE = re.compile(r"[^a-z0-9.]+")
_CANONICAL = json.JSONEncoder(sort_keys=True)


@lru_cache(100)  # a matrix has few words
def _safe(part: str) -> str:
    return _UNSAFE.sub("_", part.lower())


@dataclass(frozen=True)
class RunSpec:
    """Resolved values of all result-affecting options of one run, by symbol name.

    ``spec["EPOCHS"]`` raises ``KeyError`` for an option that this run does not have: a
    dense run has no ``TARGET_SPARSITY``. There are no fall-back values; but an older
    record is read by today's names, and of a symbol that it does not know it holds what that means.
    """

    values: Mapping[str, Value]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", MappingProxyType(dict(sorted(self.values.items()))))

    def __getitem__(self, name: str) -> Any:
        if name in self.values:
            return self.values[name]
        former = RENAMED.get(name, name)
        return self.values[former] if former in self.values else NEUTRAL[name]

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunSpec) and self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.run_id)

    def __reduce__(self) -> tuple[type[RunSpec], tuple[dict[str, Value]]]:
        return RunSpec, (dict(self.values),)

    @cached_property
    def identity(self) -> dict[str, Value]:
        """What makes this run this run: its values as the first tree would have named them."""
        values = cast("MappingProxyType[str, Value]", self.values).copy()
        for name, neutral in NEUTRAL.items():
            if name in values and values[name] == neutral:
                del values[name]
        return {RENAMED.get(name, name): value for name, value in values.items()}

    @cached_property
    def digest(self) -> str:
        """Ten hex digits over the identity and the record's schema: 1e-3 equals 0.001."""
        canonical = _CANONICAL.encode([SCHEMA, self.identity])
        return hashlib.sha256(canonical.encode()).hexdigest()[:10]

    @cached_property
    def run_id(self) -> str:
        """Readable name and digest; also the name of the run's directory."""
        return f"{self.slug}-{self.digest}"

    @cached_property
    def slug(self) -> str:
        """``lenet5-mnist-adamw-magnitude-90-s0``: for people, not unique."""
        parts = [self["MODEL"], self["DATASET"], self["OPTIMIZER"], self["PRUNING_METHOD"]]
        if "STATE_CRITERION" in self:
            parts.append(self["STATE_CRITERION"])
        if "TARGET_SPARSITY" in self:
            parts.append(f"{100 * self['TARGET_SPARSITY']:g}")
        parts.append(f"s{self['SEED']}")
        return "-".join(map(_safe, map(str, parts)))

    @property
    def sparsity(self) -> float:
        """The target sparsity, 0 for a dense run."""
        return float(self["TARGET_SPARSITY"]) if "TARGET_SPARSITY" in self else 0.0

    @property
    def settings(self) -> Mapping[str, Value]:
        """The values, fractions of the training as steps, and of symbols that this spec does not
        know what that means.
        """
        fractions = [name for name in IN_STEPS if isinstance(self.values.get(name), float)]
        steps: dict[str, Value] = {name: self.steps(name) for name in fractions}
        return ChainMap(steps, cast("dict[str, Value]", self.values), NEUTRAL)

    @property
    def total_steps(self) -> int:
        """Training steps of the whole run; the last batch of an epoch may be smaller."""
        return int(self["STEPS"]) or int(self["EPOCHS"]) * self.steps_per_epoch

    def steps(self, name: str) -> int:
        """The steps that an option of :data:`IN_STEPS` means: its own number, or its fraction of
        the training, which is one step at least.
        """
        value = self[name]
        return value if isinstance(value, int) else max(1, round(value * self.total_steps))

    @property
    def epochs(self) -> float:
        """Passes over the training set; a whole number unless the run's length is in steps."""
        return self.epochs_after(self.total_steps)

    def epochs_after(self, step: int) -> float:
        """Passes over the training set in so many steps."""
        passes, rest = divmod(step, self.steps_per_epoch)
        return round(passes + rest / self.steps_per_epoch, 4) if rest else passes

    @cached_property
    def evaluated_after(self) -> tuple[int, ...]:
        """Steps after which the metrics are measured: every EVALUATION_INTERVAL steps, otherwise
        the end of each epoch, or tenths of STEPS.
        """
        steps = int(self["STEPS"])
        interval = -(-steps // EVALUATIONS) if steps else self.steps_per_epoch
        asked = self["EVALUATION_INTERVAL"]
        if isinstance(asked, float):  # rounded down, a step or two would be left at the end
            asked = math.ceil(Fraction(repr(asked)) * self.total_steps)
        interval = asked or interval
        return (*range(interval, self.total_steps, interval), self.total_steps)

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch."""
        return -(-self.train_examples // int(self["BATCH_SIZE"]))

    @property
    def train_examples(self) -> int:
        """Examples that are trained on: those of the training set that are not held out."""
        return int(self["TRAIN_EXAMPLES"]) - int(self["VALIDATION_EXAMPLES"])

    @property
    def smallest_part(self) -> int:
        """The fewest examples that are computed at once: of the last batch of a pass, in parts."""
        batch = self["BATCH_SIZE"]
        last = self.train_examples % batch or min(batch, self.train_examples)
        part = -(-last // self["ACCUMULATION"])
        return int(last % part or part)

    @property
    def held_out(self) -> str:
        """What accuracy is measured on: the ``test`` set, or the ``validation`` set."""
        return "validation" if self["VALIDATION_EXAMPLES"] else "test"

    def problems(self) -> list[str]:
        """What is wrong with the values taken together, beyond what Kconfig can express."""
        if self.train_examples < 1:
            return [
                f"VALIDATION_EXAMPLES={self['VALIDATION_EXAMPLES']} leaves nothing of "
                f"{self['TRAIN_EXAMPLES']} examples to train on"
            ]
        found = self._training_problems()
        if self["RELEASE_GRADIENTS"] and (reason := self._needs_all_gradients):
            found.append(f"RELEASE_GRADIENTS: {reason}, which needs all gradients at once")
        if "PRUNING_SCHEDULE" not in self:
            return found
        found += self._one_shot_problems() if self._is_one_shot else self._ramp_problems()
        if "SPAM_INTERVAL" in self and 0 < self["SPAM_INTERVAL"] < SETTLING:
            found.append(
                f"SPAM_INTERVAL={self['SPAM_INTERVAL']}: masks are updated {SETTLING} steps after "
                "a reset at the earliest, so that none would be before the end of the ramp"
            )
        if self["INITIAL_SPARSITY"] > self.sparsity:
            found.append(
                f"INITIAL_SPARSITY={self['INITIAL_SPARSITY']:g} is above the target of the ramp, "
                f"TARGET_SPARSITY={self.sparsity:g}"
            )
        if self.sparsity == 1 and self.values.get("PRUNING_FLOOR"):
            found.append(
                f"PRUNING_FLOOR={self['PRUNING_FLOOR']}: TARGET_SPARSITY=1 keeps no weight at all"
            )
        return found

    def _training_problems(self) -> list[str]:
        found, batch, parts = [], self["BATCH_SIZE"], self["ACCUMULATION"]
        if batch % parts:
            found.append(
                f"ACCUMULATION={parts}: a batch of {batch} examples does not divide into so many "
                "equal parts"
            )
        if self.steps("LR_WARMUP") >= self.total_steps and self["LR_WARMUP"]:
            found.append(
                f"LR_WARMUP={self['LR_WARMUP']} does not end before the training does, after "
                f"{self.total_steps} steps"
            )
        return found

    @property
    def _needs_all_gradients(self) -> str:
        """What of a step does; see :class:`adamwprune.optimizers._released.ReleasedGradients`."""
        if self["ACCUMULATION"] > 1:
            return f"ACCUMULATION={self['ACCUMULATION']} adds up those of a batch's parts"
        if self["MAX_GRAD_NORM"]:
            return f"MAX_GRAD_NORM={self['MAX_GRAD_NORM']:g} (0: off) clips by their norm"
        if self.values.get("SPAM_MODE") == "zscore":
            return "SPAM_MODE=zscore looks at their norm"
        return ""

    @property
    def _is_one_shot(self) -> bool:
        return bool(self["PRUNING_SCHEDULE"] == "one-shot")

    def _ramp_problems(self) -> list[str]:
        # A constant sparsity has none.
        warmup = self.steps("PRUNING_WARMUP") if "PRUNING_WARMUP" in self else 0
        end = (
            f"the end of the ramp, step {self.ramp_end_step} "
            f"(PRUNING_RAMP_END={self['PRUNING_RAMP_END']:g} of {self.total_steps} steps)"
        )
        if warmup and warmup >= self.ramp_end_step:
            return [
                f"PRUNING_WARMUP={self['PRUNING_WARMUP']} does not lie before {end}: "
                "nothing would ever be pruned; lower it or train on"
            ]
        first = warmup + self.steps("PRUNING_INTERVAL")  # in the last update nothing is exchanged
        if self.values.get("REGROW_FRACTION") and first >= self.ramp_end_step:
            return [
                f"PRUNING_INTERVAL={self['PRUNING_INTERVAL']} has no update before {end}: "
                f"{self['PRUNING_METHOD']} would never grow a weight; lower it or train on"
            ]
        return []

    def _one_shot_problems(self) -> list[str]:
        waits = SETTLING if self.values.get("SPAM_INTERVAL") else 0  # after a reset
        if 1 <= self.steps("PRUNING_WARMUP") <= self.total_steps - waits:
            return []
        return [
            f"PRUNING_WARMUP={self['PRUNING_WARMUP']}: a one-shot prunes after the last step of "
            f"its warm-up, which must be one of 1 to {self.total_steps - waits}"
        ]

    @property
    def ramp_end_step(self) -> int:
        """The step after which the target sparsity holds, counted from 1."""
        if self._is_one_shot:
            return self.steps("PRUNING_WARMUP")
        return max(1, round(float(self["PRUNING_RAMP_END"]) * self.total_steps))
