"""Trees and workspaces for the tests of the configuration layer; nothing is written elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from adamwprune.config.sources import Workspace
from adamwprune.config.tree import SOURCE_TREE, Tree


@pytest.fixture
def tree() -> Tree:
    """The project's tree at its defaults."""
    return Tree()


@pytest.fixture
def workspace(tmp_path: Path) -> Callable[..., Workspace]:
    """``workspace(EPOCHS="3")``: make's variables, with tmp_path as the output directory."""
    return lambda **variables: Workspace({"O": str(tmp_path), **variables})


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[[str], Tree]:
    """``tiny(text)``: the tree that a Kconfig file of this text declares."""

    def parse(text: str) -> Tree:
        root = tmp_path / "tiny"
        root.mkdir(exist_ok=True)
        (root / "Kconfig").write_text(text)
        return Tree(root)

    return parse


@pytest.fixture(scope="session")
def copied_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of all Kconfig files and defconfigs, to which a test may add a defconfig."""
    root = tmp_path_factory.mktemp("copy")
    for path in [SOURCE_TREE / "Kconfig", *SOURCE_TREE.glob("lib/**/Kconfig*")]:
        target = root / path.relative_to(SOURCE_TREE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    shutil.copytree(SOURCE_TREE / "defconfigs", root / "defconfigs")
    return root


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``make("defconfig-adamw", "EPOCHS=3")``: real make, with tmp_path as the output directory."""

    def run(*words: str, text: str = "") -> subprocess.CompletedProcess[str]:
        command = ["make", "-C", str(SOURCE_TREE), "VENV=", f"PYTHON={sys.executable}"]
        return subprocess.run(
            [*command, f"O={tmp_path}", *words],
            input=text,
            capture_output=True,
            text=True,
            env={**os.environ, "COLUMNS": "100"},
            timeout=120,
            check=False,
        )

    return run
