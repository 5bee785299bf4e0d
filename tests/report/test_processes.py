"""Figures in processes of their own: the same files, every failure named, and none left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adamwprune.base.errors import UserError
from adamwprune.report import figures, style
from adamwprune.report.figures import optimizers, processes, sparsity, training
from adamwprune.report.figures.parts import Drawing
from adamwprune.report.groups import Setting

FEW = (optimizers.baseline, training.example)


def refuse() -> int:
    raise UserError("no room")


def divide() -> int:
    return 1 // 0


def die() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


@pytest.mark.parametrize("jobs", [1, 2, 8])
def test_values_are_in_the_order_of_their_tasks(jobs):
    def task(number: int) -> tuple[int, int]:
        time.sleep(0.02 * (number % 3))
        return number, os.getpid()

    tasks = ((str(n), lambda n=n: task(n)) for n in range(7))
    found = processes.run(tasks, jobs)
    assert [number for number, _ in found] == list(range(7))
    assert (os.getpid() in {pid for _, pid in found}) == (jobs == 1)
    assert len({pid for _, pid in found}) <= jobs
    assert processes.run([], jobs) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failure_names_its_task_and_the_others_are_done(jobs, tmp_path):
    tasks = [("bad", divide), ("one", (tmp_path / "one").touch), ("two", (tmp_path / "two").touch)]
    with pytest.raises(RuntimeError, match=r"^bad: Traceback") as error:
        processes.run(tasks, jobs)
    assert "ZeroDivisionError" in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_the_user_can_mend_is_a_message(jobs):
    with pytest.raises(UserError) as error:
        processes.run([(f"figure {n}", refuse) for n in range(5)], jobs)
    assert str(error.value).splitlines() == [
        *(f"figure {n}: no room" for n in range(3)), "and 2 more"]  # fmt: skip


def test_a_process_that_is_killed_is_told():
    with pytest.raises(
        RuntimeError, match=r"(?m)^bad: not done: a process of the pool was killed$"
    ):
        processes.run([("bad", die), ("good", int)], 2)


@pytest.mark.slow
def test_figures_of_many_processes_are_those_of_one(tmp_path, quick, make, monkeypatch):
    monkeypatch.setitem(style.SHEET, "figure.dpi", 50)
    monkeypatch.setattr(figures, "FIGURES", (*FEW, optimizers.at_each_sparsity, sparsity.pareto))
    records = [make(spec) for spec in quick]
    names = {}
    for jobs in (1, 3):
        monkeypatch.setattr(processes, "cores", lambda jobs=jobs: jobs)
        folder = tmp_path / str(jobs)
        drawn = figures.draw_all(quick, records, folder, figures.FORMATS, data=True)
        names[jobs] = [path.relative_to(folder) for path in drawn]
    assert names[1] == names[3]
    assert len(names[1]) >= 10
    for name in names[1]:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "3" / name).read_bytes(), name


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_figure_that_breaks_is_named_and_the_others_are_drawn(
    jobs, tmp_path, quick, make, monkeypatch
):
    def broken(setting: Setting) -> Iterator[Drawing]:
        yield Drawing("lazy", divide, ())  # type: ignore[arg-type]
        divide()

    monkeypatch.setattr(figures, "FIGURES", (broken, *FEW))
    monkeypatch.setattr(processes, "cores", lambda: jobs)
    with pytest.raises(RuntimeError) as error:
        figures.draw_all(quick, [make(spec) for spec in quick], tmp_path)
    lines = str(error.value).splitlines()
    assert [line.split(":")[0] for line in lines if line.endswith("last):")] == ["lazy", "broken"]
    assert {path.name for path in tmp_path.iterdir()} == {
        "optimizer_comparison_baseline.png", "training_plot.png"}  # fmt: skip


SLEEPING = """
import sys, time
from adamwprune.report.figures import processes
assert "torch" not in sys.modules
print("ready", flush=True)
processes.run([(str(n), lambda: time.sleep(600)) for n in range(9)], 3)
"""


@pytest.mark.parametrize("whole", [True, False])
def test_ctrl_c_ends_all_of_them(whole):
    """To the group, as a terminal sends it, or to the process alone."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPING],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while len(children.read_text().split()) < 3:
        time.sleep(0.01)
    (os.killpg if whole else os.kill)(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert errors.count("Traceback") == 1  # the parent's own
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
