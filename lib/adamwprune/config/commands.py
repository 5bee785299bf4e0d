"""The make targets that write ``.config`` or tell about it without a menu.

Each takes the workspace and an empty tree. ``expand`` stands for
:func:`adamwprune.plan.matrix.expand`, which lies above this package.
"""

from __future__ import annotations

import os
import random
import sys
import textwrap
from collections.abc import Callable

from adamwprune.base.errors import ConfigError, UserError
from adamwprune.base.wording import wrapped
from adamwprune.config import sources, strict
from adamwprune.config.ask import ask_about
from adamwprune.config.draw import draw
from adamwprune.config.sources import Workspace
from adamwprune.config.tree import Tree, help_of

Expand = Callable[[Tree], object]
_DRAWS = 1000  # of randconfig, before it gives up


def run(target: str, workspace: Workspace, expand: Expand) -> None:
    """Run the command that a make target names."""
    tree = Tree()
    sources.check_names(tree, workspace.settings)
    if target not in ("savedefconfig", "list-defconfigs"):
        sources.refuse_config_variable(workspace)
    if target.startswith("defconfig-"):
        defconfig(workspace, tree, target.removeprefix("defconfig-"))
    elif target == "randconfig":
        randconfig(workspace, tree, expand)
    elif target in COMMANDS:
        COMMANDS[target](workspace, tree)
    else:
        known = [*COMMANDS, "randconfig", "defconfig-NAME"]
        raise UserError(f"no command {target!r}; there are: {', '.join(known)}")


def is_target(word: str) -> bool:
    """Whether :func:`run` knows a command by this name."""
    return word in COMMANDS or word == "randconfig" or word.startswith("defconfig-")


def defconfig(workspace: Workspace, tree: Tree, name: str = sources.DEFAULT) -> None:
    """Write ``.config`` from a defconfig, or from several joined by ``+``."""
    strict.apply(tree, sources.read_defconfig(tree, name))
    _finish(workspace, tree, f"defconfig {name}")


def alldefconfig(workspace: Workspace, tree: Tree) -> None:
    """Write ``.config`` with every symbol at its default."""
    _finish(workspace, tree, "the tree's defaults")


def allyesconfig(workspace: Workspace, tree: Tree) -> None:
    """Write ``.config`` with every member of every family on that can be."""
    before: list[str] | None = None
    reachable: list[str] = []
    while before != reachable:  # a member may make another one visible
        before = reachable
        reachable = [
            name
            for family in tree.families.values()
            if not family.exclusive
            for name in family.members.values()
            if tree.is_visible(name)
        ]
        for name in reachable:
            tree.set(name, "y")
    _finish(workspace, tree, "every member of every family")


def allnoconfig(workspace: Workspace, tree: Tree) -> None:
    """Write ``.config`` with as few members on as make one run: the first of each family."""
    for family in tree.families.values():
        if not family.exclusive:
            on = [name for name in family.members.values() if tree.is_on(name)]
            for name in on[1:]:
                tree.set(name, "n")
    for name, option in tree.options.items():
        if option.type.kind == "bool" and tree.is_visible(name):
            tree.set(name, "n")
    _finish(workspace, tree, "all that can be off is")


def randconfig(workspace: Workspace, tree: Tree, expand: Expand) -> None:
    """Write a random ``.config`` that expands to at least one run; its seed is printed."""
    seed = _seed(workspace)
    print(f"KCONFIG_SEED={seed}")
    rng = random.Random(seed)
    for _ in range(_DRAWS):
        tree.reset()
        draw(tree, rng, workspace.settings)
        try:
            sources.override(tree, workspace.settings)
            expand(tree)
        except ConfigError as error:
            reason = error
            continue
        return _write(workspace, tree, f"random, KCONFIG_SEED={seed}")
    raise UserError(f"none of {_DRAWS} random configurations is legal; of the last one:\n{reason}")


def olddefconfig(workspace: Workspace, tree: Tree) -> None:
    """Bring ``.config`` up to date with defaults, and list what was dropped and why."""
    if not workspace.config.exists():
        print(f"{workspace.config} does not exist; starting from defconfig-{sources.DEFAULT}")
        return defconfig(workspace, tree)
    _migrate(workspace, tree)
    return _finish(workspace, tree, "brought up to date")


