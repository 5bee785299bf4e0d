"""Bytes that exist only for a moment: what a mask update takes beyond what is kept.

On a CPU they are counted in the tensors, as the ledger does it: every storage that an operation
returns is followed until it is freed. What a kernel allocates and frees inside itself (the index
that a sort makes) is not seen there; :func:`benchmarks.memory.counted.allocated_by` asks the
allocator for it, and costs too much for a run. On a GPU the allocator's own peaks are read,
:mod:`adamwprune.train.measure.phase_peaks`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from adamwprune.pruning import Pruner
from adamwprune.train.measure.phase_peaks import MASK_UPDATE, Phases

Work = Callable[[], object]


@dataclass(frozen=True)
class Transient:
    """Bytes during some work, above those at its start."""

    peak: int  # at the worst moment
    kept: int  # at the end; negative where more was freed than was made

    @property
    def bytes(self) -> int:
        """What existed only meanwhile: the peak beyond the start and the end."""
        return self.peak - max(self.kept, 0)


def transient_of(work: Work) -> Transient:
    """Run ``work`` and count the tensors that it makes and frees, on whatever device.

    Exact at the border of each operation of ATen; a few microseconds an operation. A storage
    that was there before counts, when it is freed, only if ``work`` touched it.
    """
    with Storages() as storages:
        work()
    return Transient(storages.peak, storages.live)


class Storages(TorchDispatchMode):
    """Follows the storages that operations take and return.

    ``live``: bytes above the start; ``peak``: the most there were after any operation.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._sizes: dict[int, int] = {}  # by address, as long as the storage lives
        self._watched: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = [*_tensors_in(args), *_tensors_in(tuple((kwargs or {}).values()))]
        for tensor in given:
            # Was there before, so that it is no growth. All but scalars: what x[i] = 1 makes of
            # its number is made where no mode sees it.
            if tensor.dim() and (storage := tensor.untyped_storage())._cdata not in self._sizes:
                self._watch(storage, storage.nbytes())
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors_in((result,)):
            if (storage := tensor.untyped_storage())._cdata not in self._sizes:
                self._watch(storage, 0)
            self._resize(storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return result

    def _watch(self, storage: torch.UntypedStorage, size: int) -> None:
        key = storage._cdata
        self._sizes[key] = size
        self._watched[key] = weakref.ref(storage, partial(self._freed, key))

    def _resize(self, key: int, size: int) -> None:
        self.live += size - self._sizes[key]
        self._sizes[key] = size

    def _freed(self, key: int, reference: object) -> None:
        self._resize(key, 0)
        del self._sizes[key], self._watched[key]


def _tensors_in(values: Sequence[Any]) -> Iterator[Tensor]:
    """The dense tensors in an operation's arguments or results, which nest in lists at most."""
    for value in values:
        if isinstance(value, Tensor):
            if value.layout is torch.strided:
                yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors_in(value)


class UpdateMeter:
    """The most that a run's mask updates took for a moment.

    With ``phases`` (a GPU's) their allocator is asked, in every update; without them the tensors
    of the first updates are counted: one that makes the masks, one that replaces them, and all
    that follow do what the second did. Nothing is done in a step that updates no mask.
    """

    COUNTED = 2

    def __init__(self, phases: Phases | None = None) -> None:
        self.phases = phases
        self.updates = 0  # seen
        self.worst: Transient | None = None  # of those measured

    def attach(self, pruner: Pruner) -> UpdateMeter:
        """Measure ``pruner``'s updates from now on; returns the meter itself."""
        pruner.around_update = self
        return self

    def __call__(self, update: Work) -> None:
        """Run one mask update and note what it took."""
        self.updates += 1
        if self.phases:
            found = self._on_gpu(update, self.phases)
        elif self.updates <= self.COUNTED:
            found = transient_of(update)
        else:
            update()
            return
        if self.worst is None or found.bytes > self.worst.bytes:
            self.worst = found

    @staticmethod
    def _on_gpu(update: Work, phases: Phases) -> Transient:
        before = phases.allocator.allocated()
        with phases.within(MASK_UPDATE):
            update()
            peak = phases.allocator.peak()
        return Transient(peak - before, phases.allocator.allocated() - before)

    def record(self) -> dict[str, int] | None:
        """``transient``, ``peak``: bytes (see :class:`Transient`); None without an update."""
        if self.worst is None:
            return None
        return {"transient": self.worst.bytes, "peak": self.worst.peak}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        worst = None if self.worst is None else vars(self.worst)
        return {"updates": self.updates, "worst": worst}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.updates = state["updates"]
        self.worst = None if state["worst"] is None else Transient(**state["worst"])
