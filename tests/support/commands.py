"""The commands a user types: in a process of their own, or in this one, a second faster."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

from adamwprune.__main__ import main
from adamwprune.base.console import run_command

ROOT = Path(__file__).resolve().parents[2]


def environment() -> dict[str, str]:
    """Nothing of the make that runs these tests."""
    hidden = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if name not in hidden}


def make(output: Path, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
    """``make`` with this interpreter as it is, writing below ``output``."""
    command = ["make", f"PYTHON={sys.executable}", "VENV=", f"O={output}", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, **options
    )


def make_here(output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What the recipe of :func:`make` calls, in this process: one target and settings."""
    (target,) = [word for word in arguments if "=" not in word]
    settings = [word for word in arguments if "=" in word]
    variables = [f"PYTHON={sys.executable}", "VENV=", f"O={output}", *settings]
    words = [target, *variables]
    told, errors = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(ROOT),
        contextlib.redirect_stdout(told),
        contextlib.redirect_stderr(errors),
    ):
        try:
            run_command(lambda: main(words))
        except SystemExit as ended:
            status = ended.code
            if not isinstance(status, int):  # sys.exit("error: ...")
                print(status, file=errors)
                status = 1
    return subprocess.CompletedProcess(words, status, told.getvalue(), errors.getvalue())


def train_py(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``train.py``, started in ``folder``."""
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def refused(result: subprocess.CompletedProcess[str]) -> str:
    """The message of a command that refused: no traceback, an exit status, something to read."""
    output = result.stdout + result.stderr
    assert result.returncode != 0, output
    assert "Traceback" not in output
    assert "error: " in output
    return output
