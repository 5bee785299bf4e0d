"""What layers read in training: passed to a score, and its norms (Wanda, arXiv 2306.11695)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from adamwprune.pruning.score import Score
from adamwprune.pruning.select.parts import Part


class InputNorms:
    """‖X‖₂ of each input feature of a layer, over all examples and positions seen in training.

    A feature is an input of a linear layer, and a channel of a convolution: all places of its
    kernel read nearly the same positions, which an unfolded input would count one by one.
    Keeps one float32 a feature.
    """

    def __init__(self) -> None:
        self._squares: dict[Tensor, Tensor] = {}  # by weight: Σx², float32 [features]

    def add(self, weight: Tensor, layer: nn.Module, given: Tensor) -> None:
        """Add what ``layer`` reads: […, features], or […, channels, *positions]."""
        dimension = given.dim() - 1 - (weight.dim() - 2)
        others = [each for each in range(given.dim()) if each != dimension]
        squares = given.float().square().sum(others)
        if weight in self._squares:
            self._squares[weight].add_(squares)
        else:
            self._squares[weight] = squares

    def of(self, weight: Tensor, part: Part) -> Tensor:
        """The norms [n] of the features that the weights of a part multiply, float32.

        Zero for a layer that is not used so far. Raises ``RuntimeError`` for one that has a
        gradient although its input was never seen: the model computes with its weight without
        calling it.
        """
        if weight not in self._squares:
            if weight.grad is not None:
                raise RuntimeError(f"no input of the layer of shape {tuple(weight.shape)} was seen")
            return torch.zeros_like(part.of(weight), dtype=torch.float32)
        index = torch.arange(part.start, part.stop, part.step, device=weight.device)
        norms = self._squares[weight].sqrt()
        columns, kernel = weight.shape[1], math.prod(weight.shape[2:])
        groups = len(norms) // columns  # of a convolution: each reads channels of its own
        first = index // (weight.numel() // groups) * columns
        return norms[first + index // kernel % columns]

    def tensors(self) -> list[Tensor]:
        """What is kept from step to step."""
        return list(self._squares.values())

    def state_dict(self, weights: Sequence[Tensor]) -> list[Tensor | None]:
        """What a checkpoint holds, in the order of ``weights``; None for a layer without input."""
        return [self._squares.get(weight) for weight in weights]

    def load_state_dict(self, state: Sequence[Tensor | None], weights: Sequence[Tensor]) -> None:
        """The inverse of :meth:`state_dict`."""
        pairs = zip(weights, state, strict=True)
        self._squares = {w: s.detach().clone().to(w.device) for w, s in pairs if s is not None}


class _Observer:
    """A forward pre-hook that passes a layer's input to a score.

    A copy of the layer, by ``copy`` or ``pickle``, is not observed.
    """

    def __init__(self, score: Score | None = None) -> None:
        self.score = score

    @torch.no_grad()
    def __call__(self, layer: nn.Module, given: tuple[Any, ...]) -> None:
        if self.score is not None and layer.training:
            self.score.observe_input(layer.weight, layer, given[0].detach())  # type: ignore[arg-type]

    def __reduce__(self) -> tuple[type[_Observer], tuple[()]]:
        return _Observer, ()


def layers_of(model: nn.Module, weights: Mapping[str, Tensor]) -> Sequence[nn.Module]:
    """The layers of ``model`` that have one of the ``weights``.

    Raises ``ValueError`` for a weight of anything but a linear layer or a convolution, and for a
    transposed convolution, whose weight has its inputs elsewhere.
    """
    kinds, transposed = (nn.Linear, nn.modules.conv._ConvNd), nn.modules.conv._ConvTransposeNd
    wanted = set(weights.values())
    found = [
        layer
        for layer in model.modules()
        if isinstance(layer, kinds) and not isinstance(layer, transposed) and layer.weight in wanted
    ]
    read = {layer.weight for layer in found}
    if missing := [name for name, weight in weights.items() if weight not in read]:
        names = ", ".join(missing)
        raise ValueError(f"a score of inputs needs linear layers or convolutions, not {names}")
    return found


def observe(layers: Sequence[nn.Module], score: Score) -> list[RemovableHandle]:
    """Pass what the ``layers`` read in training to ``score``, until the handles are removed."""
    return [layer.register_forward_pre_hook(_Observer(score)) for layer in layers]
