"""What everybody's training loop expects of a torch optimizer, of every member and every mode.

Members are found where the build finds them: a new one is covered unasked. A member's module may
name a test that cannot hold for it: ``CONFORMANCE = {"test_…": "why"}``.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
import pickle

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from adamwprune.pruning import Dense, Pruner, Schedule
from adamwprune.train.measure import ledger
from tests.optimizers.conftest import ALL, CASES, backward, exceptions, network, same_bits, train


@pytest.fixture(params=sorted(CASES))
def case(request):
    """Builds an optimizer over parameters."""
    skip_if_excepted(request)
    return CASES[request.param]


@pytest.fixture(params=sorted(ALL))
def member(request):
    """The class of a member."""
    skip_if_excepted(request)
    return ALL[request.param]


def skip_if_excepted(request):
    reason = exceptions(request.param).get(request.function.__name__)
    if reason:
        pytest.skip(f"{request.param}: {reason}")


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_member_is_excepted_from_tests_that_are_there(name):
    for test, reason in exceptions(name).items():
        assert callable(globals().get(test)), f"{name}: there is no {test}"
        assert reason


def raised(build):
    """The error of a call, as its type and text."""
    try:
        build()
    except Exception as error:  # noqa: BLE001
        return type(error), str(error)
    return None


# -- the constructor ------------------------------------------------------------------------

BAD = [
    ("lr", -1.0),
    ("weight_decay", -0.1),
    ("betas", (1.0, 0.999)),
    ("betas", (0.9, -0.5)),
    ("momentum", -1.0),
    ("eps", -1e-8),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_invalid_values_are_refused_in_torchs_words(member, name, value):
    accepted = inspect.signature(member).parameters
    if name not in accepted:
        pytest.skip(f"takes no {name}")
    theirs = torch.optim.SGD if "momentum" in accepted else torch.optim.Adam
    told = raised(lambda: theirs(network().parameters(), **{name: value}))
    assert told is not None
    assert raised(lambda: member(network().parameters(), **{name: value})) == told


def test_a_learning_rate_is_a_number(member):
    with pytest.raises(ValueError, match="Invalid learning rate: nan"):
        member(network().parameters(), lr=float("nan"))


def test_a_norm_to_clip_to_is_not_negative(member):
    if "max_grad_norm" not in inspect.signature(member).parameters:
        pytest.skip("takes no max_grad_norm")
    with pytest.raises(ValueError, match="Invalid max_grad_norm value: -1"):
        member(network().parameters(), max_grad_norm=-1.0)


@pytest.mark.parametrize(
    "params",
    [
        lambda: [],
        lambda: torch.zeros(3),
        lambda: [torch.zeros(3, requires_grad=True) * 2],
        lambda: ["weight"],
        lambda: [{"params": [p]} for p in [nn.Parameter(torch.zeros(1))] * 2],
    ],
    ids=["none", "a tensor", "no leaf", "no tensor", "twice"],
)
def test_params_are_refused_as_torch_does(member, params):
    told = raised(lambda: torch.optim.SGD(params()))
    assert told is not None
    assert raised(lambda: member(params())) == told


def test_params_are_an_iterable_or_named(member):
    model = network()
    assert len(member(iter(model.parameters())).param_groups[0]["params"]) == 4
    named = member(model.named_parameters())
    assert named.param_groups[0]["param_names"] == [name for name, _ in model.named_parameters()]


# -- groups ---------------------------------------------------------------------------------


def halves(model):
    """The first and the last layer."""
    return list(model[0].parameters()), list(model[2].parameters())


def test_two_groups_of_the_same_settings_are_one(case):
    a, b = network(), network()
    train(a, case(a.parameters()), 40)
    train(b, case([{"params": params} for params in halves(b)]), 40)
    assert same_bits(a, b)


def test_a_group_has_settings_of_its_own(case):
    model, slow = network(), network()
    first, last = halves(model)
    optimizer = case([{"params": first, "lr": 0.0}, {"params": last}], lr=1e-3)
    train(model, optimizer, 10)
    untouched = network()
    for moved, before in zip(model.parameters(), untouched.parameters(), strict=True):
        assert torch.equal(moved, before) == any(moved is param for param in first)
    train(slow, case([{"params": ps, "lr": 1e-6} for ps in halves(slow)], lr=1e-3), 10)
    for moved, before in zip(slow.parameters(), untouched.parameters(), strict=True):
        assert 0 < (moved - before).abs().max() < 1e-4


def test_a_group_can_join_in_mid_run(case):
    model = network()
    first, last = halves(model)
    optimizer = case(first)
    train(model, optimizer, 30)
    before = [param.detach().clone() for param in last]
    optimizer.add_param_group({"params": last})
    train(model, optimizer, 30, first=30)
    assert not any(torch.equal(a, b) for a, b in zip(before, last, strict=True))


# -- states ---------------------------------------------------------------------------------


def saved_and_loaded(state_dict):
    """Through a file, as a checkpoint is read: weights only."""
    file = io.BytesIO()
    torch.save(state_dict, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("steps", [1, 24, 25, 40])
def test_state_dict_round_trip_in_mid_run(case, steps, dtype):
    model = network(dtype)
    optimizer = case(model.parameters())
    train(model, optimizer, steps)
    twin = copy.deepcopy(model)
    restored = case(twin.parameters())
    restored.load_state_dict(saved_and_loaded(optimizer.state_dict()))
    train(model, optimizer, 30, first=steps)
    train(twin, restored, 30, first=steps)
    assert same_bits(model, twin)


def test_a_state_dict_is_torchs_in_form(case):
    model = network()
    optimizer = case(model.parameters())
    train(model, optimizer, 3)
    found = optimizer.state_dict()
    assert {"state", "param_groups"} <= set(found)
    assert sorted(found["state"]) == found["param_groups"][0]["params"] == [0, 1, 2, 3]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_goes_on_by_itself(case, copied):
    model = network(torch.float32)
    optimizer = case(model.parameters())
    train(model, optimizer, 30)
    twin, again = copied((model, optimizer))
    train(model, optimizer, 30, first=30)
    assert not same_bits(model, twin), "the copy has weights of its own"
    train(twin, again, 30, first=30)
    assert same_bits(model, twin)
    assert raised(lambda: repr(again)) is None


def furthest_from_float64(case, dtype):
    """How far the weights of 30 steps are from those in float64; states have the weights' type."""
    model, wide = network(dtype), network()
    optimizer = case(model.parameters(), lr=1e-2)
    train(model, optimizer, 30)
    train(wide, case(wide.parameters(), lr=1e-2), 30)
    furthest = 0.0
    for param, exact in zip(model.parameters(), wide.parameters(), strict=True):
        assert param.dtype == dtype
        assert param.isfinite().all()
        moments = [s for s in optimizer.state[param].values() if s.shape == param.shape]
        assert {moment.dtype for moment in moments} == {dtype}
        furthest = max(furthest, (param.double() - exact).abs().max().item())
    return furthest


