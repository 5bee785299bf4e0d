"""Image files in a folder for each class, as they are on disk; nothing of them is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from adamwprune.base.errors import UserError
from adamwprune.base.files import refusing

SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm"),
)
TEST = ("test", "val")  # folders of the test set; the first that is there


@dataclass(frozen=True)
class Split:
    """The files of a training or test set, by class and name, and the number of their class."""

    folder: Path
    files: Sequence[Path]
    labels: Sequence[int]


@dataclass(frozen=True)
class Listing:
    """A directory with ``train/CLASS/`` and ``test/CLASS/``; classes are sorted by name."""

    root: Path
    classes: Sequence[str]
    train: Split
    test: Split

    def paths(self) -> Iterator[Path]:
        """All directories and files."""
        yield self.root
        for split in (self.train, self.test):
            yield split.folder
            yield from (split.folder / name for name in self.classes)
            yield from split.files


def listed(root: Path) -> Listing:
    """The images below ``root``; :class:`UserError` where they are not in this form."""
    if not root.is_dir():
        raise UserError(f"{root}: there is no such directory (DATA_DIR/IMAGE_FOLDER)")
    test = next((root / name for name in TEST if (root / name).is_dir()), root / TEST[0])
    classes, tested = _classes(root / "train"), _classes(test)
    if len(classes) < 2:
        raise UserError(f"{root / 'train'}: has images of one class only, {classes[0]}")
    for folder, its, others in ((test, tested, classes), (root / "train", classes, tested)):
        if missing := sorted(set(others) - set(its)):
            raise UserError(
                f"{folder}: has no images of the class {missing[0]}, which others are of"
            )
    return Listing(root, classes, _split(root / "train", classes), _split(test, classes))


def _classes(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such directory; it holds a folder for each class")
    entries = _entries(folder)
    for entry in entries:
        if not entry.is_dir():
            raise UserError(f"{entry}: is no folder of a class")
    if not entries:
        raise UserError(f"{folder}: has no folder of a class")
    return [entry.name for entry in entries]


def _split(folder: Path, classes: Sequence[str]) -> Split:
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = _entries(folder / name)
        if not found:
            raise UserError(f"{folder / name}: has no images")
        for path in found:
            if path.suffix.lower() not in SUFFIXES or not path.is_file():
                raise UserError(f"{path}: is no image; known are {' '.join(SUFFIXES)}")
        files += found
        labels += [label] * len(found)
    return Split(folder, files, labels)


def _entries(folder: Path) -> list[Path]:
    """What is in a directory, sorted by name, without hidden files."""
    with refusing(f"{folder} cannot be read"):
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
