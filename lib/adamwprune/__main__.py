"""``python -m adamwprune COMMAND``, installed as ``adamwprune``: what make's recipes call.

A command is a module of :mod:`adamwprune.commands`. Symbols, families and make's own variables
are set as on make's command line (``adamwprune plan EPOCHS=3``); those of make itself come first.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import pkgutil
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from adamwprune.base import registry
from adamwprune.base.console import require, run_command
from adamwprune.base.errors import UserError
from adamwprune.base.wording import nearest

_SETTING = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


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
    width = max(map(len, commands()))
    lines = [f"  {name:{width}}  {summary(name)}" for name in commands()]
    return "\n".join(
        ("usage: adamwprune COMMAND [NAME=VALUE ...]; COMMAND --help says more", "", *lines)
    )


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; its exit status. Tests call this in process."""
    name, *rest = (sys.argv[1:] if words is None else [*words]) or [""]
    if name in ("", "-h", "--help"):
        print(usage())
        return 0 if name else 2
    if name not in commands():
        raise UserError(f"there is no command {name!r}{nearest(name, commands())}")
    require("kconfiglib", "yaml", "rich")
    from adamwprune.config.sources import Workspace

    module = importlib.import_module(f"adamwprune.commands.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(
        prog=f"adamwprune {name}",
        description=module.__doc__,
        epilog="NAME=VALUE sets a symbol, a family or a variable, as on make's command line.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if hasattr(module, "flags"):
        module.flags(parser)
    settings = [match for word in rest if (match := _SETTING.fullmatch(word))]
    given = parser.parse_args([word for word in rest if not _SETTING.fullmatch(word)])
    workspace = Workspace.from_environment({match[1]: match[2] for match in settings})
    with registry.using(workspace.members):
        status: int = module.main(workspace, given)
    return status


def command() -> None:
    """What the installed ``adamwprune`` calls."""
    run_command(main)


if __name__ == "__main__":
    command()
