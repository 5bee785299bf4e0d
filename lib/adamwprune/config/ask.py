"""Questions on a terminal about the symbols that a configuration does not set yet."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from adamwprune.base.errors import UserError
from adamwprune.config.options import bool_type
from adamwprune.config.tree import Family, Tree, help_of


def ask_about(tree: Tree, known: set[str]) -> None:
    """Ask for each symbol that can be set and is not in ``known``, until none is left.

    An empty answer takes the default, ``?`` shows the help text. Raises
    :class:`UserError` where there is a question and no terminal, or no more input.
    """
    answered = set(known)
    while (symbol := next(_unanswered(tree, answered), None)) is not None:
        if not sys.stdin.isatty():
            raise UserError(
                f"there is a question about {symbol} and no terminal to ask on; "
                "make olddefconfig takes the defaults, make listnewconfig lists what is new"
            )
        family = tree.families.get(tree.family_of.get(symbol, ""))
        if family is not None and family.exclusive:
            _ask_choice(tree, family)
            answered.update(name for name in family.members.values() if tree.is_visible(name))
        else:
            _ask_symbol(tree, symbol)
            answered.add(symbol)


def _unanswered(tree: Tree, answered: set[str]) -> Iterator[str]:
    return (name for name in tree.symbols if name not in answered and tree.is_visible(name))


def _ask_symbol(tree: Tree, name: str) -> None:
    symbol = tree.symbols[name]
    kind = tree.options[name].type if name in tree.options else bool_type()
    prompt = next(node.prompt[0] for node in symbol.nodes if node.prompt)
    while True:
        answer = _answer(f"{prompt} ({name}: {kind.expects}) [{tree.text(name)}] ", help_of(symbol))
        try:
            kind.parse(answer or tree.text(name))
        except ValueError as error:
            print(f"{name}={answer}: {error}")
            continue
        tree.set(name, answer or tree.text(name))
        if answer and tree.text(name) != answer:
            print(
                f"{name} stays {tree.text(name)}: {' and '.join(tree.selectors(name))} selects it"
            )
        return


def _ask_choice(tree: Tree, family: Family) -> None:
    choice = tree.symbols[next(iter(family.members.values()))].choice
    legal = [member for member, name in family.members.items() if tree.is_visible(name)]
    current = next(iter(tree.selected(family.name)))
    while True:
        answer = _answer(
            f"{choice.nodes[0].prompt[0]} ({family.name}: one of {', '.join(legal)}) [{current}] ",
            help_of(choice),
        )
        member = answer or current
        if member in legal:
            tree.set(family.members[member], "y")
            return
        print(f"{family.name}={answer}: is none of {', '.join(legal)}")


def _answer(question: str, help_text: str) -> str:
    """One line from the terminal, after as many help texts as were asked for."""
    while True:
        try:
            answer = input(question).strip()
        except EOFError:
            print()  # the message begins a line
            raise UserError("no more answers; the configuration was not changed") from None
        if answer != "?":
            return answer
        print(f"\n{help_text}\n")