def test_float32_stays_near_float64(case):
    assert furthest_from_float64(case, torch.float32) < 1e-4


def test_bfloat16_stays_near_float64(case):
    assert furthest_from_float64(case, torch.bfloat16) < 0.1


def test_the_states_that_are_declared_are_there(case):
    """Bytes by state, of float32 weights."""
    model = network(torch.float32)
    optimizer = case(model.parameters())
    train(model, optimizer, 1)
    params = list(model.parameters())
    numel = sum(param.numel() for param in params)
    declared = {n: b.of(numel, len(params)) for n, b in optimizer.declared_states().items()}
    assert (
        ledger.account(model, optimizer, Pruner(model, Dense(), Schedule.dense()))["optimizer"]
        == declared
    )


def test_weights_of_several_types_train_together(case):
    model = network(torch.float32)
    model[2].to(torch.bfloat16)
    optimizer = case(model.parameters(), lr=1e-2)
    before = copy.deepcopy(model)
    for number in range(30):
        for param in model.parameters():
            generator = torch.Generator().manual_seed(number)
            param.grad = torch.randn(param.shape, generator=generator).to(param.dtype)
        optimizer.step()
    for param, start in zip(model.parameters(), before.parameters(), strict=True):
        assert param.isfinite().all()
        assert not torch.equal(param, start)


