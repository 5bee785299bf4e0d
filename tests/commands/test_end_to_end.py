"""The commands a user types, run for real: make and train.py in a directory of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adamwprune.report.figures import check
from adamwprune.scheduler import devices
from tests.datasets.test_datasets import DATA
from tests.support.commands import ROOT, environment, make, make_here, refused, train_py

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("forked_workers")]

TINY = ("DATASET=mnist5k", "EPOCHS=2", "BATCH_SIZE=512")
SHORT = ("DATASET=mnist5k", "EPOCHS=1", "BATCH_SIZE=256")  # as many steps in half the time
RAMP = ("PRUNING_WARMUP=3", "PRUNING_INTERVAL=4")
SMALL = ("CONFIG=quickstart", *SHORT, *RAMP, "PRUNING_METHOD=none movement")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A small matrix, trained once: AdamW and AdamWPrune, dense and by movement."""
    output = tmp_path_factory.mktemp("trained")
    result = make(output, *SMALL, "TARGET_SPARSITY=0.7 0.9", "all")
    assert result.returncode == 0, result.stdout + result.stderr
    (output / "first.log").write_text(result.stdout)
    return output


def test_make_trains_the_matrix_and_ends_with_a_table_and_figures(trained):
    log = (trained / "first.log").read_text()
    assert "[6/6] done" in log
    assert "43,029/61,470" in log
    assert "state (precond)" in log
    records = list(trained.glob("results/*/result.json"))
    assert len(records) == 6
    (folder,) = (trained / "results/figures").iterdir()
    assert folder.name.startswith("quickstart-"), "settings make it another configuration"
    assert (folder / "optimizer_comparison_70_pruning.png").is_file()
    for path in records:
        record = json.loads(path.read_text())
        assert record["pruning"]["zeros"] == record["pruning"]["k"]
        names = {p.name for p in path.parent.iterdir()}
        assert names == {
            ".lock",
            "config",
            "defconfig",
            "log.txt",
            "metrics.jsonl",
            "result.json",
            "spec.yaml",
            "weights.pt",
        }


def test_again_make_does_nothing_and_says_so(trained):
    before = {p: p.stat().st_mtime_ns for p in trained.rglob("*")}
    result = make(trained, *SMALL, "TARGET_SPARSITY=0.7 0.9", "all")
    assert result.returncode == 0
    assert "6 runs, 6 done, 0 to train" in result.stdout
    assert "nothing to train" in result.stdout
    assert "are up to date" in result.stdout
    assert {p: p.stat().st_mtime_ns for p in trained.rglob("*")} == before


def test_only_what_is_missing_is_trained(trained):
    result = make_here(trained, *SMALL, "TARGET_SPARSITY=0.7 0.8", "plan")
    assert result.stdout.count("\ndone ") + result.stdout.startswith("done ") == 4
    assert "6 runs: 4 done, 2 missing; 0 dropped" in result.stdout


def test_the_command_in_a_record_repeats_the_run(trained, tmp_path):
    path = sorted(trained.glob("results/*state*70*/result.json"))[0]
    record = json.loads(path.read_text())
    words = record["environment"]["command"].split()
    assert words[:2] == ["python", "train.py"]
    result = train_py(tmp_path, *words[2:])
    assert result.returncode == 0, result.stderr
    assert "adamwprune, PRUNING_METHOD=movement means state" in result.stdout
    again = json.loads((tmp_path / "results" / record["run_id"] / "result.json").read_text())
    assert again["run_id"] == record["run_id"]
    for name in ("final", "pruning", "weights", "code"):
        assert again[name] == record[name], "to the bit: the command names the threads too"
    assert again["pruning"]["zeros"] == 43_029


