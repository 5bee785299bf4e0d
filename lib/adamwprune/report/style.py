"""The one style sheet of all figures, and how a figure becomes a file."""

import contextlib
import html
import io
import itertools
import re
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from adamwprune.report import drawing  # noqa: F401  # isort: skip  before matplotlib

import matplotlib.style
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from adamwprune.base.files import refusing, write_bytes
from adamwprune.plan.spec import RunSpec
from adamwprune.records.record import RunResult
from adamwprune.report.groups import DENSE, Group
from adamwprune.report.origins import count_marks

T = TypeVar("T")
SHEET: dict[str, Any] = {
    "figure.dpi": 120,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture on every machine
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "hatch.linewidth": 0.6,
    "hatch.color": "#9a9a9a",
    "svg.hashsalt": "adamwprune",  # otherwise element ids differ from one drawing to the next
}
PAGE = 7.2  # inches: the width of a page's text
ABREAST = 3  # panels in a row
TITLE_PER_INCH = 9  # characters of a title
INK = "#333333"
FAINT = "#777777"
ABSENT: dict[str, Any] = {
    "facecolor": "#f4f4f4",
    "edgecolor": "#9a9a9a",
    "hatch": "////",
    "linewidth": 0.0,
}

# Okabe & Ito's palette, distinguishable with every kind of colour vision.
OKABE_ITO = ("#000000", "#CC79A7", "#0072B2", "#009E73", "#E69F00", "#D55E00", "#56B4E9")
_OPTIMIZERS = dict(
    zip(("sgd", "adam", "adamw", "adamwadv", "adamwspam", "adamwprune"), OKABE_ITO, strict=False)
)
# Of optimizers from outside the tree; apart from each other and from the ones above.
_SPARE = ("#56B4E9", "#661919", "#500BDA", "#AA0974", "#87C587")
_METHODS: dict[str, tuple[Any, Any]] = {  # marker, dashes
    "dense": ("o", "-"),
    "magnitude": ("s", (0, (5, 1.5))),
    "movement": ("^", (0, (1.2, 1.2))),
    "movement-seed": ("v", (0, (3, 1.2))),
    "state": ("D", (0, (6, 1.5, 1.2, 1.5))),
    "random": ("P", (0, (1, 3))),
    "set": ("X", (0, (3, 1.2, 1.2, 1.2, 1.2, 1.2))),
    "rigl": (">", (0, (8, 1.5))),
}
_SPARE_METHODS: tuple[tuple[Any, Any], ...] = (  # of those from outside the tree
    ("d", (0, (3, 1, 1, 1, 1, 1))),
    ("H", (0, (4, 1.5, 4, 1.5, 1.2, 1.5))),
    ((4, 1, 0), (0, (2, 2))),  # a star of four points
    ((8, 1, 0), (0, (10, 3))),
)
TITLES = {"set": "SET", "rigl": "RigL"}  # of methods that write their names otherwise
_CRITERIA = {"fisher": "p", "taylor": "h", "movement": "<", "hybrid": "*"}  # precond: state's own
_METHOD_COLOURS = {
    "magnitude": "#000000",
    "state (precond)": "#D55E00",
    "state (fisher)": "#E69F00",
    "movement": "#0072B2",
    "random": "#CC79A7",
    "SET": "#009E73",
    "RigL": "#56B4E9",
}
# Paul Tol's muted palette and greys: no colour of an optimizer's.
OWNERS = {  # owners of bytes, in the order in which they are stacked
    "weights": "#4D4D4D",
    "gradients": "#A6A6A6",
    "momentum_buffer": "#AA4499",
    "exp_avg": "#332288",
    "exp_avg_sq": "#88CCEE",
    "max_exp_avg_sq": "#44AA99",
    "scores": "#882255",
    "kept_weights": "#CC6677",
    "initial_weights": "#999933",
    "masks": "#DDCC77",
    "other": "#117733",
}
_SPARE_OWNERS = ("#256AF4", "#DA0B0B", "#E277F8", "#661919")  # of states from outside the tree
# Of the figures that are drawn now.
_colours: dict[str, str] = {}
_methods: dict[str, tuple[Any, Any]] = {}


@contextmanager
def sheet(specs: Iterable[RunSpec] = ()) -> Iterator[None]:
    """Draw inside this: matplotlib's defaults and ours, whatever the user's matplotlibrc says.

    ``specs``: the runs of all figures that are drawn here. No two of their optimizers have one
    colour, and no two of their methods one marker, whether they are known here or not.
    """
    specs = list(specs)
    _colours.update(optimizer_colours({str(spec["OPTIMIZER"]) for spec in specs}))
    methods = {str(spec["PRUNING_METHOD"]) for spec in specs} - {DENSE}
    _methods.update(_assigned(methods, _METHODS, _SPARE_METHODS))
    try:
        with matplotlib.style.context(["default", SHEET]):
            yield
    finally:
        _colours.clear()
        _methods.clear()


def optimizer_colours(optimizers: Collection[str]) -> dict[str, str]:
    """A colour for each; of one that is known here always the same."""
    return _assigned(optimizers, _OPTIMIZERS, _lengthened(_SPARE, len(optimizers)))


def colour_of(optimizer: str) -> str:
    """The optimizer's colour, the same in every figure, and that of no other one in a sheet."""
    return _colours.get(optimizer) or optimizer_colours([optimizer])[optimizer]


def owner_colours(owners: Collection[str]) -> dict[str, str]:
    """A colour for each owner of bytes; of one that is known here always the same."""
    return _assigned(owners, OWNERS, _lengthened(_SPARE_OWNERS, len(owners)))


