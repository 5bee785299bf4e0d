"""A run that several processes train: one directory, one record, and no process left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import replace

import pytest

from adamwprune.base import registry
from adamwprune.pruning import ContractViolation
from adamwprune.run import ranks, runner
from tests.run.test_resume import Killed, killer, record
from tests.support.runs import TOY, job_of, specs

pytestmark = pytest.mark.slow

SHORT = {"STEPS": "20", "EVALUATION_INTERVAL": "10"}


def others() -> list[int]:
    """The processes that this one has started and that are alive."""
    told = subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-f", "run.mirror"],
        capture_output=True,
        text=True,
        check=False,
    )
    return [int(number) for number in told.stdout.split()]


@pytest.fixture
def spec():
    (found,) = specs(
        OPTIMIZER="adamw", PRUNING_METHOD="state", STEPS="20", EVALUATION_INTERVAL="10"
    )
    return found


def assert_same(one, other):
    """Two records tell of the same bits. Of an update's bytes, those of the digests that ranks
    compare count or not, by whether gloo's thread has let go of them when it ends.
    """
    (parts, history), (others_parts, others_history) = record(one), record(other)
    found = parts["memory"]["mask_update"].pop("transient")
    expected = others_parts["memory"]["mask_update"].pop("transient")
    digests = (1 + one.environment["ranks"]) * 16 * len(one.pruning["layers"])
    assert abs(found - expected) in (0, digests)
    assert (parts, history) == (others_parts, others_history)


def test_what_is_killed_goes_on_to_the_same_bits(train, spec):
    """The run, once; then one of its ranks, at which it crashes and says which."""
    whole = train(spec, name="whole", ranks=2)
    assert whole.status == "done", whole.error
    assert (whole.environment["ranks"], whole.environment["sharded"]) == (2, False)
    assert whole.pruning["k"] == whole.pruning["zeros"]
    assert others() == []
    with pytest.raises(Killed):
        train(spec, killer(7), name="killed", ranks=2, checkpoint_seconds=0)
    assert others() == []

    def kill_another(event):
        if event["event"] == "progress" and event["step"] >= 12:
            for number in others():
                os.kill(number, signal.SIGKILL)

    with pytest.raises(runner.Crashed, match="rank 1 was killed by SIGKILL"):
        train(spec, kill_another, name="killed", ranks=2, checkpoint_seconds=0)
    assert others() == []
    result = train(spec, name="killed", ranks=2)
    assert [attempt["from_step"] for attempt in result.environment["attempts"]] == [0, 7, 12]
    assert_same(result, whole)


def test_a_rank_ends_with_the_process_that_started_it(train, spec, tmp_path):
    job = replace(job_of(spec, tmp_path / "run"), ranks=2)
    rank = ranks._started(job, {"port": 1, "checkpoint": "", "threads": 1, "rank": 1})
    assert rank.stdout.readline() == "ready\n"
    rank.stdin.close()
    assert rank.wait(20) == 1


def test_a_signal_to_stop_is_left_to_rank_0(spec, tmp_path):
    """Ctrl-C and Slurm reach all processes: rank 0 needs the others to get to a checkpoint."""
    job = replace(job_of(spec, tmp_path / "run"), ranks=2)
    rank = ranks._started(job, {"port": 1, "checkpoint": "", "threads": 1, "rank": 1})
    assert rank.stdout.readline() == "ready\n"
    assert os.getpgid(rank.pid) != os.getpgid(0)
    for number in (signal.SIGINT, signal.SIGTERM):
        rank.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        rank.wait(1)
    rank.kill()
    assert rank.wait(20) == -signal.SIGKILL


def kill_others(*_):
    for number in others():
        os.kill(number, signal.SIGKILL)


def test_a_rank_killed_right_after_a_checkpoint_was_loaded_is_not_the_checkpoint_s_fault(
    train, spec
):
    with pytest.raises(Killed):
        train(spec, killer(7), ranks=2, checkpoint_seconds=0)
    for _ in range(2):  # of two checkpoints
        with pytest.raises(runner.Crashed, match="rank 1 was killed by SIGKILL") as crash:
            train(spec, kill_others, ranks=2)
        assert crash.value.out_of_memory  # as a worker that the kernel kills
        assert str(crash.value).rstrip().endswith("rank 1 was killed by SIGKILL")
    result = train(spec, ranks=2)
    assert [attempt["from_step"] for attempt in result.environment["attempts"]] == [0, 7]


def test_a_verdict_stays_one_where_the_others_have_ended_before(train, spec):
    def differ(event):
        if event["event"] == "progress":
            kill_others()
            time.sleep(0.5)
            raise ContractViolation("planted")

    result = train(spec, differ, ranks=2)
    assert result.status == "failed"
    assert result.error.rstrip().endswith("planted")


LOUD = """

