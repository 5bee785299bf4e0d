"""make help: the targets, grouped, from the comments in the Makefile given as argument.

Needs nothing but Python 3.8. It reads three kinds of lines: ``##@ group``,
``target: dependencies ## text`` and, for targets that share a rule, ``##> name  text``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import _library  # noqa: F401
from adamwprune.base.console import run_command
from adamwprune.base.errors import UserError
from adamwprune.base.wording import nearest, wrapped

ENTRY = re.compile(r"(?P<target>[\w-]+):[^#=]*## (?P<text>.+)|##> (?P<name>\S+)\s+(?P<about>.+)")
FIRST = """\
First: make             trains the quickstart configuration and prints its table
       make menuconfig  changes it

A symbol or family on the command line replaces its value for that command:
  make EPOCHS=3 OPTIMIZER=adamw
  make OPTIMIZER="sgd adamw" TARGET_SPARSITY="0.5 0.9" plan
  make DATA_DIR=/data/sets RESULTS_DIR=/data/runs

Variables that are in no configuration:
  CONFIG=adamw             defconfigs/adamw, not .config; A+B, A+../file merge
  KCONFIG_CONFIG=FILE      this file in place of .config
  O=/tmp/try               .config and results are there
  M=../mine                members of a directory outside the tree count too
  PUBLISHED=1              a published record stands for a run not done
  KEEP_STALE=1             records of other code are accepted, and marked
  CHECK=3                  certify trains 3 certified lines again, and adds none
  FORMAT=markdown          or text, csv; of export-model: safetensors, onnx
  PYTHON=python3 VENV=     this interpreter, without a virtual environment
  YES=1                    distclean does not ask
  V=1                      the commands are shown
  make -j4                 JOBS=4: four runs at a time

Completion of targets, symbols, CONFIG= and RUN= for bash and zsh:
  source scripts/completion.sh"""


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


def unknown(target: str, described: list[tuple[str, list[tuple[str, str]]]]) -> str:
    """What to say of a word that is no target: the nearest one."""
    names = [name for _, entries in described for name, _ in entries]
    if re.fullmatch(r"[A-Z][A-Z0-9_]*", target):
        return f"no target {target!r}; a setting is written {target}=VALUE"
    return f"no target {target!r}{nearest(target, names)} (make help lists them)"


def main() -> int:
    """Print the help; or, of a second argument, that it is no target."""
    described = groups(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if sys.argv[2:]:
        raise UserError(unknown(sys.argv[2], described))
    width = max(len(name) for _, entries in described for name, _ in entries)
    for title, entries in described:
        print(title + ":")
        for name, text in entries:
            print("\n".join(wrapped(text, f"  {name:{width}}  ", " " * (width + 4))))
        print()
    print(FIRST)
    return 0


if __name__ == "__main__":
    run_command(main)
