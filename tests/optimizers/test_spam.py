"""The three modes of SPAM against a straight line of code each, over 1,200 steps and two resets.

The references are plain Python on float64 tensors and share nothing with the implementation.
"""

from __future__ import annotations

import copy
import math

import pytest
import torch

from adamwprune.optimizers import AdamWSpam, Spam

STEPS, INTERVAL = 1200, 500  # steps 500 and 1000 begin with a reset
SHAPES = ((5, 4), (4,), (3, 2, 2))
LR, DECAY, MAX_NORM, EPS = 1e-3, 0.01, 1.0, 1e-8
BESIDE = {"weight_decay": DECAY, "max_grad_norm": MAX_NORM, "eps": EPS}  # a mode, in each of them


class Problem:
    """Weights drawn to a target, with noise and with spikes in whole gradients and in entries.

    The weights are small, so that float32 resolves a millionth of a step.
    """

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(3)

        def normal(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.targets = [0.02 * normal(*shape) for shape in SHAPES]
        self.noise = []
        for shape in SHAPES:
            noise = 0.3 * normal(STEPS, *shape)
            spiky = torch.rand(noise.shape, generator=generator) < 0.005
            noise[spiky] *= 300.0
            noise[16::37] *= 25.0
            self.noise.append(noise)

    def start(self):
        return [torch.zeros(shape, dtype=torch.float64) for shape in SHAPES]

    def gradients(self, weights, step):
        """Of step number ``step``, from 1."""
        parts = zip(weights, self.targets, self.noise, strict=True)
        return [w - target + noise[step - 1] for w, target, noise in parts]


class Reference:
    """AdamW with norm clipping; a mode says what comes before and how Adam's step is counted."""

    def __init__(self, weights, amsgrad):
        self.w, self.amsgrad = weights, amsgrad
        self.m = [torch.zeros_like(w) for w in weights]
        self.v = [torch.zeros_like(w) for w in weights]
        self.top = [torch.zeros_like(w) for w in weights]
        self.t, self.since, self.clipped, self.spikes = 0, 10**9, 0, 0

    def zero_moments(self):
        for tensor in self.m + self.v + self.top:
            tensor.zero_()
        self.since = 0

    def clip_norm(self, grads):
        norm = math.sqrt(sum(float((g * g).sum()) for g in grads))
        if norm <= MAX_NORM:
            return grads
        return [g * (MAX_NORM / (norm + 1e-6)) for g in grads]

    def adamw(self, grads, lr, scale, t):
        for i, (w, g) in enumerate(zip(self.w, grads, strict=True)):
            self.m[i] = 0.9 * self.m[i] + 0.1 * g
            self.v[i] = 0.999 * self.v[i] + 0.001 * g * g
            self.top[i] = torch.maximum(self.top[i], self.v[i])
            second = self.top[i] if self.amsgrad else self.v[i]
            w.mul_(1 - lr * DECAY)
            denominator = (second / (1 - 0.999**t)).sqrt() + EPS
            w.sub_(scale * lr * (self.m[i] / (1 - 0.9**t)) / denominator)
        self.since += 1


class Paper(Reference):
    """SPAM, arXiv 2501.06842. Its three mechanics are all that ``theta`` and the like name."""

    theta, warmup = 5000.0, 150

    def step(self, grads, lr=LR):
        self.t += 1
        if self.t % INTERVAL == 0:
            self.zero_moments()
        grads = self.spikes_clipped([g.clone() for g in grads])
        self.adamw(self.clip_norm(grads), lr, self.scale(), self.t)

    def spikes_clipped(self, grads):
        for g, v in zip(grads, self.v, strict=True):
            if self.t >= 20 and self.t % INTERVAL >= 20:
                spiky = g * g > self.theta * v
                self.clipped += int(spiky.sum())
                g[spiky] = g[spiky].sign() * (self.theta * v[spiky]).sqrt()
        return grads

    def scale(self):
        if self.since >= self.warmup:
            return 1.0
        return 1 - 0.495 * (1 + math.cos(math.pi * self.since / (self.warmup + 1)))


class ZScore(Paper):
    """The z-score heuristic, and with it, where ``theta`` and ``warmup`` are, SPAM's mechanics."""

    def __init__(self, weights, amsgrad):
        super().__init__(weights, amsgrad)
        self.norms = []

    def spikes_clipped(self, grads):
        norm = math.sqrt(sum(float((g * g).sum()) for g in grads))
        last = self.norms[-100:]
        if len(last) >= 10:
            mean = sum(last) / len(last)
            deviation = math.sqrt(sum((n - mean) ** 2 for n in last) / len(last))
            if deviation > 0 and (norm - mean) / deviation > 2:
                self.spikes += 1
                self.m = [0.5 * m for m in self.m]
                self.v = [0.9 * v for v in self.v]
                self.top = [0.9 * t for t in self.top]
        self.norms.append(norm)
        return super().spikes_clipped(grads)


class Stable(Reference):
    """Stable-SPAM, arXiv 2502.17055: each tensor by itself."""

    g1, g2, g3 = 0.7, 0.9, 0.999

    def __init__(self, weights, amsgrad):
        super().__init__(weights, amsgrad)
        self.limit, self.mean, self.square = ([0.0] * len(weights) for _ in range(3))
        self.adam_t = 0

    def step(self, grads, lr=LR):
        self.t += 1
        self.adam_t += 1
        if self.t % INTERVAL == 0:
            self.zero_moments()
            self.adam_t = 1
        grads = [self.stabilised(i, g.clone()) for i, g in enumerate(grads)]
        self.adamw(self.clip_norm(grads), lr, 1.0, self.adam_t)

    def stabilised(self, i, g):
        top = float(g.abs().max())
        self.limit[i] = self.g3 * self.limit[i] + (1 - self.g3) * top
        limit = self.limit[i] / (1 - self.g3**self.t)
        above = g.abs() > limit
        self.clipped += int(above.sum())
        g[above] = g[above] / top * limit
        n = math.sqrt(float((g * g).sum()))
        self.mean[i] = self.g1 * self.mean[i] + (1 - self.g1) * n
        self.square[i] = self.g2 * self.square[i] + (1 - self.g2) * n**2
        mean = self.mean[i] / (1 - self.g1**self.t)
        square = self.square[i] / (1 - self.g2**self.t)
        return g / n * mean / (math.sqrt(square) + EPS)


class ClippingZScore(ZScore):
    theta, warmup = 50.0, 30


class BareZScore(ZScore):
    theta, warmup = math.inf, 0


MODES = {
    "zscore": (BareZScore, Spam(zscore=True, interval=INTERVAL)),
    "zscore-clip": (
        ClippingZScore,
        Spam(zscore=True, theta=50.0, interval=INTERVAL, warmup_steps=30),
    ),
    "paper": (Paper, Spam.paper_mode()),
    "stable": (Stable, Spam(interval=INTERVAL, gammas=Spam.stable_mode().gammas)),
}


def start(mode, amsgrad):
    """The problem, the implementation and the reference, before the first step."""
    problem = Problem()
    kind, spam = MODES[mode]
    params = [torch.nn.Parameter(w) for w in problem.start()]
    return (
        problem,
        AdamWSpam(params, LR, amsgrad=amsgrad, spam=spam, **BESIDE),
        kind(problem.start(), amsgrad),
    )


def params_of(optimizer):
    return [param for group in optimizer.param_groups for param in group["params"]]


def both_step(problem, ours, reference):
    """One step of each on the gradients of its own weights."""
    params = params_of(ours)
    step = reference.t + 1
    for param, grad in zip(params, problem.gradients(params, step), strict=True):
        param.grad = grad.detach()
    ours.step()
    reference.step(problem.gradients(reference.w, step))


@pytest.mark.parametrize("amsgrad", [True, False], ids=["amsgrad", "plain"])
@pytest.mark.parametrize("mode", MODES)
def test_a_mode_is_its_reference_for_1200_steps_and_two_resets(mode, amsgrad):
    problem, ours, reference = start(mode, amsgrad)
    for step in range(1, STEPS + 1):
        both_step(problem, ours, reference)
        assert ours.param_groups[0]["lr"] is LR, "a warm-up must never write the learning rate"
        if step % 50 and step not in (499, 501, 999, 1001):
            continue
        states = [ours.state[param] for param in params_of(ours)]
        compared = [
            (params_of(ours), reference.w),
            ([state["exp_avg"] for state in states], reference.m),
            ([state["exp_avg_sq"] for state in states], reference.v),
        ]
        if amsgrad:
            compared.append(([state["max_exp_avg_sq"] for state in states], reference.top))
        for found, expected in compared:
            torch.testing.assert_close([x.detach() for x in found], expected, rtol=1e-6, atol=1e-12)
    assert (reference.spikes > 20) == mode.startswith("zscore")
    assert (reference.clipped > 20) == (mode != "zscore")


@pytest.mark.parametrize("amsgrad", [True, False], ids=["amsgrad", "plain"])
@pytest.mark.parametrize("mode", MODES)
def test_one_step_in_float32(mode, amsgrad):
    """From one state in float64: what float32 makes of the next step, also of one after a reset."""
    problem, ours, reference = start(mode, amsgrad)
    for _ in range(INTERVAL + 40):
        if reference.t in (0, 100, INTERVAL - 1, INTERVAL, INTERVAL + 1, INTERVAL + 39):
            small = single_precision(ours)
            gradients = problem.gradients(reference.w, reference.t + 1)
            for param, grad in zip(params_of(small), gradients, strict=True):
                param.grad = grad.float()
            small.step()
            both_step(problem, ours, reference)
            found = [param.detach().double() for param in params_of(small)]
            torch.testing.assert_close(found, reference.w, rtol=2e-7, atol=LR * 2e-5)
        else:
            both_step(problem, ours, reference)


def test_a_spike_read_on_a_cpu_and_one_that_is_not_read_give_the_same_bits():
    def trained(capturable: bool) -> tuple[torch.Tensor, int]:
        generator = torch.Generator().manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(30, generator=generator))
        optimizer = AdamWSpam([weight], lr=2**-7, weight_decay=0, spam=Spam.zscore_mode())
        optimizer.capturable = capturable
        damped = []
        damp = optimizer._damp
        optimizer._damp = lambda params, spike: (damped.append(bool(spike)), damp(params, spike))
        for step in range(80):
            size = 8.0 if step % 17 == 16 else 1.0
            weight.grad = size * torch.randn(30, generator=generator)
            optimizer.step()
        return weight.detach(), sum(damped)

    read, spikes = trained(capturable=False)
    not_read, same = trained(capturable=True)
    assert same == spikes > 2
    assert torch.equal(read, not_read)