# -- gradients ------------------------------------------------------------------------------


def test_parameters_without_gradient_are_skipped(case):
    model = network()
    optimizer = case(model.parameters())
    train(model, optimizer, 3)
    quiet = model[0].weight
    before, state = quiet.detach().clone(), copy.deepcopy(optimizer.state[quiet])
    for number in range(3, 6):
        backward(model, number)
        quiet.grad = None
        optimizer.step()
    assert torch.equal(quiet, before)
    assert all(torch.equal(optimizer.state[quiet][name], value) for name, value in state.items())
    train(model, optimizer, 1, first=6)
    assert not torch.equal(quiet, before)


def test_parameters_that_never_have_one_get_no_state(case):
    model = network()
    frozen = model[0].weight.requires_grad_(False)
    optimizer = case(model.parameters())
    train(model, optimizer, 3)
    assert frozen not in optimizer.state


def test_a_step_without_any_gradient_changes_nothing(case):
    model = network()
    optimizer = case(model.parameters())
    optimizer.step()
    assert same_bits(model, network())


def test_parameters_without_entries_are_no_trouble(case):
    param, empty = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(0, 3))
    optimizer = case([empty, param])
    for _ in range(3):
        param.grad, empty.grad = torch.ones(2), torch.zeros(0, 3)
        optimizer.step()
    assert (param < 1).all()


def test_sparse_gradients_are_refused(case):
    embedding = nn.Embedding(10, 3, sparse=True)
    optimizer = case(embedding.parameters())
    embedding(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(RuntimeError, match="does not support sparse gradients"):
        optimizer.step()


def test_zero_grad(case):
    model = network()
    optimizer = case(model.parameters())
    backward(model, 0)
    optimizer.zero_grad(set_to_none=False)
    assert all(param.grad is not None and not param.grad.any() for param in model.parameters())
    backward(model, 0)
    optimizer.zero_grad()
    assert all(param.grad is None for param in model.parameters())


def test_closure(case):
    model, by_hand = network(), network()
    optimizer = case(model.parameters())

    def closure():
        assert torch.is_grad_enabled()
        backward(model, 0)
        return 3.5

    assert optimizer.step(closure) == 3.5
    with torch.no_grad():
        assert optimizer.step(closure) == 3.5
    other = case(by_hand.parameters())
    for _ in range(2):
        backward(by_hand, 0)
        assert other.step() is None
    assert same_bits(model, by_hand)


# -- in the loop ----------------------------------------------------------------------------


class NoReading(TorchDispatchMode):
    """Fails on every operation that hands a value of a tensor to Python."""

    forbidden = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "unique", "masked_select")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        to_cpu = name == "_to_copy" and (kwargs or {}).get("device") is not None
        if to_cpu or name.split(".")[0] in self.forbidden:
            raise AssertionError(f"{func} synchronises with the device")
        return func(*args, **(kwargs or {}))


class NoFetching(TorchFunctionMode):
    """Fails on what on the CPU is no operation, and on another device a copy to the CPU."""

    forbidden = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__")

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        texts = [each for each in (*args, *(kwargs or {}).values()) if isinstance(each, str)]
        if name in self.forbidden or (name == "to" and "cpu" in texts):
            raise AssertionError(f"{name} fetches a value from the device")
        return func(*args, **(kwargs or {}))


def test_a_step_reads_nothing_back_from_the_device(case):
    model = network(torch.float32)
    optimizer = case(model.parameters())
    optimizer.capturable = True  # as on a GPU; on a CPU reading costs nothing
    for number in range(60):
        backward(model, number)
        with NoReading(), NoFetching():
            optimizer.step()


