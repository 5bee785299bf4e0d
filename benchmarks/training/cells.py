"""What the training sections train: runs of so many steps that they never end, and their data.

CIFAR-10 where ``DATA_DIR`` has it, otherwise random images in its form; random tokens in the form
of nanoGPT's files. What a step takes does not depend on what is in them.
"""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adamwprune.datasets import cifar10
from adamwprune.plan.spec import RunSpec
from benchmarks.commands import configured
from benchmarks.metrics import Options

STEPS = 1_000_000  # of a run; it is stopped
DENSE, MAGNITUDE, STATE = "none", "magnitude", "state"
METHODS = (DENSE, MAGNITUDE, STATE)
COMPILE = {"TORCH_COMPILE": "y"}
RAMP_STEPS = 3  # after which 90% are pruned, for good


@dataclass(frozen=True)
class Cells:
    """Runs by their method, where their data are, and a word about these."""

    specs: Mapping[str, RunSpec]
    data_dir: Path
    data: str = ""


def specs(
    folder: Path, settings: Mapping[str, str], methods: tuple[str, ...] = METHODS
) -> dict[str, RunSpec]:
    """Runs of AdamW with these settings by their method, pruned to 90% from step 3 on."""
    pruning = {
        "TARGET_SPARSITY": "0.9",
        "PRUNING_WARMUP": "1",
        "PRUNING_INTERVAL": "1",
        "PRUNING_RAMP_END": f"{RAMP_STEPS / STEPS:.6f}",
    }
    if methods == (DENSE,):
        pruning = {}
    found = configured(
        folder,
        "adamw",
        PRUNING_METHOD=" ".join(methods),
        STEPS=str(STEPS),
        EVALUATION_INTERVAL=str(STEPS),
        **pruning,
        **settings,
    )
    return {str(spec["PRUNING_METHOD"]): spec for spec in found}


# -- images -----------------------------------------------------------------------------------


def with_images(options: Options, found: Mapping[str, RunSpec]) -> Cells:
    """Runs on CIFAR-10, or on random images in its place."""
    folder = options.data_dir / cifar10.FORM.folder
    names = (*cifar10.FORM.train, *cifar10.FORM.test)
    if not options.quick and all((folder / name).is_file() for name in names):
        return Cells(found, options.data_dir, "CIFAR-10")
    images = 300 if options.quick else 5_000
    data_dir = options.scratch / "random-images"
    if not data_dir.exists():
        write_random_images(data_dir, images)
    data = cifar10.load({}, data_dir)
    declared: dict[str, int | str] = {
        "DATASET_DIGEST": data.digest,
        "TRAIN_EXAMPLES": data.examples,
    }
    changed = {name: RunSpec({**spec.values, **declared}) for name, spec in found.items()}
    return Cells(changed, data_dir, f"{data.examples:,} random images")


def write_random_images(data_dir: Path, images: int) -> None:
    """Files in CIFAR-10's form for Python, each with so many images of random pixels."""
    random = np.random.default_rng(0)
    folder = data_dir / cifar10.FORM.folder
    folder.mkdir(parents=True)
    for name in (*cifar10.FORM.train, *cifar10.FORM.test):
        content = {
            b"data": random.integers(0, 256, (images, 3 * 32 * 32), np.uint8),
            cifar10.FORM.labels: random.integers(0, cifar10.FORM.classes, images).tolist(),
            b"filenames": [b"%s-%05d.png" % (name.encode(), number) for number in range(images)],
        }
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))


# -- tokens -----------------------------------------------------------------------------------


def write_random_tokens(folder: Path, tokens: int, vocabulary: int) -> None:
    """nanoGPT's ``train.bin`` and ``val.bin``."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name, count in (("train.bin", tokens), ("val.bin", tokens // 10)):
        random.integers(0, vocabulary, count, np.uint16).tofile(folder / name)
