"""Where values come from: command line > CONFIG= or a fragment > ``.config`` > the tree's defaults.

Make's command line reaches the scripts through MAKEFLAGS, which make itself quotes: no value
ever passes through a shell.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from adamwprune.base import registry, wording
from adamwprune.base.errors import ConfigError, UserError
from adamwprune.base.files import expanded, refusing, write_bytes, write_text
from adamwprune.config import outside, strict
from adamwprune.config.makeflags import make_jobs, make_variables
from adamwprune.config.strict import Assignment
from adamwprune.config.tree import SOURCE_TREE, Tree

_MEMBERS = re.compile(r"^# Members from outside the tree: M=(.+)$", re.MULTILINE)
_RUN_FILES = (".json", ".jsonl", ".txt", ".pt")  # in a run's directory; its name ends in a digest
DEFAULT = "quickstart"  # the defconfig of a tree without .config
DEFAULTS = "sgd"  # the defconfig that says what the tree's defaults say

# Make variables that are no Kconfig symbols.
RESERVED = {
    "V": "1 prints the commands that make runs",
    "O": "output directory: .config and results go there",
    "M": "a directory outside the tree: its members count too",
    "CONFIG": "a defconfig (or A+B, or A+../file) in place of .config",
    "PYTHON": "the interpreter to set up with",
    "VENV": "the virtual environment; empty: use PYTHON as it is",
    "KCONFIG_CONFIG": "another file in place of .config",
    "KCONFIG_SEED": "seed of randconfig",
    "YES": "1 lets distclean remove without asking",
    "FORMAT": "of a table: text, markdown or csv; of export-model: safetensors or onnx",
    "RUN": "a run, by its id, the start of it or its directory",
    "BENCH_ARGS": "more words for the benchmark",
    "A": "a session of the benchmark, a JSON file",
    "B": "another one, to compare it with",
    "CHECK": "lines of results/certified.jsonl to train again, or all",
    "PUBLISHED": "1 takes a published record for a run that was not done here",
    "WATCH_PORT": "the port of make watch; 0 takes a free one",
    "KEEP_STALE": "1 accepts records that other code produced, and marks them",
}


@dataclass(frozen=True)
class Workspace:
    """The places one invocation works with, and the make variables it was given."""

    variables: Mapping[str, str]  # everything on make's command line

    @classmethod
    def from_environment(cls, settings: Mapping[str, str] | None = None) -> Workspace:
        """The workspace of this process, from MAKEFLAGS and the command's own ``settings``."""
        flags = os.environ.get("MAKEFLAGS", "")
        jobs = make_jobs(flags)
        given = {**({"JOBS": jobs} if jobs else {}), **make_variables(flags), **(settings or {})}
        return cls({name: _plain_name(name, text) for name, text in given.items()})

    @property
    def members(self) -> Path | None:
        """The directory outside the tree whose members count too, M= or one inherited."""
        named = outside.resolved(self.variables.get("M", ""))
        return named or registry.outside()

    @property
    def output(self) -> Path:
        """Where .config and results go."""
        return expanded(self.variables.get("O") or ".")

    @property
    def config(self) -> Path:
        """The file that holds the configuration."""
        named = self.variables.get("KCONFIG_CONFIG") or os.environ.get("KCONFIG_CONFIG")
        path = expanded(named) if named else self.output / ".config"
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: is no regular file, and cannot hold a configuration")
        return path

    @property
    def settings(self) -> dict[str, str]:
        """Options and families set for this invocation."""
        return {name: text for name, text in self.variables.items() if name not in RESERVED}

    def home(self, tree: Tree) -> Path:
        """Where published records and their figures are: in the source tree, if there is one."""
        return self.output if tree.root == registry.PACKAGE else tree.root

    def results(self, tree: Tree) -> Path:
        """The directory of all runs."""
        return self.output / expanded(tree.text("RESULTS_DIR"))


