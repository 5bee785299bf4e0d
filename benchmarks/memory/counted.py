"""The ledger of networks larger than the ones that are trained here, from their live tensors.

Bytes by owner depend on shapes and not on what is learned: two steps with any gradients and a mask
update after the second make every tensor that training would keep.
"""

import gc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import profiler

from adamwprune import optimizers, pruning
from adamwprune.config import strict
from adamwprune.config.tree import Tree
from adamwprune.models import Model
from adamwprune.plan.matrix import expand
from adamwprune.plan.spec import RunSpec
from adamwprune.pruning import Pruner
from adamwprune.pruning.storage import Count
from adamwprune.report import owned_bytes
from adamwprune.report.columns import Column, piped
from adamwprune.train.measure.course import Course
from adamwprune.train.measure.update_peak import Transient, Work, transient_of
from benchmarks.memory.formulas import Size, computed

PRUNED = ("adamw", "adamwprune")  # the optimizers under which every method is shown
STEPS = 2
LANE = 8  # float32 numbers of a kernel's vectors on a CPU


# -- one row ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One optimizer × method × storage: bytes that were counted, and bytes that were expected."""

    spec: RunSpec
    size: Size
    measured: dict[str, Any]
    computed: dict[str, Any]
    tensors: Transient | None = None  # of the mask update, counted in its tensors
    allocator: int | None = None  # the same by torch's allocator: what existed only meanwhile


def runs() -> list[RunSpec]:
    """What is shown: every optimizer dense, and every method × storage under ``PRUNED``.

    What the tree drops as impossible is not among them.
    """
    found: dict[str, RunSpec] = {}
    families = Tree().families
    for storage in families["MASK_STORAGE"].members:
        tree = Tree()
        words = {
            "OPTIMIZER": " ".join(families["OPTIMIZER"].members),
            "PRUNING_METHOD": " ".join(families["PRUNING_METHOD"].members),
            "MASK_STORAGE": storage,
        }
        strict.apply(tree, strict.command_line(tree, words, "memory table"))
        for spec in expand(tree).specs:
            if "MASK_STORAGE" not in spec or spec["OPTIMIZER"] in PRUNED:
                found.setdefault(spec.run_id, spec)
    names = {name: place for place, name in enumerate(families["OPTIMIZER"].members)}
    methods = {name: place for place, name in enumerate(families["PRUNING_METHOD"].members)}
    return sorted(
        found.values(), key=lambda s: (names[s["OPTIMIZER"]], methods[s["PRUNING_METHOD"]])
    )


def measure(build: Callable[[], Model], spec: RunSpec, *, update: bool = True) -> Row:
    """Two steps of a fresh network and, if the run prunes, one mask update at its target; the
    gradients are the weights. ``update``: measure what it takes for a moment.
    """
    gc.collect()  # the row before: its optimizer and its pruner hold each other
    torch.manual_seed(0)
    network = build()
    model = network.module
    _without_zeros(model.parameters())
    # A learning rate of zero: no weight may become zero but those that are pruned.
    values = {**spec.settings, "LR": 0.0, "PRUNING_WARMUP": 0, "PRUNING_INTERVAL": 1 + STEPS}
    optimizer = optimizers.build(str(values["OPTIMIZER"]), model.parameters(), values)
    pruner = pruning.build(model, values, STEPS, network.prunable)
    meter = Update(pruner) if update else None
    course = Course(model, optimizer, pruner).attach()
    pruner.attach(optimizer)
    if values["RELEASE_GRADIENTS"]:
        course.released = optimizers.ReleasedGradients(optimizer, pruner).attach()
    for step in range(1, 1 + STEPS):
        for param in model.parameters():
            (param * param.detach()).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        course.stepped(step)
    size = size_of(model, pruner)
    found = (meter.tensors, meter.allocator) if meter else (None, None)
    return Row(spec, size, course.account(), computed(values, size), *found)


