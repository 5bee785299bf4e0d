"""What makes a record stale: code that its run uses, and nothing else."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from adamwprune.base.errors import UserError
from adamwprune.plan.spec import RunSpec
from adamwprune.records import staleness
from adamwprune.records.code import LIBRARY, NAMING, Code, Sources, stamps
from adamwprune.records.record import RunResult

RUNS = {
    f"{optimizer} {method}": RunSpec(
        {
            "MODEL": "lenet5",
            "DATASET": "fashion-mnist",
            "OPTIMIZER": optimizer,
            "PRUNING_METHOD": method,
        }
    )
    for optimizer, method in (
        ("sgd", "none"),
        ("sgd", "movement"),
        ("adamw", "magnitude"),
        ("adamwprune", "state"),
    )
}


@pytest.fixture
def library(tmp_path) -> Path:
    """A copy of the package that can be changed."""
    shutil.copytree(
        LIBRARY / "adamwprune",
        tmp_path / "adamwprune",
        ignore=shutil.ignore_patterns("__pycache__", "*.npz"),
    )
    return tmp_path


def changed_by(library: Path, module: str, old: str, new: str) -> list[str]:
    """The runs of RUNS whose digest is another once ``old`` is ``new`` in a module."""
    before = {name: Sources(library).of(spec).digest for name, spec in RUNS.items()}
    path = library / "adamwprune" / module
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    after = {name: Sources(library).of(spec).digest for name, spec in RUNS.items()}
    return [name for name in RUNS if before[name] != after[name]]


@pytest.mark.parametrize(
    ("module", "old", "new", "runs"),
    [
        ("optimizers/sgd.py", "dampening=0,", "dampening=0.1,", ["sgd none", "sgd movement"]),
        ("optimizers/_adam.py", "maximize=False", "maximize=True",
         ["adamw magnitude", "adamwprune state"]),
        ("optimizers/adamwadv.py", "amsgrad=True", "amsgrad=False", ["adamwprune state"]),
        ("pruning/movement.py", "value=-1", "value=1", ["sgd movement"]),
        ("pruning/state.py", "EPS = 1e-8", "EPS = 1e-7", ["adamwprune state"]),
        ("pruning/_pruner.py", "forced = ", "forced = True or ", list(RUNS)),
        ("models/lenet5.py", "nn.Conv2d(1, 6", "nn.Conv2d(1, 7", list(RUNS)),
        ("datasets/_idx.py", "import zlib", "import zlib\nimport this", list(RUNS)),
        ("training.py", "TIMELINE_INTERVAL = 10", "TIMELINE_INTERVAL = 11", list(RUNS)),
        ("memory.py", "total = 0", "total = 1", list(RUNS)),
        # Of no run here: another data set; and what only writes, draws, plans or schedules.
        ("datasets/mnist5k.py", "import io", "import io\nimport this", []),
        ("runner.py", "FIRST_STEPS = 3", "FIRST_STEPS = 4", []),
        ("checkpoint.py", "1 ", "2 ", []),
        ("store.py", "LOG_TAIL = 30", "LOG_TAIL = 31", []),
        ("environment.py", "import os", "import os\nimport this", []),
        ("report/tables.py", "PLAIN_WIDTH = 100", "PLAIN_WIDTH = 101", []),
        ("scheduler/local.py", "GRACE = 5.0", "GRACE = 6.0", []),
        ("matrix.py", "import itertools", "import itertools\nimport this", []),
        ("config/tree.py", "import os", "import os\nimport this", []),
        ("command.py", "130", "131", []),
    ],
)  # fmt: skip
def test_a_change_makes_exactly_the_runs_stale_that_use_it(module, old, new, runs, library):
    assert changed_by(library, module, old, new) == runs


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""SGD with momentum', '"""Another text: SGD with momentum'),
        ("        # The functional form", "        # In other words: the functional form"),
        ("    def __init__(\n        self,", "    def __init__(  # why\n\n        self,"),
        ("dampening=0,", "dampening=(0),"),
        ("from typing import Any", "from typing import Any\n\n'a text that stands for nothing'"),
    ],
)
def test_comments_docstrings_and_layout_change_nothing(old, new, library):
    assert changed_by(library, "optimizers/sgd.py", old, new) == []


def test_what_is_imported_only_for_types_is_no_part(library):
    path = library / "adamwprune" / "pruning" / "__init__.py"
    assert "if TYPE_CHECKING:\n    from adamwprune.pruning.methods.magnitude" in path.read_text()
    modules = Sources(library).of(RUNS["sgd movement"]).modules
    assert "adamwprune.pruning.methods.movement" in modules
    assert "adamwprune.pruning.methods.magnitude" not in modules


def test_a_module_that_a_component_imports_within_a_function_counts(library):
    (library / "adamwprune" / "helper.py").write_text("FACTOR = 1\n")
    path = library / "adamwprune" / "optimizers" / "sgd.py"
    path.write_text(path.read_text() + "\n\ndef late():\n    from adamwprune import helper\n")
    assert changed_by(library, "helper.py", "FACTOR = 1", "FACTOR = 2") == [
        "sgd none",
        "sgd movement",
    ]


