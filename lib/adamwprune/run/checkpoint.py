"""Checkpoints on disk: whole or not there, checked before they are believed, never executed.

A file is one line, ``adamwprune-checkpoint 1 SHA256 BYTES``, and what ``torch.save`` wrote. It is
read with ``weights_only``: tensors and plain data, no pickled code. The one before is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch

from adamwprune.base import files
from adamwprune.base.forms import number
from adamwprune.records.store import CHECKPOINTS, TROUBLE, aside, discard

NAME, PREVIOUS = CHECKPOINTS
MOST_LOADS = 3  # of a checkpoint that no step followed: it may be what ends the process
_MAGIC = b"adamwprune-checkpoint 1 "


class Damaged(Exception):
    """The file is not the whole of a checkpoint."""


def write(folder: Path, state: dict[str, Any]) -> None:
    """Write the run's newest checkpoint; the one that was becomes the previous one."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    header = _MAGIC + f"{hashlib.sha256(content).hexdigest()} {len(content)}\n".encode()
    newest, previous = folder / NAME, folder / PREVIOUS
    if newest.exists():
        if previous.is_dir():  # nothing can take its place
            set_aside(previous)
        newest.replace(previous)
    # Between these two lines a kill leaves the previous one alone, which is what it is for.
    files.write_bytes(newest, header + content, folder=False)


def read(path: Path) -> dict[str, Any]:
    """The state in ``path``, its tensors on the CPU; :class:`Damaged` if it is not all there."""
    header, _, content = files.read_own(path).partition(b"\n")
    words = header.removeprefix(_MAGIC).split(b" ")
    if not header.startswith(_MAGIC) or len(words) != 2:
        raise Damaged("is no checkpoint")
    if words != [hashlib.sha256(content).hexdigest().encode(), str(len(content)).encode()]:
        raise Damaged("is truncated or corrupt")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  torch's reader raises whatever it trips over
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise Damaged(f"holds something else: {reason}") from None
    if not isinstance(state, dict):
        raise Damaged("holds no state")
    return cast(dict[str, Any], state)


def readable(folder: Path) -> Iterator[tuple[Path, dict[str, Any] | str]]:
    """The run's checkpoints, newest first: the path, and the state or what is wrong with it.

    A damaged one is set aside, so that it does not become the previous one in place of a sound one.
    """
    for name in (NAME, PREVIOUS):
        path = folder / name
        try:
            yield path, read(path)
        except FileNotFoundError:
            continue
        except Damaged as error:
            set_aside(path)
            yield path, str(error)
        except OSError as error:
            set_aside(path)
            yield path, f"cannot be read: {files.reason(error)}"


def set_aside(path: Path) -> None:
    """Have nobody find a checkpoint that cannot be used; it stays for a look until its run ends."""
    discard(aside(path))
    with contextlib.suppress(FileNotFoundError):
        path.replace(aside(path))


# -- checkpoints that can be read, and end their run all the same ----------------


def begun_loads(folder: Path) -> int:
    """Note that a checkpoint is about to be loaded; how often that was so with no step after it.

    What ends the process while it loads, a crash of a library say, leaves no other trace.
    """
    loads = (_trouble(folder).get("loads") or 0) + 1
    _note(folder, {**_trouble(folder), "loads": loads})
    return loads


def stepped(folder: Path) -> None:
    """Note that a step followed the load."""
    rest = {name: value for name, value in _trouble(folder).items() if name != "loads"}
    _note(folder, rest)


def crashed_again(folder: Path, step: int) -> bool:
    """Note the step at which a run crashed; whether the last crash was at the same one."""
    before = _trouble(folder).get("crashed")
    _note(folder, {"crashed": step})
    return before == step


def _trouble(folder: Path) -> dict[str, int]:
    """What was noted; nothing where that is damaged."""
    try:
        plain = json.loads(files.read_own(folder / TROUBLE))
    except (OSError, ValueError, RecursionError):
        return {}
    found = plain.items() if isinstance(plain, dict) else ()
    return {name: int(value) for name, value in found if number(value) is not None}


def _note(folder: Path, trouble: dict[str, int]) -> None:
    if trouble:
        files.write_text(folder / TROUBLE, json.dumps(trouble), durable=False, folder=False)
    else:
        discard(folder / TROUBLE)