def oldconfig(workspace: Workspace, tree: Tree) -> None:
    """As :func:`olddefconfig`, and ask about the symbols that ``.config`` does not set."""
    known: set[str] = set()
    if workspace.config.exists():
        known = _migrate(workspace, tree)
    else:
        strict.apply(tree, sources.read_defconfig(tree, sources.DEFAULT))
    sources.override(tree, workspace.settings)
    given = (
        tree.families[name].members.values() for name in workspace.settings if name in tree.families
    )
    ask_about(tree, known | set(workspace.settings).union(*given))
    _finish(workspace, tree, "brought up to date")


def savedefconfig(workspace: Workspace, tree: Tree) -> None:
    """Write the minimal form of the configuration to the file ``defconfig``."""
    source = sources.load(workspace, tree)
    path = workspace.output / "defconfig"
    sources.write_minimal(tree, path)
    print(f"{path}: written, the minimal form of {source}")


def listnewconfig(workspace: Workspace, tree: Tree) -> None:
    """Print each symbol that can be set and that ``.config`` does not set, with its default."""
    for name in _new(workspace, tree):
        print(tree.config_line(name))


def helpnewconfig(workspace: Workspace, tree: Tree) -> None:
    """Print the help text of each symbol that :func:`listnewconfig` lists."""
    for name in _new(workspace, tree):
        help_text = help_of(tree.symbols[name]).rstrip() or "(no help)"
        print(f"{tree.config_line(name)}\n\n{textwrap.indent(help_text, '  ')}\n")


def _new(workspace: Workspace, tree: Tree) -> list[str]:
    """The symbols that can be set and that ``.config`` does not set."""
    if not workspace.config.exists():
        raise UserError(f"{workspace.config} does not exist; make defconfig writes one")
    known = _migrate(workspace, tree)
    return [name for name in tree.symbols if tree.is_visible(name) and name not in known]


def config(workspace: Workspace, tree: Tree) -> None:
    """Ask about every symbol that can be set, and write ``.config``."""
    sources.load_to_edit(workspace, tree)
    ask_about(tree, set(workspace.settings))
    _finish(workspace, tree, "as answered")


def list_defconfigs(_workspace: Workspace, tree: Tree) -> None:
    """Print the name and the first line of each defconfig."""
    known = sources.defconfigs(tree.root)
    width = max(map(len, known), default=0)
    for name in known:
        title = sources.title(tree.root, name)
        print("\n".join(wrapped(title, f"{name:{width}}  ", " " * (width + 2))).rstrip())


COMMANDS: dict[str, Callable[[Workspace, Tree], None]] = {
    "config": config,
    "oldconfig": oldconfig,
    "olddefconfig": olddefconfig,
    "defconfig": defconfig,
    "savedefconfig": savedefconfig,
    "listnewconfig": listnewconfig,
    "helpnewconfig": helpnewconfig,
    "list-defconfigs": list_defconfigs,
    "alldefconfig": alldefconfig,
    "allyesconfig": allyesconfig,
    "allnoconfig": allnoconfig,
}


def _finish(workspace: Workspace, tree: Tree, origin: str) -> None:
    """Apply the command line on top, write ``.config`` and say so."""
    sources.override(tree, workspace.settings)
    _write(workspace, tree, origin)


def _write(workspace: Workspace, tree: Tree, origin: str) -> None:
    settings = " ".join(f"{name}={text}" for name, text in workspace.settings.items())
    told = f"{origin}, with {settings}" if settings else origin
    if sources.write(tree, workspace.config):
        print(f"{workspace.config}: written ({told})")
    else:
        print(f"{workspace.config}: unchanged ({told})")


def _migrate(workspace: Workspace, tree: Tree) -> set[str]:
    """Load ``.config`` leniently, name what is dropped, and return what it does set."""
    known, dropped = strict.migrate(tree, workspace.config)
    for problem in dropped:
        print(f"dropped: {problem}", file=sys.stderr)
    if dropped and (advice := sources.lacking_members(workspace.config)):
        print(f"note: {workspace.config}: {advice}", file=sys.stderr)
    return known


def _seed(workspace: Workspace) -> int:
    text = workspace.variables.get("KCONFIG_SEED") or os.environ.get("KCONFIG_SEED")
    if not text:
        return random.SystemRandom().getrandbits(32)
    try:
        return int(text, 0)
    except ValueError:
        raise UserError(f"KCONFIG_SEED={text}: is not a whole number") from None
