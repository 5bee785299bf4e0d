"""Kernels of Triton's: cases for them in a process of their own, and compiled without a GPU.

Triton decides when it is imported whether it interprets (TRITON_INTERPRET=1), for a whole process.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
TYPES = {
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.int64: "*i64",
    torch.uint8: "*u8",
    torch.bool: "*i1",
    float: "fp32",
    int: "i32",
}
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
WAYS = ["1", pytest.param("0", marks=needs_gpu)]  # of TRITON_INTERPRET


def run_cases(path: Path, interpreted: str) -> None:
    """Run the tests of a file that pytest does not find by its name."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(path)]
    environment = {**os.environ, "TRITON_INTERPRET": interpreted}
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert re.search(r"[1-9]\d* passed", done.stdout), done.stdout


@contextlib.contextmanager
def noted() -> Iterator[list]:
    """What would be launched within: kernels and their arguments by name."""
    from triton.runtime.jit import JITFunction

    found: list = []

    def note(kernel, *args, grid, warmup, **named):
        assert all(0 < each < 1 << 16 for each in grid)
        found.append((kernel, {**dict(zip(kernel.arg_names, args, strict=False)), **named}))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JITFunction, "run", note)
        yield found


def compiled(kernel, arguments, architecture: int, folder: Path) -> tuple[str, str]:
    """PTX, as at a launch with these arguments, and what the assembler tells of resources.

    The GPU need not be there.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature, constants, attributes = {}, {}, {}
    for at, param in enumerate(kernel.params):
        value = arguments[param.name]
        if param.is_constexpr:
            signature[param.name], constants[param.name] = "constexpr", value
            continue
        signature[param.name] = TYPES[getattr(value, "dtype", type(value))]
        if isinstance(value, torch.Tensor) and not param.do_not_specialize:
            attributes[(at,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, attributes)
    options = {"num_warps": arguments.get("num_warps", 4)}
    target = GPUTarget("cuda", architecture, 32)
    code = triton.compile(source, target=target, options=options).asm["ptx"]
    (folder / "kernel.ptx").write_text(code)
    name = f"sm_{architecture}" + "a" * (architecture >= 90)
    command = [triton.knobs.nvidia.ptxas.path, "-v", f"--gpu-name={name}", "kernel.ptx"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return code, done.stderr
