"""A convolution and two linear layers: 676 weights, batch normalisation, a bias."""

from torch import nn

from adamwprune.models import Model


def build(values, kind):
    """The network for images of 8x8 pixels."""
    module = nn.Sequential(
        nn.Conv2d(kind.channels, 4, 3, stride=2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(36, 16),
        nn.ReLU(),
        nn.Linear(16, kind.classes, bias=False),
    )
    return Model(module, kind)
