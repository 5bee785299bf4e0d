"""One document out of plain values, the assets and the charting library.

Whatever a record says is only in the block of data, in which no ``<`` stands, and comes into the
document as text. The policy names every script by its hash, so that nothing else runs, and no
address from which anything may be loaded.
"""

import base64
import hashlib
import html
import json
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from adamwprune.page import vendor

# In this order they are one script: each uses what stands before it.
_SCRIPTS = (
    "dom",
    "model",
    "verdicts",
    "rows",
    "table",
    "details",
    "samples",
    "compare",
    "chart",
    "parallel",
    "main",
)
_LIVE = "live"  # of a page that is served: asks for what has changed
_HEAD = 1_000  # characters at the start of a document that hold its digest
_START = "report.start();"
_LOADS = {False: "this file, which loads nothing", True: "this page, which make watch serves"}


def digest(plain: dict[str, Any], *, live: bool = False) -> str:
    """Of all that a document of these values depends on, but its colours."""
    parts = [embed(plain), vendor.version(), *(_asset(name) for name in ("page.html", "page.css"))]
    parts += [_asset(f"{name}.js") for name in _names(live)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def is_there(path: Path, digest: str) -> bool:
    """Whether the file holds the document with this digest, which stands at its start."""
    try:
        with path.open(encoding="utf-8") as file:
            return f'name="digest" content="{digest}"' in file.read(_HEAD)
    except (OSError, ValueError):
        return False


def _names(live: bool) -> tuple[str, ...]:
    return (*_SCRIPTS, _LIVE) if live else _SCRIPTS


def render(plain: dict[str, Any], look: dict[str, Any], digest: str, *, live: bool = False) -> str:
    """The whole document; a ``live`` one asks where it came from for what has changed.

    Raises :class:`~adamwprune.base.errors.UserError` without the library.
    """
    library = vendor.library()
    main = "\n".join(_asset(f"{name}.js") for name in _names(live))
    scripts = {"main": main, **dict(zip(("chart", "api"), library.scripts, strict=True))}
    scripts["start"] = _START
    safe = {  # without what would end a script's element, in strings where it may stand
        name: text.replace("</script", "<\\/script").replace("<!--", "<\\!--")
        for name, text in scripts.items()
    }
    return Template(_asset("page.html")).substitute(
        {name: f"<script>{text}</script>" for name, text in safe.items()},
        policy=html.escape(policy(safe.values(), live=live)),
        style=_asset("page.css"),
        digest=digest,
        data=embed({**plain, "look": look}),
        version=html.escape(library.version),
        licence=html.escape(library.licence),
        terms=html.escape(library.terms),
        loads=_LOADS[live],
    )


def embed(data: object) -> str:
    """JSON in ASCII that neither ends the element it stands in nor opens a comment there."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def policy(scripts: Any, *, live: bool = False) -> str:
    """Nothing is loaded, by a ``live`` page only its own data; these scripts run, and no others."""
    hashes = " ".join(f"'sha256-{_digest(text)}'" for text in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'" + ("; connect-src 'self'" if live else "")
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _asset(name: str) -> str:
    return (resources.files(__package__) / "assets" / name).read_text(encoding="utf-8")
