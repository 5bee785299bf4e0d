"""Which weights are prunable, by their role; what is left out, and why."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from adamwprune.pruning import Magnitude, Pruner, Schedule, prunable
from adamwprune.pruning.prunable import Prunable


class Conv1D(nn.Module):
    """transformers' layer: weights [inputs, outputs]."""

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight + self.bias


class Language(nn.Module):
    """The parts of a GPT-2, and of others, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(50, 16)
        self.c_fc = Conv1D(64, 16)
        self.norm = nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2)
        self.cross = nn.MultiheadAttention(16, 2, kdim=8, vdim=4)
        self.conv = nn.Conv2d(4, 8, 3)
        self.up = nn.ConvTranspose2d(8, 4, 3)
        self.recurrent = nn.GRU(4, 4)
        self.experts = nn.Parameter(torch.randn(2, 4, 4))
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.empty = nn.Linear(0, 4)
        self.lm_head = nn.Linear(16, 50, bias=False)
        self.lm_head.weight = self.wte.weight


pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element")
PRUNED = {
    "c_fc.weight": (64, 16),
    "attention.in_proj_weight": (48, 16),
    "attention.out_proj.weight": (16, 16),
    "cross.q_proj_weight": (16, 16),
    "cross.k_proj_weight": (16, 8),
    "cross.v_proj_weight": (16, 4),
    "cross.out_proj.weight": (16, 16),
    "conv.weight": (8, 4, 3, 3),
    "up.weight": (4, 8, 3, 3),
}


def test_weights_that_multiply_inputs_are_prunable_and_no_others():
    found = Prunable(Language())
    assert found.shapes() == PRUNED  # outputs first
    why = found.coverage.left_out
    assert why["wte.weight"] == "an embedding"
    assert why["lm_head.weight"] == "tied to an embedding"
    assert why["norm.weight"] == "normalisation"
    assert why["c_fc.bias"] == "a bias or vector"
    assert why["frozen.weight"] == "frozen"
    assert why["empty.weight"] == "empty"
    assert why["recurrent.weight_ih_l0"] == why["experts"] == "of no kind of layer that is pruned"
    model = Language()
    count = sum(p.numel() for p in model.parameters())
    pruned = sum(torch.Size(shape).numel() for shape in PRUNED.values())
    coverage = Prunable(model).coverage
    assert (coverage.pruned, coverage.parameters) == (pruned, count)
    assert str(coverage).startswith(f"{pruned:,} of {count:,} parameters ({pruned / count:.1%})")
    assert "tied to an embedding: lm_head.weight" in str(coverage)


def test_the_coverage_is_said_when_a_pruner_is_attached(caplog):
    caplog.set_level("INFO", "adamwprune")
    model = Language()
    trained = [p for p in model.parameters() if p.requires_grad]
    Pruner(model, Magnitude(), Schedule(0.5, 1, 1, 3)).attach(torch.optim.AdamW(trained))
    assert "3,328 of 4,540 parameters (73.3%) are prunable" in caplog.text
    assert "of no kind of layer that is pruned: experts" in caplog.text


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: torch.compile(m, backend="eager")])
def test_names_are_the_plain_models(wrap):
    plain = nn.Sequential(nn.Linear(3, 3), torch.compile(nn.Linear(3, 3), backend="eager"))
    assert list(prunable(plain)) == list(prunable(wrap(plain))) == ["0.weight", "1.weight"]


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4, bias=False))


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"exclude": ["0.*"]}, "1 2"),
        ({"weights": ["[12].weight"]}, "1 2"),
        ({"weights": ["2.weight", "0.weight"]}, "0 2"),
        ({"weights": lambda name, module, weight: module.bias is None}, "2"),
        ({"weights": ["*.weight"], "exclude": ["1.weight"]}, "0 2"),
        ({"skip_first": True}, "1 2"),
        ({"skip_last": True}, "0 1"),
        ({"skip_first": True, "skip_last": True}, "1"),
    ],
)
def test_weights_are_chosen_by_name_pattern_predicate_or_place(settings, names):
    assert list(Prunable(model(), **settings).weights) == [f"{n}.weight" for n in names.split()]


def test_what_nothing_matches_is_refused():
    with pytest.raises(ValueError, match=r"no weight 3\.\* \(it has 0\.weight, 0\.bias, 1"):
        Prunable(model(), exclude=["3.*"])
    with pytest.raises(ValueError, match="no weight fc"):
        Prunable(model(), ["fc"])
    with pytest.raises(ValueError, match="a list of names, not the text '0'"):
        Prunable(model(), "0")


REPARAMETRISED = {
    "WeightNorm": [parametrizations.weight_norm, nn.utils.weight_norm],
    "SpectralNorm": [parametrizations.spectral_norm, nn.utils.spectral_norm],
    "Orthogonal": [parametrizations.orthogonal],
    "L1Unstructured": [lambda layer: prune.l1_unstructured(layer, "weight", 0.5)],
    "Symmetric": [lambda layer: parametrize.register_parametrization(layer, "weight", Symmetric())],
}


class Symmetric(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.triu() + weight.triu(1).t()


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize(("kind", "make"), [(k, m) for k, ms in REPARAMETRISED.items() for m in ms])
def test_a_weight_that_is_computed_is_refused_by_name_or_left_out(kind, make):
    network = model()
    network[1] = make(network[1])
    with pytest.raises(ValueError, match=rf"weight 1\.weight is computed .*\({kind}\)"):
        Prunable(network)
    assert list(Prunable(network, exclude=["1.weight"]).weights) == ["0.weight", "2.weight"]
    assert list(Prunable(network, ["0.weight"]).weights) == ["0.weight"]


def test_what_is_no_plain_tensor_is_refused():
    with pytest.raises(ValueError, match=r"weight 0\.weight is not initialised"):
        Prunable(nn.Sequential(nn.LazyLinear(3)))
    with pytest.raises(ValueError, match=r"weight weight is of type torch\.complex64"):
        Prunable(nn.Linear(3, 3, dtype=torch.complex64))


def test_a_weight_that_was_replaced_is_named():
    network = model()
    optimizer = torch.optim.AdamW(network.parameters())
    Pruner(network, Magnitude(), Schedule(0.5, 1, 1, 3)).attach(optimizer)
    network[1].weight = nn.Parameter(torch.ones(4, 4))
    for weight in network.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    with pytest.raises(RuntimeError, match=r"1\.weight was replaced by another tensor"):
        optimizer.step()
