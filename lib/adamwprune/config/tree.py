"""The Kconfig tree, read once: every option with its type, family, help and place.

This is the only module that knows kconfiglib. The conventions of the tree are
described at the top of ``Kconfig``.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import kconfiglib

from adamwprune.base import registry
from adamwprune.base.errors import ConfigError, UserError
from adamwprune.config import options, outside
from adamwprune.config.options import Type, Value

CELL = "CELL_"
EXCLUDE = "EXCLUDE_"
PRESET = "preset"  # the value of an option that each cell resolves for itself
_CHECKOUT = registry.PACKAGE.parents[1]
IS_CHECKOUT = (_CHECKOUT / "Kconfig").is_file() and registry.PACKAGE.parent == _CHECKOUT / "lib"
# Where Kconfig and defconfigs/ are: the tree, or the package where it is installed by itself.
SOURCE_TREE = _CHECKOUT if IS_CHECKOUT else registry.PACKAGE
_MACROS = ("OUTSIDE", "OUTSIDE_KCONFIG")  # of Kconfig and Kconfig.outside

if kconfiglib.VERSION != (14, 1, 0):
    raise ImportError(
        f"{kconfiglib.__file__} is not kconfiglib 14.1.0: another package (esp-idf-kconfig?) "
        "installs a module of the same name; use an environment without it"
    )


@dataclass(frozen=True)
class Option:
    """One symbol that a user sets."""

    name: str
    prompt: str
    help: str
    type: Type
    operational: bool
    is_string: bool  # to Kconfig: quoted in a .config, whatever its annotation says
    place: str  # file:line of its declaration


@dataclass(frozen=True)
class Family:
    """Symbols of which a cell has one member: all bools named ``NAME_MEMBER``."""

    name: str
    members: Mapping[str, str]  # member as written by people -> its symbol
    exclusive: bool  # a Kconfig choice; otherwise every member that is on is an axis value
    operational: bool
    place: str

    def member_of(self, symbol: str) -> str:
        """The member, as people write it, that a symbol stands for."""
        return next(member for member, name in self.members.items() if name == symbol)


class Tree:
    """The Kconfig tree below ``root`` and one assignment of values to it.

    Raises :class:`ConfigError` if the tree itself is not well-formed: any
    warning of kconfiglib, an unknown annotation, a default outside its own type.
    """

    def __init__(self, root: Path = SOURCE_TREE) -> None:
        self.root = root
        self.outside = registry.outside()
        with _source_tree(root, self.outside):
            try:
                self.kconf = kconfiglib.Kconfig(
                    "Kconfig", warn_to_stderr=False, suppress_traceback=False
                )
            except kconfiglib.KconfigError as error:
                raise ConfigError(str(error).strip()) from None
            except OSError as error:
                raise UserError(f"cannot read the Kconfig tree: {error}") from None
        # Defined by what we parse; set_value() below is checked by our own rules.
        if self.kconf.warnings:
            raise ConfigError([" ".join(text.split()) for text in self.kconf.warnings])
        self.kconf.warn = False
        self._check()
        if self.outside is not None:
            outside.check(self, self.outside)

    # -- what there is -------------------------------------------------------

    @cached_property
    def symbols(self) -> dict[str, kconfiglib.Symbol]:
        """All declared symbols by name, in the order of the menu."""
        return {symbol.name: symbol for symbol in self.kconf.unique_defined_syms}

    @cached_property
    def families(self) -> dict[str, Family]:
        """Families by name, in the order of the menu."""
        found: dict[str, Family] = {}
        for symbol in self.symbols.values():
            name = self._family_name(symbol)
            if name is None or name in found:
                continue
            prefix = name + "_"
            members = {
                other.name.removeprefix(prefix).lower().replace("_", "-"): other.name
                for other in self.symbols.values()
                if other.name.startswith(prefix) and self._family_name(other) == name
            }
            head = symbol.choice or self.symbols[CELL + name]
            found[name] = Family(
                name,
                members,
                symbol.choice is not None,
                options.is_operational(help_of(head)),
                place_of(head),
            )
        return found

    @cached_property
    def options(self) -> dict[str, Option]:
        """All symbols with a prompt that belong to no family, in the order of the menu."""
        return {
            name: self._option(symbol)
            for name, symbol in self.symbols.items()
            if has_prompt(symbol) and name not in self.family_of
        }

    @cached_property
    def family_of(self) -> dict[str, str]:
        """Member symbol -> the name of its family."""
        return {
            symbol: family.name
            for family in self.families.values()
            for symbol in family.members.values()
        }

    @cached_property
    def cell_symbols(self) -> dict[str, kconfiglib.Symbol]:
        """What a cell resolves: name without ``CELL_`` -> symbol."""
        return {
            name.removeprefix(CELL): symbol
            for name, symbol in self.symbols.items()
            if name.startswith(CELL)
        }

    @cached_property
    def exclusions(self) -> list[str]:
        """Promptless bools that drop a cell in which they are y."""
        return [name for name in self.symbols if name.startswith(EXCLUDE)]

    @cached_property
    def superseded(self) -> set[str]:
        """Symbols in whose place a ``CELL_`` symbol stands in the spec."""
        inputs = {
            value.name
            for symbol in self.cell_symbols.values()
            for value, _ in symbol.defaults
            if isinstance(value, kconfiglib.Symbol) and not value.is_constant
        }
        return inputs | set(self.family_of)

    @cached_property
    def unread(self) -> set[str]:
        """Options that no expression reads: whatever their value, it decides nothing else."""
        read = {
            item.name
            for node in self.kconf.node_iter()
            for item in node.referenced
            if item is not node.item
        }
        return set(self.options) - read

    def cell_type(self, name: str) -> Type:
        """The type of what a cell resolves ``name`` to."""
        if name in self.options:
            return self.options[name].type
        symbol = self.cell_symbols[name]
        if symbol.orig_type == kconfiglib.INT:
            return options.int_type()
        return options.bool_type() if symbol.orig_type == kconfiglib.BOOL else options.string_type()

    @property
    def setting_names(self) -> list[str]:
        """Every name a user may set on a command line: options and families."""
        return [*self.families, *self.options]

    # -- values --------------------------------------------------------------

    def reset(self) -> None:
        """Back to the tree's defaults."""
        self.kconf.unset_values()

    def unset(self, name: str) -> None:
        """Give a symbol its default back."""
        self.symbols[name].unset_value()

    def set(self, name: str, text: str) -> None:
        """Assign a value as a user would; whether it took effect is for the caller to see."""
        self.symbols[name].set_value(text)

    def text(self, name: str) -> str:
        """The effective value as Kconfig writes it: ``y``, ``n``, a number, a string."""
        return str(self.symbols[name].str_value)

    def default(self, name: str) -> Value:
        """The value of an option that is declared to be its own, whether it is visible or not."""
        return self.options[name].type.parse(self.declared(name))[0]

    def declared(self, name: str) -> str:
        """That default as Kconfig writes it; empty for an option without one."""
        return next((str(value.str_value) for value, _ in self.symbols[name].defaults), "")

    def is_on(self, name: str) -> bool:
        """Whether a bool is y."""
        return bool(self.symbols[name].tri_value == 2)

    def is_visible(self, name: str) -> bool:
        """Whether a user can set the symbol at present."""
        return bool(self.symbols[name].visibility)

    def config(self) -> str:
        """The full configuration: a line for every symbol that a user can set at present.

        What is derived is left out. It changes from cell to cell of a matrix, and where it
        is read it could only contradict what it is derived from.
        """
        lines: list[str] = []
        for node in self.kconf.node_iter(unique_syms=True):
            if node.item is kconfiglib.MENU and kconfiglib.expr_value(node.dep):
                lines.append(f"\n#\n# {node.prompt[0]}\n#\n")
            elif isinstance(node.item, kconfiglib.Symbol) and self.is_visible(node.item.name):
                lines.append(node.item.config_string)
        return "".join(lines)

    def minimal_config(self) -> str:
        """The configuration without what the tree's defaults say anyway."""
        # What write_min_config writes: a file for each cell takes longer than all the rest.
        return str(self.kconf._min_config_contents(""))

    def config_line(self, name: str) -> str:
        """``CONFIG_NAME=value`` at present; also for a bool that is off."""
        if self.symbols[name].orig_type == kconfiglib.BOOL:
            return f"CONFIG_{name}={self.text(name)}"
        return str(self.symbols[name].config_string).rstrip("\n")

    def selected(self, family: str) -> list[str]:
        """The members of a family that are on, in the order of the menu."""
        return [
            member for member, name in self.families[family].members.items() if self.is_on(name)
        ]

    def cell_values(self) -> dict[str, Value]:
        """Values that affect the result of a run, at present: visible and resolved."""
        values: dict[str, Value] = {}
        for name, option in self.options.items():
            if not option.operational and name not in self.superseded and self.is_visible(name):
                values[name] = option.type.parse(self.text(name))[0]
        for name, symbol in self.cell_symbols.items():
            if name in self.families and self.families[name].operational:
                continue
            text = self.text(symbol.name)
            if text and kconfiglib.expr_value(symbol.direct_dep):
                values[name] = self.cell_type(name).parse(text)[0]
        return values

    def presets(self) -> dict[str, str]:
        """What is left to presets at present: name -> the family whose member decides it."""
        return {
            name: self._deciders[name]
            for name in self.cell_symbols
            if (name in self.options and self.text(name) == PRESET)
            or (name in self.families and self.selected(name) == [PRESET])
        }

    @cached_property
    def _deciders(self) -> dict[str, str]:
        return {name: self._decider(symbol) for name, symbol in self.cell_symbols.items()}

    def _decider(self, symbol: kconfiglib.Symbol) -> str:
        """The family of axis members that the symbol's defaults ask for, or an empty text.

        Where they ask for none themselves, what they ask for does: SPAM_INTERVAL follows from
        SPAM_MODE, and that from the optimizer.
        """
        asked = [symbol]
        seen: set[str] = set()
        while asked:
            seen.update(each.name for each in asked)
            asked = [other for each in asked for other in _asked_by(each) if other.name not in seen]
            for other in asked:
                name = self.family_of.get(other.name, other.name.removeprefix(CELL))
                if name in self.families and not self.families[name].exclusive:
                    return str(name)
        return ""

    def exclusion(self) -> str:
        """Why the cell the tree is at is excluded, or an empty text."""
        for name in self.exclusions:
            if self.is_on(name):
                symbol = self.symbols[name]
                return f"{' '.join(help_of(symbol).split())} ({place_of(symbol)})"
        return ""

    def selectors(self, name: str) -> list[str]:
        """Symbols that select ``name`` at present."""
        return [
            other
            for other, symbol in self.symbols.items()
            if self.is_on(other) and any(target.name == name for target, _ in symbol.selects)
        ]

    def value(self, name: str) -> tuple[Value, ...]:
        """The values of an option, or the members of a family that are on."""
        if name in self.families:
            return tuple(self.selected(name))
        text = self.text(name)
        return self.options[name].type.parse(text) if name in self.options and text else (text,)

    def operational(self) -> dict[str, Value]:
        """Values of the operational options and families: how to run, not what."""
        values: dict[str, Value] = {
            name: option.type.parse(self.text(name))[0]
            for name, option in self.options.items()
            if option.operational
        }
        for name, family in self.families.items():
            if family.operational:
                values[name] = self.text(CELL + name)
        return values

    def is_operational(self, name: str) -> bool:
        """Whether an option or a family says how to run, not what."""
        found = self.families.get(name) or self.options.get(name)
        return found is not None and found.operational

    def unmet(self, name: str) -> str:
        """Why ``name`` cannot be set at present: the unmet expressions and their place."""
        symbol = self.symbols[name]
        if not has_prompt(symbol):
            return f"it is derived, not set ({place_of(symbol)})"
        # A member of a choice depends on the choice, which has dependencies of its own.
        nodes = [*symbol.nodes, *(symbol.choice.nodes if symbol.choice else [])]
        parts: list[str] = []
        for node in nodes:
            if node.prompt is None:
                continue
            for expression in kconfiglib.split_expr(node.prompt[1], kconfiglib.AND):
                is_choice = isinstance(expression, kconfiglib.Choice)
                if not is_choice and kconfiglib.expr_value(expression) == 0:
                    text = f"{kconfiglib.expr_str(expression)}{self._enablers(expression)}"
                    parts.append(f"depends on {text} ({node.filename}:{node.linenr})")
        return "; ".join(dict.fromkeys(parts))

    def _enablers(self, expression: object) -> str:
        """For an unmet promptless symbol: what would switch it on."""
        if not isinstance(expression, kconfiglib.Symbol) or has_prompt(expression):
            return ""
        selectors = [
            name
            for name, symbol in self.symbols.items()
            if any(target is expression for target, _ in symbol.selects)
        ]
        return f", selected by {' or '.join(selectors)}" if selectors else ""

    # -- the tree's own form ---------------------------------------------------

    def _family_name(self, symbol: kconfiglib.Symbol) -> str | None:
        """FAMILY of a bool FAMILY_MEMBER with a prompt, where CELL_FAMILY is declared."""
        if symbol.orig_type != kconfiglib.BOOL or not has_prompt(symbol):
            return None
        parts = symbol.name.split("_")
        for length in range(len(parts) - 1, 0, -1):
            name = "_".join(parts[:length])
            if CELL + name in self.symbols and name not in self.symbols:
                return name
        return None

    def _option(self, symbol: kconfiglib.Symbol) -> Option:
        help_text = help_of(symbol)
        prompt = next(node.prompt[0] for node in symbol.nodes if node.prompt)
        return Option(
            symbol.name,
            prompt,
            help_text,
            self._type(symbol),
            options.is_operational(help_text),
            symbol.orig_type == kconfiglib.STRING,
            place_of(symbol),
        )

    @staticmethod
    def _type(symbol: kconfiglib.Symbol) -> Type:
        annotated = options.type_from_help(help_of(symbol))
        if annotated is not None:
            return annotated
        if symbol.orig_type == kconfiglib.BOOL:
            return options.bool_type()
        if symbol.orig_type == kconfiglib.INT:
            for low, high, _ in symbol.ranges:
                return options.int_type(
                    options.Interval.parse(f"[{low.str_value}, {high.str_value}]")
                )
            return options.int_type()
        return options.string_type()

    def _check(self) -> None:
        problems: list[str] = []
        for symbol in self.symbols.values():
            try:
                options.check_annotations(help_of(symbol))
            except ValueError as error:
                problems.append(f"{place_of(symbol)}: {symbol.name}: {error}")
        if problems:
            raise ConfigError(problems)
        for name, option in self.options.items():
            for value, _ in self.symbols[name].defaults:
                # An unquoted number is to Kconfig the name of a symbol that nobody declared.
                if isinstance(value, kconfiglib.Symbol) and not value.nodes:
                    try:
                        option.type.parse(value.str_value)
                    except ValueError as error:
                        problems.append(f"{option.place}: default of {name}: {error}")
        for family in self.families.values():
            for value, _ in self.cell_symbols[family.name].defaults:
                if value.is_constant and value.str_value not in family.members:
                    # A value that no member is named after may still be resolved to
                    # (AMSGRAD "on"), but then it must be one of the members' names.
                    problems.append(
                        f"{family.place}: {CELL}{family.name} resolves to "
                        f"{value.str_value!r}, which is no member of the family"
                    )
        if problems:
            raise ConfigError(problems)


