"""A record's file, ``result.json``: the brief first, then the numbers.

``make plan`` and ``make status`` need four things of each of perhaps ten thousand records. They
are the first two lines of the file, so that the curves behind them are not read. A file of
another layout is read as a whole.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adamwprune.base.errors import UserError
from adamwprune.base.files import no_link, obstacle, read_own, reason, refusing
from adamwprune.base.forms import ANY, Form, misfit
from adamwprune.base.wording import last_line
from adamwprune.plan.spec import SCHEMA, RunSpec
from adamwprune.records.record import RunResult

REMEDY = "remove it to train the run again"
_FIRST = b'{"schema": '
_CODE = b'"code": '
_END = b"}\n"
_CODE_FORM: Form = {"digest": str, "modules": {ANY: str}}
_HEAD = 1 << 13  # bytes, more than most heads have: two kilobytes each for the spec and the code


@dataclass(frozen=True)
class Brief:
    """What a record says beside its numbers."""

    spec: RunSpec
    status: str  # "done" or "failed"
    code: Mapping[str, Any]  # digest and modules of the code that made it
    error: str  # the last line of a failed run's traceback

    @classmethod
    def of(cls, result: RunResult) -> Brief:
        """The brief of a whole record."""
        return cls(result.spec, result.status, result.code, last_line(result.error))


def encode(result: RunResult) -> str:
    """The text of ``result.json``, whose first two lines are the brief."""
    plain = result.to_json()
    names = ("schema", "run_id", "status", "error", "spec")
    first = json.dumps({name: plain.pop(name) for name in names})
    code = json.dumps(plain.pop("code", {}))
    rest = json.dumps(plain, indent=1)
    return f'{first[:-1]},\n"code": {code},\n{rest[2:]}\n'


def read_result(path: Path) -> RunResult:
    """The record in ``path``; :class:`UserError` if it is not one."""
    with refusing(str(path)):  # what cannot be read now need not be damaged
        content = read_own(path)
    try:
        return RunResult.from_json(json.loads(content))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: {obstacle(content) or f'{error}; {REMEDY}'}") from None


def read_brief(path: str, spec: RunSpec) -> Brief | None:
    """What the record in ``path`` says beside its numbers; None where there is no file.

    Raises :class:`UserError` for a damaged one and for that of another run than ``spec``. Damage
    further down in the file is found by :func:`read_result`.
    """
    try:
        head, is_whole = _read_head(path)
        found = _of_head(head, spec) if is_whole else None
        if found is None:  # of another layout
            found = _of_plain(json.loads(read_own(Path(path))), spec)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{path}: {reason(error)}") from None
    except (ValueError, RecursionError):  # read_result says what is wrong
        found = None
    return found or Brief.of(checked(path, read_result(Path(path)), spec))


def checked(path: str | Path, result: RunResult, spec: RunSpec) -> RunResult:
    """The record, if it is that of ``spec``; else :class:`UserError`."""
    if result.spec != spec:
        raise UserError(f"{path}: is the record of another run, {result.run_id}; {REMEDY}")
    return result


def _read_head(path: str) -> tuple[bytes, bool]:
    """The first two lines of a file, and whether it ends as a whole one does."""
    descriptor = no_link(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        head = os.pread(descriptor, _HEAD, 0)
        while head.count(b"\n") < 2 and len(head) < size:  # a long traceback
            head += os.pread(descriptor, size, len(head))
        return head, os.pread(descriptor, len(_END), max(0, size - len(_END))) == _END
    finally:
        os.close(descriptor)


def _of_head(head: bytes, spec: RunSpec) -> Brief | None:
    """The brief in the first two lines; None where they are of another layout or run."""
    first, _, rest = head.partition(b"\n")
    code = rest.partition(b"\n")[0]
    if not (first.startswith(_FIRST) and code.startswith(_CODE)):
        return None
    made_by = _code(code.removesuffix(b",").removeprefix(_CODE))
    plain = json.loads(first.removesuffix(b",") + b"}")
    return None if made_by is None else _of_plain(plain, spec, made_by)


def _of_plain(plain: Any, spec: RunSpec, code: Mapping[str, Any] | None = None) -> Brief | None:
    """The brief of a record that was read; None unless it is a sound one of this run."""
    if not isinstance(plain, dict):
        return None
    made_by = _sound(plain.get("code", {})) if code is None else code
    error, status, values = plain.get("error"), plain.get("status"), plain.get("spec")
    if plain.get("schema") != SCHEMA or plain.get("run_id") != spec.run_id:
        return None
    if made_by is None or status not in ("done", "failed"):
        return None
    if not isinstance(error, str) or not isinstance(values, dict):
        return None
    if values != spec.values and RunSpec(values) != spec:
        return None
    return Brief(spec, status, made_by, last_line(error))


@functools.lru_cache(64)  # few codes made all records
def _code(text: bytes) -> Any:
    return _sound(json.loads(text))


def _sound(code: Any) -> Any:
    """What says which code made a record; None where it makes no sense."""
    return code if misfit(code, _CODE_FORM) is None else None
