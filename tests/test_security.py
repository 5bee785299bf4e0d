"""What a configuration, a command line, a record or a checkpoint holds is data: never a program.

Every attack here would leave a file named ``marker``. Real make and real scripts are called, in a
directory of their own; the marker must not appear in it, nor anything outside the results.
"""

from __future__ import annotations

import ast
import io
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adamwprune.base.errors import ConfigError
from adamwprune.config import sources, strict
from adamwprune.config.tree import Tree
from adamwprune.experiment.experiment import Experiment
from adamwprune.page import vendor
from adamwprune.plan import matrix
from adamwprune.plan.spec import RunSpec
from adamwprune.records.code import Sources
from adamwprune.records.published import write_published
from adamwprune.records.record import RunResult
from adamwprune.records.store import RESULT, Store, only, prepare, publish
from adamwprune.report import present
from tests.support.commands import make_here
from tests.support.records import synthetic

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
PAYLOADS = [
    "$(shell touch marker)",
    "${shell touch marker}",
    "$$(shell touch marker)",
    "$(touch marker)",
    "$$(touch marker)",
    "$(eval $(shell touch marker))",
    "$(file >marker,x)",
    "`touch marker`",
    "x; touch marker",
    "x && touch marker",
    "x | touch marker",
    "x > marker",
    "'; touch marker; '",
    '"; touch marker; "',
    '\\"; touch marker; #',
    "$(",
]
ALL = " ".join(PAYLOADS[:-1])  # at once, where one that is refused is enough


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory that commands run in; at the end of the test there is no marker in it."""
    folder = tmp_path / "outer" / "inner"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    yield folder
    assert [path for path in tmp_path.rglob("marker*") if path.is_file()] == []


def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command in the current directory; output as text."""
    environment = {**os.environ, **variables}
    return subprocess.run(
        words, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


def make(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The project's ``make``, writing below the current directory."""
    interpreter = ("VENV=", f"PYTHON={sys.executable}")
    return run("make", "-f", str(ROOT / "Makefile"), *interpreter, *words, **variables)


def script(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, str(ROOT / name), *words)


def refused(done: subprocess.CompletedProcess[str], told: str = "error: ") -> str:
    """The message of a command that refused, without a traceback."""
    output = done.stdout + done.stderr
    assert done.returncode != 0, output
    assert "Traceback" not in output
    assert told in output
    return output


def value_in(path: Path, name: str) -> str:
    (value,) = [each.text for each in strict.read_config(path, Tree()) if each.name == name]
    return value


def spec_of(**settings: str) -> RunSpec:
    tree = Tree()
    sources.override(tree, settings)
    (spec,) = matrix.expand(tree).specs
    return spec


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


# -- make's command line -----------------------------------------------------------


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_value_of_make_s_command_line_arrives_as_it_was_typed(here: Path, payload: str) -> None:
    done = make("CONFIG=sgd", f"DATA_DIR={payload}", "savedefconfig")
    assert done.returncode == 0, done.stderr
    assert value_in(here / "defconfig", "DATA_DIR") == payload


NAMES = ["EPOCHS", "OPTIMIZER", "LR", "FORMAT", "JOBS", "NOSUCH", "PYTHONPATH", "MAKE", "CC"]


@pytest.mark.parametrize("name", NAMES)
def test_no_variable_s_value_is_expanded(here: Path, name: str) -> None:
    refused(make(f"{name}={ALL}", "all"))


@pytest.mark.parametrize("value", [ALL, "../../etc/passwd", "a+../b", "/etc/passwd", "..", "sgd+"])
def test_config_names_a_file_of_defconfigs_and_no_other(here: Path, value: str) -> None:
    assert "root:" not in refused(make(f"CONFIG={value}", "plan"), "error: no defconfig")


@pytest.mark.parametrize(
    "goal",
    ["x;touch marker", "`touch marker`", "$(touch marker)", "$$(touch marker)", "x|touch marker",
     "';touch marker;'", '";touch marker;"', "x\ntouch marker", "x&touch marker"],
)  # fmt: skip
def test_the_name_of_a_goal_does_not_reach_a_shell(here: Path, goal: str) -> None:
    refused(make(f"defconfig-{goal}"))


def test_a_line_break_in_a_value_is_refused(here: Path) -> None:
    refused(make("CONFIG=sgd", "DATA_DIR=x\ntouch marker", "plan"), "a value must be on one line")


@pytest.mark.parametrize("name", ["O", "KCONFIG_CONFIG"])
def test_a_path_on_the_command_line_is_a_path(here: Path, name: str) -> None:
    path = f'it\'s "a" path; {PAYLOADS[0]} `touch marker`'
    done = make(f"{name}={path}", "defconfig-sgd")
    assert done.returncode == 0, done.stderr
    assert (here / path / ".config" if name == "O" else here / path).is_file()


def own_names() -> list[str]:
    """What the Makefile assigns and does not take from a user."""
    lines = (ROOT / "Makefile").read_text().splitlines()
    found = [re.match(r"(?:export )?(\w+) *:?=", line) for line in lines]
    return [match[1] for match in found if match and match[1] != "PYTHONPATH"]


@pytest.mark.parametrize("name", [*own_names(), "SHELL", ".SHELLFLAGS", "MAKEFILE_LIST"])
def test_what_the_makefile_is_made_of_cannot_be_replaced(here: Path, name: str) -> None:
    done = make(f"{name}=touch marker;", "list-defconfigs")
    refused(done, f"{name}= is the Makefile's own, not a setting")
    assert done.stdout == ""


def test_the_makefile_s_own_names_are_found() -> None:
    assert {"run", "python", "srctree", "Q", "defconfigs"} <= set(own_names())


@pytest.mark.parametrize("name", ["MAKEFLAGS", "MAKEOVERRIDES"])
def test_settings_cannot_be_hidden_from_the_scripts(here: Path, name: str) -> None:
    refused(make(f"{name}=", "EPOCHS=3", "plan"), "not a setting")


def test_the_environment_is_not_expanded_either(here: Path) -> None:
    evil = dict.fromkeys(("EPOCHS", "DATA_DIR", "RESULTS_DIR", "CONFIG", "O", "X"), ALL)
    done = make("CONFIG=sgd", "plan", PYTHONPATH="/nowhere:$(shell touch marker)", **evil)
    assert done.returncode == 0, done.stderr
    assert "1 run: 1 missing" in done.stdout


def test_results_go_where_a_hostile_name_says_and_nowhere_else(here: Path) -> None:
    """A run is trained for real in a directory whose name is a program in three languages."""
    name = f're\'s "ul" ts; {PAYLOADS[0]} {PAYLOADS[3]} `touch marker`'
    short = ("DATASET=mnist5k", "EPOCHS=1", "BATCH_SIZE=1024", "DEVICE=cpu", "JOBS=1")
    done = make("CONFIG=sgd", *short, f"RESULTS_DIR={name}", "matrix")
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = here.rglob(RESULT)
    assert record.parent.parent == here / name
    assert {path.name for path in here.iterdir()} == {name}


# -- configuration files -----------------------------------------------------------

LINES = [
    "$(shell touch marker)",
    "include marker",
    'source "/etc/passwd"',
    "`touch marker`",
    "config X",
    "; touch marker",
    "$(file >marker,x)",
    'CONFIG_EPOCHS="3"; touch marker',
    "CONFIG_EPOCHS=$(shell touch marker)",
    "CONFIG_EPOCHS=`touch marker`",
    'CONFIG_LR="$(shell,touch marker)"',
    'CONFIG_DATA_DIR="x"; touch marker',
]


@pytest.mark.parametrize("line", LINES)
def test_a_line_that_is_no_assignment_is_refused_with_its_place(tmp_path: Path, line: str) -> None:
    path = tmp_path / "fragment"
    path.write_text(f'CONFIG_SEED="0"\n{line}\n')
    with pytest.raises(ConfigError, match=rf"{path}:2: "):
        sources.read_into(Tree(), path)


@pytest.mark.parametrize("target", ["plan", "olddefconfig", "savedefconfig"])
def test_a_config_is_read_and_not_run(here: Path, target: str) -> None:
    (here / ".config").write_text("\n".join(LINES) + "\n")
    done = make(target)
    assert (done.returncode == 0) == (target == "olddefconfig"), done.stderr
    assert ".config:1: malformed line: '$(shell touch marker)'" in done.stderr


@pytest.mark.parametrize("name", ["DATA_DIR", "RESULTS_DIR"])
def test_a_string_of_a_config_is_only_a_string(here: Path, name: str) -> None:
    text = " ".join(PAYLOADS[:9])  # as long as a file's name may be
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    (here / ".config").write_text(f'CONFIG_{name}="{quoted}"\n')
    for target in ("olddefconfig", "plan"):
        assert make(target).returncode == 0
    assert value_in(here / ".config", name) == text


def test_a_defconfig_is_read_and_not_run(here: Path, copied: Path) -> None:
    evil = copied / "defconfigs" / "evil"
    evil.write_text("# $(shell touch marker) `touch marker`\n" + "\n".join(LINES) + "\n")
    try:
        for words in (["CONFIG=evil", "plan"], ["CONFIG=adam+evil", "plan"], ["defconfig-evil"]):
            command = ("make", "-f", str(copied / "Makefile"), "VENV=", f"PYTHON={sys.executable}")
            refused(run(*command, *words), "defconfigs/evil:2: malformed line")
    finally:
        evil.unlink()


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source tree, to which a test may add a defconfig."""
    root = tmp_path_factory.mktemp("source") / "tree"
    root.mkdir()
    names = ("Kconfig", "Makefile", "defconfigs", "lib", "scripts", "train.py")
    subprocess.run(["cp", "-r", *(str(ROOT / name) for name in names), str(root)], check=True)
    return root


def test_train_py_reads_a_config_and_runs_none_of_it(here: Path) -> None:
    (here / "evil").write_text("\n".join(LINES) + "\n")
    refused(script("train.py", "--config", "evil"), "evil:1: malformed line")
    refused(script("train.py", "--optimizer", ALL, "--lr", ALL), "no such member")


# -- names -------------------------------------------------------------------------

texts = st.text(max_size=30) | st.sampled_from(
    ["../../x", "..", ".", "/etc/passwd", "a/../../b", "C:\\x", "x\0y", "~", "-rf", "$(touch m)"]
)
values = texts | st.floats() | st.integers() | st.booleans()


@given(
    st.fixed_dictionaries(
        dict.fromkeys(("MODEL", "DATASET", "OPTIMIZER", "PRUNING_METHOD", "SEED"), values),
        optional={"STATE_CRITERION": values, "TARGET_SPARSITY": st.floats(), "LR": values},
    )
)
def test_no_run_is_outside_the_directory_of_results(some: dict[str, Any]) -> None:
    spec = RunSpec(some)
    root = Path("/somewhere/results")
    folder = Store(root).folder(spec)
    assert re.fullmatch(r"[a-z0-9._-]+", spec.run_id)
    assert os.path.normpath(folder) == f"{root}/{spec.run_id}"
    assert spec.run_id not in (".", "..")


@pytest.mark.parametrize("prefix", ["../../x", "..", "../", "/etc", "*", "[a-z]", "x/../.."])
def test_a_run_is_named_by_the_start_of_its_id_only(prefix: str) -> None:
    spec = spec_of()
    assert only(prefix, {spec.run_id: spec}) is None


def test_a_command_about_a_run_takes_no_program_for_one(here: Path) -> None:
    for name in ("../../x", "x; touch marker", PAYLOADS[0]):
        refused(script("scripts/plot_training.py", name), "no run starts with")
    assert files(here) == set()


@pytest.mark.parametrize("target", ["plan", "all"])
def test_run_names_no_path(here: Path, target: str) -> None:
    done = make("CONFIG=sgd", "RUN=../../x; touch marker", "EPOCHS=0", target)
    refused(done)
    assert {path.name for path in here.iterdir()} <= {"results"}


# -- records -----------------------------------------------------------------------

YAML = '!!python/object/apply:os.system ["touch marker"]\n'


def hostile(spec: RunSpec) -> RunResult:
    """A record that is what it says, and evil wherever a text stands in it."""
    result = synthetic(spec)
    place = {**result.environment, "command": ALL, "commit": "$(touch marker)", "host": ALL,
             "device": "`touch marker`", "device_name": "$(touch marker)"}  # fmt: skip
    return replace(result, environment=place, code=Sources().of(spec).to_json())


def test_a_tag_in_spec_yaml_is_not_followed(here: Path) -> None:
    spec = spec_of()
    folder = prepare(Store(here / "results").folder(spec), spec, ALL, ALL)
    publish(folder, hostile(spec))
    (folder / "spec.yaml").write_text(YAML)
    (folder / "config").write_text("$(shell touch marker)\n")
    done = make("CONFIG=sgd", "plan")
    assert "1 run: 1 done" in done.stdout, done.stderr


def test_texts_of_a_record_are_shown_and_not_run(here: Path) -> None:
    spec = spec_of()
    publish(prepare(Store(here / "results").folder(spec), spec), hostile(spec))
    before = files(here)
    done = make("CONFIG=sgd", "all")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing to train" in done.stdout
    drawn = files(here) - before
    assert drawn
    beside = {"results/.lock", "results/report.html", "results/.index.json"}
    assert {str(Path(name).parent) for name in drawn - beside} == {"results/figures/sgd"}


EVIL = ["../../evil", "/tmp/evil-$(touch marker)", "..", "a/b", "`touch marker`"]


def results_only(here: Path) -> None:
    """Nothing is beside the directory of results, nor beside the one that it is in."""
    assert [path.name for path in here.parent.parent.iterdir()] == ["outer"]
    assert [path.name for path in here.parent.iterdir()] == ["inner"]
    assert [path.name for path in here.iterdir()] == ["results"]


@pytest.mark.parametrize("name", EVIL)
def test_another_run_s_record_is_refused_whatever_it_is_named(here: Path, name: str) -> None:
    spec = spec_of()
    folder = prepare(Store(here / "results").folder(spec), spec)
    evil = RunSpec({**spec.values, "OPTIMIZER": name, "MODEL": name})
    publish(folder, replace(synthetic(spec), run_id=name, spec=evil))
    refused(make("CONFIG=sgd", "all"), f"its id is {name!r}, its spec's '")
    results_only(here)
    publish(folder, replace(synthetic(spec), run_id=evil.run_id, spec=evil))
    refused(make("CONFIG=sgd", "all"), "is the record of another run")
    results_only(here)
    assert [path.name for path in (here / "results").iterdir() if path.is_dir()] == [spec.run_id]


def test_a_drawing_of_evil_names_goes_where_drawings_go(here: Path) -> None:
    """Here and among the published ones: as the id, and as what a figure could be named after."""
    spec = spec_of()
    evil = RunSpec({**spec.values, "OPTIMIZER": "../../evil", "MODEL": "../evil"})
    one, two = hostile(spec), replace(synthetic(spec), run_id=evil.run_id, spec=evil)
    folder = prepare(Store(here / "results").folder(spec), spec)
    published = here / "results" / "published" / "evil.jsonl"
    for each, place in ((replace(one, run_id="../../evil"), folder), (one, folder)):
        publish(place, each)
        write_published(published, [replace(two, run_id="a/../../evil")])
        refused(script("scripts/plot_comparison.py", spec.run_id, "a/../../evil"))
    write_published(published, [two])
    done = script("scripts/plot_comparison.py", spec.run_id, evil.run_id)
    assert done.returncode == 0, done.stderr
    results_only(here)
    names = {path.name for path in (here / "results").iterdir()}
    assert names == {spec.run_id, "published", "figures"}


@pytest.mark.parametrize(
    "content",
    [
        YAML,
        '{"schema": 1, "__class__": "os.system", "run_id": "x", "status": "done", "spec": {}}',
        '{"schema": 1, "run_id": "x", "status": "done", "spec": "$(touch marker)"}',
        pickle.dumps(print).decode("latin-1"),
        "",
    ],
    ids=["yaml", "class", "text", "pickle", "empty"],
)
def test_what_is_no_record_is_refused(here: Path, content: str) -> None:
    folder = prepare(Store(here / "results").folder(spec_of()), spec_of())
    (folder / RESULT).write_text(content)
    done = make("CONFIG=sgd", "plan")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"damaged   {spec_of().run_id}: results/{spec_of().run_id}/{RESULT}: " in done.stdout


# -- checkpoints -------------------------------------------------------------------


class Bomb:
    """Leaves a marker when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch marker",)


def saved(value: object) -> bytes:
    torch = pytest.importorskip("torch")
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def test_the_bomb_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Bomb()))
    assert (tmp_path / "marker").is_file()


