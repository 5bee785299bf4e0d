"""Trees and workspaces, as the tests of the configuration have them."""

from tests.config.conftest import tiny, tree, workspace

__all__ = ["tiny", "tree", "workspace"]
