"""make guiconfig: configure in a window."""

import _packages  # noqa: F401
from adamwprune.command import run_command
from adamwprune.config import menu
from adamwprune.config.sources import Workspace


def main() -> int:
    """Show the window; .config is written where the user saves."""
    menu.guiconfig(Workspace.from_environment())
    return 0


if __name__ == "__main__":
    run_command(main)
