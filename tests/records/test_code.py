"""What makes a record stale: code that its run uses, and nothing else."""

from __future__ import annotations

import ast
import functools
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from adamwprune.base.errors import UserError
from adamwprune.plan.spec import RunSpec
from adamwprune.records import code, staleness
from adamwprune.records.code import COUNTED, LIBRARY, Code, Sources, _unmatched, stamps
from adamwprune.records.parsed import Parsed
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
        ignore=shutil.ignore_patterns("__pycache__", "*.npz", "Kconfig*", "assets"),
    )
    return tmp_path


def changed_by(library: Path, module: str, old: str, new: str, prepared: bool = False) -> list[str]:
    """The runs of RUNS whose digest is another once ``old`` is ``new`` in a module."""

    def edit() -> None:
        path = library / "adamwprune" / module
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return changed_when(library, edit, prepared)


def changed_when(library: Path, edit: Callable[[], object], prepared: bool = False) -> list[str]:
    """The runs of RUNS whose digest is another after ``edit`` of the package as it is here, or of
    a ``prepared`` one."""
    before = digests(library) if prepared else here()
    edit()
    after = digests(library)
    return [name for name in after if before[name] != after[name]]


def digests(library: Path) -> dict[str, str]:
    sources = Sources(library)
    return {name: sources.of(spec).digest for name, spec in RUNS.items()}


@functools.cache
def here() -> dict[str, str]:
    """The digests of the package in its own place: they are those of its copies."""
    return digests(LIBRARY)


FUTURE = "from __future__ import annotations"
UNUSED = (FUTURE, f"{FUTURE}\n\nUNUSED = 1")  # a constant that nothing uses
ADAM = ["adamw magnitude", "adamwprune state"]


@pytest.mark.parametrize(
    ("module", "old", "new", "runs"),
    [
        ("optimizers/sgd.py", "lr=self", "lr=2 * self", ["sgd none", "sgd movement"]),
        ("optimizers/_adam.py", "maximize=group[", "maximize=not group[", ADAM),
        ("optimizers/adamwadv.py", "amsgrad=True", "amsgrad=False", ["adamwprune state"]),
        ("pruning/methods/movement.py", "value=-1", "value=1", ["sgd movement"]),
        ("pruning/methods/state.py", "EPS = 1e-8", "EPS = 1e-7", ["adamwprune state"]),
        ("pruning/scope.py", *UNUSED, list(RUNS)),
        ("models/lenet5.py", "nn.Linear(wide, narrow)", "nn.Linear(wide, 1)", list(RUNS)),
        ("datasets/_idx.py", *UNUSED, list(RUNS)),
        ("train/step_trace.py", *UNUSED, list(RUNS)),
        ("train/measure/ledger.py", *UNUSED, list(RUNS)),
        # Of no run here: another data set; and what only writes, draws, plans or schedules,
        # also where a module that counts imports it.
        ("datasets/mnist5k.py", *UNUSED, []),
        ("base/errors.py", *UNUSED, []),
        ("base/files.py", *UNUSED, []),
        ("plan/spec.py", *UNUSED, []),
        ("plan/lineage.py", '"VALIDATION_EXAMPLES": 0', '"X": 1', []),
        ("run/runner.py", *UNUSED, []),
        ("records/store.py", *UNUSED, []),
        ("report/tables.py", "PLAIN_WIDTH = 100", "PLAIN_WIDTH = 101", []),
        ("config/tree.py", *UNUSED, []),
        ("__init__.py", '"""', '"""Of ', []),
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
        ('maximize=group["maximize"],', 'maximize=(group["maximize"]),'),
        (
            "from typing import Any, ClassVar",
            "from typing import Any, ClassVar\n\n'a text that stands for nothing'",
        ),
        ("from typing import Any, ClassVar", "from typing import Any, ClassVar\nimport this"),
        (
            "from collections.abc import Mapping\nfrom typing import Any, ClassVar",
            "from typing import Any\nfrom collections.abc import Mapping\n"
            "from typing import ClassVar",
        ),
        ("from torch import Tensor", "from torch import Tensor as Tensor"),
    ],
)
def test_comments_docstrings_layout_and_import_lines_change_nothing(old, new, library):
    assert changed_by(library, "optimizers/sgd.py", old, new) == []


