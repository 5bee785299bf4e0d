"""What is shown of a matrix, on a real terminal and in a log."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pexpect
import pytest

from adamwprune.progress import eta, history, live, rows, steps
from adamwprune.progress.eta import Estimate
from adamwprune.progress.history import Score
from adamwprune.progress.live import QUIET, Lines, Matrix, Watcher, display, summary
from adamwprune.progress.rows import Counts
from adamwprune.records.record import RunResult
from adamwprune.scheduler.devices import Slot
from tests.progress.screen import Screen
from tests.progress.shown import event
from tests.support.records import expand, synthetic

CPU = Slot("cpu", 1)
SPECS = expand("memory-comparison")
ROOT = Path(__file__).resolve().parents[2]


class Clock:
    """A clock that is set by hand, in seconds."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def record(spec, total: float = 60.0, status: str = "done") -> RunResult:
    here = {"host": os.uname().nodename, "device": "cpu", "threads": 1}
    seconds = {"total": total, "train": total}
    return replace(synthetic(spec), status=status, environment=here, seconds=seconds)


def test_of_many_runs_an_estimate_is_not_made_for_each_end(tmp_path, monkeypatch):
    """It looks at all runs that are left: thousands of them would cost seconds an end."""
    monkeypatch.setattr(live, "FEW", 20)
    clock, made = Clock(), []
    matrix = Matrix(SPECS, [CPU] * 2, [record(SPECS[0])], tmp_path, clock)
    estimate = matrix.estimate
    monkeypatch.setattr(matrix, "estimate", lambda: made.append(len(matrix.waiting)) or estimate())
    for spec in SPECS:
        clock.now += live.REFRESH if len(matrix.waiting) == 25 else 0.0
        matrix.start(spec)
        matrix.end(spec, record(spec))
    assert len(SPECS) == 42
    assert made == [24, *range(20, -1, -1)]
    assert matrix.left == Estimate(0.0, 0.0)


# -- on a terminal -------------------------------------------------------------------------------


def shown(rows: int, columns: int, *arguments: str) -> tuple[Screen, Screen]:
    """The screen while a matrix runs and after it; the process is a real one on a real terminal."""
    paths = os.pathsep.join([str(ROOT / "lib"), str(ROOT)])
    child = pexpect.spawn(
        sys.executable,
        ["-m", "tests.progress.shown", *arguments],
        dimensions=(rows, columns),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths, "TERM": "xterm-256color"},
        encoding="utf-8",
        timeout=60,
    )
    child.expect("<looked at>")
    during = child.before
    child.expect(pexpect.EOF)
    return Screen(rows, columns).feed(during), Screen(rows, columns).feed(during + child.before)


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_a_terminal_shows_a_line_for_each_run_and_one_for_the_matrix(columns):
    during, after = shown(24, columns, "3")
    lines = during.text.splitlines()
    assert during.wrapped == 0
    assert lines[0] == "note    waiting for another make (pid 123)"
    assert lines[1] == "retry   1 of 1: lenet5-mnist-sgd-none-s0: signal SIGKILL"
    assert lines[2].startswith("[ 1/42] done    lenet5-mnist-sgd-magnitude-50-s0  96.26%  ")
    head, first, second, last = lines[3:]
    assert head.split()[:6] == ["run", "epoch", "loss", "accuracy", "sparsity", "steps/s"]
    values = ["3/10", "0.0412", "98.76%", "49.9%", "120"]
    assert first.split()[:6] == ["lenet5-mnist-sgd-none-s0", *values]
    assert second.split()[0] in (SPECS[2].slug, rows.shortened(SPECS[2].slug, 32))
    assert second.split()[1:6] == values
    assert last.startswith("matrix  1 done, 0 failed, 2 running, 39 left  0:0")
    assert "  ETA " in last
    assert " (P90 " in last
    assert "matrix" not in after.text, "what is drawn goes at the end, what was said stays"
    assert after.text.splitlines()[:3] == lines[:3]


