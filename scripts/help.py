"""make help: the targets, grouped, from the comments in the Makefile given as argument.

With a second argument, a word that is no target: it is refused, and the nearest target named.
Needs nothing but Python 3.8. It reads three kinds of lines: ``##@ group``,
``target: dependencies ## text`` and, for targets that share a rule, ``##> name  text``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NoReturn

import _library  # noqa: F401
from adamwprune.base.console import run_command
from adamwprune.base.errors import UserError
from adamwprune.base.wording import nearest

ENTRY = re.compile(r"(?P<target>[\w-]+):[^#=]*## (?P<text>.+)|##> (?P<name>\S+)\s+(?P<about>.+)")
FIRST = """\
First: make             trains the quickstart configuration and prints its table
       make menuconfig  changes it

A symbol or a family set on the command line replaces its value for that command:
  make EPOCHS=3 OPTIMIZER=adamw
  make OPTIMIZER="sgd adamw" TARGET_SPARSITY="0.5 0.9" plan
  make DATA_DIR=/data/sets RESULTS_DIR=/data/runs

Variables that are in no configuration:
  CONFIG=adamw             defconfigs/adamw in place of .config; CONFIG=A+B merges two
  KCONFIG_CONFIG=FILE      this file in place of .config
  O=/tmp/try               .config and results are there
  M=../mine                members of a directory outside the tree count too
  PUBLISHED=1              a record of results/published/ stands for a run that was not done here
  KEEP_STALE=1             records that other code produced are accepted, and marked
  CHECK=3                  certify trains 3 lines of results/certified.jsonl again, and adds none
  FORMAT=markdown          tables as text, markdown or csv; of export-model: safetensors or onnx
  PYTHON=python3 VENV=     this interpreter as it is, without a virtual environment
  YES=1                    distclean does not ask
  V=1                      the commands are shown"""


def groups(makefile: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Title and entries of each group, in the order of the file."""
    found: list[tuple[str, list[tuple[str, str]]]] = []
    for line in makefile.splitlines():
        if line.startswith("##@ "):
            found.append((line[4:].strip(), []))
            continue
        match = ENTRY.match(line)
        if match and found:
            name, text = match["target"] or match["name"], match["text"] or match["about"]
            found[-1][1].append((name, text.strip()))
    return found


def refuse(word: str, targets: list[str]) -> NoReturn:
    """End with the nearest target."""
    raise UserError(f"no target {word!r}{nearest(word, targets)} (make help lists them)")


def main() -> int:
    """Print the help, or refuse a word."""
    described = groups(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if sys.argv[2:]:
        refuse(sys.argv[2], [name for _, entries in described for name, _ in entries])
    width = max(len(name) for _, entries in described for name, _ in entries)
    for title, entries in described:
        print(title + ":")
        for name, text in entries:
            print(f"  {name:{width}}  {text}")
        print()
    print(FIRST)
    return 0


if __name__ == "__main__":
    run_command(main)