def single_precision(optimizer):
    """A copy of the optimizer in float32, states and weights."""
    params = [torch.nn.Parameter(param.detach().float()) for param in params_of(optimizer)]
    small = AdamWSpam(params, spam=optimizer.spam, max_grad_norm=optimizer.max_grad_norm)
    small.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return small


def rate(step):
    """A learning rate that changes every step, as a scheduler sets it."""
    return LR * (1 - 0.5 * step / STEPS)


@pytest.mark.parametrize("mode", MODES)
def test_the_step_size_through_two_resets_under_a_schedule(mode):
    """Δw over m̂/(√v̂ + ε) is what the scheduler wrote, times the warm-up's factor."""
    problem, spam = Problem(), MODES[mode][1]
    params = [torch.nn.Parameter(w) for w in problem.start()]
    settings = {**BESIDE, "weight_decay": 0.0}
    optimizer = AdamWSpam(params, lr=LR, amsgrad=True, spam=spam, **settings)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: 1 - 0.5 * (n + 1) / STEPS)
    for step in range(1, STEPS + 1):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(rate(step), rel=1e-12)
        before = params[0].detach().clone()
        for param, grad in zip(params, problem.gradients(params, step), strict=True):
            param.grad = grad.detach()
        optimizer.step()
        scheduler.step()
        size = (before - params[0].detach()) / direction(optimizer.state[params[0]])
        since = step % INTERVAL if step >= INTERVAL else spam.warmup_steps
        factor = 1.0
        if since < spam.warmup_steps:
            factor = 1 - 0.495 * (1 + math.cos(math.pi * since / (spam.warmup_steps + 1)))
        expected = torch.full_like(size, rate(step) * factor)
        torch.testing.assert_close(size, expected, rtol=1e-6, atol=0)


