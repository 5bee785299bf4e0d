"""The estimate against schedules worked out by hand, and what must hold of any estimate."""

import math
import random
import socket
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adamwprune.config.tree import Tree
from adamwprune.plan.matrix import expand
from adamwprune.plan.spec import RunSpec
from adamwprune.progress.eta import START, Estimate, Paces, Work, remaining
from adamwprune.records.record import RunResult
from adamwprune.scheduler.devices import Slot

CPU = Slot("cpu", 1)
BASE = expand(Tree()).specs[0]
STEPS = BASE.total_steps


def run(seed: int = 0, **values: object) -> RunSpec:
    return RunSpec({**BASE.values, "SEED": seed, **values})


def record(spec: RunSpec, total: float, threads: int = 1, host: str | None = None) -> RunResult:
    environment = {
        "host": socket.gethostname() if host is None else host,
        "device": "cpu",
        "threads": threads,
    }
    seconds = {"total": total, "train": total}
    return RunResult(spec.run_id, "done", spec, seconds=seconds, environment=environment)


def waiting(count: int) -> list[Work]:
    return [Work(run(seed), STEPS) for seed in range(1, count + 1)]


@pytest.mark.parametrize("train", [5e-324, 1e-9, -1.0, math.nan, 61.0])
def test_a_share_of_training_that_no_run_has_is_none(train):
    sound = record(run(), 60.0)
    odd = replace(sound, seconds={"total": 60.0, "train": train})
    in_hand = [Work(run(1), STEPS, STEPS / 60)]
    assert remaining(in_hand, [], [CPU], Paces([odd])) == remaining(
        in_hand, [], [CPU], Paces([sound])
    )


def median(hand: list[Work], todo: list[Work], slots: int, past: Paces) -> float:
    """P50 where each slot has a worker that has started: the schedule of the runs' medians."""
    return remaining(hand, todo, [CPU] * slots, past, warm=slots).p50


@pytest.mark.parametrize(
    ("runs", "slots", "expected"),
    [(1, 1, 60), (7, 2, 240), (8, 2, 240), (9, 2, 300), (3, 5, 60), (42, 4, 660)],
)
def test_identical_runs_take_their_rounds(runs, slots, expected):
    past = Paces([record(run(), 60.0)])
    assert median([], waiting(runs), slots, past) == pytest.approx(expected)


def test_runs_go_in_order_to_the_slot_that_is_free_first():
    """Seconds 10, 40, 20, 30 on two slots: 10+20 and 40, then 30 after the 30: 60."""
    lengths = {"sgd": 10.0, "adam": 40.0, "adamw": 20.0, "adamwspam": 30.0}
    past = Paces([record(run(0, OPTIMIZER=name), total) for name, total in lengths.items()])
    todo = [Work(run(1, OPTIMIZER=name), STEPS) for name in lengths]
    assert median([], todo, 2, past) == pytest.approx(60)
    longest_first = [todo[1], todo[3], todo[2], todo[0]]  # 40+10, 30+20
    assert median([], longest_first, 2, past) == pytest.approx(50)