@pytest.mark.parametrize(
    "content",
    [
        lambda: pickle.dumps(Bomb()),
        lambda: saved([Bomb()]),
        lambda: saved({"model": Bomb()}),
        lambda: saved({"step": 1})[:-40],
        lambda: b"",
        YAML.encode,
    ],
    ids=["pickle", "saved", "inside", "truncated", "empty", "yaml"],
)
def test_a_file_that_is_no_checkpoint_is_damaged_and_not_run(here: Path, content: Any) -> None:
    checkpoint = pytest.importorskip("adamwprune.run.checkpoint")
    path = here / "checkpoint.pt"
    path.write_bytes(content())
    with pytest.raises(checkpoint.Damaged):
        checkpoint.read(path)


@pytest.mark.parametrize("value", [Bomb(), {"model": Bomb()}, [Bomb()], (1, Bomb()), "text"])
def test_a_bomb_in_a_sound_checkpoint_is_not_run(here: Path, value: object) -> None:
    """Written by the project's own writer: only how it is read can stop it."""
    checkpoint = pytest.importorskip("adamwprune.run.checkpoint")
    checkpoint.write(here, value)
    with pytest.raises(checkpoint.Damaged):
        checkpoint.read(here / checkpoint.NAME)


# -- the code ----------------------------------------------------------------------