def _assigned(names: Iterable[str], known: Mapping[str, T], spare: Sequence[T]) -> dict[str, T]:
    """Name → look. Unknown names in alphabetical order have the ``spare`` looks, and the first of
    these again where there are too few.
    """
    names = set(names)
    own = {name: known[name] for name in names & known.keys()}
    return own | dict(zip(sorted(names - own.keys()), itertools.cycle(spare), strict=False))


def _lengthened(palette: Sequence[str], number: int) -> list[str]:
    """At least ``number`` colours: those of the palette, then lighter ones of each."""
    rounds = max(1, -(-number // len(palette)))
    lighter = (shade(each, rounds - 1 - n, rounds) for n in range(1, rounds) for each in palette)
    return [*palette, *lighter]


def marker_and_dashes(group: Group) -> tuple[Any, Any]:
    """The marker and the line style of the group's pruning method; criteria have own markers."""
    method = group.method.split()[0]
    marker, dashes = _methods.get(method) or _METHODS.get(method, _SPARE_METHODS[0])
    return _CRITERIA.get(str(group.spec.values.get("STATE_CRITERION")), marker), dashes


def distinct(number: int) -> list[str]:
    """So many colours that can be told apart, where colour means no optimizer."""
    return _lengthened([*OKABE_ITO[1:], "#7F6A00", *_SPARE[1:]], number)[:number]


def method_colours(methods: Iterable[str]) -> dict[str, str]:
    """A colour for each method, where colour means no optimizer; the same in every figure for
    those that are known here.
    """
    names = dict.fromkeys(methods)
    found = {name: _METHOD_COLOURS[name] for name in names if name in _METHOD_COLOURS}
    free = [c for c in distinct(len(names) + len(found)) if c not in found.values()]
    others = dict(zip((name for name in names if name not in found), free, strict=False))
    return {name: found.get(name) or others[name] for name in names}


def sparsity_colours(sparsities: Sequence[float]) -> dict[float, str]:
    """Light to dark with rising sparsity; ends dark enough to be seen on white."""
    ramp = matplotlib.colormaps["viridis"]
    last = max(1, len(sparsities) - 1)
    ordered = sorted(sparsities)
    return {s: to_hex(ramp(0.78 - 0.68 * i / last)) for i, s in enumerate(ordered)}


def shade(colour: str, rank: int, ranks: int) -> str:
    """The colour itself for the last of ``ranks``, lighter for earlier ones."""
    white = 0.55 * (ranks - 1 - rank) / max(1, ranks - 1)
    red, green, blue = (part + (1 - part) * white for part in to_rgb(colour))
    return to_hex((red, green, blue))


def new_figure(width: float, height: float, title: str) -> Figure:
    """An empty figure, sizes in inches, whose parts make room for each other.

    A title that is wider has more lines.
    """
    title = textwrap.fill(title, int(TITLE_PER_INCH * width))
    height += 0.2 * title.count("\n")
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08, wspace=0.03, hspace=0.04)  # type: ignore[union-attr, call-arg]
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def save(
    figure: Figure,
    stem: Path,
    formats: Sequence[str],
    records: Sequence[RunResult],
    more: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write ``stem`` + ``.png``, ``.svg``, …; a reader sees the old file or the new one.

    A PNG holds the ids of its runs and their commits as text (``Runs``, ``Commit``), and of its
    marked runs by mark (``Stale``), an SVG as its description; ``more`` beside them. The same
    records give the same bytes. Raises :class:`UserError` where the folder cannot be written.
    """
    provenance = {"Runs": _ids(records), "Commit": commits(records), **(more or {})}
    for mark in count_marks(records):
        provenance[mark.capitalize()] = _ids(r for r in records if mark in r.marks)
    engine = figure.get_layout_engine()
    if engine is not None:  # once for all formats: savefig would lay out twice for each
        engine.execute(figure)
        figure.set_layout_engine(None)  # the sheet names no default engine
    paths = []
    for extension in formats:
        drawn = io.BytesIO()
        figure.savefig(drawn, format=extension, metadata=_metadata(extension, provenance))
        path = stem.with_name(f"{stem.name}.{extension}")
        with refusing(f"cannot write {path}"):
            write_bytes(path, drawn.getvalue())
        paths.append(path)
    return paths


def _ids(records: Iterable[RunResult]) -> str:
    return ", ".join(record.run_id for record in records)


def commits(records: Sequence[RunResult], digits: int = 40) -> str:
    """The commits that the records come from, each once; ``-dirty`` where the tree was changed."""
    names = (
        f"{(record.environment.get('commit') or 'unknown')[:digits]}"
        f"{'-dirty' if record.environment.get('dirty') else ''}"
        for record in records
    )
    return ", ".join(dict.fromkeys(names))


def provenance_of(path: Path) -> str:
    """What :func:`save` wrote into a file, as an SVG has it: ``Runs: …; Commit: …``.

    Empty where there is nothing, in a file of another program for instance.
    """
    if path.suffix == ".svg":
        with contextlib.suppress(OSError):
            text = path.read_text(encoding="utf-8", errors="replace")
            found = re.search(r"<dc:description>(.*?)</dc:description>", text, re.DOTALL)
            return html.unescape(found[1]) if found else ""
    from PIL import Image  # matplotlib's own dependency

    with contextlib.suppress(OSError, SyntaxError, ValueError), Image.open(path) as image:
        texts = {str(name): value for name, value in image.info.items() if isinstance(value, str)}
        texts.pop("Software", None)
        return _joined(texts)
    return ""


def _joined(provenance: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in provenance.items())


def _metadata(extension: str, provenance: Mapping[str, str]) -> dict[str, str | None]:
    if extension == "png":
        return {"Software": "AdamWPrune", **provenance}
    return {"Date": None, "Description": _joined(provenance)}
