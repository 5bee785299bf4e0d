"""The baseline: LeNet-5 on MNIST as a tutorial writes it, one process a run.

Prints one JSON line: ``startup``, seconds from the start of the process until the first batch is
there; ``epochs``, seconds of each epoch with its evaluation; ``rss``, peak resident bytes of this
process and of its largest worker; ``accuracy``, of the test set, a fraction of 1. It owes nothing
to the library, which is asked only for the digits that stand in for MNIST (``--dataset mnist5k``).
"""

import argparse
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import MNIST

Example = tuple[Tensor, int]


class LeNet5(nn.Module):
    """61,750 parameters, of the modules that everybody knows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(
            nn.Conv2d(1, 6, kernel_size=5), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2, 2)
        )
        self.layer2 = nn.Sequential(
            nn.Conv2d(6, 16, kernel_size=5), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2, 2)
        )
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(x)).flatten(1)
        logits: Tensor = self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))
        return logits


class Digits(Dataset[Example]):
    """Images ``[n, 1, 28, 28]`` and labels ``[n]`` as torchvision's MNIST hands them out."""

    def __init__(self, images: Tensor, labels: Tensor, transform: Any) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        from PIL import Image

        image = Image.fromarray(self.images[index, 0].numpy(), mode="L")
        return self.transform(image), int(self.labels[index])


def datasets(name: str, data_dir: Path) -> tuple[Dataset[Example], Dataset[Example]]:
    """The training and the test set."""
    transform = transforms.Compose(
        [
            transforms.Resize((32, 32)),
            transforms.ToTensor(),
            transforms.Normalize(mean=(0.1307,), std=(0.3081,)),
        ]
    )
    if name == "mnist5k":
        from adamwprune.datasets import mnist5k

        data = mnist5k.load({}, data_dir)
        return (
            Digits(data.train_images, data.train_labels, transform),
            Digits(data.test_images, data.test_labels, transform),
        )
    train = MNIST(str(data_dir), train=True, transform=transform)
    test = MNIST(str(data_dir), train=False, transform=transform)
    return train, test


def train_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, loader: Any, device: torch.device
) -> float | None:
    """One pass; when its first batch was there (see :func:`age`)."""
    model.train()
    first = None
    total = 0.0
    for images, labels in loader:
        first = age() if first is None else first
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images.to(device)), labels.to(device))
        loss.backward()
        optimizer.step()
        total += loss.item()
    return first


@torch.no_grad()
def evaluate(model: nn.Module, loader: Any, device: torch.device) -> float:
    """Accuracy, a fraction of 1."""
    model.eval()
    hits = count = 0
    for images, labels in loader:
        hits += int((model(images.to(device)).argmax(1).cpu() == labels).sum())
        count += len(labels)
    return hits / count


def age() -> float:
    """Seconds since this process was started, to a hundredth."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", choices=("mnist", "mnist5k"), default="mnist")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()

    torch.manual_seed(0)
    device = torch.device(given.device)
    train, test = datasets(given.dataset, given.data_dir)
    loaders = {"batch_size": given.batch_size, "num_workers": given.workers}
    train_loader = DataLoader(train, shuffle=True, **loaders)
    test_loader = DataLoader(test, shuffle=False, **loaders)
    model = LeNet5().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    startup = 0.0
    epochs: list[float] = []
    accuracy = 0.0
    for _ in range(given.epochs):
        start = age()
        first = train_epoch(model, optimizer, train_loader, device)
        accuracy = evaluate(model, test_loader, device)
        if not epochs and first is not None:
            startup = start = first
        epochs.append(age() - start)

    own, workers = (
        resource.getrusage(who).ru_maxrss * 1024
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    found = {
        "startup": startup,
        "epochs": epochs,
        "rss": {"process": own, "largest_worker": workers},
        "accuracy": accuracy,
        "workers": given.workers,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
