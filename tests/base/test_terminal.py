"""What reaches a terminal, and what a command does where one of its streams is missing."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adamwprune.base import terminal
from adamwprune.base.console import run_command

HOSTILE = "\x1b]0;PWN\x07\x1b[2J\x9b31m\u202e\u2066\r\x08x"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("a\x9b31mb\x07", "a\\x9b31mb\\x07"),
        ("\u202eevil\u2066", "\\u202eevil\\u2066"),
        ("overwritten\rby this", "overwritten\\rby this"),
        ("line\r\nline\n\ttab", "line\r\nline\n\ttab"),
        ("1\u00a0000 größe 数 ─ →", "1\u00a0000 größe 数 ─ →"),
        ("a byte\udcff", "a byte\\udcff"),
        ("next line\x85\u2028", "next line\\x85\\u2028"),
    ],
)
def test_what_a_terminal_would_execute_is_shown(text: str, shown: str) -> None:
    assert terminal.clean(text) == shown


def run(main, monkeypatch) -> tuple[int, str, str]:
    """A command in this process: its exit status, output and errors."""
    streams = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    with pytest.raises(SystemExit) as ended:
        run_command(main)
    return ended.value.code, *(stream.getvalue() for stream in streams)


def test_every_print_of_a_command_is_cleaned(monkeypatch) -> None:
    def main() -> int:
        print(HOSTILE)
        print(HOSTILE, file=sys.stderr)
        raise OSError(5, HOSTILE, HOSTILE)

    status, told, errors = run(main, monkeypatch)
    assert status == 2
    assert (told + errors).replace("\n", "").isprintable()
    assert told.startswith("\\x1b]0;PWN")


def test_the_colours_of_a_table_are_the_only_sequences_in_it(monkeypatch) -> None:
    from rich.table import Table

    def main() -> int:
        file = io.StringIO()
        console = terminal.console(file=file, force_terminal=True, width=200)
        table = Table(HOSTILE)
        table.add_row(HOSTILE, style="red")
        table.add_row("[link=http://evil]here[/link] [/unopened] :smile:")
        console.print(table)
        terminal.show(file.getvalue())
        return 0

    status, told, _ = run(main, monkeypatch)
    assert status == 0
    assert "\x1b[31m" in told, "rich's own red"
    rest = told.replace("\x1b[31m", "").replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert rest.replace("\n", "").replace("\x1b[1;31m", "").isprintable()
    assert "[link=http://evil]here[/link] [/unopened] :smile:" in told


COMMAND = """
import os, sys
from adamwprune.base.console import run_command
def main():
    print("told")
    sys.stdout.flush()
    assert os.open(os.devnull, os.O_RDONLY) > 2, "a file has the number of a standard stream"
    assert sys.stdin.read() == "" and not sys.stdin.isatty()
    return 3
run_command(main)
"""


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_a_stream_that_is_closed_is_as_good_as_the_null_device(closed: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, COMMAND],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout == ("" if ">&- " in f"{closed} " and closed != "2>&-" else "told\n")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_device_without_room_is_told_once(stream: str) -> None:
    script = (
        "import sys\nfrom adamwprune.base.console import run_command\n"
        f"run_command(lambda: print('x', file=sys.{stream}) or 0)\n"
    )
    with Path("/dev/full").open("w") as full:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: full}
        done = subprocess.run([sys.executable, "-c", script], text=True, check=False, **pipes)
    assert done.returncode in (0, 2)
    assert "Traceback" not in (done.stderr or "")
    assert "Exception ignored" not in (done.stderr or "")
    if stream == "stdout":
        assert (done.returncode, done.stderr) == (2, "error: No space left on device\n")


def test_sigterm_ends_a_command_and_what_it_has_started() -> None:
    script = (
        "import subprocess, sys\nfrom adamwprune.base.console import run_command\n"
        "run_command(lambda: subprocess.run([sys.executable, '-c', 'import os, time;"
        " print(os.getpid(), flush=True); time.sleep(60)']).returncode)\n"
    )
    command = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    child = int(command.stdout.readline())
    command.send_signal(signal.SIGTERM)
    _, errors = command.communicate(timeout=20)
    assert (command.returncode, errors) == (143, "terminated\n")
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the child lives on")


def test_torch_is_loaded_by_a_command_whose_threads_sleep_soon(monkeypatch) -> None:
    waiting = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}
    for name in waiting:
        monkeypatch.setenv(name, "active")  # a user's own setting loses
    status, told, _ = run(lambda: print({n: os.environ[n] for n in waiting}) or 0, monkeypatch)
    assert (status, told) == (0, f"{waiting}\n")
