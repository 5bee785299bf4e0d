"""The variables on make's command line, out of MAKEFLAGS.

Needs no package and runs on Python 3.8: ``make clean`` works where nothing is installed.
"""

from __future__ import annotations

import re

from adamwprune.base.errors import ConfigError

_VARIABLE = re.compile(
    r"\s*(?P<name>[^\s:+?!=]+)\s*(?P<operator>:{0,3}|[+?!])=\s*(?P<value>.*)$", re.DOTALL
)


def make_jobs(flags: str) -> str:
    """The number of ``make -jN``, from the value of MAKEFLAGS; empty without one."""
    options = flags.partition(" -- ")[0]
    match = re.search(r"(?:^|\s)-j\s?(?P<jobs>[0-9]+)(?:\s|$)", options)
    return match["jobs"] if match else ""


def make_variables(flags: str) -> dict[str, str]:
    """The variables on make's command line, from the value of MAKEFLAGS.

    Make writes options, then ``--``, then the variables with blanks and backslashes
    escaped by a backslash and ``$`` doubled. Raises :class:`ConfigError` for a variable
    that is not plainly set.
    """
    words = re.findall(r"(?:\\.|[^\s\\])+", flags, re.DOTALL)
    if "--" not in words:
        return {}
    variables: dict[str, str] = {}
    for word in words[words.index("--") + 1 :]:  # make lists each name once
        text = re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL).replace("$$", "$")
        match = _VARIABLE.match(text)
        if match is None:
            # Make escapes blanks and not line breaks, so that this is the rest of a value.
            raise ConfigError(f"make: cannot read {text!r}: a value must be on one line")
        if match["operator"] in ("+", "?", "!"):
            raise ConfigError(f"make {text}: write {match['name']}={match['value']}")
        variables[match["name"]] = match["value"]
    return variables