def rename(library: Path, old: str, new: str) -> None:
    """Move a module by its dotted name, and change every import line of it."""
    root = library / "adamwprune"
    target = root.joinpath(*new.split(".")).with_suffix(".py")
    target.parent.mkdir(exist_ok=True)
    root.joinpath(*old.split(".")).with_suffix(".py").rename(target)
    (package, _, name), (to, _, local) = old.rpartition("."), new.rpartition(".")
    for path in root.rglob("*.py"):
        text = path.read_text().replace(f"adamwprune.{old} import", f"adamwprune.{new} import")
        line = f"from adamwprune.{package} import {name}\n"
        if line in text:
            text = text.replace(line, f"from adamwprune.{to} import {local}\n")
            text = re.sub(rf"\b{name}\.", f"{local}.", text)
        path.write_text(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("train.graphs", "train.capture.recorder"),
        ("train.measure.ledger", "train.bytes"),
        ("optimizers._adam", "optimizers._family"),
        ("pruning.select.parts", "pruning.blocks"),
        ("models._pooled_conv_gpu", "models._cuda"),
    ],
)
@pytest.mark.slow
def test_a_moved_or_renamed_module_makes_nothing_stale(old, new, library):
    assert changed_when(library, lambda: rename(library, old, new)) == []
    assert f"adamwprune.{new}" in Sources(library).of(RUNS["adamwprune state"]).modules


def test_a_new_member_makes_nothing_stale(library):
    """Although its public name is a new line of the package, in three places."""

    def add() -> None:
        for folder, member, old in (
            ("optimizers", "Lion", '"Adam": "adam",'),
            ("pruning", "Wanda", '"Magnitude": "magnitude",'),
        ):
            place = "pruning/methods" if folder == "pruning" else folder
            path = library / "adamwprune" / place / f"{member.lower()}.py"
            path.write_text(f"class {member}:\n    pass\n")
            door = library / "adamwprune" / folder / "__init__.py"
            text = door.read_text()
            assert old in text
            text = text.replace(old, f'{old}\n    "{member}": "{member.lower()}",')
            text = text.replace("__all__ = [", f'__all__ = [\n    "{member}",')
            door.write_text(text)

    assert changed_when(library, add) == []


@pytest.fixture
def outside(tmp_path_factory, monkeypatch) -> Path:
    """A directory with an optimizer and a score of its own; both share a helper each."""
    folder = tmp_path_factory.mktemp("mine")
    texts = {
        "optimizers/lion.py": "from adamwprune.optimizers import _signs\nRATE = _signs.RATE\n",
        "optimizers/_signs.py": "RATE = 1\n",
        "optimizers/nadam.py": "from adamwprune.optimizers import AdamW\nX = AdamW\n",
        "pruning/wg.py": "from adamwprune.pruning import Score\nX = 1\n",
    }
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.setenv("ADAMWPRUNE_MEMBERS", str(folder))
    return folder


@pytest.mark.parametrize(
    ("module", "old", "new", "runs"),
    [
        ("optimizers/lion.py", "RATE = _signs.RATE", "RATE = 2 * _signs.RATE", ["lion none"]),
        ("optimizers/_signs.py", "RATE = 1", "RATE = 2", ["lion none"]),
        ("pruning/wg.py", "X = 1", "X = 2", ["sgd wg"]),
    ],
)
@pytest.mark.slow
def test_the_edit_of_an_outside_member_makes_exactly_its_own_runs_stale(
    module, old, new, runs, library, outside, monkeypatch
):
    for optimizer, method in (("lion", "none"), ("sgd", "wg"), ("nadam", "none")):
        values = {**RUNS["sgd none"].values, "OPTIMIZER": optimizer, "PRUNING_METHOD": method}
        monkeypatch.setitem(RUNS, f"{optimizer} {method}", RunSpec(values))
    before = stamps(library)
    path = outside / module

    def edit() -> None:
        path.write_text(path.read_text().replace(old, new))

    assert changed_when(library, edit, prepared=True) == runs
    assert {name for name in stamps(library) if stamps(library)[name] != before[name]} == {
        str(path)
    }


def test_a_name_that_a_package_looks_up_lazily_counts_too(library, outside, monkeypatch):
    nadam = RunSpec({**RUNS["sgd none"].values, "OPTIMIZER": "nadam"})
    monkeypatch.setitem(RUNS, "nadam", nadam)
    assert "adamwprune.optimizers._adam" in Sources(library).of(nadam).modules
    assert changed_by(
        library, "optimizers/_adam.py", "maximize=group[", "maximize=not group[", True
    ) == [
        *ADAM,
        "nadam",
    ]


