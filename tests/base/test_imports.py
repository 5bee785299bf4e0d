"""Importing without garbage collection."""

from __future__ import annotations

import gc

import pytest

from adamwprune.base.imports import uncollected


def fail_to_import():
    with uncollected():
        assert not gc.isenabled()
        raise ImportError


def test_garbage_is_collected_again_after_an_import_that_fails_too():
    frozen = gc.get_freeze_count()
    with pytest.raises(ImportError):
        fail_to_import()
    assert gc.isenabled()
    assert gc.get_freeze_count() > frozen
    gc.unfreeze()