def test_forty_runs_fit_a_small_screen():
    during, _ = shown(24, 80, "40")
    lines = during.text.splitlines()
    assert during.wrapped == 0
    assert len(lines) <= 24
    assert lines[-2] == "... and 19 more"
    assert lines[-1].startswith("matrix  1 done, 0 failed, 39 running, 2 left")
    assert sum(line.startswith("run  ") for line in [*during.gone, *lines]) == 1, "drawn once"


def test_a_terminal_is_left_as_it_was_when_the_matrix_is_stopped():
    _, after = shown(24, 80, "2", "fail")
    assert "matrix  " not in after.text
    assert "KeyboardInterrupt" in after.text


def test_a_tiny_terminal_shows_what_it_can():
    during, _ = shown(6, 40, "2")
    words = " ".join(during.text.split())
    assert "1 running, 40 left" in words
    assert " ETA " in words


# -- in a log ------------------------------------------------------------------------------------


def test_a_log_has_a_line_for_each_event(capsys):
    clock = Clock()
    lines = Lines(Matrix(SPECS[:3], [CPU], [record(SPECS[5])], Path("/nowhere"), clock))
    lines.open()
    lines.started(SPECS[0], CPU)
    for step in range(1, 300):
        lines.progress(SPECS[0], event(SPECS[0], step))
    lines.told(f"retry 1 of 1: {SPECS[0].slug}: signal SIGKILL")
    lines.told("stopping at a checkpoint; again: at once")
    lines.ended(SPECS[0], record(SPECS[0]))
    lines.started(SPECS[1], Slot("cuda:0", 4))
    failed = replace(record(SPECS[1], status="failed"), error="Traceback\nValueError: a\x1b[2Jb")
    lines.ended(SPECS[1], failed)
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == [
        *("eta", "start", "retry", "note", "[1/3]", "eta", "start", "[2/3]", "eta"),
    ]
    assert said[0].endswith(")  0 done, 0 failed, 0 running, 3 left")
    assert said[1] == "start   lenet5-mnist-sgd-none-s0  cpu, 1 thread"
    assert said[2] == "retry   1 of 1: lenet5-mnist-sgd-none-s0: signal SIGKILL"
    assert said[3] == "note    stopping at a checkpoint; again: at once"
    assert said[4] == f"[1/3] {summary(SPECS[0], record(SPECS[0]))}"
    assert said[6].endswith("cuda:0, 4 threads")
    assert "ValueError: a [2Jb  (results: lenet5-" in said[7], "no control characters"


def test_a_log_is_never_silent_for_long(capsys):
    clock = Clock()
    lines = Lines(Matrix(SPECS[:1], [CPU], [], Path("/nowhere"), clock))
    lines.started(SPECS[0], CPU)
    for _ in range(10):
        clock.now += QUIET / 4
        lines.progress(SPECS[0], event(SPECS[0], 300))
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == ["start", "eta", "eta"]


def test_without_a_terminal_lines_are_printed(capsys, tmp_path):
    with display(SPECS[:1], [CPU], [], tmp_path) as shown:
        shown.started(SPECS[0], CPU)
    assert capsys.readouterr().out == "start   lenet5-mnist-sgd-none-s0  cpu, 1 thread\n"


def test_a_line_can_be_said_in_any_encoding():
    assert rows.printable("…\n\x1b", "ascii") == "\\u2026  "
    assert rows.printable("…", "utf-8") == "…"


# -- the matrix and its estimate -----------------------------------------------------------------


