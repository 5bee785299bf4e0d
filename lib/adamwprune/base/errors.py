"""Errors whose message is all that a user needs to see."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend; shown as its message, without a traceback."""


class ConfigError(UserError):
    """A configuration that does not mean what it says.

    Holds every problem found, one line each, so that one look mends them all.
    """

    def __init__(self, problems: str | list[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else problems
        super().__init__("\n".join(self.problems))
