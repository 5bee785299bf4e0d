"""How far the weights that a run keeps are those that magnitude pruning would keep.

At a mask update that is measured, the choice is made a second time with |w| as the score: in the
same scope, with the same k, among the same candidates, from the weights as they are before the
update. Candidates are the weights that are not pruned yet. Under a method whose pruned weights
return they are all weights, with the values that pruned ones keep. A regrowing method drops by |w|
too, but grows others: its kept weights are those after both.

The training computes the same bits with and without it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from adamwprune.pruning import NotANumber, Pruner
from adamwprune.pruning.score import Size
from adamwprune.pruning.update import kept_by
from adamwprune.train.measure.clock import Clock
from adamwprune.train.measure.phase_peaks import Phases

OVERLAP, AGREEMENT = "magnitude_overlap", "magnitude_agreement"  # in an update's entry
PARTS = 10  # of the ramp: one update in each is measured, besides the first and the last one


class Overlap:
    """Measures the overlap at some of a pruner's updates, and notes it in their entries.

    An entry's ``magnitude_overlap``: of the weights that are kept after the update, the fraction
    that magnitude would keep too. It is near 1 for any method where an update prunes few of many.
    ``magnitude_agreement``: the same beyond chance, 1 for the same choice and 0 on average for a
    random one. With p of the candidates pruned, q kept, and d kept that magnitude would prune, it
    is κ = 1 − d·(p + q)/(p·q) (Cohen 1960).

    Under magnitude pruning both are 1, and not computed. They are missing where weights are NaN;
    the second one also where an update prunes nothing or all, and under a regrowing method.

    The seconds go to ``measure`` on the ``clock``; ``phases`` count none of the bytes, and whatever
    was called around an update before (the memory meter) sees none of them.
    """

    def __init__(self, clock: Clock, phases: Phases | None = None) -> None:
        self.clock = clock
        self.phases = phases

    def attach(self, pruner: Pruner) -> Overlap:
        """Measure ``pruner``'s updates from now on; returns the object itself."""
        self.pruner = pruner
        self._around = pruner.around_update
        pruner.around_update = self
        return self

    def __call__(self, update: Callable[[], None]) -> None:
        """Run one mask update, and measure it if it is time."""
        measured = self._is_due()
        kept = self._kept_by_magnitude() if measured else None
        if self._around is None:
            update()
        else:
            self._around(update)
        if kept is not None:
            self._note(*self._counts(kept))
        elif measured and self._is_magnitude():
            self._note(1, 1)

    def _is_due(self) -> bool:
        """Whether the next update is the first one in its part of the ramp, or the last one."""
        step = self.pruner.steps
        measured = [int(each["step"]) for each in self.pruner.updates if OVERLAP in each]
        if not measured or step >= self.pruner.schedule.ramp_end:
            return True
        return self._part(step) > self._part(measured[-1])

    def _is_magnitude(self) -> bool:
        return type(self.pruner.score).score is Size.score

    def _part(self, step: int) -> int:
        schedule = self.pruner.schedule
        return PARTS * (step - schedule.warmup) // (schedule.ramp_end - schedule.warmup)

    @torch.no_grad()
    def _kept_by_magnitude(self) -> dict[str, Tensor] | None:
        """Bool tensors in the CPU's memory: the update's own peak on a GPU is without them."""
        pruner = self.pruner
        if self._is_magnitude():
            return None
        with self._aside(), contextlib.suppress(NotANumber):
            _, k, pruned = pruner.planned_update()
            kept = kept_by(Size(), pruner, pruner.scope, k, pruned)
            return {name: mask.cpu() for name, mask in kept.items()}
        return None

    def _note(self, kept: int, common: int) -> None:
        """``kept``: how many weights are kept after the update; ``common``: by magnitude too."""
        entry, score = self.pruner.updates[-1], self.pruner.score
        entry[OVERLAP] = common / kept if kept else 1.0
        pruned = entry["zeros"] if score.returns else entry["changed"]
        if pruned and kept and not score.regrows:
            entry[AGREEMENT] = 1 - (kept - common) * (pruned + kept) / (pruned * kept)

    @torch.no_grad()
    def _counts(self, kept_by_magnitude: dict[str, Tensor]) -> tuple[int, int]:
        """How many weights are kept, and how many of them by magnitude too."""
        pruner, sums = self.pruner, []
        with self._aside():
            for name, by_magnitude in kept_by_magnitude.items():
                kept = pruner.masks.mask(name, pruner.states(name)).logical_not()
                number = kept.sum()
                common = kept.logical_and_(by_magnitude.to(kept.device)).sum()
                sums.append(torch.stack((number, common)))
            kept_now, in_both = pruner.summed(torch.stack(sums).sum(0).tolist())
        return kept_now, in_both

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        device = next(iter(self.pruner.weights.values())).device
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # what is queued there is training
        uncounted = self.phases.uncounted() if self.phases else contextlib.nullcontext()
        with self.clock.aside("measure"), uncounted:
            yield
