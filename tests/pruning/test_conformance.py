"""A pruner in the loops that people have: each equals the plain loop, or is refused by name."""

from __future__ import annotations

import copy
import io
import pickle
from functools import cache, partial

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from adamwprune import optimizers
from adamwprune.optimizers._base import KeepsMoments
from adamwprune.pruning import Magnitude, Movement, MovementSeed, Pruner, RigL, Schedule, Set, State
from tests.support.pairwise import cases

ADAM = (KeepsMoments, torch.optim.Adam)

STEPS = 14
SCHEDULE = Schedule(target=0.75, warmup=2, interval=3, ramp_end=11)

OURS = {name: getattr(optimizers, name) for name in optimizers.__all__ if name[0].isupper()}
del OURS["Spam"], OURS["ReleasedGradients"]  # no optimizers
KINDS = {"SGD": "loop foreach fused", "Adam": "loop foreach fused", "AdamW": "loop foreach fused",
         "NAdam": "loop foreach", "RAdam": "loop foreach", "Muon": "loop"}  # fmt: skip
FORMS = {"loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
THEIRS = {
    f"torch-{name}-{kind}": partial(
        getattr(torch.optim, name),
        **({} if name == "Muon" else FORMS[kind]),
        **({"momentum": 0.9} if name == "SGD" else {}),
    )
    for name, kinds in KINDS.items()
    for kind in kinds.split()
}
OPTIMIZERS = {**OURS, **THEIRS}
METHODS = {"magnitude": Magnitude, "movement": Movement, "movement-seed": MovementSeed,
           "set": Set, "rigl": RigL, "state": State}  # fmt: skip


class Loop:
    """A network, its optimizer and pruner, and the plain loop; situations are subclasses."""

    plain: type[Loop] | None  # what a situation is compared with

    def __init__(self, optimizer: str, method: str) -> None:
        torch.manual_seed(0)
        self.model = self.network()
        self.build = OPTIMIZERS[optimizer]
        self.method = METHODS[method]
        self.begin()

    def network(self) -> nn.Module:
        return nn.Sequential(nn.Linear(16, 12, bias=False), nn.ReLU(), nn.Linear(12, 4, bias=False))

    def begin(self) -> None:
        self.optimizer = self.build(self.trained(), lr=1e-2)
        self.pruner = Pruner(self.model, self.method(), SCHEDULE).attach(self.optimizer)

    def trained(self):
        return [param for param in self.model.parameters() if param.requires_grad]

    def run(self) -> Loop:
        for step in range(STEPS):
            self.between(step)
            self.step(*self.batch(step))
        self.pruner.verify()
        return self

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(step)
        first = next(self.model.parameters())
        inputs = torch.randn(16, 16, generator=generator).to(first.dtype)
        return inputs, torch.randint(0, 4, (16,), generator=generator)

    def between(self, step: int) -> None:
        """Before each step."""

    def step(self, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        self.loss(inputs, labels).backward()
        self.optimizer.step()

    def loss(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(self.model(inputs), labels)

    def weights(self) -> list[torch.Tensor]:
        return [weight.detach().float().contiguous() for weight in self.pruner.weights.values()]


class Scaler(Loop):
    """Mixed precision's GradScaler, with an overflow in one step: it is none."""

    def begin(self) -> None:
        super().begin()
        self.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)

    def step(self, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        if self.pruner.steps == 5 and self.scaler.get_scale() >= 1024:
            self._one(inputs, labels, torch.inf)  # an attempt that is skipped
        self._one(inputs, labels, 1.0)

    def _one(self, inputs: torch.Tensor, labels: torch.Tensor, factor: float) -> None:
        self.optimizer.zero_grad()
        self.scaler.scale(self.loss(inputs, labels) * factor).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()


class Accumulation(Loop):
    def step(self, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        for part in (slice(0, 8), slice(8, 16)):
            (self.loss(inputs[part], labels[part]) / 2).backward()
        self.optimizer.step()


class Clipping(Loop):
    """By the user, to a norm that no gradient has."""

    def step(self, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        self.loss(inputs, labels).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1e6)
        self.optimizer.step()


class Closure(Loop):
    def step(self, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        def closure() -> torch.Tensor:
            self.optimizer.zero_grad()
            loss = self.loss(inputs, labels)
            loss.backward()
            return loss

        self.optimizer.step(closure)


class Compiled(Loop):
    """``torch.compile`` around the model: its names have a prefix."""

    def begin(self) -> None:
        self.model = torch.compile(self.model, backend="eager")
        super().begin()


class Copied(Loop):
    """The model, optimizer and pruner are copied together, and the copy goes on."""

    def between(self, step: int) -> None:
        if step == 8:
            old, parts = self.pruner, (self.model, self.optimizer, self.pruner)
            self.model, self.optimizer, self.pruner = self.copied(parts)
            with torch.no_grad():
                for weight in old.weights.values():
                    weight.fill_(torch.nan)

    def copied(self, parts):
        return copy.deepcopy(parts)


class Pickled(Copied):
    def copied(self, parts):
        return pickle.loads(pickle.dumps(parts))


class Resumed(Loop):
    """Into new objects, by the state_dicts of model and optimizer alone."""

    def between(self, step: int) -> None:
        if step == 8:
            buffer = io.BytesIO()
            torch.save([self.model.state_dict(), self.optimizer.state_dict()], buffer)
            buffer.seek(0)
            model, optimizer = torch.load(buffer, weights_only=True)
            torch.manual_seed(7)
            self.model = self.network()
            self.load(model, optimizer)

    def load(self, model, optimizer) -> None:
        self.begin()
        self.model.load_state_dict(model)
        self.optimizer.load_state_dict(optimizer)


class ResumedFirst(Resumed):
    """The pruner is attached to an optimizer that was loaded already."""

    def load(self, model, optimizer) -> None:
        self.model.load_state_dict(model)
        self.optimizer = self.build(self.trained(), lr=1e-2)
        self.optimizer.load_state_dict(optimizer)
        self.pruner = Pruner(self.model, self.method(), SCHEDULE).attach(self.optimizer)


class Distributed(Loop):
    """Through torch.distributed.checkpoint's state dicts of optimizers."""

    options = StateDictOptions()

    def between(self, step: int) -> None:
        if step == 8:
            model = copy.deepcopy(self.model.state_dict())
            saved = get_optimizer_state_dict(self.model, self.optimizer, options=self.options)
            torch.manual_seed(7)
            self.model = self.network()
            self.begin()
            self.model.load_state_dict(model)
            set_optimizer_state_dict(self.model, self.optimizer, saved, options=self.options)


class Flattened(Distributed):
    """As a dictionary of numbers and tensors alone."""

    options = StateDictOptions(flatten_optimizer_state_dict=True)


class Parallel(Loop):
    """DistributedDataParallel, of one process."""

    def begin(self) -> None:
        self.model = nn.parallel.DistributedDataParallel(self.model)
        super().begin()


class DataParallel(Loop):
    def begin(self) -> None:
        self.model = nn.DataParallel(self.model)
        super().begin()


class Transposed(Loop):
    """Weights that are views of what is laid out the other way round."""

    def begin(self) -> None:
        for module in (self.model[0], self.model[2]):
            module.weight = nn.Parameter(module.weight.detach().t().contiguous().t())
        super().begin()


class Strided(Loop):
    """Weights in every second column of something larger."""

    def begin(self) -> None:
        for module in (self.model[0], self.model[2]):
            larger = torch.full((len(module.weight), 2 * module.weight.shape[1]), torch.nan)
            larger[:, ::2] = module.weight.detach()
            module.weight = nn.Parameter(larger[:, ::2])
        super().begin()


class LaterGroup(Loop):
    """A group is added once the pruner is attached."""

    def begin(self) -> None:
        super().begin()
        self.later = nn.Parameter(torch.ones(3, 3))
        self.optimizer.add_param_group({"params": [self.later]})


class Wrapped(Loop):
    """An optimizer in a wrapper, as Accelerate's."""

    class Wrapper(torch.optim.Optimizer):
        def __init__(self, optimizer: torch.optim.Optimizer) -> None:
            self.optimizer = optimizer

        def step(self, closure=None):
            self.optimizer.step(closure)

        def zero_grad(self, set_to_none: bool = True) -> None:
            self.optimizer.zero_grad(set_to_none)

    def begin(self) -> None:
        self.optimizer = self.Wrapper(self.build(self.trained(), lr=1e-2))
        self.pruner = Pruner(self.model, self.method(), SCHEDULE).attach(self.optimizer)


class Convolution(Loop):
    """Its first layer reads images of four channels."""

    def network(self) -> nn.Module:
        return nn.Sequential(
            nn.Unflatten(1, (4, 2, 2)), nn.Conv2d(4, 12, 2, bias=False), nn.ReLU(), nn.Flatten(),
            nn.Linear(12, 4, bias=False),
        )  # fmt: skip


class ChannelsLast(Convolution):
    plain = Convolution

    def begin(self) -> None:
        self.model.to(memory_format=torch.channels_last)
        super().begin()


class Doubles(Loop):
    def network(self) -> nn.Module:
        return super().network().double()


class Halves(Loop):
    """bfloat16: another network, of which exactly k weights are pruned."""

    plain = None

    def network(self) -> nn.Module:
        return super().network().bfloat16()


class Shared(Loop):
    """A weight under two names; an empty, a frozen and an unused one of one number beside."""

    def network(self) -> nn.Module:
        plain = super().network()
        plain.again = nn.Linear(12, 4, bias=False)
        plain.again.weight = plain[2].weight
        plain.empty = nn.Linear(0, 4, bias=False)
        plain.frozen = nn.Linear(4, 4, bias=False).requires_grad_(False)
        plain.forward = lambda x: plain[2](plain[1](plain[0](x)))
        return plain


Loop.plain = Loop
SITUATIONS = {
    each.__name__: each
    for each in (Scaler, Accumulation, Clipping, Closure, Compiled, Copied, Pickled, Resumed,
                 ResumedFirst, Distributed, Flattened, Parallel, DataParallel, Transposed, Strided,
                 LaterGroup, Wrapped, Shared, ChannelsLast, Doubles, Halves)
}  # fmt: skip


@cache
def plain_run(kind: type[Loop], optimizer: str, method: str) -> Loop:
    """What several situations are compared with."""
    return kind(optimizer, method).run()


@pytest.fixture(scope="module", autouse=True)
def group(tmp_path_factory):
    """One process that is a group, for what is distributed."""
    store = f"file://{tmp_path_factory.mktemp('group')}/store"
    dist.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def fits(optimizer: str, method: str, situation: str) -> bool:
    adam = issubclass(getattr(OPTIMIZERS[optimizer], "func", OPTIMIZERS[optimizer]), ADAM)
    if method == "state" and not adam:
        return False
    return not (optimizer.startswith("torch-Muon") and situation == "ChannelsLast")  # matrices only


@pytest.mark.slow  # 400 pairs, 40 ms each
@pytest.mark.parametrize(
    ("optimizer", "method", "situation"), cases(OPTIMIZERS, METHODS, SITUATIONS, fits=fits)
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element", "ignore:.*DataParallel")
def test_every_loop_is_the_plain_one(optimizer, method, situation):
    if situation == "Strided" and optimizer.endswith("-fused"):
        with pytest.raises(ValueError, match=r"0\.weight has gaps in memory"):
            SITUATIONS[situation](optimizer, method)
        return
    found = SITUATIONS[situation](optimizer, method).run()
    assert (found.pruner.steps, found.pruner.k) == (STEPS, 180)  # of 240
    if found.plain is None:
        return
    plain = plain_run(found.plain, optimizer, method)
    assert found.pruner.updates == plain.pruner.updates
    assert list(found.pruner.weights) == list(plain.pruner.weights)
    for weight, expected in zip(found.weights(), plain.weights(), strict=True):
        torch.testing.assert_close(weight, expected, rtol=2e-4, atol=2e-5)
        assert torch.equal(weight == 0, expected == 0)
