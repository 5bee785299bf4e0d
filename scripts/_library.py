"""Makes the package importable in a script that runs without an installation."""

import sys
from pathlib import Path

try:
    import adamwprune  # noqa: F401
except ImportError:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lib"))
