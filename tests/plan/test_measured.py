"""Data of a user's own: what their files say is part of a run's identity."""

from __future__ import annotations

from pathlib import Path

import pytest

from adamwprune.base import registry
from adamwprune.base.errors import UserError
from adamwprune.config import strict
from adamwprune.config.tree import Tree
from adamwprune.plan import measured
from adamwprune.plan.matrix import Matrix, expand
from adamwprune.plan.spec import RunSpec

KCONFIG = """
config DATASET_LINES
	bool "lines of a file"

config CELL_DATASET
	default "lines" if DATASET_LINES

config DATASET_GIVES
	default "images" if DATASET_LINES

config DATASET_MEASURED
	default y if DATASET_LINES

config LINES_FILE
	string "lines: the file"
	default "lines.txt"
	depends on DATASET_LINES
	help
		@list word lines.txt others.txt

config LINES_AT
	string "lines: what @ means"
	default "0.5"
	depends on DATASET_LINES
	help
		@list float (0, 1)
"""
MODULE = """
import hashlib
from adamwprune.base.errors import UserError
from adamwprune.datasets import Measured

def measure(values, data_dir):
    path = data_dir / values["LINES_FILE"]
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:16]
    count = len(content.splitlines())
    unused = ["LINES_AT"] if b"@" not in content else []
    values = {"TRAIN_EXAMPLES": count, "DATASET_DIGEST": digest, "LINES_LONGEST": 7}
    return Measured(values, [path], unused)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(measured._MEASURED, "_entries", [])
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "lines.py").write_text(MODULE)
    (tmp_path / "Kconfig").write_text(KCONFIG)
    (tmp_path / "lines.txt").write_text("one\n" * 640)
    with registry.using(tmp_path):
        yield tmp_path


def spec_of(folder: Path) -> RunSpec:
    return matrix_of(folder).specs[0]


def matrix_of(folder: Path, **settings: str) -> Matrix:
    tree = Tree()
    words = {"DATASET": "lines", "DATA_DIR": str(folder), "EPOCHS": "1", "BATCH_SIZE": "64"}
    strict.apply(tree, strict.command_line(tree, {**words, **settings}, "test"))
    return expand(tree)


def test_a_run_is_known_by_what_its_files_say(folder: Path, monkeypatch):
    spec = spec_of(folder)
    assert (spec["TRAIN_EXAMPLES"], spec["LINES_LONGEST"], spec.total_steps) == (640, 7, 10)
    with monkeypatch.context() as patch:
        patch.setattr(measured._MEASURED, "_asked", lambda values: pytest.fail("it was kept"))
        assert spec_of(folder) == spec
    (folder / "lines.txt").write_text("two\n" * 64)
    changed = spec_of(folder)
    assert changed.total_steps == 1
    assert changed.run_id != spec.run_id


def test_a_file_that_is_missing_is_named_when_planned(folder: Path):
    (folder / "lines.txt").unlink()
    with pytest.raises(UserError, match=r"lines.txt: there is no such file$"):
        spec_of(folder)


def test_an_option_that_means_nothing_for_the_files_makes_no_other_run(folder: Path):
    plain = spec_of(folder)

    def idle(number: float) -> str:
        return f"LINES_AT={number} means nothing for the files of lines"

    for text, told in {
        "0.25": [idle(0.25)],
        "0.25 0.5": [idle(0.25)],
        "0.5 0.25 0.75": [idle(0.25), idle(0.75)],
    }.items():
        found = matrix_of(folder, LINES_AT=text)
        assert found.specs == [plain]
        assert found.notes == told
    assert matrix_of(folder).notes == []
    (folder / "lines.txt").write_text("@\n" * 640)
    found = matrix_of(folder, LINES_AT="0.25 0.5").specs
    assert [spec["LINES_AT"] for spec in found] == [0.25, 0.5]


@pytest.mark.parametrize("name", ["LINES_FOO", "LINES_LONGEST", "LR"])
def test_what_cannot_be_left_unused_is_named(folder: Path, name: str):
    module = folder / "datasets" / "lines.py"
    module.write_text(MODULE.replace('["LINES_AT"]', f'["{name}"]'))
    with pytest.raises(UserError, match=f"dataset lines: {name} is no option that its files can"):
        spec_of(folder)


def test_an_unused_option_of_another_dataset_is_none(folder: Path):
    plain = spec_of(folder)
    module = folder / "datasets" / "lines.py"
    module.write_text(MODULE.replace('["LINES_AT"]', '["TEXT_HELD_OUT"]'))
    assert spec_of(folder) == plain


def test_of_several_files_one_that_is_missing_costs_its_runs_alone(folder: Path):
    """As any value that contradicts others: a text is shorter than one of several blocks."""
    found = matrix_of(folder, LINES_FILE="lines.txt others.txt")
    assert [spec["LINES_FILE"] for spec in found.specs] == ["lines.txt"]
    (dropped,) = found.dropped
    assert dropped.reason.endswith("others.txt: there is no such file")
