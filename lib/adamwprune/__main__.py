"""``python -m adamwprune COMMAND``, installed as ``adamwprune``: what make's recipes call.

A command is a module of :mod:`adamwprune.commands`. Symbols, families and make's own variables
are set as on make's command line (``adamwprune plan EPOCHS=3``); those of make itself come first.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib
import pkgutil
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from adamwprune.base import registry
from adamwprune.base.console import require, run_command
from adamwprune.base.errors import UserError
from adamwprune.base.wording import nearest

_SETTING = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
TARGETS = {  # words that are a command with options, here and for make
    "all": ("matrix", "--report"),
    "retry": ("matrix", "--failed"),
    "measure": ("matrix", "--measure"),
    "memory-comparison": ("matrix", "--defconfig", "memory-comparison", "--report", "--memory"),
}
_COMMON = ("M", "O", "CONFIG", "KCONFIG_CONFIG")  # variables of every command
_EVERYWHERE = ("V", "PYTHON", "VENV", "PUBLISHED", "KEEP_STALE")  # of make, and of any look at runs


class _Parser(argparse.ArgumentParser):
    """One whose errors are a line, as those of the commands."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message} ({self.prog} --help says more)")


def commands() -> list[str]:
    """The names of all commands, sorted."""
    folder = Path(__file__).with_name("commands")
    return sorted(each.name.replace("_", "-") for each in pkgutil.iter_modules([str(folder)]))


def summary(command: str) -> str:
    """The first line of a command's docstring; read without importing it."""
    path = Path(__file__).with_name("commands") / f"{command.replace('-', '_')}.py"
    text = ast.get_docstring(ast.parse(path.read_bytes())) or ""
    return text.splitlines()[0] if text else ""


def usage() -> str:
    """All commands, a line each."""
    told = {name: summary(name) for name in commands()}
    told |= {name: f"The same as {' '.join(words)}" for name, words in TARGETS.items()}
    width = max(map(len, told))
    lines = [f"  {name:{width}}  {told[name]}" for name in sorted(told)]
    return "\n".join(
        ("usage: adamwprune COMMAND [NAME=VALUE ...]; COMMAND --help says more", "", *lines)
    )


def resolved(words: Sequence[str]) -> tuple[str, list[str]]:
    """The command that ``words`` mean, and its own words."""
    from adamwprune.config.commands import is_target

    name, *rest = words
    if name in TARGETS:
        return TARGETS[name][0], [*TARGETS[name][1:], *rest]
    if is_target(name):
        return "kconfig", list(words)
    if name not in commands():
        raise UserError(f"no command {name!r}{nearest(name, [*commands(), *TARGETS])}")
    return name, rest


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; its exit status. Tests call this in process."""
    given_words = sys.argv[1:] if words is None else [*words]
    if not given_words or given_words[0] in ("-h", "--help"):
        print(usage())
        return 0 if given_words else 2
    require("kconfiglib", "yaml", "rich")
    from adamwprune.config.sources import Workspace

    name, rest = resolved(given_words)
    module = importlib.import_module(f"adamwprune.commands.{name.replace('-', '_')}")
    settings = {match[1]: match[2] for word in rest if (match := _SETTING.fullmatch(word))}
    parser = _parser(name, module)
    given = parser.parse_args([word for word in rest if not _SETTING.fullmatch(word)])
    if settings and not _is_configured(module):
        parser.error(f"takes no {next(iter(settings))}=")
    workspace = Workspace.from_environment(settings)
    if _is_configured(module):
        _tell_unread(given_words[0], module, workspace.variables)
    with registry.using(workspace.members):
        status: int = module.main(workspace, given)
    return status


def _tell_unread(command: str, module: ModuleType, variables: Mapping[str, str]) -> None:
    """Name the variables of make's own that are given and that this command does not read."""
    from adamwprune.config.sources import RESERVED

    read = (*getattr(module, "VARIABLES", ()), *_COMMON, *_EVERYWHERE)
    for name in variables:
        if name in RESERVED and name not in read:
            print(f"note: {command} does not read {name}={variables[name]}", file=sys.stderr)


def _is_configured(module: ModuleType) -> bool:
    """Whether a command is about a configuration, which variables and symbols change."""
    return bool(getattr(module, "CONFIGURED", True))


def _parser(name: str, module: ModuleType) -> argparse.ArgumentParser:
    """A command's own options, and its help: what it does, and the variables it reads."""
    from adamwprune.config.sources import RESERVED

    variables = (*getattr(module, "VARIABLES", ()), *_COMMON) if _is_configured(module) else ()
    lines = [f"  {each + '=':16}{RESERVED[each]}" for each in variables]
    head = "A symbol or a family set as NAME=VALUE replaces its value for this command. And:"
    parser = _Parser(
        prog=f"adamwprune {name}",
        description=module.__doc__,
        epilog="\n".join([head, *lines]) if lines else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if hasattr(module, "flags"):
        module.flags(parser)
    return parser


def command() -> None:
    """What the installed ``adamwprune`` calls."""
    # Ten thousand runs are a million objects that stay: looking through them over and over took a
    # tenth of a command's time.
    gc.set_threshold(100_000, 50)
    run_command(main)


if __name__ == "__main__":
    command()
