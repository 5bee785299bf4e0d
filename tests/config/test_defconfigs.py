"""Each checked-in defconfig means what it says, says nothing else, and is at least one run."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from adamwprune.base.errors import UserError
from adamwprune.config import sources
from adamwprune.config.sources import Workspace
from adamwprune.config.tree import SOURCE_TREE, Tree
from adamwprune.plan import matrix

NAMES = sorted(sources.defconfigs())
each_defconfig = pytest.mark.parametrize("name", NAMES)
_TITLE = re.compile(r"#(?! CONFIG_\w+ is not set$)")


def loaded(name: str) -> Tree:
    tree = Tree()
    sources.load(Workspace({"CONFIG": name}), tree)
    return tree


@each_defconfig
def test_is_its_own_minimal_form(name: str) -> None:
    lines = (SOURCE_TREE / "defconfigs" / name).read_text().splitlines()
    assert _TITLE.match(lines[0]), "the first line says what it is"
    assert [line for line in lines if not _TITLE.match(line)] == (
        loaded(name).minimal_config().splitlines()
    )


@each_defconfig
def test_expands_without_a_dropped_cell(name: str) -> None:
    tree = loaded(name)
    if tree.is_on("DATASET_TEXT_FILE"):
        with pytest.raises(UserError, match=r"there is no such file or directory \(TEXT_FILE\)"):
            matrix.expand(tree)  # which data it needs is said
        return
    expanded = matrix.expand(tree)
    assert expanded.cells
    assert not expanded.dropped


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in NAMES
        if not name.startswith(("memory-comparison", "quickstart", "gpt-nano", "study-", "track-"))
    ],
)
def test_a_named_run_is_one_run_of_that_name(name: str) -> None:
    (spec,) = matrix.expand(loaded(name)).specs
    optimizer, *rest = name.split("-")
    assert spec["OPTIMIZER"] == optimizer
    assert spec["DATASET"] == "mnist"
    if not rest:
        assert spec["PRUNING_METHOD"] == "none"
        assert "TARGET_SPARSITY" not in spec
        return
    assert spec["TARGET_SPARSITY"] == int(rest[-1]) / 100
    method = "state" if optimizer == "adamwprune" else rest[0]
    assert spec["PRUNING_METHOD"] == method


def test_memory_comparison_is_six_dense_and_thirty_six_pruned_runs() -> None:
    specs = matrix.expand(loaded("memory-comparison")).specs
    assert len(specs) == 42
    dense = [spec for spec in specs if spec["PRUNING_METHOD"] == "none"]
    assert len(dense) == 6
    assert {spec["OPTIMIZER"] for spec in dense} == {
        "sgd",
        "adam",
        "adamw",
        "adamwadv",
        "adamwspam",
        "adamwprune",
    }
    pruned = Counter(
        (spec["OPTIMIZER"], spec["PRUNING_METHOD"], spec["TARGET_SPARSITY"])
        for spec in specs
        if spec not in dense
    )
    assert len(pruned) == 36
    assert {sparsity for _, _, sparsity in pruned} == {0.5, 0.7, 0.9}
    assert {spec["EPOCHS"] for spec in specs} == {10}
    assert {spec["DATASET"] for spec in specs} == {"mnist"}


def test_quickstart_needs_no_download() -> None:
    specs = matrix.expand(loaded("quickstart")).specs
    assert {spec["DATASET"] for spec in specs} == {"mnist5k"}
    assert {spec["PRUNING_METHOD"] for spec in specs} == {"none", "magnitude", "movement", "state"}


def test_titles_are_the_first_lines() -> None:
    titles = {name: sources.title(sources.SOURCE_TREE, name) for name in sources.defconfigs()}
    assert titles["sgd"] == "LeNet-5 on MNIST, sgd, dense"
    assert all(titles.values())
    assert len(set(titles.values())) == len(titles)


SCORE = {"PRUNING_METHOD", "STATE_CRITERION", "MASK_STORAGE"}


def test_the_scores_of_the_study_share_one_recipe() -> None:
    """Chosen on a validation split and seeds of their own, told on the test set."""
    choosing = [spec for name in CHOOSING for spec in matrix.expand(loaded(name)).specs]
    telling = [spec for name in TELLING for spec in matrix.expand(loaded(name)).specs]
    assert {spec["VALIDATION_EXAMPLES"] for spec in choosing} == {5_000}
    assert {spec["VALIDATION_EXAMPLES"] for spec in telling} == {0}
    assert not {spec["SEED"] for spec in choosing} & {spec["SEED"] for spec in telling}
    free = SCORE | {"SEED", "TARGET_SPARSITY", "DATASET", "DATASET_DIGEST"}
    pruned = [spec for spec in telling if spec["PRUNING_METHOD"] != "none"]
    recipes = [{k: v for k, v in spec.values.items() if k not in free} for spec in pruned]
    assert all(recipe == recipes[0] for recipe in recipes)
    assert len({spec["STATE_CRITERION"] for spec in pruned if "STATE_CRITERION" in spec}) == 4


CHOOSING, TELLING = ["study-recipe", "study-criterion"], ["study-scores", "study-fashion"]
STUDY = [*CHOOSING, *TELLING, "study-adamwprune"]


def test_a_file_that_is_no_defconfig_disturbs_nobody_who_did_not_ask_for_it(tmp_path) -> None:
    folder = tmp_path / "defconfigs"
    folder.mkdir()
    (folder / "good").write_text('# A title\nCONFIG_EPOCHS="3"\n')
    (folder / "binary").write_bytes(b"\xff\x00")
    (folder / "below").mkdir()
    (folder / "nowhere").symlink_to("not-there")
    for name in (".swp", ".DS_Store", ".good.1.tmp"):
        (folder / name).write_bytes(b"\xff")
    assert sources.defconfigs(tmp_path) == ["binary", "good", "nowhere"]
    assert sources.title(tmp_path, "good") == "A title"
    assert "is not UTF-8 text" in sources.title(tmp_path, "binary")
    tree = Tree()
    tree.root = tmp_path
    assert [each.text for each in sources.read_defconfig(tree, "good")] == ["3"]
    with pytest.raises(UserError, match=r"binary: is not UTF-8 text$"):
        sources.read_defconfig(tree, "binary")
    with pytest.raises(UserError, match=r"nowhere: No such file"):
        sources.read_defconfig(tree, "nowhere")
    with pytest.raises(UserError, match=r"no defconfig '\.swp'"):
        sources.read_defconfig(tree, ".swp")