A = "def f(x):\n    return x\n\n\ndef g(x):\n    return 2 * x\n"
B = "def f(x):\n    return x + 1\n"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        # what an imported name is called here, or how it is reached, does not count
        ("from ._a import f\nY = f(1)", "from adamwprune.optimizers._a import f as h\nY = h(1)", 1),
        ("from . import _a\nY = _a.f(1)", "from ._a import f\nY = f(1)", 1),
        ("from . import _a\nY = _a.f(1)", "import adamwprune.optimizers._a as m\nY = m.f(1)", 1),
        ("import torch\nY = torch.nn.ReLU", "from torch import nn\nY = nn.ReLU", 1),
        ("from ._door import f\nY = f(1)", "from ._a import f\nY = f(1)", 1),
        # what it means does
        ("from ._a import f\nY = f(1)", "from ._a import g as f\nY = f(1)", 0),
        ("from ._a import f\nY = f(1)", "from ._b import f\nY = f(1)", 0),
        ("from . import _a, _b\nY = _a.f, _b.f", "from . import _a, _b\nY = _b.f, _a.f", 0),
        ("from math import sqrt\nY = sqrt", "from numpy import sqrt\nY = sqrt", 0),
        ("from ._door import f\nY = f(1)", "from ._other import f\nY = f(1)", 0),
        # a name that an argument hides is none of the import
        ("from ._a import f as h\ndef y(f):\n    return h",
         "from ._a import f\ndef y(f):\n    return f", 0),
        ("try:\n    from ._a import f\nexcept ImportError:\n    from ._b import f\nY = f",
         "try:\n    from ._b import f\nexcept ImportError:\n    from ._a import f\nY = f", 0),
        # what only a type checker imports does not count
        ("Y = 1", "import typing\nif typing.TYPE_CHECKING:\n    from ._b import f\nY = 1", 1),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_an_imported_name_counts_by_what_it_means(one, other, same, library):
    folder = library / "adamwprune" / "optimizers"
    (folder / "_a.py").write_text(A)
    (folder / "_b.py").write_text(B)
    (folder / "_door.py").write_text("from ._a import f as f, g\n")
    (folder / "_other.py").write_text("from ._a import g as f\n")
    path = folder / "sgd.py"
    text = path.read_text()
    keep = "import adamwprune.optimizers._a\nimport adamwprune.optimizers._b\n"
    path.write_text(f"{text}\n{keep}{one}\n")
    changed = changed_when(library, lambda: path.write_text(f"{text}\n{keep}{other}\n"), True)
    assert changed == ([] if same else ["sgd none", "sgd movement"])


def test_modules_that_import_each_other_have_a_digest(library):
    folder = library / "adamwprune" / "optimizers"
    (folder / "_a.py").write_text("from . import _b\nX = 1\n\ndef f():\n    return _b.g()\n")
    (folder / "_b.py").write_text("from . import _a\n\ndef g():\n    return _a.X\n")
    path = folder / "sgd.py"
    path.write_text(f"{path.read_text()}\nfrom . import _a\n")
    changed = changed_by(library, "optimizers/_a.py", "X = 1", "X = 2", True)
    assert changed == ["sgd none", "sgd movement"]


def test_what_is_imported_only_for_types_is_no_part(library):
    path = library / "adamwprune" / "pruning" / "__init__.py"
    _, _, for_types = path.read_text().partition("if TYPE_CHECKING:\n")
    assert "    from adamwprune.pruning.methods.magnitude" in for_types
    modules = Sources(library).of(RUNS["sgd movement"]).modules
    assert "adamwprune.pruning.methods.movement" in modules
    assert "adamwprune.pruning.methods.magnitude" not in modules


def test_a_module_that_a_component_imports_within_a_function_counts(library):
    (library / "adamwprune" / "optimizers" / "_late.py").write_text("FACTOR = 1\n")
    path = library / "adamwprune" / "optimizers" / "sgd.py"
    late = "\n\ndef late():\n    from adamwprune.optimizers import _late\n"
    path.write_text(path.read_text() + late)
    assert changed_by(library, "optimizers/_late.py", "FACTOR = 1", "FACTOR = 2", True) == [
        "sgd none",
        "sgd movement",
    ]