def has_prompt(symbol: kconfiglib.Symbol) -> bool:
    """Whether a user can set the symbol at all."""
    return any(node.prompt for node in symbol.nodes)


def _asked_by(symbol: kconfiglib.Symbol) -> list[kconfiglib.Symbol]:
    """Symbols in the conditions of the symbol's defaults, by name."""
    items = {each for _, condition in symbol.defaults for each in kconfiglib.expr_items(condition)}
    return sorted(
        (each for each in items if isinstance(each, kconfiglib.Symbol) and each.nodes),
        key=lambda each: str(each.name),
    )


def help_of(item: kconfiglib.Symbol | kconfiglib.Choice) -> str:
    """The item's help text, of all places where it is declared."""
    return "\n".join(node.help for node in item.nodes if node.help)


def place_of(item: kconfiglib.Symbol | kconfiglib.Choice) -> str:
    """``file:line`` of the first place where the item has a prompt, or else is declared."""
    node = next((node for node in item.nodes if node.prompt), item.nodes[0])
    return f"{node.filename}:{node.linenr}"


@contextmanager
def _source_tree(root: Path, members: Path | None) -> Iterator[None]:
    """kconfiglib takes the root of the tree, and what macros stand for, from the environment."""
    names = ("srctree", "CONFIG_", "KCONFIG_FUNCTIONS", "KCONFIG_WARN_UNDEF", *_MACROS)
    saved = {name: os.environ.pop(name, None) for name in names}
    # Without the second, a misspelt name in an expression is n and nobody is told.
    os.environ.update({"srctree": str(root), "KCONFIG_WARN_UNDEF": "y", "OUTSIDE": "none"})
    if members is not None:
        outside.check_directory(members)
        kconfig = glob.escape(str(members / outside.KCONFIG))
        os.environ.update({"OUTSIDE": "Kconfig.outside", "OUTSIDE_KCONFIG": kconfig})
    try:
        yield
    finally:
        for name, value in saved.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
