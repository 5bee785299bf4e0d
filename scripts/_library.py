"""Makes the package importable in a script that runs without an installation."""

import sys
from pathlib import Path

try:
    from adamwprune.errors import require
except ImportError:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lib"))
    from adamwprune.errors import require

require("kconfiglib", "yaml", "rich")