@pytest.mark.slow
def test_the_closure_holds_every_module_that_a_run_really_imports():
    """A real process imports the training and the run's members; what it loads is all there, but
    for folders that make no numbers and packages that hold nothing."""
    pytest.importorskip("numba")
    pytest.importorskip("triton")
    script = (
        "import sys, ast, pathlib\n"
        "import adamwprune.train.loop, adamwprune.train.sharded, adamwprune.models.lenet5\n"
        "import adamwprune.models._pooled_conv_cpu, adamwprune.models._pooled_conv_triton\n"
        "import adamwprune.optimizers._spam_triton\n"
        "import adamwprune.datasets.fashion_mnist, adamwprune.tasks.classification\n"
        "import adamwprune.optimizers.adamwprune, adamwprune.pruning.methods.state\n"
        "print(*sorted(name for name, module in sys.modules.items()\n"
        "    if name.split('.')[0] == 'adamwprune'\n"
        "    and len(ast.parse(pathlib.Path(module.__file__).read_text()).body) > 1))\n"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    counted = {
        name for name in loaded if len(name.split(".")) > 1 and name.split(".")[1] in COUNTED
    }
    assert set(Sources().of(RUNS["adamwprune state"]).modules) == counted


def test_another_python_s_additions_to_the_syntax_tree_change_nothing(
    library, tmp_path, monkeypatch
):
    def parsed_anew(cache: str) -> str:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
        monkeypatch.setattr(code, "_PARSED", Parsed())
        code._source.cache_clear()
        return Sources(library).of(RUNS["sgd none"]).digest

    before, whole, seen = parsed_anew("one"), ast.iter_fields, []

    def with_more(node):
        yield from whole(node)
        if isinstance(node, ast.FunctionDef):
            seen.append(node.name)
            yield "fields_of_the_future", []

    monkeypatch.setattr(ast, "iter_fields", with_more)
    assert parsed_anew("other") == before
    assert seen


@pytest.mark.parametrize(
    "line",
    ["from . import _helper", "from ._helper import FACTOR", "from ..optimizers import _helper"],
)
@pytest.mark.slow
def test_relative_imports_count_too(line, library):
    (library / "adamwprune" / "optimizers" / "_helper.py").write_text("FACTOR = 1\n")
    path = library / "adamwprune" / "optimizers" / "sgd.py"
    path.write_text(f"{path.read_text()}\n{line}\n")
    changed = changed_by(library, "optimizers/_helper.py", "FACTOR = 1", "FACTOR = 2", True)
    assert changed == ["sgd none", "sgd movement"]


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
    assert staleness.changes(RECORD, CODE) == ""
    renamed = Code({"adamwprune.train.steps": "a", "adamwprune.optimizers.sgd": "b"})
    assert staleness.changes(RECORD, renamed) == ""


def test_a_stale_record_says_what_changed():
    now = Code({"adamwprune.train.loop": "A", "adamwprune.optimizers._base": "c"})
    changed = "changed since: optimizers._base, optimizers.sgd, train.loop"
    assert staleness.changes(RECORD, now) == changed
    unknown = staleness.changes(replace(RECORD, code={}), CODE)
    assert unknown == "its record does not say what code made it"


def test_a_module_is_named_that_changed_and_none_that_imports_it():
    before = Code({"adamwprune.train.loop": "a-1", "adamwprune.train.graphs": "b-1"})
    record = replace(RECORD, code=before.to_json())
    now = Code({"adamwprune.train.loop": "a-2", "adamwprune.train.capture": "c-1"})
    assert staleness.changes(record, now) == "changed since: train.capture, train.graphs"
    other_import = Code({"adamwprune.train.loop": "a-2", "adamwprune.train.graphs": "b-1"})
    assert staleness.changes(record, other_import) == "changed since: train.loop"
    many = Code({f"adamwprune.train.m{number}": str(number) for number in range(9)})
    assert staleness.changes(record, many).endswith(", train.m5 and 3 others")


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


def test_what_changed_is_found_by_looking_at_each_module_once():
    """A record of other code names a hundred modules, and a matrix has thousands of records."""
    one, other = ({f"m{n}": f"{n}{end}-0" for n in range(100)} for end in "ab")
    seen: list[str] = []

    def own(entry: str) -> str:
        seen.append(entry)
        return entry

    assert len(_unmatched(one, other, own)) == 100
    assert len(seen) == 2 * (100 + 100)
