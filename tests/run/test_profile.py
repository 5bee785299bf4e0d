"""Profiles of a run: a trace that can be read, and shares that are a whole."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from adamwprune.base.errors import UserError
from adamwprune.run import profiler
from tests.support.runs import specs

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
STEPS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("profiles")


@pytest.fixture(scope="module")
def profiled(folder: Path) -> Callable[..., profiler.Profile]:
    """The profile of a short configuration; each is made once."""
    made: dict[tuple[str, ...], profiler.Profile] = {}

    def profile(optimizer: str, method: str, **settings: str) -> profiler.Profile:
        key = (optimizer, method, *sorted(settings.values()))
        if key not in made:
            (spec,) = specs(OPTIMIZER=optimizer, PRUNING_METHOD=method, **settings)
            path = folder / f"{spec.run_id}.json"
            made[key] = profiler.profile(spec, Path("/nowhere"), "cpu", 1, path, STEPS)
        return made[key]

    return profile


RUNS = [("adamw", "none"), ("adamwprune", "state"), ("adam", "movement")]


@pytest.mark.parametrize(("optimizer", "method"), RUNS)
def test_shares_of_the_phases_add_up(
    optimizer: str, method: str, profiled: Callable[..., profiler.Profile]
) -> None:
    found = profiled(optimizer, method)
    assert tuple(found.phases) == profiler.PHASES
    assert sum(found.phases.values()) == pytest.approx(found.milliseconds, rel=0.01)
    for phase in ("data", "forward", "backward", "optimizer", "other"):
        assert found.phases[phase] > 0, phase
    prunes = method != "none"
    assert (found.phases["pruning"] > 0) == prunes
    assert (found.phases["mask update"] > 0) == prunes


def test_backward_holds_the_operators_of_backward(
    profiled: Callable[..., profiler.Profile],
) -> None:
    found = profiled("adamw", "none")
    backward = found.operators["aten::convolution_backward"]
    assert 0 < backward < found.phases["backward"]


def test_the_trace_is_json_with_a_range_a_step(
    folder: Path, profiled: Callable[..., profiler.Profile]
) -> None:
    found = profiled("adamwprune", "state")
    trace = json.loads((folder / f"{found.run_id}.json").read_text())
    names = [event.get("name") for event in trace["traceEvents"] if event.get("ph") == "X"]
    assert names.count("adamwprune: step") == STEPS
    assert names.count("adamwprune: mask update") == 1
    assert names.count("adamwprune: forward") == STEPS


def test_the_summary_fits_a_screen(profiled: Callable[..., profiler.Profile]) -> None:
    lines = profiled("adamwprune", "state").text().splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 100
    assert "one of these 6 steps updates the masks, 5 of the run's 32 do" in lines[2]
    assert lines[4].split() == ["phase", "ms", "share"]


def test_nothing_stays_wrapped(profiled: Callable[..., profiler.Profile]) -> None:
    profiled("adamw", "none")
    assert Tensor.backward is torch.Tensor.backward
    assert not hasattr(Tensor.backward, "__wrapped__")


def test_a_range_within_another_counts_once() -> None:
    totals = {"step": 100.0, "data": 5.0, "forward": 20.0, "backward": 40.0,
              "optimizer": 30.0, "pruning": 12.0, "mask update": 8.0}  # fmt: skip
    assert profiler._phases(totals, 1) == {
        "data": 0.005,
        "forward": 0.02,
        "backward": 0.04,
        "optimizer": 0.018,
        "pruning": 0.004,
        "mask update": 0.008,
        "other": 0.005,
    }


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (spec,) = specs(OPTIMIZER="sgd", PRUNING_METHOD="none")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        profiler.profile(spec, Path("/nowhere"), "cpu", 1, tmp_path / "file" / "x.json", 1)


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "-C", str(ROOT), "VENV=", f"PYTHON={sys.executable}", f"O={folder}"]
    return subprocess.run([*command, *words], capture_output=True, text=True, check=False)


def test_make_profile_names_its_run(tmp_path: Path) -> None:
    words = ("CONFIG=adamw", "DATASET=mnist5k", "DEVICE=cpu", "THREADS=1", "profile")
    assert "make profile needs RUN=" in make(tmp_path, *words).stderr
    assert "no run starts with 'x'" in make(tmp_path, "RUN=x", *words).stderr
    done = make(tmp_path, "RUN=lenet5-mnist5k", *words)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (path,) = (tmp_path / "results" / "profile").iterdir()
    assert path.name.startswith("lenet5-mnist5k-adamw-none-s0-")
    assert str(path) in done.stdout
    assert {each.name for each in (tmp_path / "results").iterdir()} == {"profile"}