def _plain_name(name: str, text: str) -> str:
    """A run or a defconfig that is given as a shell completes it, by its path, as its name.

    ``RUN=results/ID/``, ``RUN=results/ID/result.json``, ``CONFIG=defconfigs/sgd``.
    """
    if name == "RUN" and "/" in text:
        path = Path(text)
        return path.parent.name if path.suffix in _RUN_FILES else path.name
    if name == "CONFIG":
        return "+".join(map(_defconfig_name, text.split("+")))
    return text


def _defconfig_name(part: str) -> str:
    path = Path(part)
    return path.name if path.parent.name == "defconfigs" and "/" in part else part


def load(workspace: Workspace, tree: Tree, defconfig: str = "") -> str:
    """Fill ``tree`` with the configuration of this invocation and name where it comes from.

    ``defconfig`` (or CONFIG=) names one in place of ``.config``. A tree without ``.config``
    gets the quickstart's, and it is said.
    """
    check_names(tree, workspace.settings)
    chosen = workspace.variables.get("CONFIG", "")
    if chosen and defconfig:
        raise UserError(f"CONFIG={chosen}: this target has a configuration of its own, {defconfig}")
    chosen = chosen or defconfig
    tree.reset()
    if chosen:
        strict.apply(tree, read_defconfig(tree, chosen))
        source = f"defconfig {chosen}"
    else:
        if not workspace.config.exists():
            if workspace.config != workspace.output / ".config":
                raise UserError(
                    f"KCONFIG_CONFIG={workspace.config}: there is no such file; make menuconfig or "
                    f"make defconfig-NAME with KCONFIG_CONFIG={workspace.config} writes it"
                )
            strict.apply(tree, read_defconfig(tree, DEFAULT))
            write(tree, workspace.config)
            print(
                f"{workspace.config}: written from defconfig-{DEFAULT}; "
                "change it with make menuconfig"
            )
            tree.reset()
        read_into(tree, workspace.config)
        source = str(workspace.config)
    override(tree, workspace.settings)
    return source


def load_to_edit(workspace: Workspace, tree: Tree) -> str:
    """Fill ``tree`` with what is to be edited and name where it comes from; writes nothing.

    That is ``.config``, or the quickstart's defconfig where there is none yet.
    """
    refuse_config_variable(workspace)
    check_names(tree, workspace.settings)
    tree.reset()
    if workspace.config.exists():
        read_into(tree, workspace.config)
        source = str(workspace.config)
    else:
        strict.apply(tree, read_defconfig(tree, DEFAULT))
        source = f"defconfig {DEFAULT}"
        # As load() does by writing .config first: nothing in it counts as new.
        strict.apply(tree, strict.parse_config(tree.config(), source, tree))
    override(tree, workspace.settings)
    return source


def refuse_config_variable(workspace: Workspace) -> None:
    """Refuse CONFIG= where ``.config`` is to be written: it stands in its place, unwritten."""
    name = workspace.variables.get("CONFIG")
    if name:
        raise UserError(
            f"CONFIG={name} leaves {workspace.config} alone, and this target is to write it; "
            f"start with make defconfig-{name}"
        )


def override(tree: Tree, settings: Mapping[str, str]) -> None:
    """Apply what the command line sets on top of what ``tree`` holds.

    Members of other families that this switches off (``OPTIMIZER=sgd`` leaves no Adam
    states for pruning by state) are named on the standard error.
    """
    before = {
        name: tree.selected(name)
        for name, family in tree.families.items()
        if not family.exclusive and name not in settings
    }
    strict.apply(tree, strict.command_line(tree, settings, "command line"))
    for name, members in before.items():
        for member in members:
            symbol = tree.families[name].members[member]
            if not tree.is_visible(symbol):
                print(f"note: {symbol} is off now: {tree.unmet(symbol)}", file=sys.stderr)


