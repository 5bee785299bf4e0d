"""make menuconfig: configure in a terminal."""

import _packages  # noqa: F401
from adamwprune.config import menu
from adamwprune.config.sources import Workspace
from adamwprune.errors import run_command


def main() -> int:
    """Show the menu; .config is written where the user saves."""
    menu.menuconfig(Workspace.from_environment())
    return 0


if __name__ == "__main__":
    run_command(main)
