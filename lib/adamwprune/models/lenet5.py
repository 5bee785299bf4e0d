"""LeNet-5 (LeCun, Bottou, Bengio, Haffner 1998) with batch normalisation, ReLU and max-pooling."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from adamwprune.models import Model
from adamwprune.models._pooled_conv import conv_norm_pool


class LeNet5(nn.Module):
    """61,750 parameters, 61,470 of them weights of convolutions and linear layers.

    Takes float images of shape ``[n, 1, 32, 32]``, returns logits of shape ``[n, 10]``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.norm1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.norm2 = nn.BatchNorm2d(16)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, images: Tensor) -> Tensor:
        # ReLU and max-pooling commute; pooling first leaves ReLU a quarter of the work.
        x = F.relu(conv_norm_pool(images, self.conv1, self.norm1))
        x = F.relu(conv_norm_pool(x, self.conv2, self.norm2))
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.relu(self.fc2(x))
        logits: Tensor = self.fc3(x)
        return logits


def build() -> Model:
    """LeNet-5 for images of 32x32 pixels."""
    return Model(LeNet5(), image_size=32)
