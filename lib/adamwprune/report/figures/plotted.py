"""What a figure plots, as plain data: what tells a figure that shows other numbers from one that
was drawn by another version of matplotlib.

Of every axes its title, the names of its rows, and of every artist its points in data coordinates.
Colours are part of a name, where a series has no other. Limits, ticks, sizes and small print are no
data: those of matplotlib may change, and what is below a figure follows from its runs.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import Collection, LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FixedLocator

DIGITS = 6  # significant, of a coordinate
RELATIVE, ABSOLUTE = 2e-5, 1e-9  # differences that are the rounding of floats and of these digits
TOLD = 5  # differences of a figure that are told; of more there is a count

_KINDS: dict[type[Artist], tuple[str, str]] = {  # and which colour is theirs
    Line2D: ("line", "color"),
    LineCollection: ("whiskers", "edgecolor"),
    Collection: ("band", "facecolor"),
    Patch: ("bar", "facecolor"),
}
Plotted = dict[str, Any]


def plotted(figure: Figure) -> Plotted:
    """``axes``: of each ``title``, ``rows``, ``texts`` and ``series``: ``name`` and ``points``."""
    return {"axes": [_axes(axes) for axes in figure.axes]}


def _axes(axes: Axes) -> dict[str, Any]:
    artists: list[Artist] = [*axes.lines, *axes.collections, *axes.patches]
    # What a bar or a dot with whiskers is made of has the name of the whole.
    wholes = {id(part): str(c.get_label()) for c in axes.containers for part in _parts(c)}
    return {
        "title": axes.get_title(loc="left"),
        "rows": [name for axis in (axes.xaxis, axes.yaxis) for name in _names(axis)],
        "texts": [text.get_text() for text in axes.texts],
        "series": [{"name": _name(each, wholes), "points": _points(each)} for each in artists],
    }


def _parts(container: Any) -> Iterator[Any]:
    """Of an errorbar or of bars, which nest."""
    for part in container:
        if isinstance(part, (tuple, list)):
            yield from _parts(part)
        elif part is not None:
            yield part


def _names(axis: Any) -> list[str]:
    """The labels of an axis whose ticks were chosen, not found; categories have such an axis."""
    if not isinstance(axis.get_major_locator(), FixedLocator):
        return []
    return [label.get_text() for label in axis.get_ticklabels()]


def _name(artist: Artist, wholes: Mapping[int, str]) -> str:
    """``line adamw``: its kind and its label, or its colour."""
    label = wholes.get(id(artist)) or str(artist.get_label())
    kind, colour = next(told for type_, told in _KINDS.items() if isinstance(artist, type_))
    if not label or label.startswith("_"):
        found = getattr(artist, f"get_{colour}")()
        if isinstance(artist, Collection):
            found = found[0] if len(found) else "none"
        label = to_hex(found)
    return f"{kind} {label}"


def _points(artist: Any) -> list[list[float | None]]:
    """Its points; of a rectangle left, bottom, width and height."""
    if isinstance(artist, Line2D):
        return _rounded(np.asarray(artist.get_xydata()))
    if isinstance(artist, Rectangle):
        return _rounded([[*artist.get_xy(), artist.get_width(), artist.get_height()]])
    if isinstance(artist, PathCollection):
        return _rounded(artist.get_offsets())
    if isinstance(artist, Collection):
        outlines: list[Any] = [path.vertices for path in artist.get_paths()]
        return _rounded([point for outline in outlines for point in outline])
    return _rounded(artist.get_patch_transform().transform_path(artist.get_path()).vertices)


def _rounded(points: Any) -> list[list[float | None]]:
    return [[_short(float(value)) for value in point] for point in points]


def _short(value: float) -> float | None:
    """None where there is no number; infinity is none of JSON's."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


# -- as text -----------------------------------------------------------------


def to_text(data: Plotted) -> str:
    """JSON, a series a line: a difference of two versions names what changed."""
    panels = []
    for axes in data["axes"]:
        head = ",\n  ".join(f'"{key}": {_json(axes[key])}' for key in ("title", "rows", "texts"))
        series = ",\n   ".join(_json(each) for each in axes["series"])
        panels.append(f' {{"title": {head.partition(": ")[2]},\n  "series": [\n   {series}]}}')
    return '{"axes": [\n' + ",\n".join(panels) + "]}\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def digest(text: str) -> str:
    """Sixteen hex digits over what :func:`to_text` gave: an image names the data it shows."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# -- drift -------------------------------------------------------------------


def drift(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Where two figures plot something else: panel, series, point, the old and the new value."""
    found = list(_drift(before["axes"], now["axes"]))
    more = len(found) - TOLD
    count = [f"and {more} more difference{'s' if more > 1 else ''}"] if more > 0 else []
    return [*found[:TOLD], *count]


def _drift(before: Sequence[Any], now: Sequence[Any]) -> Iterator[str]:
    if len(before) != len(now):
        yield f"had {len(before)} panels, has {len(now)}"
        return
    for number, (old, new) in enumerate(zip(before, now, strict=True), 1):
        panel = f"panel {number} ({new['title'] or 'no title'})"
        for key in ("title", "rows", "texts"):
            if old[key] != new[key]:
                yield f"{panel}, {key}: {_first(old[key], new[key])}"
        if len(old["series"]) != len(new["series"]):
            yield f"{panel}: had {len(old['series'])} series, has {len(new['series'])}"
            continue
        for one, other in zip(old["series"], new["series"], strict=True):
            yield from (f"{panel}, {each}" for each in _series(one, other))


def _first(old: Any, new: Any) -> str:
    """The first of two lists of texts, or the texts, in which they differ."""
    if isinstance(old, str):
        return f"{old!r} → {new!r}"
    pairs = zip_longest(old, new)
    return next(f"{one!r} → {other!r}" for one, other in pairs if one != other)


def _series(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    if old["name"] != new["name"]:
        yield f"series {old['name']!r} → {new['name']!r}"
        return
    if len(old["points"]) != len(new["points"]):
        yield f"series {new['name']!r}: had {len(old['points'])} points, has {len(new['points'])}"
        return
    for number, pair in enumerate(zip(old["points"], new["points"], strict=True), 1):
        if len(pair[0]) != len(pair[1]) or not all(map(_close, *pair)):
            yield f"series {new['name']!r}, point {number}: {pair[0]} → {pair[1]}"


def _close(old: float | None, new: float | None) -> bool:
    if old is None or new is None:
        return old is new
    return math.isclose(old, new, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
