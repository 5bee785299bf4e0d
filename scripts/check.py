"""Run every gate: ruff, mypy, the import contracts, the tests; all of them, then the verdict.

A tool that the interpreter lacks counts as failed, except with VENV= (an interpreter used as it
is): there the gate is named as skipped. --fast leaves out the tests that train, start make or drive
a browser (marked ``slow``); --long adds those that take minutes (marked ``long``), which
otherwise are left out; other arguments go to pytest. Tests that need a GPU run where there is one;
DEVICE=cuda insists on it.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import _packages  # noqa: F401
from adamwprune.base.console import run_command
from adamwprune.config.sources import Workspace
from adamwprune.scheduler import devices

SOURCE = Path(__file__).resolve().parents[1]
# Gate -> the module it needs and the command.
GATES = {
    "format": ("ruff", ["-m", "ruff", "format", "--check", "--quiet"]),
    "lint": ("ruff", ["-m", "ruff", "check", "--quiet"]),
    "types": ("mypy", ["-m", "mypy"]),
    "imports": (
        "importlinter",
        ["-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"],
    ),
    "tests": ("pytest", ["-m", "pytest", "--durations=8"]),
}
# In place of what pyproject.toml says to select.
SELECTIONS = {"--fast": ("-m", "not long and not slow"), "--long": ("-m", "")}
# A process a core; the tests of a file stay together, because they share what takes long to make.
# In the order of tests/conftest.py: by default files with many tests, the quickest, come first.
IN_PARALLEL = ("-n", "auto", "--maxprocesses", "8", "--dist", "loadfile", "--no-loadscope-reorder")


def for_pytest(arguments: list[str]) -> list[str]:
    """The arguments that pytest gets."""
    chosen = [word for each in arguments for word in SELECTIONS.get(each, (each,))]
    return [*(IN_PARALLEL if importlib.util.find_spec("xdist") else ()), *chosen]


def main() -> int:
    variables = Workspace.from_environment().variables
    if variables.get("DEVICE") == "cuda":
        devices.machine("cuda")  # or the tests that need one would be skipped
    as_it_is = variables.get("VENV") == ""
    # make's variables are for this command, not for the makes that tests call: all but the one
    # that tells the tests where the data are.
    inherited = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    data = {name: variables[name] for name in ("DATA_DIR",) if name in variables}
    environment = {**inherited, **data, "PYTHONPATH": str(SOURCE / "lib")}
    failed: list[str] = []
    skipped: list[str] = []
    for name, (module, command) in GATES.items():
        print(f"== {name}", flush=True)
        if importlib.util.find_spec(module) is None:
            print(f"{module} is not installed: {'skipped' if as_it_is else 'failed'}")
            (skipped if as_it_is else failed).append(name)
            continue
        arguments = for_pytest(sys.argv[1:]) if name == "tests" else []
        run = subprocess.run(
            [sys.executable, *command, *arguments], cwd=SOURCE, env=environment, check=False
        )
        failed += [name] if run.returncode else []
    parts = [f"failed: {', '.join(failed)}" if failed else "all gates passed"]
    parts += [f"skipped, as their tools are not installed: {', '.join(skipped)}"] if skipped else []
    print(f"check: {'; '.join(parts)}")
    return 1 if failed else 0


if __name__ == "__main__":
    run_command(main)