FORBIDDEN = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput",
    "subprocess.getstatusoutput", "pickle.load", "pickle.loads", "yaml.load", "yaml.unsafe_load",
    "yaml.full_load", "runpy.run_path", "marshal.loads", "shelve.open",
}  # fmt: skip


def calls() -> Iterator[tuple[str, str, dict[str | None, str]]]:
    """Place, function and named arguments of every call in the product."""
    places = [ROOT / "train.py", *(ROOT / "scripts").glob("*.py"), *(ROOT / "lib").rglob("*.py")]
    for path in places:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                words = {word.arg: ast.unparse(word.value) for word in node.keywords}
                yield f"{path}:{node.lineno}", ast.unparse(node.func), words


def test_no_code_can_run_a_text() -> None:
    """No shell, no eval, no pickle, no YAML but the plain one."""
    found = list(calls())
    assert any(called == "subprocess.run" for _, called, _ in found)
    for place, called, words in found:
        assert called not in FORBIDDEN, place
        assert words.get("shell", "False") == "False", place
        assert words.get("allow_pickle", "False") == "False", place
        assert called != "torch.load" or words.get("weights_only") == "True", place


# -- where the tree and its files are ------------------------------------------------

HOSTILE_NAMES = [
    "`touch${IFS}marker`",
    "$(touch${IFS}marker)",
    "'`touch${IFS}marker`'",
    '"$(touch${IFS}marker)"',
    ";touch${IFS}marker;",
    "&touch${IFS}marker&",
    "a b",
    "a:b",
    "a*",
]


