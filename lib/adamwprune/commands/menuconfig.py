"""make menuconfig: configure in a terminal."""

import argparse

from adamwprune.config import menu
from adamwprune.config.sources import Workspace


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    """Show the menu; .config is written where the user saves."""
    menu.menuconfig(workspace)
    return 0
