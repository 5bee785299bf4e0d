"""Convolution, normalisation and pooling by torch's modules, which kernels are held against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def layers(
    channels: int, outputs: int, *, seed: int = 0, place: Any = torch.float32, **settings: Any
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """The two modules that have numbers; ``place``: their type or device."""
    torch.manual_seed(seed)
    conv, norm = nn.Conv2d(channels, outputs, 5, **settings), nn.BatchNorm2d(outputs)
    nn.init.normal_(norm.weight)  # negative ones too: they turn a maximum into a minimum
    nn.init.normal_(norm.bias)
    return conv.to(place), norm.to(place)


def plain(images: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d, relu: bool = False) -> Tensor:
    pooled = F.max_pool2d(norm(conv(images)), 2)
    return F.relu(pooled) if relu else pooled


def gradients(
    function: Callable[..., Tensor],
    images: Tensor,
    conv: nn.Conv2d,
    norm: nn.BatchNorm2d,
    relu: bool,
) -> list[Any]:
    """The result, its gradients for images and parameters, and what the norm keeps."""
    conv.zero_grad(), norm.zero_grad(), norm.reset_running_stats()
    images = images.clone().requires_grad_()
    out = function(images, conv, norm, relu)
    linear = torch.linspace(-1, 2, out.numel(), dtype=out.dtype, device=out.device)
    out.mul(linear.view_as(out)).sum().backward()
    parameters = [conv.weight, *norm.parameters()]
    state = [*(p.grad for p in parameters), *norm.buffers()]
    return [out.detach(), images.grad, *(each.clone() for each in state if each is not None)]


def error(found: Tensor, exact: Tensor) -> float:
    """Root mean square, relative."""
    return float(((found - exact).square().mean() / exact.square().mean()).sqrt())
