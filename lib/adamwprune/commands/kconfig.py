"""make defconfig-NAME, olddefconfig, randconfig and the like: kconfig.py TARGET."""

import argparse

from adamwprune.config import commands
from adamwprune.config.sources import Workspace
from adamwprune.plan import matrix


def flags(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("target", metavar="TARGET", help="make help lists the targets")


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    """Run the target on the command line; make's variables are in the environment."""
    commands.run(given.target, workspace, matrix.expand)
    return 0