def test_the_closure_holds_every_module_that_a_run_really_imports(tmp_path):
    """A real process imports the training and the run's members; what it loads is all there."""
    spec = RUNS["adamwprune state"]
    script = (
        "import sys\n"
        "import adamwprune.train.loop, adamwprune.models.lenet5\n"
        "import adamwprune.datasets.fashion_mnist\n"
        "import adamwprune.optimizers.adamwprune, adamwprune.pruning.methods.state\n"
        "print(*sorted(name for name in sys.modules if name.split('.')[0] == 'adamwprune'))\n"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(Sources().of(spec).modules) == set(loaded) - set(NAMING)


def test_another_python_s_additions_to_the_syntax_tree_change_nothing(library, monkeypatch):
    before = Sources(library).of(RUNS["sgd none"]).digest
    whole = ast.iter_fields

    def with_more(node):
        yield from whole(node)
        if isinstance(node, ast.FunctionDef):
            yield "fields_of_the_future", []

    monkeypatch.setattr(ast, "iter_fields", with_more)
    assert Sources(library).of(RUNS["sgd none"]).digest == before


@pytest.mark.parametrize(
    "line",
    ["from . import _helper", "from ._helper import FACTOR", "from ..optimizers import _helper"],
)
def test_relative_imports_count_too(line, library):
    (library / "adamwprune" / "optimizers" / "_helper.py").write_text("FACTOR = 1\n")
    path = library / "adamwprune" / "optimizers" / "sgd.py"
    path.write_text(f"{path.read_text()}\n{line}\n")
    changed = changed_by(library, "optimizers/_helper.py", "FACTOR = 1", "FACTOR = 2")
    assert changed == ["sgd none", "sgd movement"]


def test_an_entry_for_old_records_changes_no_digest(library):
    assert changed_by(library, "lineage.py", '"VALIDATION_EXAMPLES": 0', '"X": 1') == []


def test_broken_or_missing_code_is_one_message(library):
    (library / "adamwprune" / "optimizers" / "sgd.py").write_text("def (")
    with pytest.raises(UserError, match=r"sgd\.py: invalid syntax"):
        Sources(library).of(RUNS["sgd none"])
    with pytest.raises(UserError, match=r"there is no module adamwprune\.optimizers\.lion"):
        Sources(library).of(RunSpec({**RUNS["sgd none"].values, "OPTIMIZER": "lion"}))


def test_an_editor_s_own_files_are_no_code(library):
    """Emacs locks a file with a link that leads nowhere; and a file may go while they are read."""
    before = stamps(library)
    (library / "adamwprune" / "optimizers" / ".#sgd.py").symlink_to("me@host.1:1")
    (library / "adamwprune" / "optimizers" / "gone.py").symlink_to("nowhere")
    assert stamps(library) == before


def test_stamps_see_every_file_that_is_written(library):
    before = stamps(library)
    path = library / "adamwprune" / "optimizers" / "sgd.py"
    path.write_text(path.read_text() + "\n")
    assert {name for name in before if before[name] != stamps(library)[name]} == {str(path)}


# -- what a record is worth -----------------------------------------------------------

CODE = Code({"adamwprune.train.loop": "a", "adamwprune.optimizers.sgd": "b"})
RECORD = RunResult("x", "done", RUNS["sgd none"], code=CODE.to_json())


def test_a_record_of_the_same_code_is_fresh():
    assert staleness.judge(RECORD, CODE).name == "done"
    assert staleness.judge(None, CODE).name == "missing"
    failed = replace(RECORD, status="failed", error="Traceback\nValueError: no\n")
    assert staleness.judge(failed, CODE) == staleness.State("failed", "ValueError: no", failed)


def test_a_stale_record_says_what_changed():
    now = Code({"adamwprune.train.loop": "A", "adamwprune.optimizers._base": "c"})
    state = staleness.judge(RECORD, now)
    assert state.name == "stale"
    assert state.why == "changed since: optimizers._base, optimizers.sgd, training"
    failed = replace(RECORD, status="failed", error="ValueError: no")
    assert staleness.judge(failed, now).why == f"ValueError: no ({state.why})"
    unknown = staleness.judge(replace(RECORD, code={}), CODE)
    assert (unknown.name, unknown.why) == ("stale", "its record does not say what code made it")


def test_a_published_record_is_marked_frozen_where_the_code_is_another():
    assert staleness.frozen(RECORD, CODE).marks == frozenset()
    assert staleness.frozen(RECORD, Code({})).marks == {"frozen"}
    assert staleness.frozen(replace(RECORD, code={}), CODE).marks == {"frozen"}


def test_the_nearest_run_differs_in_the_fewest_values():
    one = RunSpec({"LR": 0.1, "SEED": 0, "EPOCHS": 3})
    near, far = RunSpec({**one.values, "LR": 0.2}), RunSpec({"LR": 0.2, "SEED": 1})
    assert staleness.nearest(one, [far, one, near]) == near
    assert staleness.nearest(one, [one]) is None
    assert staleness.differences(one, far) == [
        "EPOCHS 3 → (none)",
        "LR 0.1 → 0.2",
        "SEED 0 → 1",
    ]
