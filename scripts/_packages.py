"""Makes the package importable, and says what is missing of the packages that it needs."""

import _library  # noqa: F401
from adamwprune.base.console import require

require("kconfiglib", "yaml", "rich")
