"""Residual networks (He, Zhang, Ren and Sun, "Deep residual learning", arXiv 1512.03385).

Images ``[n, channels, size, size]`` of any size go in, logits ``[n, classes]`` come out.
Convolutions start as He et al. (arXiv 1502.01852) propose: normal, with variance 2 / fan-out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from adamwprune.base.kinds import Images
from adamwprune.models import Model

SMALL = 64  # pixels: for images up to this size the stem keeps their resolution


def cifar_model(values: Mapping[str, Any], kind: Images, blocks: int) -> Model:
    """The network of depth ``6 * blocks + 2`` of section 4.2, for images of this kind."""
    return Model(CifarResNet(kind, blocks, values["MODEL_WIDTH"]), kind)


def imagenet_model(
    values: Mapping[str, Any], kind: Images, block: type[Basic | Bottleneck], counts: Sequence[int]
) -> Model:
    """The network of section 4.1 with so many blocks in its stages, for images of this kind."""
    return Model(ResNet(kind, block, counts, values["MODEL_WIDTH"]), kind)


class CifarResNet(nn.Module):
    """Three stages of 16, 32 and 64 channels, ``blocks`` blocks each; shortcuts of option A.

    Option A has no parameters: ResNet-20 has 269,722 for three channels and ten classes. (270,896,
    which is often quoted, are the weights alone, without biases and normalisation, of a network
    with projections in its shortcuts, option B.)
    """

    def __init__(self, kind: Images, blocks: int, width: float = 1.0) -> None:
        super().__init__()
        channels = [_scaled(c, width) for c in (16, 32, 64)]
        self.conv1 = _convolution(kind.channels, channels[0], 3)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.layer1 = self._stage(channels[0], channels[0], blocks, stride=1)
        self.layer2 = self._stage(channels[0], channels[1], blocks, stride=2)
        self.layer3 = self._stage(channels[1], channels[2], blocks, stride=2)
        self.fc = nn.Linear(channels[2], kind.classes)
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        x = _relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(_pooled(x))
        return logits

    @staticmethod
    def _stage(inputs: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
        first = Basic(inputs, channels, stride, PaddedShortcut(inputs, channels, stride))
        return nn.Sequential(first, *(Basic(channels, channels) for _ in range(blocks - 1)))


class ResNet(nn.Module):
    """Four stages of 64 to 512 channels (four times as many with :class:`Bottleneck`).

    Parameters have the names and shapes of torchvision's, so that its published state dicts load.
    Shortcuts are of option B. The stem is a 7x7 convolution of stride 2 and a max-pooling; for
    images of up to 64 pixels it is a 3x3 convolution of stride 1 alone, as is usual for CIFAR.
    """

    def __init__(
        self,
        kind: Images,
        block: type[Basic | Bottleneck],
        counts: Sequence[int],
        width: float = 1.0,
    ) -> None:
        super().__init__()
        channels = [_scaled(c, width) for c in (64, 128, 256, 512)]
        small = kind.size <= SMALL
        self.conv1 = _convolution(kind.channels, channels[0], *((3, 1) if small else (7, 2)))
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        self._inputs = channels[0]
        self.layer1 = self._stage(block, channels[0], counts[0], stride=1)
        self.layer2 = self._stage(block, channels[1], counts[1], stride=2)
        self.layer3 = self._stage(block, channels[2], counts[2], stride=2)
        self.layer4 = self._stage(block, channels[3], counts[3], stride=2)
        self.fc = nn.Linear(self._inputs, kind.classes)
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        x = self.maxpool(_relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(_pooled(x))
        return logits

    def _stage(
        self, block: type[Basic | Bottleneck], channels: int, count: int, stride: int
    ) -> nn.Sequential:
        blocks = []
        for each in range(count):
            step, outputs = (1 if each else stride), channels * block.expansion
            shortcut = None
            if step != 1 or self._inputs != outputs:
                shortcut = _projection(self._inputs, outputs, step)
            blocks.append(block(self._inputs, channels, step, shortcut))
            self._inputs = outputs
        return nn.Sequential(*blocks)


class Basic(nn.Module):
    """Two 3x3 convolutions beside a shortcut (figure 5, left)."""

    expansion = 1

    def __init__(
        self, inputs: int, channels: int, stride: int = 1, downsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _convolution(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = _relu(self.bn1(self.conv1(x)))
        return _relu(self.bn2(self.conv2(x)) + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut (figure 5, right).

    The stride is in the 3x3 convolution, as in torchvision's networks ("ResNet v1.5").
    """

    expansion = 4

    def __init__(
        self, inputs: int, channels: int, stride: int = 1, downsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        outputs = channels * self.expansion
        self.conv1 = _convolution(inputs, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _convolution(channels, channels, 3, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = _convolution(channels, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = _relu(self.bn1(self.conv1(x)))
        x = _relu(self.bn2(self.conv2(x)))
        return _relu(self.bn3(self.conv3(x)) + shortcut)


class PaddedShortcut(nn.Module):
    """Option A: every ``stride``-th pixel, and zeros for the channels that the input lacks."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.missing, self.stride = outputs - inputs, stride

    def forward(self, x: Tensor) -> Tensor:
        if self.stride != 1:
            x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.missing)) if self.missing else x


def _scaled(channels: int, width: float) -> int:
    return max(1, round(width * channels))


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


def _projection(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Option B: a 1x1 convolution, normalised."""
    return nn.Sequential(_convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


def _relu(x: Tensor) -> Tensor:
    return F.relu(x, inplace=True)  # nobody else needs what is overwritten: normalised, or a sum


def _pooled(x: Tensor) -> Tensor:
    """``[n, channels, height, width]`` → ``[n, channels]``."""
    return F.adaptive_avg_pool2d(x, 1).flatten(1)


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
