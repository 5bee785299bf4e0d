"""Strict loading: what is written holds, or is refused with its place and the reason.

kconfiglib drops in silence what it does not understand. Here an undefined symbol,
a malformed line, a value outside its type or range, a symbol set twice, two members
of one choice, and a value that did not take effect are errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from adamwprune.base.errors import ConfigError, UserError
from adamwprune.base.files import obstacle, refusing
from adamwprune.base.wording import nearest
from adamwprune.config.tree import Tree, has_prompt

_SET = re.compile(r"CONFIG_(?P<name>[A-Za-z0-9_]+)=(?P<value>.*)$")
_UNSET = re.compile(r"# CONFIG_(?P<name>[A-Za-z0-9_]+) is not set$")
# What was meant to be _UNSET and is only a comment to Kconfig; not an assignment behind a "#".
_ALMOST = re.compile(r"[#\s]*CONFIG_(?P<name>[A-Za-z0-9_]+)\b(?!\s*=)", re.IGNORECASE)
_QUOTED = re.compile(r'"(?P<text>(?:[^"\\]|\\.)*)"$')


@dataclass(frozen=True)
class Assignment:
    """``name`` is to have the value ``text``, written at ``place`` (``file:line``)."""

    name: str
    text: str
    place: str
    quoted: bool = True  # a string in a file must be; on a command line nothing is

    def refused(self, reason: str) -> str:
        """The line that tells a user why this does not hold."""
        return f"{self.place}: {self.name}={self.text}: {reason}"


def read_config(path: Path, tree: Tree) -> list[Assignment]:
    """The assignments in a ``.config``, a defconfig or a fragment.

    Raises :class:`UserError` for a file that cannot be read, :class:`ConfigError` for
    lines that are neither an assignment, a comment nor blank. A comment that begins with the
    name of a symbol of the tree is none: it was meant to hold.
    """
    return parse_config(read_text(path), str(path), tree)


def parse_config(text: str, name: str, tree: Tree) -> list[Assignment]:
    """As :func:`read_config`, from a text; ``name`` stands for the file in messages."""
    assignments, problems = _scan(text, name, tree)
    if problems:
        raise ConfigError(problems)
    return assignments


def read_text(path: Path) -> str:
    """The text of a configuration, without a byte-order mark."""
    with refusing(str(path)):
        content = path.read_bytes()
    try:
        if not obstacle(content):
            return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text") from None
    raise UserError(f"{path}: {obstacle(content)}")


def _scan(text: str, name: str, tree: Tree) -> tuple[list[Assignment], list[str]]:
    """The assignments in a text, and a message for each line of it that is malformed."""
    assignments: list[Assignment] = []
    problems: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        place = f"{name}:{number}"
        try:
            assignment = _parse_line(line.rstrip(), place, tree)
        except ValueError as error:
            problems.append(f"{place}: {error}")
            continue
        if assignment is not None:
            assignments.append(assignment)
    return assignments, problems


def _parse_line(line: str, place: str, tree: Tree) -> Assignment | None:
    if match := _UNSET.match(line):
        return Assignment(match["name"], "n", place, quoted=False)
    if not line.strip() or line.startswith("#"):
        _refuse_almost_unset(line, tree)
        return None
    match = _SET.match(line)
    if match is None:
        raise ValueError(f"malformed line: {line!r} (expected CONFIG_NAME=value)")
    value = match["value"]
    if value.startswith('"'):
        quoted = _QUOTED.match(value)
        if quoted is None:
            raise ValueError(f"malformed string: {line!r}")
        return Assignment(match["name"], re.sub(r"\\(.)", r"\1", quoted["text"]), place)
    return Assignment(match["name"], value, place, quoted=False)


def _refuse_almost_unset(line: str, tree: Tree) -> None:
    """Raise ``ValueError`` for a comment that was meant to switch a symbol off."""
    match = _ALMOST.match(line)
    name = match["name"].upper() if match else ""
    if name in tree.symbols:
        raise ValueError(
            f"{line!r} is only a comment; to switch {name} off, write '# CONFIG_{name} is not set'"
        )


def command_line(tree: Tree, words: Mapping[str, str], place: str) -> list[Assignment]:
    """Assignments for ``NAME=text`` pairs, where NAME may be an option or a family.

    A family's text is one or several of its members; the others are switched off.
    """
    assignments: list[Assignment] = []
    problems: list[str] = []
    for name, text in words.items():
        if name in tree.families:
            try:
                assignments += _family(tree, name, text, place)
            except ValueError as error:
                problems.append(f"{place}: {name}={text}: {error}")
        else:
            assignments.append(Assignment(name, text, place))
    if problems:
        raise ConfigError(problems)
    return assignments


def _family(tree: Tree, name: str, text: str, place: str) -> list[Assignment]:
    family = tree.families[name]
    chosen = text.split()
    if not chosen:
        raise ValueError(f"is empty, expected one of {', '.join(family.members)}")
    for word in chosen:
        if "," in word:
            raise ValueError(f"separate the members by blanks: {' '.join(text.split(','))!r}")
        if word not in family.members:
            raise ValueError(f"no such member{nearest(word, family.members)}")
    if family.exclusive:
        if len(chosen) > 1:
            raise ValueError("takes one value, not a list")
        return [Assignment(family.members[chosen[0]], "y", place)]
    # Members that are switched off need not be visible to be off: they are only
    # named where they are on at present.
    return [
        Assignment(symbol, "y" if member in chosen else "n", place)
        for member, symbol in family.members.items()
    ]


def apply(tree: Tree, assignments: Iterable[Assignment]) -> None:
    """Assign all values to ``tree``, on top of what it has, and check that each took effect.

    Raises :class:`ConfigError` with one line for each value that does not hold.
    """
    assignments = list(assignments)
    problems = [problem for each in assignments if (problem := _problem(tree, each))]
    problems += set_twice(tree, assignments)
    if problems:
        raise ConfigError(problems)
    _assign(tree, assignments)
    problems = [problem for each in assignments if (problem := _without_effect(tree, each))]
    if problems:
        raise ConfigError(problems)


def migrate(tree: Tree, path: Path) -> tuple[set[str], list[str]]:
    """Assign what still can be of an older tree's ``.config``, on top of what ``tree`` has.

    Returns the symbols that hold what the file says, and a line with the reason for each
    value that was dropped. Of two assignments to a symbol the later one is taken.
    """
    assignments, dropped = _scan(read_text(path), str(path), tree)
    last = {each.name: each for each in assignments}
    kept: list[Assignment] = []
    for each in assignments:
        problem = _problem(tree, each)
        if problem is None and last[each.name] is not each:
            problem = each.refused(f"set again at {last[each.name].place}")
        if problem is None:
            kept.append(each)
        else:
            dropped.append(problem)
    _assign(tree, kept)
    without_effect = {each.name: _without_effect(tree, each) for each in kept}
    for name, problem in without_effect.items():
        if problem is not None:
            dropped.append(problem)
            tree.unset(name)
    return {name for name, problem in without_effect.items() if problem is None}, dropped


def _assign(tree: Tree, assignments: Iterable[Assignment]) -> None:
    for each in assignments:
        # Switching a member of a choice off is what choosing another one does.
        if each.text != "n" or tree.symbols[each.name].choice is None:
            tree.set(each.name, each.text)


def _problem(tree: Tree, each: Assignment) -> str | None:
    """What is wrong with an assignment by itself."""
    symbol = tree.symbols.get(each.name)
    if symbol is None:
        return each.refused(f"no such symbol{nearest(each.name, tree.setting_names)}")
    if not has_prompt(symbol):
        return each.refused(tree.unmet(each.name))
    if each.name in tree.family_of:
        return None if each.text in ("y", "n") else each.refused("is neither y nor n")
    option = tree.options[each.name]
    if option.is_string and not each.quoted:
        return each.refused('a string must be quoted: "..."')
    try:
        option.type.parse(each.text)
    except ValueError as error:
        return each.refused(f"{error} (expected {option.type.expects})")
    return None


def set_twice(tree: Tree, assignments: list[Assignment]) -> list[str]:
    """Symbols assigned twice, and choices with two members on."""
    problems: list[str] = []
    seen: dict[str, Assignment] = {}
    chosen: dict[str, Assignment] = {}
    for each in assignments:
        if each.name in seen:
            problems.append(each.refused(f"already set at {seen[each.name].place}"))
            continue
        seen[each.name] = each
        family = tree.families.get(tree.family_of.get(each.name, ""))
        if family is None or not family.exclusive or each.text != "y":
            continue
        if family.name in chosen:
            first = chosen[family.name]
            problems.append(
                each.refused(f"{first.name}=y at {first.place} chose another member of the choice")
            )
        chosen[family.name] = each
    return problems


def _without_effect(tree: Tree, each: Assignment) -> str | None:
    """Why the effective value is not the assigned one, if it is not."""
    effective = tree.text(each.name)
    if effective == each.text or (each.text == "n" and effective == ""):
        return None
    selectors = tree.selectors(each.name)
    if each.text == "n" and selectors:
        return each.refused(f"it is selected by {' and '.join(selectors)}")
    unmet = tree.unmet(each.name)
    return each.refused(unmet or f"has no effect: the value is {effective!r}")
