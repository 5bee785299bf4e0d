"""What all tests share: an environment in which nobody else's make or Kconfig has a say."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

pytest_plugins = tuple(
    f"tests.support.{name}" for name in ("forked", "read_once", "records", "runs")
)
REPOSITORY = Path(__file__).resolve().parent.parent
# The package, for tests that start an interpreter of their own.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(REPOSITORY / "lib"), *filter(None, [os.environ.get("PYTHONPATH")])]
)
# Read when torch is imported: threads that spin while they wait starve other processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# A shell that starts this in the background has it ignore Ctrl-C, and so would all that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
_OF_MAKE = ("MAKEFLAGS", "MFLAGS", "GNUMAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "O", "YES")
_OF_KCONFIG = ("srctree", "CONFIG_")

# Time depends on the machine, so no test has a deadline.
settings.register_profile("adamwprune", deadline=None, max_examples=40)
settings.load_profile("adamwprune")


@pytest.fixture(autouse=True)
def _no_inherited_settings() -> Iterator[None]:
    """Under make check, make's own variables would reach every make that a test calls."""
    inherited = {
        name: text
        for name, text in os.environ.items()
        if name in _OF_MAKE or name in _OF_KCONFIG or name.startswith("KCONFIG_")
    }
    for name in inherited:
        del os.environ[name]
    yield
    os.environ.update(inherited)


def _own_configuration() -> tuple[int, int] | None:
    """The user's own .config, by its size and time."""
    try:
        found = (REPOSITORY / ".config").stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns


@pytest.fixture(autouse=True)
def _leaves_the_configuration_alone() -> Iterator[None]:
    """A test configures a directory of its own: the tree's .config is its user's."""
    before = _own_configuration()
    yield
    assert _own_configuration() == before, f"{REPOSITORY}/.config was written"


@pytest.fixture
def repository() -> Path:
    """The source tree."""
    return REPOSITORY


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What trains in this process or drives a browser is slow; of the rest files say so.

    Files with slow tests come first: the quick ones then fill what a process of several has left
    to do in the end, where it would wait for another one's long file.
    """
    for item in items:
        if {"train", "browser"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.timeout(0))  # minutes each, on some machines an hour
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


LEFT_OUT = pytest.StashKey[int]()  # tests that a selection leaves out


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Count them."""
    stash = items[0].config.stash
    stash[LEFT_OUT] = stash.get(LEFT_OUT, 0) + len(items)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of several tells how many; each of them collects all tests."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a process told."""
    told = getattr(node, "workeroutput", {}).get("left_out", 0)
    node.config.stash[LEFT_OUT] = max(told, node.config.stash.get(LEFT_OUT, 0))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A table of what was skipped or left out: why, how many tests, and in which files."""
    reasons: dict[str, Counter[str]] = {}
    for report in terminalreporter.stats.get("skipped", ()):
        file, _, why = report.longrepr
        reasons.setdefault(why.removeprefix("Skipped: "), Counter())[Path(file).name] += 1
    left_out = terminalreporter.config.stash.get(LEFT_OUT, 0)
    if not reasons and not left_out:
        return
    terminalreporter.section("skipped")
    terminalreporter.line(f"{'tests':>5}  {'why':<60}  where")
    for why, files in sorted(reasons.items(), key=lambda item: -item[1].total()):
        terminalreporter.line(f"{files.total():>5}  {why:<60}  {', '.join(sorted(files))}")
    if left_out:
        option = terminalreporter.config.option
        chosen = " and ".join(filter(None, (option.markexpr, option.keyword)))
        terminalreporter.line(f"{left_out:>5}  left out: only {chosen!r} was asked for")