def test_measuring_repeats_runs_that_shared_their_device_and_changes_only_their_times(tmp_path):
    small = ("CONFIG=sgd", *SHORT, "SEED=0 1", "DEVICE=cpu")

    def records() -> dict[int, dict]:
        found = [json.loads(p.read_text()) for p in tmp_path.glob("results/*/result.json")]
        return {record["spec"]["SEED"]: record for record in found}

    assert make_here(tmp_path, *small, "JOBS=2", "THREADS=1", "matrix").returncode == 0
    before = records()
    result = make_here(tmp_path, *small, "JOBS=2", "THREADS=1", "measure")
    assert result.returncode == 0, result.stdout + result.stderr
    if len(os.sched_getaffinity(0)) > 1:
        assert "2 to measure, one at a time" in result.stdout
        assert not any(record["environment"]["alone"] for record in before.values())
    for seed, record in records().items():
        assert record["environment"]["alone"] is True
        assert record["weights"] == before[seed]["weights"]
    again = make_here(tmp_path, *small, "JOBS=2", "THREADS=1", "measure")
    assert "nothing to train" in again.stdout


def test_make_train_trains_one_run_in_the_foreground(tmp_path):
    result = make(tmp_path, "CONFIG=adamwprune-70", *TINY, *RAMP, "train")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "epoch 2/2" in result.stdout
    assert "43,029 of 61,470 weights zero" in result.stdout
    assert not (tmp_path / ".config").exists()


def test_a_fresh_tree_gets_the_quickstart(tmp_path):
    result = make(tmp_path, "plan")
    assert result.returncode == 0, result.stderr
    assert "written from defconfig-quickstart" in result.stdout
    assert "10 runs: 10 missing" in result.stdout
    assert (tmp_path / ".config").is_file()


def test_memory_comparison_has_42_runs_whatever_the_configuration(tmp_path):
    assert make_here(tmp_path, "defconfig-sgd").returncode == 0
    before = (tmp_path / ".config").read_text()
    result = make_here(tmp_path, "CONFIG=memory-comparison", "plan")
    assert "42 runs: 42 missing; 0 dropped" in result.stdout
    assert (tmp_path / ".config").read_text() == before


def test_planning_and_a_no_op_import_no_torch(trained):
    """The no-op answers at once because torch and matplotlib stay on the disk."""
    code = (
        "import sys\n"
        "from adamwprune.__main__ import main\n"
        "assert main(['matrix', '--report']) == 0\n"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules\n"
    )
    first = [f"PYTHON={sys.executable}", "VENV=", f"O={trained}"]
    quoted = [word.replace(" ", r"\ ") for word in SMALL]
    words = [*first, *quoted, r"TARGET_SPARSITY=0.7\ 0.9"]
    # As make has them, the last one first: report.html repeats them in its commands.
    flags = {
        "MAKEFLAGS": " -- " + " ".join(reversed(words)),
        "PYTHONPATH": f"{ROOT}/lib",
    }
    subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**environment(), **flags}, check=True
    )


REALLY = {
    "clean",
    "menuconfig",
    "OPTIMZER=adamw",
    "pln",
}  # as make runs them; the others in this process


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["OPTIMZER=adamw", "plan"], "did you mean OPTIMIZER"),
        (["TARGET_SPARSITY=1.5", "CONFIG=adamw-magnitude-70", "plan"], "1.5 is outside [0, 1]"),
        (["CONFIG=sgd", "PRUNING_METHOD=state", "plan"], "depends on HAS_ADAM_STATES"),
        (["CONFIG=sgd-movement-90", "PRUNING_WARMUP=5000", "plan"], "nothing would ever be pruned"),
        (["CONFIG=study-regrowth", "EPOCHS=1", "plan"], "would never grow a weight"),
        (["CONFIG=adamwprun", "plan"], "did you mean adamwprune"),
        (["defconfig-adamwprun"], "did you mean adamwprune"),
        (["CONFIG=quickstart", "train"], "expands to 10 runs"),
        (["CONFIG=quickstart", "DEVICE=cuda", "matrix"], "no CUDA device"),
        (["CONFIG=quickstart", "RESULTS_DIR=/proc/none", "matrix"], "cannot write to /proc/none"),
        (["menuconfig"], "terminal"),
        (["CONFIG=quickstart", "FORMAT=xml", "all"], "no table format 'xml'"),
        (["CONFIG=adamw", "memory-comparison"], "has a configuration of its own"),
        (["EPOCHS=2", "update-graphs"], "EPOCHS: what is published"),
        (["EPOCHS=2", "graph-check"], "EPOCHS: what is published"),
        (["CONFIG=adamwprune-70", "SPAM_INTERVAL=10", "plan"], "masks are updated 20 steps after"),
        (["NOSUCH=1", "clean"], "not NOSUCH"),
        (["pln"], "no target 'pln'; did you mean plan? (make help lists them)"),
    ],
)
def test_a_wrong_step_gets_one_clear_message(tmp_path, arguments, told):
    if REALLY.isdisjoint(arguments):
        result = make_here(tmp_path, *arguments)
    else:
        result = make(tmp_path, *arguments, stdin=subprocess.DEVNULL)
    assert told in refused(result)


