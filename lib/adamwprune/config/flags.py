"""The flags of ``train.py``, derived from the Kconfig tree: names, help, types and ranges."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from adamwprune.base import wording
from adamwprune.base.errors import ConfigError
from adamwprune.base.files import expanded
from adamwprune.config.options import Type
from adamwprune.config.sources import flag
from adamwprune.config.tree import Tree


@dataclass(frozen=True)
class Flags:
    """What a command line of ``train.py`` says."""

    settings: dict[str, str]  # option or family -> its text
    config: Path | None


def parse(tree: Tree, arguments: Sequence[str], description: str) -> Flags:
    """Parse ``arguments``; :class:`ConfigError` names an unknown flag and the nearest one."""
    parser = _parser(tree, description)
    known, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise ConfigError(_unknown(parser, unknown))
    parsed = vars(known)
    config = parsed.pop("config")
    return Flags({name: text for name, text in parsed.items() if text is not None}, config)


def _unknown(parser: _Parser, words: Sequence[str]) -> list[str]:
    """A line for each word that is no flag; what follows an unknown flag is its value."""
    names = [word.partition("=")[0] for word in words if word.startswith("-")]
    if not names:
        return [f"{word!r} is no flag (train.py --help lists them)" for word in words]
    rest = " (train.py --help lists them)"
    return [f"no such flag {name}{wording.nearest(name, parser.flags) or rest}" for name in names]


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, as in every other command."""

    @property
    def flags(self) -> list[str]:
        """All flags there are."""
        return list(self._option_string_actions)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (train.py --help lists the flags)")


def _parser(tree: Tree, description: str) -> _Parser:
    parser = _Parser(
        prog="train.py",
        description=description,
        allow_abbrev=False,  # an abbreviation that becomes ambiguous later breaks scripts
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        type=expanded,
        metavar="FILE",
        help="start from this .config, not from the defaults",
    )
    for name, family in tree.families.items():
        head = tree.symbols[next(iter(family.members.values()))].choice
        prompt = head.nodes[0].prompt[0] if head else name.capitalize().replace("_", " ")
        members = ", ".join(family.members)
        parser.add_argument(
            flag(name),
            dest=name,
            action=_Once,
            metavar="NAME",
            help=_escaped(f"{prompt}: {members} (default {_default(tree, name)})"),
        )
    for name, option in tree.options.items():
        if option.type.kind == "bool":
            parser.add_argument(
                flag(name), dest=name, action=_YesNo, nargs=0, help=_escaped(option.prompt)
            )
            continue
        text = f"{option.prompt}: {_expects(option.type)} (default {tree.declared(name)})"
        parser.add_argument(
            flag(name),
            dest=name,
            action=_Once,
            metavar=_metavar(option.type),
            help=_escaped(text),
        )
    return parser


class _Once(argparse.Action):
    """A flag that may be given once: a second value would silently win."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option_string} is given twice")
        setattr(namespace, self.dest, values)


class _YesNo(_Once):
    """``--flag`` and ``--no-flag``, stored as Kconfig writes them."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: object) -> None:
        names = [*option_strings, *(f"--no-{name[2:]}" for name in option_strings)]
        super().__init__(names, dest, **settings)  # type: ignore[arg-type]

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        answer = "n" if (option_string or "").startswith("--no-") else "y"
        super().__call__(parser, namespace, answer, option_string)


def _default(tree: Tree, family: str) -> str:
    """What the tree declares to be on, whether it is visible now or not."""
    members = tree.families[family].members
    choice = tree.symbols[next(iter(members.values()))].choice
    if choice is None:
        return ", ".join(m for m, name in members.items() if tree.symbols[name].defaults)
    default, _ = choice.defaults[0]
    return tree.families[family].member_of(default.name)


def _expects(kind: Type) -> str:
    return kind.expects.removeprefix("one or several: ")


def _metavar(kind: Type) -> str:
    return {"int": "N", "float": "X", "word": "NAME"}.get(kind.kind, "TEXT")


def _escaped(text: str) -> str:
    return text.replace("%", "%%")