class Loud(nn.Sequential):
    def forward(self, x):
        print("x" * 4000)
        return super().forward(x)
"""


def test_what_a_network_prints_blocks_no_rank(train, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(TOY, mine)
    member = mine / "models" / "toy.py"
    member.write_text(member.read_text().replace("= nn.Sequential(", "= Loud(") + LOUD)
    limit = threading.Timer(60, kill_others)
    limit.start()
    with registry.using(mine):
        (spec,) = specs(
            MODEL="toy", DATASET="toy", BATCH_SIZE="4", OPTIMIZER="sgd", PRUNING_METHOD="none"
        )
        assert train(spec, ranks=2).status == "done"
    limit.cancel()


def test_on_another_number_of_ranks_it_goes_on_and_says_so(train, spec, tmp_path):
    with pytest.raises(Killed):
        train(spec, killer(7), ranks=2, checkpoint_seconds=0)
    notes = []
    result = train(spec, notes.append)
    told = "was made by 2 ranks and goes on by 1 rank: the last bits will differ"
    assert any(told in event.get("text", "") for event in notes)
    assert told in (tmp_path / "run" / "log.txt").read_text()
    assert result.status == "done"
    assert result.environment["ranks"] == 1
    assert result.pruning["k"] == result.pruning["zeros"]


def test_a_rank_that_cannot_start_is_a_crash_that_names_it(train, spec, monkeypatch):
    started = ranks._started

    def without_a_store(job, words):
        return started(job, {**words, "checkpoint": "/nowhere"})

    monkeypatch.setattr(ranks, "_started", without_a_store)
    with pytest.raises(runner.Crashed, match="rank 1 ended with 1 before it had begun"):
        train(spec, ranks=2)
    assert others() == []


@pytest.fixture
def sharded():
    """The runs that shards can train: implied masks."""
    (found,) = specs(OPTIMIZER="adamw", PRUNING_METHOD="state", MASK_STORAGE="implied", **SHORT)
    return found


def test_a_sharded_run_is_that_of_one_process_and_holds_its_rows_alone(train, sharded):
    alone = train(sharded, name="alone")
    whole = train(sharded, name="whole", ranks=2, shards=True)
    assert whole.status == "done", whole.error
    assert whole.pruning["k"] == whole.pruning["zeros"] == alone.pruning["k"]
    assert whole.final == pytest.approx(alone.final, rel=0.02, abs=0.02)
    for theirs, its in zip(whole.operations["layers"], alone.operations["layers"], strict=True):
        assert "mean_density" not in theirs  # the ranks would have to count together
        assert {**theirs, "mean_density": its["mean_density"]} == its
    for owner in ("weights", "gradients"):
        assert whole.memory[owner] < 0.52 * alone.memory[owner]
    assert whole.memory["optimizer"]["exp_avg"] < 0.52 * alone.memory["optimizer"]["exp_avg"]
    assert {u["step"]: u["zeros"] for u in whole.pruning["updates"]} == {
        u["step"]: u["zeros"] for u in alone.pruning["updates"]
    }


def test_a_sharded_run_goes_on_to_the_same_bits_and_unsharded(train, sharded):
    whole = train(sharded, name="whole", ranks=2, shards=True)
    for name in ("killed", "alone"):
        with pytest.raises(Killed):
            train(sharded, killer(7), name=name, ranks=2, shards=True, checkpoint_seconds=0)
    again = train(sharded, name="killed", ranks=2, shards=True)
    assert [attempt["from_step"] for attempt in again.environment["attempts"]] == [0, 7]
    assert_same(again, whole)
    assert again.environment["sharded"]
    notes = []
    alone = train(sharded, notes.append, name="alone")
    told = "was made by 2 ranks (sharded) and goes on by 1 rank: the last bits will differ"
    assert any(told in event.get("text", "") for event in notes)
    assert [attempt["from_step"] for attempt in alone.environment["attempts"]] == [0, 7]
    assert alone.pruning["k"] == alone.pruning["zeros"] == whole.pruning["k"]
