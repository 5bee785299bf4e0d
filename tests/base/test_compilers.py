"""What Triton needs on a machine."""

from __future__ import annotations

import importlib.util
import sys
import sysconfig

import pytest

from adamwprune.base.compilers import missing_for_triton


@pytest.fixture(autouse=True)
def _triton_is_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)


def test_triton(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert missing_for_triton() == "no package triton (pip install triton)"


@pytest.mark.parametrize("name", [None, "/nowhere/cc"])
def test_a_c_compiler(monkeypatch, tmp_path, name):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    if name:
        monkeypatch.setenv("CC", name)
    assert missing_for_triton() == "no C compiler (CC, gcc or clang)"


def test_python_s_headers(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", sys.executable)  # a program that is there
    monkeypatch.setattr(sysconfig, "get_path", lambda name, scheme: str(tmp_path))
    assert missing_for_triton() == f"no {tmp_path}/Python.h"
    (tmp_path / "Python.h").touch()
    assert missing_for_triton() == ""