def read_into(tree: Tree, path: Path) -> None:
    """Load a ``.config`` strictly."""
    try:
        strict.apply(tree, strict.read_config(path, tree))
    except ConfigError as error:
        older = "if an older tree wrote it, make olddefconfig brings it up to date"
        advice = f"{path}: {lacking_members(path) or older}"
        raise ConfigError([*error.problems, advice]) from None


def lacking_members(path: Path) -> str:
    """What to do where a ``.config`` was written with members that are not here now."""
    found = _MEMBERS.search(strict.read_text(path))
    if found is None or Path(found[1]) == registry.outside():
        return ""
    return f"it was written with members from outside the tree; M={found[1]} brings them"


def read_defconfig(tree: Tree, name: str) -> list[Assignment]:
    """The assignments of a defconfig, or of several joined by ``+``; later ones win.

    A part with a ``/`` behind the first is a file elsewhere. In a merge a defconfig holds for the
    lines that it has; one that has none is refused.
    """
    merged: dict[str, Assignment] = {}
    known = defconfigs(tree.root)
    parts = name.split("+")
    for place, part in enumerate(parts):
        if part not in known and (place == 0 or "/" not in part):
            reason = _not_a_defconfig(part, known)
            raise ConfigError(f"no defconfig {part!r}{reason} (make list-defconfigs lists them)")
    for part in parts:
        path = tree.root / "defconfigs" / part if part in known else expanded(part)
        assignments = strict.read_config(path, tree)
        if not assignments and len(parts) > 1:
            raise ConfigError(
                f"defconfig {part} says what the tree's defaults say, and so adds nothing to "
                f'{name}; set what is meant, as in OPTIMIZER="sgd adam"'
            )
        duplicates = strict.set_twice(tree, assignments)
        if duplicates:
            raise ConfigError(duplicates)
        for each in assignments:
            merged[each.name] = each
        for each in assignments:
            _leave_other_members(tree, merged, each)
    return list(merged.values())


def _not_a_defconfig(part: str, known: list[str]) -> str:
    if not part:
        return ": a name is missing"
    parts = re.split("[, ]+", part)
    if len(parts) > 1 and set(parts) <= set(known):
        return (
            f"; CONFIG takes one, or {'+'.join(parts)}, which merges them; runs of several "
            "optimizers are a list, OPTIMIZER='adamw sgd'"
        )
    if "/" in part:
        return f"; KCONFIG_CONFIG={part} takes a file, and CONFIG=A+{part} merges it into A"
    return wording.nearest(part, known)


def _leave_other_members(tree: Tree, merged: dict[str, Assignment], each: Assignment) -> None:
    """A later fragment's member of a choice replaces an earlier fragment's."""
    family = tree.families.get(tree.family_of.get(each.name, ""))
    if family is None or not family.exclusive or each.text != "y":
        return
    for symbol in family.members.values():
        if symbol != each.name and merged.get(symbol, each).text == "y":
            merged.pop(symbol, None)


def defconfigs(root: Path = SOURCE_TREE) -> list[str]:
    """The names of all defconfigs, sorted: the files whose name begins with no dot."""
    folder = root / "defconfigs"
    with refusing(f"cannot read {folder}"):
        found = sorted(path for path in folder.iterdir() if not path.is_dir())
    return [path.name for path in found if not path.name.startswith(".")]


def title(root: Path, name: str) -> str:
    """The first comment line of a defconfig; of one that cannot be read, why."""
    try:
        first = strict.read_text(root / "defconfigs" / name).split("\n", 1)[0]
    except UserError as error:
        return f"({error})"
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def check_names(tree: Tree, settings: Mapping[str, str]) -> None:
    """Refuse names that are neither options nor families nor reserved."""
    known = [*tree.setting_names, *RESERVED]
    problems = [
        f"make {name}={settings[name]}: no such variable{_meant(tree, name, known)}"
        for name in settings
        if name not in known
        # A symbol of its own (OPTIMIZER_SGD=y, CELL_LR=1) is judged where it is applied.
        and name not in tree.symbols
    ]
    if problems:
        raise ConfigError(problems)


