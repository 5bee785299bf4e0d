"""Where a run comes from: the code down to the uncommitted byte, and the machine it ran on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from adamwprune.base.errors import UserError
from adamwprune.config.sources import Workspace
from adamwprune.experiment import launch as launch_module
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.experiment.experiment import Experiment
from adamwprune.experiment.launch import Launch
from adamwprune.records import provenance
from adamwprune.records.provenance import Source, keep_diff, publish_diffs, source
from adamwprune.run import environment
from adamwprune.scheduler.events import Outcome

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")
# What published records and the reports drawn from them read.
OLD_KEYS = {"python", "torch", "os", "host", "device", "device_name", "threads"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A committed source tree, small."""
    root = tmp_path / 'a: "tree"'
    for name in ("Kconfig", "Makefile", "train.py", "lib/code.py", "scripts/run.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{name}\n")
    (root / "lib" / "data.bin").write_bytes(bytes(range(256)))
    (root / ".gitignore").write_text("__pycache__/\n")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    return root


def git(root: Path, *words: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    command = ["git", "-C", str(root), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def contents(root: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and content of every file of the code, links as what they name."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if name.parts[0] == ".git" or (path.is_dir() and not path.is_symlink()):
            continue
        body = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
        found[str(name)] = (stat.S_IFMT(path.lstat().st_mode) | path.lstat().st_mode & 0o111, body)
    return found


def change_everything(root: Path) -> None:
    """One change of each kind that git knows."""
    (root / "lib" / "code.py").write_text("changed, not staged\n")
    (root / "train.py").write_text("changed and staged\n")
    git(root, "add", "train.py")
    (root / "Makefile").unlink()
    (root / "scripts" / "run.py").chmod(0o755)
    (root / "lib" / "data.bin").write_bytes(b"\0\xff\xfe" * 300)
    (root / "lib" / "new\tname é.py").write_bytes(b"no line end, \xff no UTF-8")
    (root / "lib" / "new.bin").write_bytes(os.urandom(5000))
    (root / "lib" / "empty").touch()
    (root / "lib" / "link").symlink_to("/tmp")
    (root / "defconfigs").mkdir()
    (root / "defconfigs" / "mine").write_text('CONFIG_EPOCHS="3"\n')


# -- the code ----------------------------------------------------------------------


def test_a_clean_tree_is_its_commit(tree: Path) -> None:
    found = source(tree)
    assert found == Source(git(tree, "rev-parse", "HEAD").strip(), False, None, b"")
    assert len(found.commit or "") == 40


def test_the_patch_gives_back_every_byte(tree: Path, tmp_path: Path) -> None:
    change_everything(tree)
    found = source(tree)
    assert found.dirty is True
    assert found.diff == hashlib.sha256(found.patch).hexdigest()[:16]
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(tree), str(clone))
    subprocess.run(["git", "apply", "-"], cwd=clone, input=found.patch, check=True)
    assert contents(clone) == contents(tree)
    assert {"lib/new\tname é.py", "lib/link", "defconfigs/mine"} <= contents(clone).keys()


def test_the_same_code_has_the_same_diff_and_other_code_another(tree: Path) -> None:
    change_everything(tree)
    first = source(tree)
    (tree / "results").mkdir()
    (tree / "results" / "note.txt").write_text("no code")
    (tree / "lib" / "__pycache__").mkdir()
    (tree / "lib" / "__pycache__" / "code.pyc").write_text("ignored")
    for setting in ("color.ui=always", "diff.noprefix=true", "core.abbrev=4"):
        git(tree, "config", *setting.split("="))
    assert source(tree) == first
    (tree / "lib" / "empty").write_text("no longer")
    assert source(tree).diff != first.diff


def test_looking_changes_nothing_in_the_repository(tree: Path) -> None:
    change_everything(tree)
    before = {path: path.read_bytes() for path in (tree / ".git").rglob("*") if path.is_file()}
    source(tree)
    after = {path: path.read_bytes() for path in (tree / ".git").rglob("*") if path.is_file()}
    assert after == before


def test_a_hook_s_git_variables_do_not_lead_to_its_repository(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = source(tree)
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    assert source(tree) == before


def test_outside_git_nothing_is_known(tmp_path: Path, tree: Path) -> None:
    unknown = Source(None, None, None, b"")
    (tmp_path / "plain").mkdir()
    assert source(tmp_path / "plain") == unknown
    # Unpacked in a repository that has nothing to do with it.
    (tree / "vendor").mkdir()
    (tree / "vendor" / "Kconfig").write_text("another one")
    assert source(tree / "vendor") == unknown


def test_without_git_nothing_is_known(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert source(tree) == Source(None, None, None, b"")


def test_a_record_holds_the_hash_and_not_the_patch(tree: Path) -> None:
    change_everything(tree)
    found = source(tree)
    record = json.loads(json.dumps(found.record()))
    assert record == {"commit": found.commit, "dirty": True, "diff": found.diff}
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.dirty = False  # type: ignore[misc]


def test_the_diff_is_kept_once_beside_the_records(tree: Path, tmp_path: Path) -> None:
    change_everything(tree)
    found = source(tree)
    root = tmp_path / "results"
    path = keep_diff(found, root)
    assert path == root / ".provenance" / f"{found.diff}.diff"
    assert path.read_bytes() == found.patch
    written = path.stat()
    assert keep_diff(found, root) == path
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (written.st_mtime_ns, written.st_ino)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_clean_code_leaves_no_file(tree: Path, tmp_path: Path) -> None:
    assert keep_diff(source(tree), tmp_path / "results") is None
    assert keep_diff(Source(None, None, None), tmp_path / "results") is None
    assert not (tmp_path / "results").exists()


def test_diffs_are_published_with_the_records_and_lost_ones_are_named(
    tree: Path, tmp_path: Path
) -> None:
    change_everything(tree)
    found = source(tree)
    here, tracked = tmp_path / "results", tmp_path / "published"
    keep_diff(found, here)
    (tmp_path / "secret.diff").write_text("somebody's")
    lost = "0" * 16
    strange = "../../secret"
    digests = [found.diff, lost, strange, found.diff]
    assert publish_diffs(digests, here, tracked) == [strange, lost]
    (path,) = (tracked / ".provenance").iterdir()
    assert path.read_bytes() == found.patch
    (here / ".provenance" / path.name).unlink()
    assert publish_diffs([found.diff], here, tracked) == [], "it is published already"


def test_a_diff_that_cannot_be_kept_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(UserError, match=r"cannot write .*0123\.diff: Not a directory"):
        keep_diff(Source("c", True, "0123", b"x"), tmp_path / "results")


def test_the_code_is_told_without_torch() -> None:
    probe = "import sys, adamwprune.records.provenance; print(['torch'] * ('torch' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- the machine -------------------------------------------------------------------


def test_what_a_record_holds_of_this_machine() -> None:
    found = json.loads(json.dumps(environment.describe(CPU, 3)))
    assert found.keys() >= OLD_KEYS
    assert (found["device"], found["threads"]) == ("cpu", 3)
    assert found["python"] == platform.python_version()
    assert found["torch"] == torch.__version__
    assert found["cpu"]["model"] == found["device_name"] != ""
    assert found["cpu"]["cores"] == os.cpu_count()
    assert found["cpu"]["usable"] == len(os.sched_getaffinity(0))
    assert found["gpu"] is found["driver"] is found["packages"]["cudnn"] is None


def test_every_declared_dependency_has_its_version(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    declared = {word.split(">")[0].split("=")[0] for word in project["dependencies"]}
    assert set(environment.DEPENDENCIES) == declared
    found = environment.packages(CPU)
    assert found["kconfiglib"] == "14.1.0"
    assert found["torch"] == str(torch.__version__).split("+")[0]
    assert found["cuda"] == torch.version.cuda
    assert (found["mkl"] is not None) == torch.backends.mkl.is_available()


def test_a_package_that_is_not_there_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "DEPENDENCIES", ("no-such-package-x",))
    environment._installed.cache_clear()
    try:
        assert environment.packages(CPU)["no-such-package-x"] is None
    finally:
        environment._installed.cache_clear()


SWITCHES = {
    "cudnn_deterministic": (torch.backends.cudnn, "deterministic"),
    "cudnn_benchmark": (torch.backends.cudnn, "benchmark"),
    "cudnn_allow_tf32": (torch.backends.cudnn, "allow_tf32"),
    "matmul_allow_tf32": (torch.backends.cuda.matmul, "allow_tf32"),
}


@pytest.mark.parametrize("name", SWITCHES)
def test_each_switch_of_torch_is_told_as_it_stands(name: str) -> None:
    place, attribute = SWITCHES[name]
    before = getattr(place, attribute)
    try:
        for value in (not before, before):
            setattr(place, attribute, value)
            assert environment.determinism()[name] is value
    finally:
        setattr(place, attribute, before)


def test_deterministic_algorithms_and_precision_are_told() -> None:
    precision = torch.get_float32_matmul_precision()
    assert environment.determinism()["deterministic_algorithms"] is False
    torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("medium")
    try:
        found = environment.determinism()
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_float32_matmul_precision(precision)
    assert found["deterministic_algorithms"] is True
    assert found["float32_matmul_precision"] == "medium"
    assert environment.determinism()["float32_matmul_precision"] == precision


@pytest.mark.parametrize("name", ["CUBLAS_WORKSPACE_CONFIG", "OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_variables_that_change_the_arithmetic_are_told(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, ":16:8")
    assert environment.determinism()[name] == ":16:8"
    monkeypatch.delenv(name)
    assert environment.determinism()[name] is None


def test_what_a_record_holds_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with none: what torch and the driver would say is put in its place."""
    properties = SimpleNamespace(name="Imaginary 9000", total_memory=80 << 30, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: properties.name)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 92400)
    monkeypatch.setattr(environment, "driver", lambda: "550.54.15")
    found = json.loads(json.dumps(environment.describe(CUDA, 4)))
    assert found["device"] == "cuda:0"
    assert found["device_name"] == "Imaginary 9000"
    assert found["gpu"] == {"name": "Imaginary 9000", "memory": 85_899_345_920, "capability": "9.0"}
    assert (found["driver"], found["packages"]["cudnn"]) == ("550.54.15", "92400")


KERNEL = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build"


@pytest.fixture
def no_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine whose kernel tells of no driver and whose PATH has this one folder."""
    monkeypatch.setattr(environment, "_DRIVER", tmp_path / "version")
    monkeypatch.setenv("PATH", str(tmp_path))
    environment.driver.cache_clear()
    yield tmp_path
    environment.driver.cache_clear()


@pytest.mark.parametrize(("line", "version"), [(KERNEL, "535.104.05"), (OPEN, "550.54.15")])
def test_the_driver_as_the_kernel_tells_it(no_driver: Path, line: str, version: str) -> None:
    (no_driver / "version").write_text(f"{line}\nGCC version: gcc version 12.3.0\n")
    assert environment.driver() == version


def test_the_driver_as_nvidia_smi_tells_it(no_driver: Path) -> None:
    tool = no_driver / "nvidia-smi"
    tool.write_text('#!/bin/sh\n[ "$1" = --query-gpu=driver_version ] && echo 560.1\necho 560.1\n')
    tool.chmod(0o755)
    assert environment.driver() == "560.1"


def test_without_a_driver_there_is_no_version(no_driver: Path) -> None:
    assert environment.driver() is None


def test_the_code_s_own_names_are_complete(repository: Path) -> None:
    """What decides a run is in one of the places that a diff is made of."""
    assert all((repository / name).exists() for name in provenance.CODE)


@pytest.fixture
def refusing_git(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """git as it is where another user owns the tree."""
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)  # where every directory may be called safe
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")


@pytest.mark.usefixtures("refusing_git")
def test_a_tree_that_git_refuses_is_told_with_the_remedy(tree: Path, tmp_path: Path) -> None:
    assert provenance.source(tree).record() == {"commit": None, "dirty": None, "diff": None}
    note = provenance.note(tree, None, tmp_path)
    assert f"git config --global --add safe.directory '{tree}'" in note
    assert note.count("safe.directory") == 1, "what is no repository is nobody's fault"
    assert "\n" not in note


def test_a_tree_that_git_knows_needs_no_note(tree: Path, tmp_path: Path) -> None:
    assert provenance.note(tree, None, tmp_path) == ""


@pytest.mark.usefixtures("refusing_git")
def test_the_note_is_told_once_before_the_runs(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    experiment = Experiment.load(Workspace({"CONFIG": "sgd", "O": str(tmp_path)}))
    launch = Launch(experiment)
    monkeypatch.setattr(launch_module, "Pool", _Idle)
    launch.train(Catalogue.missing)
    assert capsys.readouterr().out.count("safe.directory") == 1


class _Idle:
    """A pool that trains nothing, and asks for the code as often as one whose code changes."""

    def __init__(self, *arguments, source, **named) -> None:
        assert source()["commit"] is source()["commit"] is None

    def run(self, jobs):
        return Outcome()
