"""LeNet-5 (LeCun et al., 1998) with batch normalisation, ReLU and max-pooling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adamwprune.base.compilers import missing_for_triton
from adamwprune.base.kinds import Images
from adamwprune.models import Model
from adamwprune.models._pooled_conv import conv_norm_pool


class LeNet5(nn.Module):
    """61,750 parameters, 61,470 of them weights of convolutions and linear layers.

    Takes float images of shape ``[n, channels, 32, 32]``, returns logits ``[n, classes]``. Channels
    and neurons of the layers between are multiplied by ``width``.
    """

    def __init__(self, channels: int = 1, classes: int = 10, width: float = 1.0) -> None:
        super().__init__()
        few, many, wide, narrow = (max(1, round(n * width)) for n in (6, 16, 120, 84))
        self.conv1 = nn.Conv2d(channels, few, 5)
        self.norm1 = nn.BatchNorm2d(few)
        self.conv2 = nn.Conv2d(few, many, 5)
        self.norm2 = nn.BatchNorm2d(many)
        self.fc1 = nn.Linear(25 * many, wide)
        self.fc2 = nn.Linear(wide, narrow)
        self.fc3 = nn.Linear(narrow, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.features(images).flatten(1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        logits: Tensor = self.fc3(x)
        return logits

    def features(self, images: Tensor) -> Tensor:
        """``[n, channels, 32, 32]`` → ``[n, 16, 5, 5]``."""
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(images))), 2)
        return F.max_pool2d(F.relu(self.norm2(self.conv2(x))), 2)


class FusedLeNet5(LeNet5):
    """The same function up to the order of sums, several times as fast on few channels."""

    def features(self, images: Tensor) -> Tensor:
        # ReLU and max-pooling commute; pooling first leaves ReLU a quarter of the work.
        x = F.relu(conv_norm_pool(images, self.conv1, self.norm1))
        return F.relu(conv_norm_pool(x, self.conv2, self.norm2))


class KernelLeNet5(FusedLeNet5):
    """The same again, by kernels of our own on ``devices`` ("cpu", "cuda").

    They are used in training, in float32 and with normalisation over one process.
    """

    def __init__(self, channels: int, classes: int, width: float, devices: frozenset[str]) -> None:
        super().__init__(channels, classes, width)
        self.devices = devices

    def features(self, images: Tensor) -> Tensor:
        device = images.device.type
        if (
            not self.training
            or device not in self.devices
            or images.dtype != torch.float32
            or torch.is_autocast_enabled(device)
            or torch.compiler.is_compiling()
            or type(self.norm1) is not nn.BatchNorm2d
        ):
            return super().features(images)
        layer = _kernels(device)
        x = layer(images, self.conv1, self.norm1, relu=True)
        return layer(x, self.conv2, self.norm2, relu=True)


def _kernels(device: str) -> Callable[..., Tensor]:
    """What computes a layer on this kind of device; ``ImportError`` without its compiler."""
    if device == "cpu":
        from adamwprune.models import _pooled_conv_cpu

        return _pooled_conv_cpu.conv_norm_pool
    from adamwprune.models import _pooled_conv_triton

    return _pooled_conv_triton.conv_norm_pool


def _missing(device: str) -> str:
    """Why there are no kernels for this kind of device, and what to do about it; or nothing."""
    if device == "cuda" and (missing := missing_for_triton()):
        return missing
    try:
        _kernels(device)
    except ImportError as error:
        package = "triton" if device == "cuda" else "'adamwprune[numba]'"
        return f"{error} (pip install {package})"
    return ""


def build(values: Mapping[str, Any], kind: Images) -> Model:
    """LeNet-5 for images of up to 32x32 pixels, which are centred in a field of 32x32."""
    sizes = kind.channels, kind.classes, values["MODEL_WIDTH"]
    devices, notes = set(), []
    for symbol, device in (("LENET5_NUMBA", "cpu"), ("LENET5_TRITON", "cuda")):
        # Without a GPU nobody misses its kernels. To count GPUs does not start CUDA here.
        if values[symbol] and (device == "cpu" or torch.cuda.device_count()):
            if missing := _missing(device):
                notes.append(f"{symbol}: trained without, {missing}")
            else:
                devices.add(device)
    if devices:
        module: LeNet5 = KernelLeNet5(*sizes, frozenset(devices))
    else:
        module = (FusedLeNet5 if values["LENET5_FUSED"] else LeNet5)(*sizes)
    return Model(module, Images(kind.channels, 32, kind.classes), note="; ".join(notes))