def test_a_running_run_has_its_rest_left_and_holds_its_slot():
    past = Paces([record(run(), 60.0)])
    hand = [Work(run(1), STEPS // 4)]
    rest = 60 * (STEPS // 4) / STEPS
    assert median(hand, waiting(1), 1, past) == pytest.approx(rest + 60)


def test_without_a_past_the_rates_of_now_are_what_is_known():
    todo = waiting(2)
    assert remaining([], todo, [CPU], Paces()) is None
    assert remaining([Work(run(9), 100)], todo, [CPU], Paces()) is None
    hand = [Work(run(9), 100, rate=10.0)]
    assert median(hand, todo, 1, Paces()) == pytest.approx(10 + 2 * STEPS / 10)
    assert remaining(hand, [Work(run(1, MODEL="another"), 50)], [CPU], Paces()) is None


def test_a_new_worker_takes_its_time_to_start():
    past, todo = Paces([record(run(), 60.0)]), waiting(4)
    assert remaining([], todo, [CPU] * 2, past).p50 == pytest.approx(120 + START)
    hand = [Work(run(9), STEPS)]
    assert remaining(hand, todo[:1], [CPU] * 2, past).p50 == pytest.approx(60 + START)
    assert remaining(hand, [], [CPU] * 9, past).p50 == pytest.approx(60)


def test_loading_the_data_is_no_part_of_a_run_s_pace():
    first = replace(record(run(), 70.0), seconds={"total": 70.0, "train": 60.0, "setup": 10.0})
    assert median([], waiting(1), 1, Paces([first])) == pytest.approx(60)


def test_the_runs_most_alike_say_how_long():
    past = [
        record(run(OPTIMIZER="adam", PRUNING_METHOD="movement"), 100.0),
        record(run(OPTIMIZER="adam", PRUNING_METHOD="magnitude"), 80.0),
        record(run(OPTIMIZER="sgd"), 20.0),
        record(run(OPTIMIZER="adam", PRUNING_METHOD="movement"), 7.0, threads=8),
        record(run(OPTIMIZER="adam", PRUNING_METHOD="movement"), 7.0, host="elsewhere"),
        record(run(MODEL="another"), 9999.0),
    ]

    def seconds(**values: str) -> float:
        return median([], [Work(run(1, **values), STEPS)], 1, Paces(past))

    assert seconds(OPTIMIZER="adam", PRUNING_METHOD="movement") == pytest.approx(100)
    between = math.sqrt(100 * 80)
    assert seconds(OPTIMIZER="adam", PRUNING_METHOD="state") == pytest.approx(between, rel=1e-3)
    assert seconds(OPTIMIZER="new") == pytest.approx((100 * 80 * 20) ** (1 / 3), rel=1e-3)
    two = remaining([], [Work(run(1), STEPS)], [Slot("cpu", 2)], Paces(past[:3]), warm=1)
    assert two.p50 == pytest.approx(54.29, rel=1e-3), "other threads are better than nothing"
    assert remaining([], waiting(1), [Slot("cuda:0", 1)], Paces(past)) is None


def test_nothing_left_takes_no_time():
    assert remaining([], [], [CPU], Paces()) == Estimate(0, 0)
    assert remaining([Work(run(), 0)], [], [CPU], Paces()) == Estimate(0, 0)
    assert remaining([], waiting(1), [], Paces([record(run(), 60.0)])) is None


def test_a_slow_machine_is_noticed_for_the_runs_to_come():
    past = Paces([record(run(seed), 60.0) for seed in range(10, 30)])
    usual, todo = STEPS / 60, waiting(20)

    def at(rate: float) -> Estimate:
        return remaining([Work(run(9), STEPS, rate)], todo, [CPU], past)

    assert at(usual).p50 == pytest.approx(21 * 60, rel=0.05)
    assert at(usual / 2).p50 > 1.2 * at(usual).p50
    assert at(usual / 2).p90 > 1.2 * at(usual).p90


def test_evaluation_is_counted_though_the_rate_is_of_training():
    result = record(run(), 60.0)
    past = Paces([replace(result, seconds={"total": 60.0, "train": 40.0})])
    assert median([Work(run(1), STEPS, STEPS / 40)], [], 1, past) == pytest.approx(60)


def test_errors_of_the_machine_do_not_average_out():
    past = Paces([record(run(seed), 60.0) for seed in range(10, 40)])
    few, many = (remaining([], waiting(n), [CPU], past) for n in (2, 200))
    assert many.p90 / many.p50 > 1.2
    assert few.p90 / few.p50 < 1.5


@st.composite
def situations(draw):
    seconds = draw(st.lists(st.floats(1, 1000), min_size=1, max_size=5))
    past = Paces([record(run(seed), total) for seed, total in enumerate(seconds, 100)])
    rate = st.one_of(st.none(), st.floats(0.5, 500))
    lefts = draw(st.lists(st.tuples(st.integers(1, STEPS), rate), max_size=3))
    hand = [Work(run(seed), left, fast) for seed, (left, fast) in enumerate(lefts, 50)]
    slots = max(1, len(hand)) + draw(st.integers(0, 2))
    return hand, waiting(draw(st.integers(1, 12))), slots, past


@given(situations())
def test_it_holds_whatever_the_situation(situation):
    hand, todo, slots, past = situation
    found = remaining(hand, todo, [CPU] * slots, past)
    assert 0 < found.p50 <= found.p90 < math.inf
    assert remaining(hand, todo, [CPU] * slots, past) == found, "the same again"
    more = remaining(hand, todo, [CPU] * (slots + 1), past)
    assert more.p50 <= found.p50
    assert more.p90 <= found.p90
    longer = remaining(hand, [*todo, Work(run(99), STEPS)], [CPU] * slots, past)
    assert longer.p50 >= found.p50
    assert longer.p90 >= found.p90


@given(situations(), st.integers(0, 2))
def test_a_halved_rate_raises_it(situation, which):
    hand, todo, slots, past = situation
    fast = [replace(work, rate=work.rate or 20.0) for work in hand]
    if not fast:
        return
    index = which % len(fast)
    slow = [*fast]
    slow[index] = replace(fast[index], rate=fast[index].rate / 2)
    before, after = (remaining(each, todo, [CPU] * slots, past) for each in (fast, slow))
    assert after.p50 > before.p50
    assert after.p90 > before.p90


def test_the_p90_holds_nine_times_in_ten():
    """Matrices drawn at random as the model has it: eight to ten in ten end within their P90."""
    noise = random.Random(1)
    held = 0
    for _ in range(100):
        past = Paces([record(run(seed), 60 * math.exp(noise.gauss(0, 0.1))) for seed in range(9)])
        machine = noise.gauss(0, 0.2) + noise.gauss(0, 0.1)
        ends = [60 * math.exp(machine + noise.gauss(0, 0.1)) for _ in range(12)]
        found = remaining([], waiting(12), [CPU], past, warm=1)
        held += sum(ends) <= found.p90
    assert 82 <= held <= 98


@pytest.mark.parametrize(
    "seconds",
    [
        {},
        {"total": None},
        {"total": "60"},
        {"total": math.nan},
        {"total": math.inf},
        {"total": 5e-324},
        {"total": 1e308},
        {"total": -1.0},
        {"total": 0},
        {"total": True},
        {"total": 10**400},
        {"total": 3.0, "setup": 3.5},
    ],
)
def test_a_record_without_believable_times_says_nothing(seconds):
    past = Paces([replace(record(run(), 1.0), seconds=seconds)])
    assert remaining([], waiting(1), [CPU], past) is None


def test_records_that_say_nothing():
    good = record(run(), 60.0)
    odd = replace(good, spec=RunSpec({"MODEL": "x"}), environment={"threads": 1})
    failed = replace(good, status="failed")
    nowhere = replace(good, environment={})
    assert remaining([], waiting(1), [CPU], Paces([odd, failed, nowhere])) is None
