"""Whether published figures still show what their records say: :func:`problems` of two folders."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adamwprune.report import style
from adamwprune.report.figures import DATA, FORMATS, plotted

REDRAW = "make update-graphs draws it anew"


def problems(published: Path, redrawn: Path) -> list[str]:
    """What is wrong with ``published``, a folder of figures and of what they plot, where
    ``redrawn`` was just drawn from the records; a line each, none where all is well.

    A figure that is missing, or one too many; one that names other runs than its
    records do; and one that plots other data, with the first differences. Pixels are not compared:
    those of another matplotlib differ.
    """
    wanted, there = files(redrawn), files(published)
    found = [f"{name}: is missing; {REDRAW}" for name in sorted(wanted - there)]
    found += [f"{name}: no record makes it; remove it" for name in sorted(there - wanted)]
    for name in sorted(wanted & there):
        check = _data if name.startswith(f"{DATA}/") else _image
        found += [f"{name}: {problem}" for problem in check(published, redrawn, name)]
    return found


def files(folder: Path) -> set[str]:
    """The files of figures in a folder, by their path in it: images, and what they plot."""
    patterns = [*(f"*.{extension}" for extension in FORMATS), f"{DATA}/*.json"]
    return {
        path.relative_to(folder).as_posix() for pattern in patterns for path in folder.glob(pattern)
    }


def _data(published: Path, redrawn: Path, name: str) -> Iterator[str]:
    old, new = _read(published / name), _read(redrawn / name)
    if old is None or new is None:
        yield f"cannot be read; {REDRAW}"
        return
    try:
        yield from plotted.drift(old, new)
    except (KeyError, TypeError):
        yield f"is not what a figure plots; {REDRAW}"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _image(published: Path, redrawn: Path, name: str) -> Iterator[str]:
    """An image and the data beside it are of one drawing, and of these runs."""
    old, new = (_named(style.provenance_of(folder / name)) for folder in (published, redrawn))
    for key in sorted({*old, *new} - {"Data"}):
        if old.get(key) != new.get(key):
            yield f"{key} {old.get(key, 'not named')} → {new.get(key, 'not named')}"
    beside = published / DATA / f"{Path(name).stem}.json"
    if beside.is_file():
        text = beside.read_text(encoding="utf-8", errors="replace")
        if old.get("Data") != plotted.digest(text):
            yield f"does not show what {DATA}/{beside.name} says; {REDRAW}"


def _named(provenance: str) -> dict[str, str]:
    """``Runs: a, b; Commit: c`` by name."""
    return dict(part.split(": ", 1) for part in provenance.split("; ") if ": " in part)