def size_of(model: nn.Module, pruner: Pruner) -> Size:
    """What the formulas take of it, as it is now."""
    parameters = list(model.parameters())
    return Size(
        sum(param.numel() for param in parameters),
        len(parameters),
        tuple(tuple(weight.shape) for weight in pruner.weights.values()),
        sum(buffer.nbytes for buffer in model.buffers()),
        max(param.numel() for param in parameters),
        tuple(_count(~pruner.masks.mask(n, pruner.states(n))) for n in pruner.weights),
    )


def _count(live: Tensor) -> Count:
    numel = live.numel()
    rest = live.view(-1)[numel - numel % LANE :]
    return Count(numel, int(live.sum()), int(rest.sum()))


class Update:
    """Measures a pruner's one mask update in two ways at once."""

    def __init__(self, pruner: Pruner) -> None:
        self.tensors: Transient | None = None
        self.allocator: int | None = None
        pruner.around_update = self

    def __call__(self, update: Work) -> None:
        def counted() -> None:
            self.tensors = transient_of(update)

        found = allocated_by(counted)
        assert self.tensors is not None
        self.allocator = found.peak - max(self.tensors.kept, 0)


@torch.no_grad()
def _without_zeros(weights: Iterable[Tensor]) -> None:
    """A random float is zero once in 16 million; a weight that is zero counts as pruned."""
    for weight in weights:
        weight.masked_fill_(weight == 0, 1e-3)


def allocated_by(work: Work) -> Transient:
    """Run ``work`` and count what it took from torch's allocator on the CPU, kernels' own too.

    The profiler's readings: tens of milliseconds, and its library writes to the standard error
    unless KINETO_LOG_LEVEL is high when torch is imported. What was allocated before is not
    subtracted when ``work`` frees it. Of what the C++ library takes for itself (the second half
    of a merge sort) no allocator of torch knows.
    """
    gc.collect()  # garbage of earlier work that went meanwhile would count as work's
    with profiler.profile(use_kineto=True, profile_memory=True) as profile:
        work()
    assert profile.kineto_results is not None
    live = peak = 0
    for _, size in sorted(_allocations(profile.kineto_results.experimental_event_tree())):
        live += size
        peak = max(peak, live)
    return Transient(peak, live)


def _allocations(events: Iterable[Any]) -> Iterable[tuple[tuple[int, int], int]]:
    """When, and bytes, of each allocation (+) and release (-) of the CPU, of nested events."""
    waiting, order = list(events), 0
    while waiting:
        event = waiting.pop(0)
        waiting[:0] = event.children
        order += 1
        if event.name == "[memory]" and event.extra_fields.device.type == "cpu":
            yield (event.start_time_ns, order), event.extra_fields.alloc_size


# -- the table ---------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> str:
    """The rows of one network as Markdown, all sizes in bytes."""
    owned = [owned_bytes.owners(row.measured) for row in rows]
    names = [*dict.fromkeys(name for found in owned for name in found if name != owned_bytes.OTHER)]
    names = [*sorted(names, key=_column), owned_bytes.OTHER]
    update = ("update: tensors", "update: allocator")
    columns = ("optimizer", "method", "masks as", *names, "total", "computed", *update)
    cells = []
    for row, found in zip(rows, owned, strict=True):
        transient = None if row.tensors is None else row.tensors.bytes
        sizes = (row.measured["total"], row.computed["total"])
        numbers = [*(found.get(name) for name in names), *sizes, transient, row.allocator]
        cells.append((*head(row.spec), *map(_bytes, numbers)))
    shown = [Column(name, itemgetter(at), at > 2) for at, name in enumerate(columns)]
    return "\n".join(piped(shown, cells))


def head(spec: RunSpec) -> tuple[str, str, str]:
    """Optimizer, method and storage of the masks, for people."""
    method = spec["PRUNING_METHOD"]
    shown = {"none": "dense"}.get(method, method)
    return spec["OPTIMIZER"], shown, str(spec.values.get("MASK_STORAGE", ""))


def _column(name: str) -> int:
    """Where an owner's column stands: as in the order of training."""
    order = ("weights", "gradients", "momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    last = ("masks",)
    return order.index(name) if name in order else len(order) + (name in last)


def _bytes(size: int | None) -> str:
    return "" if size is None else f"{size:,}"