def test_every_run_is_somewhere():
    matrix = Matrix(SPECS[:4], [CPU, CPU], [], Path("/nowhere"))
    assert matrix.counts == Counts(0, 0, 0, 4)
    assert matrix.left is None
    for spec in SPECS[:3]:
        matrix.start(spec)
    assert matrix.counts == Counts(0, 0, 3, 1)
    matrix.start(SPECS[0])
    assert matrix.counts == Counts(0, 0, 3, 1), "a run that is tried again is one run"
    matrix.stop(SPECS[1])
    assert matrix.counts == Counts(0, 0, 2, 2)
    matrix.end(SPECS[0], record(SPECS[0]))
    matrix.end(SPECS[1], record(SPECS[1], status="failed"))
    assert matrix.counts == Counts(1, 1, 1, 1)
    matrix.update(SPECS[3], event(SPECS[3], 3))
    assert matrix.counts == Counts(1, 1, 1, 1), "the last words of a run that is not in hand"


def test_an_estimate_runs_down_between_two(tmp_path):
    clock = Clock()
    matrix = Matrix(SPECS[:2], [CPU], [record(SPECS[5])], tmp_path, clock)
    before = matrix.left
    clock.now += 10
    assert matrix.left == Estimate(before.p50 - 10, before.p90 - 10)
    clock.now += 10_000
    assert matrix.left == Estimate(0, 0)


def test_an_interrupted_run_has_its_rest_left(tmp_path):
    def left() -> float:
        return Matrix(SPECS[:1], [CPU], [record(SPECS[0], 600)], tmp_path).left.p50

    whole = left()
    folder = tmp_path / SPECS[0].run_id
    folder.mkdir()
    (folder / "progress.json").write_text(json.dumps({"step": 590, "rate": 0.001}))
    assert left() == pytest.approx(whole), "without a checkpoint it starts anew"
    (folder / "checkpoint.pt").touch()
    assert left() == pytest.approx((whole - 6) / 2 + 6, rel=0.02)


def finish(shown: Watcher, clock: Clock, failed: int = 0) -> None:
    """Run through two runs of 70 s each, where 60 s were to be expected."""
    shown.matrix.now = clock
    shown.matrix.began = clock()
    for index, spec in enumerate(SPECS[:2]):
        shown.started(spec, CPU)
        clock.now += 70
        shown.ended(spec, record(spec, 70, "failed" if index < failed else "done"))


def test_the_estimate_is_scored(capsys, tmp_path):
    with display(SPECS[:2], [CPU], [record(SPECS[5])], tmp_path) as shown:
        left, first = shown.matrix.left, shown.matrix.predicted
        finish(shown, Clock())
    assert (left.p50, left.p90) == pytest.approx((first.p50, first.p90), abs=1)
    assert first.p50 == pytest.approx(2 * 60 + 6, rel=0.05)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"estimated {rows.quantiles(first)}, took 2:20"
    (line,) = (tmp_path / history.FILE).read_text().splitlines()
    scored = json.loads(line)
    assert scored["seconds"] == 140.0
    assert scored["runs"] == 2
    assert (scored["p50"], scored["p90"]) == pytest.approx((first.p50, first.p90), abs=0.1)
    assert history.scores(tmp_path) == (1, 1)


def test_a_measured_step_is_the_first_estimate_where_there_is_no_record(tmp_path, monkeypatch):
    """What was said before the first run started is what is scored in the end."""
    answers = SimpleNamespace(known=lambda values: {"seconds": 0.1})
    monkeypatch.setattr(steps, "_STEP", answers)
    seconds = steps.OVERHEAD * 0.1 * SPECS[0].total_steps + eta.START
    with display(SPECS[:1], [CPU], [], tmp_path, here=True) as shown:
        assert shown.matrix.predicted.p50 == pytest.approx(seconds, rel=0.01)
    with display(SPECS[:1], [CPU], [], tmp_path) as shown:
        assert shown.matrix.predicted is None, "a cluster's nodes are other machines"


def test_what_comes_after_the_last_run_is_not_part_of_what_it_took(capsys, tmp_path):
    """Trackers that have not written everything, for half a minute."""
    clock = Clock()
    with display(SPECS[:2], [CPU], [record(SPECS[5])], tmp_path) as shown:
        finish(shown, clock)
        clock.now += 30
        assert shown.matrix.elapsed == 140.0
    assert capsys.readouterr().out.splitlines()[-1].endswith(", took 2:20")
    assert json.loads((tmp_path / history.FILE).read_text())["seconds"] == 140.0


