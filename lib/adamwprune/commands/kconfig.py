"""Write .config without a menu, or tell about it: defconfig-NAME, olddefconfig, randconfig, …"""

import argparse

from adamwprune.config import commands
from adamwprune.config.sources import Workspace
from adamwprune.plan import matrix

VARIABLES = ("KCONFIG_SEED",)


def flags(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    known = ", ".join([*commands.COMMANDS, "randconfig", "defconfig-NAME"])
    parser.add_argument("target", metavar="TARGET", help=f"one of {known}; each is a command too")


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    """Run the target on the command line."""
    commands.run(given.target, workspace, matrix.expand)
    return 0