def direction(state):
    """m̂/(√v̂ + ε) of AMSGrad, from the states after the step."""
    t = float(state["step"])
    second = state["max_exp_avg_sq"] / (1 - 0.999**t)
    return state["exp_avg"] / (1 - 0.9**t) / (second.sqrt() + EPS)


# -- numbers from the papers ----------------------------------------------------------------


def test_the_modes_have_the_papers_constants():
    paper, stable = Spam.paper_mode(), Spam.stable_mode()
    assert (paper.theta, paper.interval, paper.warmup_steps) == (5000, 500, 150)
    assert (stable.gammas, stable.interval, stable.warmup_steps) == ((0.7, 0.9, 0.999), 1000, 0)
    assert paper.scale(1) == paper.scale(499) == 1.0, "no warm-up at the start of training"
    assert [t for t in range(1, 1600) if paper.resets_before(t)] == [500, 1000, 1500]
    assert paper.scale(500) == paper.scale(1000) == pytest.approx(0.01)
    assert paper.scale(500 + 75) == pytest.approx(1 - 0.495 * (1 + math.cos(math.pi * 75 / 151)))
    assert paper.scale(649) < paper.scale(650) == 1.0
    clips = [paper.clips_at(t) for t in (19, 20, 499, 500, 519, 520)]
    assert clips == [False, True, True, False, False, True]


