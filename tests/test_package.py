"""The package installed by itself: it plans and trains in any directory, without its tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

pytest.importorskip("setuptools", minversion="77")
LANGUAGE = REPOSITORY / "tests" / "members" / "language"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A directory of packages with the wheel of this tree in it; some seconds."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(
        REPOSITORY,
        folder / "tree",
        symlinks=True,
        ignore=lambda path, names: [
            name
            for name in names
            if name in ("build", "tests", "results", "images", "data", "__pycache__")
            or name.startswith(".")
            or name.endswith(".egg-info")
        ],
    )
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    for words in (
        ["wheel", "--no-build-isolation", "--no-deps", "-w", folder, folder / "tree"],
        ["install", "--no-deps", "--no-compile", "--target", folder / "site", "WHEEL"],
    ):
        (wheel,) = folder.glob("*.whl") if "WHEEL" in words else ("",)
        command = [*pip, *(wheel if word == "WHEEL" else word for word in words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    shutil.rmtree(folder / "tree")
    return folder / "site"


def run(installed: Path, folder: Path, *words: str) -> str:
    """The output of ``adamwprune`` as it is installed, started in ``folder``."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "adamwprune", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_embedded_data_have_their_licences_beside_them(installed) -> None:
    data = installed / "adamwprune" / "datasets"
    for name in ("mnist5k.npz", "shakespeare.txt.xz"):
        assert (data / name).is_file()
        assert (data / f"{name.split('.')[0]}.LICENSE").is_file()


def test_a_directory_without_a_tree_configures_plans_and_trains(installed, tmp_path) -> None:
    assert "10 runs: 10 missing" in run(installed, tmp_path, "plan", "PUBLISHED=1")
    shown = run(installed, tmp_path, "defconfig-adamwprune-70", "EPOCHS=3")
    assert ".config: written (defconfig adamwprune-70" in shown
    members = (f"M={LANGUAGE}", "CONFIG=sgd", "MODEL=tiny", "DATASET=rhyme", "TASK=next-byte")
    shown = run(installed, tmp_path, "matrix", *members, "OPTIMIZER=lion", "STEPS=3")
    assert "[1/1] done    tiny-rhyme-lion-none-s0" in shown
    (path,) = (tmp_path / "results").glob("tiny-rhyme-lion-none-s0-*/result.json")
    assert {each.name for each in tmp_path.iterdir()} == {".config", ".config.old", "results"}
    repeat = "adamwprune train CONFIG=sgd M="
    assert repeat in path.read_text()
    assert "1 run: 1 done" in run(
        installed, tmp_path, "plan", *members, "OPTIMIZER=lion", "STEPS=3"
    )
