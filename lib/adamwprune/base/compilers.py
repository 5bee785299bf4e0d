"""What is needed to compile kernels on this machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path


def missing_for_triton() -> str:
    """What is not there that Triton needs to start kernels on a GPU; empty if nothing.

    Triton compiles a small C program for each kernel, by the compiler that it finds in this order.
    """
    if importlib.util.find_spec("triton") is None:
        return "no package triton (pip install triton)"
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or shutil.which(compiler) is None:
        return "no C compiler (CC, gcc or clang)"
    scheme = sysconfig.get_default_scheme()
    scheme = "posix_prefix" if scheme == "posix_local" else scheme  # as Triton does for Debian's
    header = Path(sysconfig.get_path("include", scheme)) / "Python.h"
    return "" if header.exists() else f"no {header}"