def _meant(tree: Tree, name: str, known: list[str]) -> str:
    """What was meant by an unknown name, which may be written as in a ``.config``."""
    plain = name.removeprefix("CONFIG_")
    return wording.nearest(plain, [plain] if plain in tree.symbols else known)


def write(tree: Tree, path: Path) -> bool:
    """Write the full configuration, all at once; an earlier one becomes ``.config.old``.

    Returns whether anything changed.
    """
    text = full_text(tree)
    with refusing(f"cannot write {path}"):
        target = _target(path)
        if path.exists():
            before = path.read_bytes()
            if before == text.encode():
                return False
            # Copied, not renamed: there is a .config at every moment.
            write_bytes(path.with_name(path.name + ".old"), before)
        write_text(target, text)
    return True


def write_minimal(tree: Tree, path: Path) -> None:
    """Write what differs from the tree's defaults: the form of a file in ``defconfigs/``."""
    with refusing(f"cannot write {path}"):
        write_text(_target(path), tree.minimal_config())


def _target(path: Path) -> Path:
    """The file itself where ``path`` is a link, which stays; ``OSError`` for what is no file."""
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    if path.is_symlink() and (path == target or not target.parent.is_dir()):
        raise OSError(errno.ENOENT, f"is a link to {path.readlink()}, which is not there")
    return target


def full_text(tree: Tree) -> str:
    """What :func:`write` writes."""
    members = f"# Members from outside the tree: M={tree.outside}\n" if tree.outside else ""
    return f"# Written by make; see make menuconfig.\n{members}{tree.config()}"


def repeat_command(tree: Tree, minimal: str) -> str:
    """The command that repeats a run, from its minimal configuration; ``train.py`` is in the tree.

    :func:`placed` adds where it ran.
    """
    if tree.root == registry.PACKAGE:
        return _installed_command(tree, minimal)
    words: list[str] = []
    for each in _of_the_run(tree, minimal):
        family = tree.families.get(tree.family_of.get(each.name, ""))
        if family is None:
            words += _option_words(tree, each)
        elif each.text == "y":
            # A cell has one member a family; naming it switches the others off.
            words += [flag(family.name), family.member_of(each.name)]
    members = [f"M={tree.outside}"] if tree.outside else []
    return shlex.join(["python", "train.py", *members, *words])


def _installed_command(tree: Tree, minimal: str) -> str:
    words = [f"CONFIG={DEFAULTS}", *([f"M={tree.outside}"] if tree.outside else [])]
    for each in _of_the_run(tree, minimal):
        family = tree.families.get(tree.family_of.get(each.name, ""))
        if family is None:
            words.append(f"{each.name}={each.text}")
        elif each.text == "y":
            words.append(f"{family.name}={family.member_of(each.name)}")
    return shlex.join(["adamwprune", "train", *words])


def _of_the_run(tree: Tree, minimal: str) -> list[Assignment]:
    """What says which run it is, and not where or how it was trained: :func:`placed` says that."""
    every = strict.parse_config(minimal, "minimal configuration", tree)
    names = ((each, tree.family_of.get(each.name, each.name)) for each in every)
    return [each for each, name in names if not tree.is_operational(name)]


def placed(command: str, device: str, threads: int) -> str:
    """The command that repeats a run on the same kind of device by as many threads."""
    kind = device.partition(":")[0]
    if command.startswith("adamwprune "):
        return f"{command} DEVICE={kind} THREADS={threads}"
    return f"{command} --device {kind} --threads {threads}"


def _option_words(tree: Tree, each: Assignment) -> list[str]:
    if tree.options[each.name].type.kind != "bool":
        return [flag(each.name), each.text]
    return [flag(each.name) if each.text == "y" else flag("NO_" + each.name)]


def flag(name: str) -> str:
    """``TARGET_SPARSITY`` -> ``--target-sparsity``."""
    return "--" + name.lower().replace("_", "-")
