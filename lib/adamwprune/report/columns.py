"""A table for people out of columns, as text or as Markdown."""

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from adamwprune.base import terminal


@dataclass(frozen=True)
class Column:
    """A column: heading, what a row shows there, and whether it is a number."""

    heading: str
    show: Callable[[Any], str]  # of the one kind of row that the table has
    number: bool = True


def aligned(
    columns: Sequence[Column], rows: Iterable[Any], colour: Callable[[Any], str] = lambda row: ""
) -> Table:
    """The table for :func:`console`; ``colour`` names that of a row."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0, show_edge=False)
    for column in columns:
        justify = "right" if column.number else "left"
        table.add_column(column.heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*(column.show(row) for column in columns), style=colour(row))
    return table


def console(width: int, *, colours: bool = False) -> Console:
    """What text is printed to, at most ``width`` wide; :func:`printed` has it."""
    return terminal.console(
        file=io.StringIO(), width=width, force_terminal=colours, highlight=False
    )


def printed(console: Console) -> str:
    """What was printed, no line of it with blanks at its end."""
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def piped(columns: Sequence[Column], rows: Iterable[Any]) -> list[str]:
    """The lines of the table in Markdown."""
    lines = [
        [column.heading for column in columns],
        ["---:" if column.number else "---" for column in columns],
        *([column.show(row) for column in columns] for row in rows),
    ]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
