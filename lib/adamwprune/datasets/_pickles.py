"""Arrays, numbers and text out of a pickle that nothing of is executed.

A pickle is a program: it may name any function of any module and have it called. Here the few names
that a pickled numpy array needs mean classes of this file, which keep what they are given and do
nothing; any other name is refused.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adamwprune.base.errors import UserError


class _Inert:
    """Keeps the arguments of a call and the state that is set afterwards."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments, self.state = arguments, ()

    # Also keeps a stream from setting attributes of these classes themselves.
    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Inert):
    """numpy's ``_reconstruct``: its state is version, shape, type, order and the bytes."""


class _Class(_Inert):
    """``numpy.ndarray``, which is named as an argument only."""


class _Type(_Inert):
    """``numpy.dtype``: its first argument is a name as ``u1``."""


class _Encoded(_Inert):
    """``_codecs.encode``, by which Python 3 writes bytes for readers of old protocols."""

    def __new__(cls, text: str, encoding: str) -> bytes:  # type: ignore[misc]
        if encoding != "latin1":
            raise ValueError(f"bytes are encoded as {encoding!r}")
        return text.encode("latin-1")


_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,  # since numpy 2
    ("numpy", "ndarray"): _Class,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _Encoded,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[_Inert]:
        if (module, name) not in _KNOWN:
            raise UserError(f"asks for {module}.{name}, which data do not need")
        return _KNOWN[module, name]


def read(content: bytes, path: Path) -> Any:
    """What a pickle holds: plain Python objects, and arrays for :func:`array_of_bytes`.

    ``str`` of Python 2 is read as bytes. Raises :class:`UserError`, with the ``path`` that the
    content was read from, where it is damaged or asks for anything else.
    """
    try:
        return _Reader(io.BytesIO(content), encoding="bytes").load()
    except UserError as error:
        raise UserError(f"{path}: is not read, the pickle {error}") from None
    except Exception as error:  # noqa: BLE001  a damaged stream raises anything
        raise UserError(f"{path}: is no pickle, or a damaged one: {error}") from None


def array_of_bytes(found: Any) -> NDArray[np.uint8]:
    """An array of uint8 that :func:`read` found; ``ValueError`` where it is something else."""
    if not (isinstance(found, _Array) and isinstance(found.state, tuple) and len(found.state) == 5):
        raise ValueError("no array")
    _, shape, kind, by_columns, data = found.state
    named = kind.arguments[:1] if isinstance(kind, _Type) else ()
    if named not in (("u1",), (b"u1",)) or by_columns is not False:
        raise ValueError("no array of uint8")
    if not isinstance(data, bytes):
        raise ValueError("no array of uint8")
    return np.frombuffer(data, np.uint8).reshape(shape)
