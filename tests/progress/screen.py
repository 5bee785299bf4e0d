"""A terminal in a few lines: what a user would see of what a program wrote."""

import re
from typing import Self

_TOKEN = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|(.)", re.DOTALL)


class Screen:
    """Knows cursor up, erase in line, carriage return and line feed; ignores colours."""

    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.lines = [""] * rows
        self.gone: list[str] = []  # scrolled away
        self.wrapped = 0
        self.row = self.column = 0

    def feed(self, text: str) -> Self:
        """Show ``text``."""
        for parameter, command, character in _TOKEN.findall(text):
            if command == "A":
                self.row = max(0, self.row - int(parameter or 1))
            elif command == "K":
                self.lines[self.row] = ""
            elif command:
                assert command in "mhl", f"this terminal knows no {command!r}"
            elif character == "\r":
                self.column = 0
            elif character == "\n":
                self._next_row()
            else:
                self._put(character)
        return self

    def _put(self, character: str) -> None:
        if self.column == self.columns:
            self.wrapped += 1
            self.column = 0
            self._next_row()
        line = self.lines[self.row].ljust(self.column)
        self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
        self.column += 1

    def _next_row(self) -> None:
        if self.row + 1 < self.rows:
            self.row += 1
            return
        self.gone.append(self.lines.pop(0))
        self.lines.append("")

    @property
    def text(self) -> str:
        """What is on the screen, without the empty lines at its end."""
        return "\n".join(line.rstrip() for line in self.lines).rstrip()
