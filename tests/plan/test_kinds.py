"""A model, a task and a dataset that do not go together: dropped by the plan, with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adamwprune.base import registry
from adamwprune.base.errors import ConfigError
from adamwprune.config import strict
from adamwprune.config.tree import Tree
from adamwprune.plan.matrix import Matrix, expand

KCONFIG = """
config MODEL_SPELLER
	bool "speller"

config CELL_MODEL
	default "speller" if MODEL_SPELLER

config MODEL_TAKES
	default "tokens" if MODEL_SPELLER

config DATASET_LETTERS
	bool "letters"

config CELL_DATASET
	default "letters" if DATASET_LETTERS

config DATASET_GIVES
	default "tokens" if DATASET_LETTERS

config CELL_TRAIN_EXAMPLES
	default 1000 if DATASET_LETTERS

config DATASET_SILENT
	bool "silent: does not say what it gives"

config CELL_DATASET
	default "silent" if DATASET_SILENT

config TASK_NEXT
	bool "next"
	default y

config CELL_TASK
	default "next" if TASK_NEXT

config TASK_TAKES
	default "tokens" if TASK_NEXT
"""


@pytest.fixture(autouse=True)
def _members(tmp_path: Path) -> Iterator[None]:
    (tmp_path / "Kconfig").write_text(KCONFIG)
    for path in ("models/speller", "datasets/letters", "datasets/silent", "tasks/next"):
        module = tmp_path / f"{path}.py"
        module.parent.mkdir(exist_ok=True)
        module.touch()
    with registry.using(tmp_path):
        yield


def planned(**settings: str) -> Matrix:
    tree = Tree()
    words = {"TASK": "classification next", **settings}
    strict.apply(tree, strict.command_line(tree, words, "test"))
    return expand(tree)


def test_each_model_is_trained_on_the_data_that_it_takes_and_the_task_follows() -> None:
    matrix = planned(MODEL="lenet5 speller", DATASET="mnist letters")
    assert [(s["MODEL"], s["DATASET"], s["TASK"]) for s in matrix.specs] == [
        ("lenet5", "mnist", "classification"),
        ("speller", "letters", "next"),
    ]
    assert [(each.label, each.reason) for each in matrix.dropped] == [
        ("lenet5 letters sgd none", "lenet5 takes images, letters gives tokens"),
        ("speller mnist sgd none", "speller takes tokens, mnist gives images"),
    ]


def test_the_classification_of_images_is_the_run_that_it_was() -> None:
    (spec,) = planned(DATASET="mnist").specs
    assert spec["TASK"] == "classification"
    assert "TASK" not in spec.identity
    (other,) = planned(MODEL="speller", DATASET="letters").specs
    assert other.identity["TASK"] == "next"
    assert other["BATCH_SIZE"] == 512, "which holds where the dataset asks for none"


def test_a_task_that_was_chosen_must_take_the_data() -> None:
    with pytest.raises(ConfigError, match="classification takes images, letters gives tokens"):
        planned(MODEL="speller", DATASET="letters", TASK="classification")


def test_a_dataset_that_declares_no_kind_is_not_guessed_at() -> None:
    with pytest.raises(ConfigError, match="takes images, silent gives nothing that it declares"):
        planned(DATASET="silent")
