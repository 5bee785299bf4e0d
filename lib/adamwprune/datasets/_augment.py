"""Variants of training images, each chosen by one random number, computed on the images' device.

There is no generator and nothing is read back: this runs within a CUDA graph.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

PADDING = 4  # pixels on each side
PLACES = 2 * PADDING + 1  # of the window, in each direction


def crop_flip(images: Tensor, draws: Tensor) -> Tensor:
    """Crop each image out of itself with 4 pixels of zeros around it, and mirror half of them.

    The usual recipe for CIFAR (He et al., arXiv 1512.03385, section 4.2). ``images`` uint8
    ``[n, channels, height, width]``, ``draws`` int64 ``[n]``, random numbers of at least 31 bits:
    ``draw % 162`` chooses one of 9 x 9 windows and whether it is mirrored, with the same
    probability to 1 in 13 million.
    """
    n, channels, height, width = images.shape
    outcome = draws % (2 * PLACES**2)
    top, left, mirrored = outcome % PLACES, outcome // PLACES % PLACES, outcome >= PLACES**2
    down = torch.arange(height, device=images.device)
    right = torch.arange(width, device=images.device)
    rows = top[:, None] + down
    columns = left[:, None] + torch.where(mirrored[:, None], width - 1 - right, right)
    padded = F.pad(images, (PADDING,) * 4)
    pixels = (rows[:, :, None] * padded.shape[-1] + columns[:, None, :]).view(n, 1, -1)
    return padded.flatten(2).gather(2, pixels.expand(-1, channels, -1)).view_as(images)
