"""Trees and workspaces, as the tests of the configuration have them."""

from tests.config.conftest import make, tiny, tree, workspace

__all__ = ["make", "tiny", "tree", "workspace"]