@pytest.mark.parametrize(
    "read",
    [
        lambda t: t.item(),
        lambda t: bool(t > 0),
        float,
        lambda t: t.to("cpu"),
        lambda t: t.cpu(),
        lambda t: t.tolist(),
        lambda t: t.nonzero(),
        lambda t: t[t > 0],
        lambda t: torch.equal(t, t),
    ],
)
def test_what_reads_back_is_found(read):
    """The test above is one: it fails for each of these in a step."""
    with pytest.raises(AssertionError, match="the device"), NoReading(), NoFetching():
        read(torch.ones(()))


@pytest.mark.slow
def test_a_compiled_training_step_is_the_eager_one(case):
    """To the bit, across resets, and compiled once: no step leads to another compilation."""
    torch.compiler.reset()
    a, b = network(torch.float32), network(torch.float32)
    eager, compiled = case(a.parameters()), case(b.parameters())

    def training_step(model, optimizer, inputs):
        loss = model(inputs).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    fast = torch.compile(training_step, backend="aot_eager")
    with contextlib.ExitStack() as stack:
        for number in range(40):
            inputs = torch.randn(16, 6, generator=torch.Generator().manual_seed(number))
            if number == 5:
                stack.enter_context(torch._dynamo.config.patch(error_on_recompile=True))
            one, other = training_step(a, eager, inputs), fast(b, compiled, inputs)
            assert torch.equal(one, other)
    assert same_bits(a, b)


@pytest.mark.slow
def test_step_can_be_compiled_alone(case):
    torch.compiler.reset()
    a, b = network(torch.float32), network(torch.float32)
    eager, other = case(a.parameters()), case(b.parameters())
    step = torch.compile(other.step, backend="eager")
    for number in range(30):
        backward(a, number)
        eager.step()
        backward(b, number)
        step()
    assert same_bits(a, b)


SCHEDULERS = {
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda n: 1 / (1 + n)),
    "step": lambda o: lr_scheduler.StepLR(o, 4),
    "multi": lambda o: lr_scheduler.MultiStepLR(o, [3, 8]),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 12),
    "restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5),
    "one-cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=12),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 0.001, 0.1, step_size_up=4),
    "sequential": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, total_iters=3), lr_scheduler.PolynomialLR(o, 9)], [3]
    ),
    "chained": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "swa": lambda o: torch.optim.swa_utils.SWALR(o, 0.01, anneal_epochs=5),
}


def like_torchs(optimizer, model):
    """torch's optimizer with the same rate, and the betas or the momentum that schedulers cycle."""
    defaults, params = optimizer.defaults, model.parameters()
    if "betas" in defaults:
        return torch.optim.Adam(params, defaults["lr"], defaults["betas"])
    return torch.optim.SGD(params, defaults["lr"], defaults.get("momentum", 0))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_s_rates_are_what_the_steps_use(case, name):
    """The rates are those that torch's own optimizer gets, and no step writes them."""
    model, other = network(), network()
    optimizer = case(model.parameters(), lr=0.05)
    theirs = like_torchs(optimizer, other)
    refused = raised(lambda: SCHEDULERS[name](theirs))
    if refused:  # a scheduler that cycles momentum, without one
        assert raised(lambda: SCHEDULERS[name](optimizer)) == refused
        return
    theirs = like_torchs(optimizer, other)
    ours, reference = SCHEDULERS[name](optimizer), SCHEDULERS[name](theirs)
    for number in range(11):
        before, group = optimizer.param_groups[0]["lr"], optimizer.param_groups[0]
        train(model, optimizer, 1, first=number)
        assert group["lr"] is before
        train(other, theirs, 1, first=number)
        ours.step()
        reference.step()
        for key in ("lr", "betas", "momentum"):
            assert group.get(key) == theirs.param_groups[0].get(key)
    assert ours.last_epoch == reference.last_epoch == 11 if name != "chained" else True


def test_a_scheduler_on_a_plateau(case):
    model = network()
    optimizer = case(model.parameters(), lr=0.5)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
    for number in range(4):
        train(model, optimizer, 1, first=number)
        scheduler.step(1.0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)


def test_a_rate_of_zero_moves_nothing_but_the_states(case):
    model = network()
    optimizer = case(model.parameters(), lr=0.0)
    train(model, optimizer, 10)
    assert same_bits(model, network())
    assert all(state for state in optimizer.state.values())
