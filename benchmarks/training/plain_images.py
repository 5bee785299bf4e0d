"""The baseline: a ResNet on CIFAR-10 as a tutorial writes it, step by step as its parent asks.

A dataset of PIL images, torchvision's transforms, a ``DataLoader``, torch's AdamW, ``loss.item()``
every step; where the run says so autocast and ``torch.compile``. The library is asked for the
network and for the decoded images, and for nothing else. Parts: ``all``, and ``data``, the
``DataLoader`` alone.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from adamwprune.datasets import cifar10
from adamwprune.train.data import network_for
from benchmarks.training.paced import Pace, Work, run

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class Pictures(Dataset[tuple[Tensor, int]]):
    """Training images and labels as torchvision's CIFAR10 hands them out."""

    def __init__(self, data_dir: Path) -> None:
        found = cifar10.load({}, data_dir)
        self.images = found.train_images.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = found.train_labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def batches(work: Work) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled batches, pass after pass."""
    loader = DataLoader(
        Pictures(work.data_dir),
        batch_size=work.spec["BATCH_SIZE"],
        shuffle=True,
        num_workers=work.workers,
        pin_memory=work.device != "cpu",
        persistent_workers=True,
        drop_last=True,
    )
    while True:
        yield from loader


def data(work: Work, pace: Pace) -> None:
    """The batches alone, on the device."""
    found = batches(work)
    going = pace.begin()
    while going:
        images, labels = next(found)
        images.to(work.device), labels.to(work.device)
        going = pace.stepped()


def train(work: Work, pace: Pace) -> None:
    """The loop."""
    torch.manual_seed(0)
    device, spec = torch.device(work.device), work.spec
    model = network_for(spec.settings).module.to(device).train()
    network = torch.compile(model) if spec["TORCH_COMPILE"] else model
    optimizer = torch.optim.AdamW(model.parameters(), spec["LR"], weight_decay=spec["WEIGHT_DECAY"])
    running = 0.0
    found = batches(work)
    going = pace.begin()
    while going:
        images, labels = (each.to(device) for each in next(found))
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, spec["PRECISION"] == "bf16"):
            loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        running += loss.item()
        going = pace.stepped()


if __name__ == "__main__":
    run({"all": train, "data": data}).tell({})