def test_what_failed_or_was_stopped_is_not_scored(capsys, tmp_path):
    with display(SPECS[:2], [CPU], [record(SPECS[5])], tmp_path) as shown:
        finish(shown, Clock(), failed=1)
    with (
        pytest.raises(KeyboardInterrupt),
        display(SPECS[:2], [CPU], [record(SPECS[5])], tmp_path) as shown,
    ):
        raise KeyboardInterrupt
    assert "estimated" not in capsys.readouterr().out
    assert not (tmp_path / history.FILE).exists()


def test_a_matrix_without_a_past_is_held_to_its_rates_once_they_have_settled(tmp_path):
    clock = Clock()
    matrix = Matrix(SPECS[:2], [CPU], [], tmp_path, clock)
    matrix.start(SPECS[0])
    clock.now += 3
    matrix.update(SPECS[0], {"step": 1, "rate": 0.5})
    assert matrix.predicted is None
    clock.now += 7
    matrix.update(SPECS[0], {"step": 100, "rate": 10.0})
    assert matrix.predicted.p50 == pytest.approx(10 + (2 * 1180 - 100) / 10, rel=0.1)
    before = matrix.predicted
    matrix.end(SPECS[0], record(SPECS[0], 9999))
    assert matrix.predicted == before


def test_a_score_that_cannot_be_kept_is_said(capsys, tmp_path):
    with display(SPECS[:2], [CPU], [record(SPECS[5])], tmp_path / "none") as shown:
        finish(shown, Clock())
    assert "score is lost: No such file" in capsys.readouterr().out.splitlines()[-1]


def test_damaged_scores_are_none(tmp_path):
    assert history.scores(tmp_path) == (0, 0)
    for seconds in (90.0, 100.0, 101.0):
        Score(Estimate(80, 100), seconds, 3).append_to(tmp_path)
    with (tmp_path / history.FILE).open("ab") as stream:
        stream.write(b'{"p90": 5\n[]\n3\n\xff\n{"p90": NaN, "seconds": 1}\n{"p90": "9"}\n\n')
    assert history.scores(tmp_path) == (2, 3)


# -- texts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (-3, "0:00"),
        (59.6, "1:00"),
        (750, "12:30"),
        (3750, "1:02:30"),
        (1e6, "277:46:40"),
    ],
)
def test_durations(seconds, text):
    assert rows.clock(seconds) == text


def test_a_name_keeps_the_end_that_tells_runs_apart():
    slug = "lenet5-mnist-adamwprune-state-precond-90-s0"
    assert rows.shortened(slug, 43) == slug
    assert rows.shortened(slug, 32) == "lenet5..rune-state-precond-90-s0"
    for width in range(60):
        assert len(rows.shortened(slug, width)) == min(width, len(slug))
    slugs = {rows.shortened(spec.slug, 32) for spec in SPECS}
    assert len(slugs) == len(SPECS)


def test_a_finished_run_s_line_fits_a_terminal():
    for spec in SPECS:
        assert len("[42/42] " + summary(spec, synthetic(spec), 72)) <= 80
        assert summary(spec, synthetic(spec)) == summary(spec, synthetic(spec), 200)
    assert "weights zero" in summary(SPECS[0], synthetic(SPECS[0]))


def test_a_loss_that_rose_tenfold_is_told():
    def ended(*losses: float) -> str:
        curve = [{"epoch": at + 1, "train_loss": loss} for at, loss in enumerate(losses)]
        return summary(SPECS[0], replace(synthetic(SPECS[0]), history=curve))

    assert ", loss rose from 2.3 to 2e+26  " in ended(2.3, 4.0, 2e26)
    assert "rose" not in ended(2.3, 0.1, 0.9) + ended(2e26)
