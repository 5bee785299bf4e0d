"""GPTs: GPT-2's function and names, its published weights, and what of it is pruned."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from adamwprune import models
from adamwprune.base.errors import UserError
from adamwprune.base.kinds import Tokens
from adamwprune.models import _gpt
from adamwprune.models._gpt import GPT, load_published, narrowed
from adamwprune.pruning.prunable import Prunable

TINY = {"MODEL": "gpt", "GPT_LAYERS": 2, "GPT_WIDTH": 16, "GPT_HEADS": 2, "MODEL_WIDTH": 1.0}
SIZES = {  # vocabulary, block, parameters, prunable weights
    "gpt-nano": (256, 64, 834_304, 786_432),
    "gpt2": (50257, 1024, 124_439_808, 84_934_656),
    "gpt2-medium": (50257, 1024, 354_823_168, 301_989_888),
}
PARTS = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")


def tiny(vocabulary: int = 50, block: int = 12) -> GPT:
    torch.manual_seed(0)
    network = models.build(TINY, Tokens(vocabulary, block)).module
    assert isinstance(network, GPT)
    return network


@pytest.mark.parametrize("name", SIZES)
def test_it_has_the_published_size_and_prunes_its_layers_only(name):
    vocabulary, block, parameters, pruned = SIZES[name]
    with torch.device("meta"):
        model = models.build({"MODEL": name, "MODEL_WIDTH": 1.0}, Tokens(vocabulary, block))
    found = Prunable(model.module, model.prunable)
    assert found.coverage.parameters == parameters
    assert found.coverage.pruned == pruned
    layers = len(model.module.transformer.h)
    assert list(found.weights) == [
        f"transformer.h.{layer}.{part}.weight" for layer in range(layers) for part in PARTS
    ]
    logits = model.module(model.example())
    assert logits.shape == (1, block, vocabulary)


def test_the_head_is_the_embedding():
    network = tiny()
    assert network.lm_head.weight is network.transformer.wte.weight
    assert "tied to an embedding" in str(Prunable(network).coverage)


def test_initial_weights_are_gpt2s():
    torch.manual_seed(0)
    network = _gpt.model(Tokens(256, 64), layers=8, width=128, heads=4, factor=1.0).module
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif parameter.dim() == 1:
            assert (parameter == 1).all(), name
        else:
            expected = 0.02 / 4 if name.endswith("c_proj.weight") else 0.02
            assert parameter.std().item() == pytest.approx(expected, rel=0.05), name
            assert abs(parameter.mean().item()) < 0.05 * expected, name


def test_no_token_sees_the_ones_after_it():
    network = tiny().double()
    tokens = torch.randint(50, (3, 12))
    other = tokens.clone()
    other[:, 7:] = torch.randint(50, (3, 5))
    found, changed = network(tokens), network(other)
    torch.testing.assert_close(found[:, :7], changed[:, :7], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(found[:, 7:], changed[:, 7:])
    torch.testing.assert_close(network(tokens[:, :4]), found[:, :4], rtol=1e-9, atol=1e-12)


def test_under_bfloat16_it_stays_near_float32_and_gradients_are_float32():
    network = tiny()
    tokens = torch.randint(50, (3, 12))
    plain = network(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network(tokens)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), plain, rtol=0.05, atol=0.02)
    rounded.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in network.parameters())


@pytest.mark.parametrize(
    ("width", "heads", "factor", "expected"),
    [(128, 4, 1.0, 128), (128, 4, 0.5, 64), (128, 4, 0.32, 40), (768, 12, 0.4, 312),
     (16, 2, 0.01, 2), (30, 5, 1.0, 30)],
)  # fmt: skip
def test_the_heads_divide_the_width_of_a_narrower_network(width, heads, factor, expected):
    assert narrowed(width, heads, factor) == expected


def test_heads_must_divide_the_width():
    with pytest.raises(UserError, match="3 heads do not divide a width of 16"):
        models.build({**TINY, "GPT_HEADS": 3}, Tokens(50, 12))


# -- published weights -----------------------------------------------------------------


@pytest.fixture(scope="module")
def published() -> nn.Module:
    """transformers' GPT-2 with random weights, biases and norms too."""
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=50, n_positions=12, n_embd=16, n_layer=2, n_head=2,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    torch.manual_seed(1)
    network = transformers.GPT2LMHeadModel(config)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network.eval()


def test_the_published_weights_load_by_name_and_compute_the_same(published, tmp_path):
    torch.save(published.state_dict(), tmp_path / "weights.pt")
    weights = torch.load(tmp_path / "weights.pt", weights_only=True)
    network = tiny()
    assert set(network.state_dict()) == set(weights)
    load_published(network, weights)
    tokens = torch.randint(50, (3, 12))
    with torch.inference_mode():
        expected = published(tokens).logits
        torch.testing.assert_close(network(tokens), expected, rtol=1e-5, atol=1e-5)
    # As the first published file names them, and into fewer positions.
    short = tiny(block=5)
    names = {name.removeprefix("transformer."): each for name, each in weights.items()}
    load_published(short, {n: w for n, w in names.items() if n != "lm_head.weight"})
    with torch.inference_mode():
        torch.testing.assert_close(short(tokens[:, :5]), expected[:, :5], rtol=1e-5, atol=1e-5)


def test_weights_of_other_sizes_are_refused(published):
    weights = published.state_dict()
    with pytest.raises(UserError, match=r"wte.weight has the sizes \[50, 16\], .* \[60, 16\]"):
        load_published(tiny(vocabulary=60), weights)
    with pytest.raises(UserError, match=r"wpe.weight has the sizes \[12, 16\], .* \[13, 16\]"):
        load_published(tiny(block=13), weights)
    weights.pop("transformer.ln_f.bias")
    with pytest.raises(UserError, match=r"have no transformer.ln_f.bias"):
        load_published(tiny(), weights)