@pytest.fixture(scope="module")
def small_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree as make and Python see it, by links to this one."""
    tree = tmp_path_factory.mktemp("small")
    for name in ("lib", "scripts", "Kconfig", "pyproject.toml"):
        (tree / name).symlink_to(ROOT / name)
    (tree / "defconfigs").mkdir()
    (tree / "defconfigs" / "sgd").write_text("# A title\n")
    shutil.copy(ROOT / "Makefile", tree)
    return tree


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_directory_s_name_is_never_executed(here: Path, small_tree: Path, name: str) -> None:
    below = here / name
    below.mkdir()
    (below / "tree").symlink_to(small_tree)
    makefile = str(below / "tree" / "Makefile")
    for goal in ("help", "list-defconfigs", "clean"):
        done = run("make", "-f", makefile, "VENV=", f"PYTHON={sys.executable}", "-n", goal)
        if set(name) & set(" :"):
            refused(done, "the tree is below a directory whose name has a blank, a colon or a")
        else:
            assert done.returncode == 0, done.stderr
    if not set(name) & set(" :"):
        done = run("make", "-f", makefile, "VENV=", f"PYTHON={sys.executable}", "help")
        assert done.returncode == 0, done.stderr
        assert "Experiments:" in done.stdout


def test_a_python_below_a_hostile_directory_is_only_run(here: Path) -> None:
    below = here / "`id>marker`"  # make itself expands what is behind a dollar sign
    below.mkdir()
    (below / "python").symlink_to(sys.executable)
    done = run("make", "-C", str(ROOT), "VENV=", f"PYTHON={below / 'python'}", "help")
    assert done.returncode == 0, done.stderr


def test_files_of_defconfigs_with_odd_names_break_no_target(small_tree: Path) -> None:
    odd = ["a:b", "a=b", "a%b", "a;touch marker", "a|b", "a&b", "a b", "a$b", "a#b", "a'b", ".a:b"]
    for name in odd:
        (small_tree / "defconfigs" / name).write_text('CONFIG_EPOCHS="3"\n')
    interpreter = ("VENV=", f"PYTHON={sys.executable}")
    try:
        for goal in ("help", "defconfig-sgd", "defconfig-a$$b", "defconfig-a'b"):
            done = run("make", "-n", "-C", str(small_tree), *interpreter, goal)
            assert (done.returncode, done.stderr) == (0, "")
    finally:
        for name in odd:
            (small_tree / "defconfigs" / name).unlink()


@pytest.mark.parametrize("option", ["-e", "-es", "--environment-overrides"])
def test_make_e_takes_settings_as_they_were_typed(here: Path, option: str) -> None:
    done = make(option, "CONFIG=sgd", f"DATA_DIR={ALL}", "savedefconfig")
    assert done.returncode == 0, done.stderr
    assert value_in(here / "defconfig", "DATA_DIR") == ALL


@pytest.mark.parametrize("name", ["run", "python", "own", "srctree", "sh"])
def test_make_e_does_not_let_the_environment_replace_the_makefile(here: Path, name: str) -> None:
    told = f"make -e: {name} is the Makefile's own, and in the environment; unset it"
    refused(make("-e", "CONFIG=sgd", "plan", **{name: "touch marker;"}), told)


# -- what a terminal would execute ---------------------------------------------------

SEQUENCES = "\x1b]0;PWN\x07\x1b[2J\x9b31m\u202e"


@pytest.mark.parametrize(
    "words",
    [
        ("plan",), ("status",), ("why", "RUN=lenet5"), ("all", "KEEP_STALE=1"),
        ("all", "FORMAT=csv", "KEEP_STALE=1"), ("all", "FORMAT=markdown", "KEEP_STALE=1"),
        ("export",), ("why", "RUN=other"),
        ("why", f"RUN={SEQUENCES}"), ("plan", f"CONFIG={SEQUENCES}"), (f"defconfig-{SEQUENCES}",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_no_control_sequence_of_a_record_reaches_the_terminal(
    here: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a run that is done and one that failed, of a stale one, and of a half-written progress."""
    # These take seconds.
    monkeypatch.setattr(present, "draw_if_changed", lambda *words: [])
    monkeypatch.setattr(vendor, "is_installed", lambda: False)
    monkeypatch.setattr(Experiment, "published", here / "none")
    specs = {each["SEED"]: each for each in matrix_of(SEED="0 1 2")}
    for seed, spec in specs.items():
        record = synthetic(spec, status="failed" if seed == 1 else "done")
        place = {**record.environment, **dict.fromkeys(TEXTS, SEQUENCES)}
        code = Sources().of(spec).to_json()
        if seed != 2:
            modules = {**code["modules"], f"adamwprune.{SEQUENCES}": "x"}
            code = {"digest": SEQUENCES, "modules": modules}
        made = replace(record, environment=place, code=code)
        made = replace(made, error=f"{SEQUENCES}\n{SEQUENCES}" if seed == 1 else "")
        folder = prepare(Store(here / "results").folder(spec), spec)
        publish(folder, made)
        (folder / "checkpoint.pt").write_text(SEQUENCES)
        (folder / "progress.json").write_text('{"device": "\\u001b[2J", "code": "\\u001b[2J"}')
    other = prepare(here / "results" / "other-run", specs[0])
    (other / RESULT).write_text(f'{{"{SEQUENCES.encode("unicode_escape").decode()}": ')
    chosen = () if any(word.startswith("CONFIG=") for word in words) else ("CONFIG=sgd",)
    writes = words[0].startswith("defconfig-")
    done = make_here(here, *words, *(() if writes else (*chosen, "SEED=0 1 2")))
    assert done.stdout + done.stderr
    clean = re.sub(r"\r?\n|\t", "", done.stdout + done.stderr)
    assert clean.isprintable(), ascii(clean)


TEXTS = ("commit", "ended", "device_name", "device", "host", "command", "diff")


def matrix_of(**settings: str) -> list[RunSpec]:
    tree = Tree()
    sources.override(tree, settings)
    return matrix.expand(tree).specs