def stepped(gradients, **settings):
    """A parameter and its optimizer after a step on each gradient; no decay, no norm clipping."""
    param = torch.nn.Parameter(torch.zeros(len(gradients[0]), dtype=torch.float64))
    optimizer = AdamWSpam([param], LR, weight_decay=0.0, max_grad_norm=0.0, **settings)
    for gradient in gradients:
        param.grad = torch.tensor(gradient, dtype=torch.float64)
        before = param.detach().clone()
        optimizer.step()
    return param, optimizer, param.detach() - before


@pytest.mark.parametrize("amsgrad", [True, False])
def test_after_a_reset_of_stable_spam_a_step_is_a_first_step(amsgrad):
    """m̂ = g and v̂ = g²: every weight moves by the learning rate, whatever came before."""
    spam = Spam(interval=10, gammas=(0.7, 0.9, 0.999))
    _, optimizer, moved = stepped([[1.0, 3.0]] * 9 + [[-0.1, 0.2]], amsgrad=amsgrad, spam=spam)
    torch.testing.assert_close(
        moved, torch.tensor([LR, -LR], dtype=torch.float64), rtol=1e-6, atol=0
    )
    (state,) = optimizer.state.values()
    assert float(state["step"]) == 1.0
    assert optimizer.steps == 10
    assert optimizer.steps_since_reset == 1


def test_after_a_reset_of_spam_the_bias_correction_stays():
    """(1 − β₁)/√(1 − β₂) = 3.16, which is why its warm-up begins at a hundredth."""
    gradients = [[1.0]] * 10
    _, _, moved = stepped(gradients, spam=Spam(interval=10), amsgrad=False)
    expected = LR * 0.1 / (1 - 0.9**10) / math.sqrt(0.001 / (1 - 0.999**10))
    assert float(moved) == pytest.approx(-expected, rel=1e-6)
    _, _, warmed = stepped(gradients, spam=Spam(interval=10, warmup_steps=150), amsgrad=False)
    assert float(warmed) == pytest.approx(-0.01 * expected, rel=0.02)


def test_adaclip_counts_by_itself_so_that_it_clips_after_a_reset():
    """γ₃ = ½ and nine gradients with max|g| = 1; then 100, in the step that resets."""
    spam = Spam(interval=10, gammas=(0.7, 0.9, 0.5))
    param, _, _ = stepped([[1.0, 1.0, 1.0]] * 9 + [[1.0, 100.0, -1.0]], spam=spam)
    limit = (0.5 * (1 - 0.5**9) + 0.5 * 100) / (1 - 0.5**10)
    ratios = param.grad / param.grad[0]
    assert ratios.tolist() == pytest.approx([1, limit, -1], rel=1e-9)
    assert 50 < limit < 51


def test_adagn_of_one_gradient_after_another():
    """γ₁ = ½, γ₂ = 0: after norms 5 and 10, m̂ = (¼·5 + ½·10)/¾ = 25/3 and ŝ = 100."""
    spam = Spam(gammas=(0.5, 0.0, 0.0))
    param, _, _ = stepped([[3.0, 4.0], [6.0, 8.0]], spam=spam)
    assert param.grad.tolist() == pytest.approx([0.6 * 25 / 30, 0.8 * 25 / 30], rel=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("sizes", [(0.0, 0.0, 1.0), (1e-30, 1e30, 1e-30), (1.0, 1e-40, 0.0)])
def test_stable_spam_takes_gradients_of_any_size(dtype, sizes):
    param = torch.nn.Parameter(torch.ones(4, dtype=dtype))
    optimizer = AdamWSpam([param], spam=Spam.stable_mode())
    for size in sizes:
        param.grad = torch.full_like(param, size)
        optimizer.step()
        assert param.isfinite().all()
        assert param.grad.isfinite().all()


def test_an_element_without_a_past_is_not_clipped_to_nothing():
    """θ·v = 0 would hold its gradient, and so v, at 0 for good: a unit that wakes up late."""
    quiet, loud = [1.0, 0.0], [1.0, 1.0]
    param, optimizer, _ = stepped([quiet] * 30 + [loud], spam=Spam(theta=5000.0))
    assert param.grad.tolist() == [1.0, 1.0]
    assert optimizer.state[param]["exp_avg_sq"][1] > 0


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"theta": -1}, "Invalid theta: -1"),
        ({"interval": -1}, "Invalid interval: -1"),
        ({"warmup_steps": -1}, "Invalid warmup_steps: -1"),
        ({"gammas": (0.7, 1.0, 0.999)}, "Invalid gamma at index 1: 1.0"),
        ({"gammas": (0.7, 0.9, 0.999), "theta": 5.0}, "Stable-SPAM has no zscore, theta"),
        ({"gammas": (0.7, 0.9, 0.999), "zscore": True}, "Stable-SPAM has no zscore, theta"),
    ],
)
def test_settings_out_of_range_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        Spam(**settings)
