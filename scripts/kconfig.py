"""make defconfig-NAME, olddefconfig, randconfig and the like: kconfig.py TARGET."""

import sys

import _packages  # noqa: F401
from adamwprune import matrix
from adamwprune.command import run_command
from adamwprune.config import commands
from adamwprune.config.sources import Workspace
from adamwprune.errors import UserError


def main() -> int:
    """Run the target on the command line; make's variables are in the environment."""
    if len(sys.argv) != 2:
        raise UserError("usage: kconfig.py TARGET; make help lists the targets")
    commands.run(sys.argv[1], Workspace.from_environment(), matrix.expand)
    return 0


if __name__ == "__main__":
    run_command(main)
