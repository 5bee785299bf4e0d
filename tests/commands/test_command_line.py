"""``adamwprune COMMAND``: one word, one command, on its command line and on make's."""

from __future__ import annotations

import re
import subprocess

import pytest

from adamwprune import __main__ as command_line
from adamwprune.__main__ import commands, main, resolved, summary, usage
from adamwprune.base.errors import UserError
from adamwprune.config import commands as configuring
from tests.conftest import REPOSITORY


def targets() -> set[str]:
    """The words for which make calls the command of the same name."""
    done = subprocess.run(
        ["make", "-C", REPOSITORY, "-pnq", "VENV=", "help"],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = re.findall(r"^(?:commands|planning) := (.*)$", done.stdout, re.MULTILINE)
    return {word for line in lines for word in line.split()}


def test_each_target_is_a_command_and_each_command_a_target() -> None:
    own = {"kconfig", "plot-comparison", "plot-training"}  # behind others, or behind scripts/
    configurators = {*configuring.COMMANDS, "randconfig"}
    assert targets() == ({*commands(), *command_line.TARGETS} - own) | configurators
    for word in targets():
        assert resolved([word])[0] in commands(), word


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["plan", "EPOCHS=3"], ("plan", ["EPOCHS=3"])),
        (["all", "EPOCHS=3"], ("matrix", ["--report", "EPOCHS=3"])),
        (["retry"], ("matrix", ["--failed"])),
        (["olddefconfig"], ("kconfig", ["olddefconfig"])),
        (["defconfig-sgd+adam", "SEED=1"], ("kconfig", ["defconfig-sgd+adam", "SEED=1"])),
    ],
)
def test_a_word_of_make_means_what_make_calls(words, meant) -> None:
    assert resolved(words) == meant


@pytest.mark.parametrize("name", commands())
def test_each_command_says_what_it_does_and_what_it_reads(name, capsys) -> None:
    first = summary(name)
    assert re.match(r"[A-Z][a-z]+ ", first), first
    assert len(first) <= 100
    assert first in usage()
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert first in shown
    module = __import__(f"adamwprune.commands.{name.replace('-', '_')}", fromlist=["main"])
    for variable in getattr(module, "VARIABLES", ()):
        assert f" {variable}= " in shown
    assert ("M= a directory outside" in shown) == getattr(module, "CONFIGURED", True)


def test_without_a_word_all_are_listed(capsys) -> None:
    assert main([]) == 2
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in (*commands(), *command_line.TARGETS):
        assert f"  {name} " in shown


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["plna"], "^no command 'plna'; did you mean plan"),
        (["plan", "EPOCH=3"], "EPOCH=3: no such variable; did you mean EPOCHS"),
        (["plan", "--fast"], "^adamwprune plan: unrecognized arguments: --fast"),
        (["kconfig"], "^adamwprune kconfig: the following arguments are required: TARGET"),
        (["plot-training", "x", "EPOCHS=3"], "^adamwprune plot-training: takes no EPOCHS="),
        (["plan", "M=/no/such"], "^M=/no/such: there is no such directory$"),
    ],
)
def test_what_is_not_understood_is_refused_in_a_line(words, reason, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=reason) as error:
        main(words)
    assert "\n" not in str(error.value)
    assert not [*tmp_path.iterdir()], "nothing was written"


def test_what_a_command_does_not_read_is_told(tmp_path, monkeypatch, capsys) -> None:
    """A variable of make's own changes nothing where a command does not look at it."""
    monkeypatch.setenv("MAKEFLAGS", f" -- O={tmp_path} CONFIG=sgd RUN=foo PUBLISHED=0 V=1")
    assert main(["plan"]) == 0
    assert capsys.readouterr().err == "note: plan does not read RUN=foo\n"