def test_a_setting_that_changes_no_run_is_named(tmp_path):
    words = ("CONFIG=adamw", "ADAMW_LR=0.5", "LR=0.002", "EPOCHS=9", "JOBS=1", "SEED=1")
    notes = [x for x in make_here(tmp_path, *words, "plan").stdout.splitlines() if "note: " in x]
    assert notes == ["note: ADAMW_LR=0.5 changes no run"]


def test_a_typo_in_the_configuration_is_refused_with_its_line(tmp_path):
    (tmp_path / ".config").write_text('CONFIG_EPOCHS="3"\nCONFIG_EPOCS=3\n')
    message = refused(make_here(tmp_path, "plan"))
    assert f"{tmp_path}/.config:2: EPOCS=3: no such symbol; did you mean EPOCHS?" in message


def test_a_damaged_data_file_is_refused(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{name}-ubyte").write_bytes(b"\0\0\x08\x03truncated")
    message = refused(make_here(tmp_path, "CONFIG=sgd", "JOBS=1", f"DATA_DIR={tmp_path}", "matrix"))
    assert "train-images-idx3-ubyte: checksum mismatch" in message


def test_ctrl_c_in_the_middle_of_a_matrix(tmp_path):
    command = ["make", f"PYTHON={sys.executable}", "VENV=", f"O={tmp_path}", "CONFIG=quickstart",
               "EPOCHS=400", "matrix"]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    )  # fmt: skip
    end = time.monotonic() + 120
    while not list(tmp_path.glob("results/*/metrics.jsonl")) and time.monotonic() < end:
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "stopping the runs at a checkpoint; again: at once" in output
    assert "stopped: 10 runs, 0 done, 10 to train; done runs stay." in output
    assert list(tmp_path.glob("results/*/checkpoint.pt")), "what was begun goes on from there"
    assert "Traceback" not in output
    left = subprocess.run(
        ["pgrep", "-f", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert left.stdout == ""


ADAMWPRUNE_90 = "--optimizer adamwprune --pruning-method movement --target-sparsity 0.9"
LINES = {
    "": {"OPTIMIZER": "sgd", "PRUNING_METHOD": "none", "EPOCHS": 10, "BATCH_SIZE": 512},
    "--optimizer adamwadv": {"OPTIMIZER": "adamwadv", "AMSGRAD": "on", "MAX_GRAD_NORM": 1.0},
    "--optimizer adamwadv --pruning-method movement --target-sparsity 0.9": {
        "PRUNING_METHOD": "movement",
        "TARGET_SPARSITY": 0.9,
    },
    "--optimizer adamwspam --spam-enable-clip --spam-theta 100 --spam-interval 200 "
    "--spam-warmup-steps 50": {
        "SPAM_MODE": "zscore",
        "SPAM_ENABLE_CLIP": True,
        "SPAM_THETA": 100.0,
        "SPAM_INTERVAL": 200,
        "SPAM_WARMUP_STEPS": 50,
    },
    ADAMWPRUNE_90: {"PRUNING_METHOD": "state", "TARGET_SPARSITY": 0.9},
    "--pruning-method movement": {"OPTIMIZER": "sgd", "TARGET_SPARSITY": 0.9},
    "--pruning-method movement --target-sparsity 0.7 --pruning-warmup 200": {
        "TARGET_SPARSITY": 0.7,
        "PRUNING_WARMUP": 200,
    },
}


@pytest.mark.parametrize("line", LINES, ids=lambda line: line or "plain")
def test_the_printed_lines_of_train_py(line, tmp_path):
    """Each resolves to what it says and is not refused; a short run of one follows below."""
    from adamwprune.config import flags, strict
    from adamwprune.config.tree import Tree
    from adamwprune.plan.matrix import expand

    tree = Tree()
    given = flags.parse(tree, line.split(), "")
    strict.apply(tree, strict.command_line(tree, given.settings, "command line"))
    (spec,) = expand(tree).specs
    assert {name: spec[name] for name in LINES[line]} == LINES[line]


def test_train_py_trains_real_mnist(tmp_path):
    if not list((DATA / "MNIST" / "raw").glob("train-images*")):
        pytest.skip(f"MNIST is not in {DATA}; DATA_DIR names another directory")
    (tmp_path / ".config").write_text("train.py does not read this")
    line = ADAMWPRUNE_90.split()
    result = train_py(tmp_path, *line, "--epochs", "2", "--data-dir", str(DATA))
    assert result.returncode == 0, result.stderr
    (record,) = tmp_path.glob("results/*/result.json")
    assert json.loads(record.read_text())["pruning"]["zeros"] == 55_323
    again = train_py(tmp_path, *line, "--epochs", "2", "--data-dir", str(DATA))
    assert "already trained" in again.stdout


def test_train_py_refuses(tmp_path):
    assert "make matrix" in refused(train_py(tmp_path, "--seed", "0 1"))
    assert "no such flag --optimiser; did you mean --optimizer?" in refused(
        train_py(tmp_path, "--optimiser", "adam")
    )
    both = ("--optimizer", "adamwspam", "--spam-enable-clip", "--no-spam-enable-clip")
    assert "--no-spam-enable-clip is given twice" in refused(train_py(tmp_path, *both))
    assert "--lr is given twice" in refused(train_py(tmp_path, "--lr", "1", "--lr", "2"))
    assert "2 is outside [0, 1]" in refused(
        train_py(tmp_path, "--pruning-method", "movement", "--target-sparsity", "2")
    )
    help_text = train_py(tmp_path, "--help").stdout
    assert "Target sparsities: number in [0, 1] (default 0.9)" in " ".join(help_text.split())


def test_update_graphs_draws_from_published_records_in_a_fresh_clone(tmp_path):
    """What is published can be redrawn by anybody, and is what is tracked; nothing is trained."""
    published = ROOT / "results" / "published" / "memory-comparison-seeds.jsonl"
    if not published.is_file():
        pytest.skip("nothing is published yet")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    tracked = Path(shutil.copytree(clone / "images", tmp_path / "tracked"))
    shutil.rmtree(clone / "images")
    result = subprocess.run(
        ["make", f"PYTHON={sys.executable}", "VENV=", "update-graphs"],
        cwd=clone, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    records = [json.loads(line) for line in published.read_text().splitlines()]
    clean = sum(not record["environment"]["dirty"] for record in records)
    assert f"figures of {clean} of 210 runs" in result.stdout
    every = {path.stem for path in (clone / "results" / "figures").rglob("*.png")}
    assert {"adam-with-movement-accuracy_evolution", "training_plot"} < every
    changed = subprocess.run(
        ["git", "status", "--porcelain", "results"], cwd=clone, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert changed.stdout == "", "published records are verbatim"
    # As make graph-check, tests/report/test_graph_check.py, without drawing all once more.
    assert check.problems(tracked, clone / "images") == []
    assert len(check.files(tracked)) > 36, "a dozen figures and more, as PNG, SVG and data"


@pytest.mark.skipif(bool(devices.machine("auto").gpus), reason="there is a GPU")
def test_checking_on_a_gpu_that_is_not_there_is_refused(tmp_path):
    assert "there is no CUDA device" in refused(make(tmp_path, "DEVICE=cuda", "check"))


def test_help_needs_nothing_installed():
    result = subprocess.run(
        ["make", "PYTHON=python3", "help"], cwd=ROOT, env=environment(), capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    for target in (
        "menuconfig",
        "memory-comparison",
        "update-graphs",
        "graph-check",
        "defconfig-NAME",
        "distclean",
    ):
        assert target in result.stdout
