"""Plant known faults (tests/faults/table.py) one at a time, and see that tests notice each.

Works in a temporary copy of the tree. ``check_faults.py [WORD ...]`` plants those whose names hold
one of the words. Ends with status 1 if a fault is not noticed or can no longer be planted, or if
the tests fail without one.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import _packages  # noqa: F401
from adamwprune.base.console import run_command

SOURCE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(SOURCE))
from tests.faults.table import FAULTS, Fault  # noqa: E402

PASSED, FAILED, HANGS = 0, 1, -1  # pytest's, and ours; others mean that no test ran
PATIENCE = 900  # seconds for the tests of one fault: a test that hangs notices nothing


def main() -> int:
    """Plant all of them, or those that are named."""
    chosen = [f for f in FAULTS if not sys.argv[1:] or any(w in f.name for w in sys.argv[1:])]
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        tree = Path(folder) / "tree"
        copy(tree)
        wrong = [*failing_without(tree, chosen), *(f.name for f in chosen if not noticed(tree, f))]
    print(f"{len(chosen)} faults, {len(chosen) - len(wrong)} noticed", *wrong, sep="\n  ")
    return 1 if wrong else 0


def copy(tree: Path) -> None:
    """The tree as it is here: what git tracks or would, without the pictures."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=SOURCE,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if not name.startswith("images/") and (SOURCE / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(SOURCE / name, tree / name)


def failing_without(tree: Path, faults: Iterable[Fault]) -> list[str]:
    """Those of the named tests that fail by themselves: they would notice anything."""
    calls = sorted({fault.tests for fault in faults})
    return [f"fails without a fault: {tests}" for tests in calls if run(tree, tests) != PASSED]


def noticed(tree: Path, fault: Fault) -> bool:
    """Whether the fault can be planted, and its tests fail by it."""
    path, start = tree / fault.path, time.monotonic()
    text, times = path.read_text(), path.stat()
    if text.count(fault.old) != 1:
        print(f"cannot be planted  {fault.name}", flush=True)
        return False
    path.write_text(text.replace(fault.old, fault.new))
    status = run(tree, fault.tests)
    path.write_text(text)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as its compiled form knows it
    word = {FAILED: "noticed", PASSED: "NOT NOTICED", HANGS: "HANGS"}.get(
        status, f"pytest ended with {status}"
    )
    print(f"{time.monotonic() - start:5.1f} s  {word}  {fault.name}", flush=True)
    return status == FAILED


def run(tree: Path, tests: str) -> int:
    """pytest's status of these tests in the copy."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    command += ["-o", "timeout=0"]  # a test that is ended for hanging would count as failed
    hidden = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    try:
        return subprocess.run(
            [*command, "-m", "not long", *shlex.split(tests)],
            cwd=tree,
            env={**environment, "PYTHONPATH": str(tree / "lib"), "PYTHONDONTWRITEBYTECODE": ""},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=PATIENCE,
        ).returncode
    except subprocess.TimeoutExpired:
        return HANGS


if __name__ == "__main__":
    run_command(main)
