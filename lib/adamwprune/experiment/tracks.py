"""The pruning tracks: each a family of defconfigs, ``track-NAME`` and ``track-NAME-PART``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from adamwprune.base.errors import UserError
from adamwprune.base.files import refusing, write_text
from adamwprune.config import sources
from adamwprune.config.sources import Workspace
from adamwprune.config.tree import Tree
from adamwprune.plan.matrix import expand
from adamwprune.plan.spec import RunSpec
from adamwprune.records.published import published_as, read_published
from adamwprune.report.track import Track, markdown, track

PREFIX = "track-"
PAGE = Path("docs", "track.md")


def families(names: Iterable[str]) -> dict[str, list[str]]:
    """Track -> its defconfigs: ``track-x`` has ``track-x`` and every ``track-x-PART``."""
    own = sorted(name for name in names if name.startswith(PREFIX))
    found: dict[str, list[str]] = {}
    for name in own:  # a shorter name comes before those that go on with it
        base = next((base for base in found if name.startswith(f"{base}-")), name)
        found.setdefault(base, []).append(name)
    return found


def published(root: Path) -> Iterator[Track]:
    """Each track below ``root`` of which the dense runs are published; without runs of uncommitted
    changes.
    """
    folder = root / "results" / "published"
    if not (root / "defconfigs").is_dir():
        return
    records = [
        replace(each, marks=frozenset())
        for each in read_published(folder)
        if not each.environment.get("dirty")
    ]
    for name, parts in families(sources.defconfigs(root)).items():
        specs = [spec for part in parts for spec in _specs(folder, part)]
        found = track(name, specs, records)
        if found is not None:
            yield found


def _specs(folder: Path, defconfig: str) -> list[RunSpec]:
    """Of a part: those that were published under its name, and those that it asks for, which may
    have been published under another one, or not yet.
    """
    own = [record.spec for record in published_as(folder, defconfig)]
    tree = Tree()
    try:
        sources.load(Workspace({"CONFIG": defconfig}), tree)
        return list(dict.fromkeys([*own, *expand(tree).specs]))
    except UserError:  # its data are of a user's own, and not here
        return own


def write_page(found: Iterable[Track], page: Path) -> None:
    """Put each track's tables between its two markers on the ``page``.

    Raises :class:`UserError` for a page without a track's markers.
    """
    with refusing(f"cannot read {page}"):
        text = page.read_text(encoding="utf-8")
    for each in found:
        start, end = f"<!-- {each.name} -->", f"<!-- end of {each.name} -->"
        parts = re.split(f"(?<={re.escape(start)})|(?={re.escape(end)})", text)
        if len(parts) != 3:
            raise UserError(f"{page}: the markers {start} and {end} are missing")
        text = f"{parts[0]}\n{markdown(each)}{parts[2]}"
    with refusing(f"cannot write {page}"):
        write_text(page, text)
