"""Importing what is large."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Import without garbage collection, and leave what was imported out of later ones.

    Of torch's quarter of a million objects hardly one is garbage, and looking for it is a tenth of
    the time that importing torch takes.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
