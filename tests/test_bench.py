"""The benchmark: that every section runs and says what it should; how figures are judged and kept.

Nothing here asserts a time.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adamwprune.base.errors import UserError
from adamwprune.datasets import cifar10
from adamwprune.models.lenet5 import FusedLeNet5
from adamwprune.pruning import prunable as prunable_weights
from adamwprune.records.code import Sources
from adamwprune.records.record import RunResult
from adamwprune.train.data import network_for
from benchmarks import __main__ as benchmark
from benchmarks import (
    cluster,
    commands,
    mask_update,
    matrix,
    metrics,
    networks,
    one_run,
    optimizer_step,
    page,
    processes,
    session,
    start,
)
from benchmarks.metrics import Goal, Metric, Options, at_least, at_most
from benchmarks.session import Session
from benchmarks.training import (
    cells,
    gpt2,
    gpt_nano,
    paced,
    pruning_cost,
    resnet18,
    resnet20,
    turns,
)
from benchmarks.training.paced import Work
from benchmarks.training.turns import Sizes, Times, Told
from tests.support.browser import CHROMIUM, DRIVER
from tests.support.forked import Subprocess
from tests.support.records import synthetic

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
PLACE = {"device_name": "Imaginary CPU @ 2.60GHz", "torch": "2.14.1", "threads": 2,
         "commit": "0123abc" * 5, "cpu": {"model": "Imaginary", "usable": 2}}  # fmt: skip


def some(*found: Metric, date: str = "2026-01-02T03:04:05+00:00", **settings: Any) -> Session:
    return Session(date, PLACE, {"quick": False, **settings}, found)


def one(name: str, readings: Sequence[float], goal: Goal | None = None) -> Metric:
    return metrics.of("section", name, "s", readings, goal, "a note")


@pytest.fixture(scope="module", autouse=True)
def forked_loops(forking: Subprocess) -> Iterator[None]:
    """The loops that are timed are forked where torch is there already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forking, "path", processes.environment({})["PYTHONPATH"])
        patch.setattr(paced, "subprocess", forking)
        yield


@pytest.fixture
def options(tmp_path: Path) -> Options:
    """Tiny sizes on the CPU, and no data but those of the package."""
    nowhere = tmp_path / "nowhere"
    return Options(tmp_path, nowhere, "cpu", 1, 1, quick=True, networks=("lenet5",))


# -- metrics -----------------------------------------------------------------------


def test_a_metric_is_the_median_of_its_readings():
    found = metrics.of("s", "n", "ms", [3.0, 1.0, 10.0, 2.0])
    assert (found.value, found.low, found.high) == (2.5, 1.0, 10.0)


def test_a_ratio_is_of_medians_and_its_spread_is_within_repetitions():
    found = metrics.ratio("s", "n", [10.0, 40.0, 30.0], [1.0, 2.0, 6.0])
    assert found.value == 30 / 2
    assert found.readings == (10.0, 20.0, 5.0)
    with pytest.raises(ValueError, match="argument 2"):
        metrics.ratio("s", "n", [1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("goal", "value", "is_met"),
    [
        (at_most(0.3), 0.3, True),
        (at_most(0.3), 0.31, False),
        (at_least(4.5), 4.5, True),
        (at_least(4.5), 4.4, False),
    ],
)
def test_a_goal_is_met_up_to_its_limit(goal, value, is_met):
    assert one("x", [value], goal).is_met is is_met


def test_a_goal_is_most_or_least():
    assert one("x", [1.0]).is_met is None
    with pytest.raises(ValueError, match="Invalid goal: about"):
        Goal("about", 1.0)


# -- sessions ----------------------------------------------------------------------


def test_a_session_survives_its_file(tmp_path):
    ratio = metrics.ratio("a", "b / c", [6.0, 8.0], [2.0, 1.0], at_least(4.0))
    before = some(one("x", [1.0, 3.0, 2.0], at_most(2.0)), one("y", [5.0]), ratio)
    path = session.write(before, tmp_path)
    assert path.name == "2026-01-02-030405-imaginary-cpu-2-60ghz.json"
    assert session.read(path) == before
    plain = json.loads(path.read_text())
    assert set(plain) == {"schema", "date", "place", "settings", "metrics"}
    assert plain["metrics"][0]["goal"] == {"kind": "most", "limit": 2.0}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "metrics": [{"name": "x"}]}', "3"]
)
def test_what_is_no_session_is_refused_with_its_path(tmp_path, text):
    path = tmp_path / "some.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"some\.json: "):
        session.read(path)


def test_a_file_that_cannot_be_read_is_named_in_words(tmp_path):
    path = tmp_path / "gone.json"
    with pytest.raises(UserError) as refused:
        session.read(path)
    assert str(refused.value) == f"cannot read {path}: No such file or directory"


def test_the_table_says_which_goals_are_met(tmp_path):
    found = some(
        one("fast", [0.1, 0.2, 0.3], at_most(0.3)), one("slow", [5.0], at_most(2.0)), one("z", [1])
    )
    table = [[each.show(metric) for each in session.COLUMNS] for metric in found.metrics]
    rows = {row[1]: row for row in table}
    fast = ["section", "fast", "0.200", "s", "0.100..0.300", "3", "≤ 0.3 s", "yes", "a note"]
    assert rows["fast"] == fast
    assert rows["slow"][4:8] == ["", "1", "≤ 2 s", "no"]
    assert rows["z"][6:8] == ["", ""]
    assert session.verdict(found) == "1 of 2 goals met; not: section: slow"
    assert session.verdict(some(one("z", [1.0], at_most(2)))) == "1 of 1 goals met"
    written = session.write(found, tmp_path).with_suffix(".md").read_text()
    assert "| section | fast | 0.200 | s | 0.100..0.300 | 3 | ≤ 0.3 s | yes | a note |" in written
    assert "slow" in session.text(found)


def test_a_quick_session_judges_nothing():
    quick = some(one("x", [9.0], at_most(2.0)), quick=True)
    assert quick.stem.endswith("-quick")
    assert "no goal is judged" in session.verdict(quick)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00012, "0.00012"),
        (0.0123, "0.012"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (12345.6, "12,346"),
    ],
)
def test_numbers_have_the_digits_that_count(value, text):
    assert session.number(value) == text


# -- comparison --------------------------------------------------------------------


def test_a_metric_moved_if_its_readings_do_not_overlap():
    before = one("x", [1.0, 1.2, 1.1])
    judged = session.judgement
    assert judged(before, one("x", [1.3, 1.4, 1.5])) == session.MOVED
    assert judged(before, one("x", [0.7, 0.8])) == session.MOVED
    assert judged(before, one("x", [1.15, 1.4, 1.5])) == session.WITHIN
    assert judged(before, one("x", [9.0])) == session.ONE_READING
    assert judged(before, None) == judged(None, before) == session.ALONE


def compared(flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks"), "compare"]
    environment = {"MAKEFLAGS": flags, "PATH": ""}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_two_files_are_compared_side_by_side(tmp_path):
    a = some(one("same", [1.0, 2.0]), one("slower", [1.0, 1.1]), one("gone", [1.0, 1.0]))
    b = some(one("same", [1.5, 2.5]), one("slower", [2.0, 2.2]), date="2026-02-02T00:00:00+00:00")
    paths = [session.write(each, tmp_path) for each in (a, b)]
    done = compared(f" -- A={paths[0]} B={paths[1]}")
    assert done.returncode == 0, done.stderr
    lines = {line.split()[1]: line for line in done.stdout.splitlines() if "section " in line}
    assert lines["slower"].split()[2:] == ["s", "1.05", "2.10", "2.00", "moved"]
    assert lines["same"].endswith(session.WITHIN)
    assert lines["gone"].endswith(session.ALONE)
    assert "1 of 3 moved by more than their spreads" in done.stdout


def test_a_comparison_needs_two_files(tmp_path):
    for flags in ("", " -- A=x", f" -- A={tmp_path}/a B={tmp_path}/b"):
        done = compared(flags)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")


def test_other_devices_are_pointed_out():
    other = replace(some(one("x", [1.0])), place={**PLACE, "device_name": "Another"})
    assert "the devices differ" in session.compare(some(one("x", [1.0])), other)


# -- history -----------------------------------------------------------------------


def test_the_history_is_drawn_from_two_files(tmp_path):
    for month, value in (("01", 3.0), ("02", 2.0)):
        found = one("x", [value, value + 0.5], at_most(2.0)), one("no goal", [1.0])
        session.write(some(*found, date=f"2026-{month}-02T03:04:05+00:00"), tmp_path)
    session.write(some(one("x", [9.0]), date="2026-03-01T00:00:00+00:00", quick=True), tmp_path)
    known = session.sessions(tmp_path)
    assert [each.date[:7] for each in known] == ["2026-01", "2026-02"]  # no quick one
    path = session.draw_history(known, tmp_path / session.HISTORY)
    assert path is not None
    assert path.read_bytes().startswith(b"\x89PNG")
    assert session.draw_history([some(one("no goal", [1.0]))], tmp_path / "none.png") is None


# -- processes ---------------------------------------------------------------------


def test_a_process_is_measured_with_its_children():
    child = "import time; held = bytearray(200_000_000); time.sleep(1.5)"
    parent = (
        "import subprocess, sys; print('begun', flush=True);"
        f"subprocess.run([sys.executable, '-c', {child!r}], check=True); print('ended')"
    )
    done = processes.run([sys.executable, "-c", parent])
    assert [line for _, line in done.lines] == ["begun", "ended"]
    assert 0 < done.when("begun") < done.when("ended") <= done.seconds
    assert done.rss > 200_000_000
    assert 0 <= done.pss <= done.rss
    with pytest.raises(UserError, match="no line"):
        done.when("never said")


def test_a_process_that_fails_shows_the_end_of_its_output():
    with pytest.raises(UserError, match=r"exit status 3\nwhy"):
        processes.run([sys.executable, "-c", "print('why'); raise SystemExit(3)"])


# -- sections ----------------------------------------------------------------------


def fresh(options: Options) -> RunResult:
    """A record as the code that is here would make it."""
    settings = {"DATASET": "mnist5k", "EPOCHS": "1"}
    (spec,) = commands.configured(options.scratch / "like", "adamw", **settings)
    return replace(synthetic(spec), code=Sources().of(spec).to_json())


def test_every_section_is_known_and_no_other():
    modules = (start, one_run, matrix, optimizer_step, mask_update, commands, page, cluster,
               resnet20, gpt_nano, resnet18, gpt2)  # fmt: skip
    assert {module.SECTION: module.__name__ for module in modules} == benchmark.SECTIONS


def test_a_start_beside_torch_s_import(options):
    found = {each.name: each.value for each in start.measure(options)}
    alone, own = found["importing torch alone"], found["until the first batch, train.py"]
    assert min(alone, own) > 0
    assert found["the latter beyond the former"] == own - alone


def test_one_run_beside_the_plain_loop(options):
    found = {each.name: each for each in one_run.measure(options)}
    ratio = found["an epoch, plain / ours"]
    assert ratio.value == found["an epoch, plain loop"].value / found["an epoch, train.py"].value
    for who in ("plain loop", "train.py"):
        assert 10 < found[f"test accuracy, {who}"].value <= 100
        assert found[f"peak RSS, all processes, {who}"].value > 100
        assert found[f"until the first batch, {who}"].value > 0
    assert "median epoch of 1" in found["10 epochs from end to end, plain / ours"].note
    if find_spec("numba"):
        assert found["10 epochs from end to end, plain / ours --lenet5-numba"].value > 0


def test_a_matrix_on_fake_nodes(options):
    found = {(each.name, each.unit): each for each in cluster.measure(options)}
    whole, driver = (found[name, "ms"].value for name in ("a run", "a run, the driver's part"))
    assert whole > driver > 0
    assert found["make status, 2 running", "s"].value > 0
    memory = found["driver, peak memory", "MB"]
    assert 10 < memory.value < 200
    assert memory.note == "40 cells, 2 nodes"


def test_ten_epochs_from_end_to_end():
    run = one_run.Run(9.0, 2.0, (2.0, 3.0), 0, 0, 0.9)
    assert run.end_to_end(2) == 9.0
    assert run.end_to_end(10) == 9 - 5 + 25


def test_the_plain_loop_s_network_is_ours():
    from benchmarks.plain import LeNet5

    ours = sorted(tuple(p.shape) for p in FusedLeNet5().parameters())
    assert sorted(tuple(p.shape) for p in LeNet5().parameters()) == ours


def test_a_matrix_through_make(options, monkeypatch):
    plain = one_run.Run(60.0, 10.0, (50.0,), 0, 0, 0.9)
    monkeypatch.setattr(one_run, "plain", lambda options: plain)
    found = {each.name: each for each in matrix.measure(options)}
    assert found["plain loop, one process at a time"].value == 1
    assert found["make / plain"].value == found["make"].value > 0
    assert ("make LENET5_NUMBA=y / plain" in found) == (find_spec("numba") is not None)
    assert "2 runs of 1 epoch" in found["make"].note
    assert " thread" in found["make"].note
    warm = found["overhead a run, from a worker's first to its last"].value
    assert 0 < warm < found["overhead a run, all of make"].value
    longer = found["overhead a run, all of a longer make"]
    assert longer.value > 0
    assert "3 runs of 1 epoch" in longer.note
    assert found["overhead a run, importing torch alone"].value > 0


def test_overhead_of_a_place_is_what_it_does_not_train(options):
    """Two places: [0, 10], [10.5, 20] and [1, 12], [12.25, 30]; 45 seconds of training in them."""
    seconds = {"train": 10.0, "evaluate": 1.25}
    records = (replace(fresh(options), seconds=seconds),) * 4
    spans = ((12.25, 30.0), (0.0, 10.0), (10.5, 20.0), (1.0, 12.0))
    found = matrix.Matrix(31.0, spans, records, jobs=2)
    assert found.overhead_warm == pytest.approx((49 - 45) / 4)
    assert found.overhead == pytest.approx((62 - 45) / 4)
    assert found.pace(3) == pytest.approx(60 * 2 * 3 * 4 / 45)


def test_steps_of_optimizers(options):
    found = {each.name: each for each in optimizer_step.measure(options)}
    assert len(found) == 2 * len(optimizer_step.VARIANTS) - 1
    assert all(each.value > 0 and each.goal is None for each in found.values())
    assert f"lenet5 (62k): {optimizer_step.BASELINE}" in found


def test_goals_are_for_what_is_pruned(options):
    times = [dict.fromkeys(optimizer_step.VARIANTS, 1.0)]
    found = optimizer_step._of_network("lenet5", times, replace(options, quick=False))
    judged = [each.name for each in found if each.goal]
    assert len(judged) == 5
    assert all("90% by state" in name for name in judged)
    assert sum(name.endswith("/ torch") for name in judged) == 4
    assert sum("states packed / AdamW, 90% by state, masks" in name for name in judged) == 1


def test_a_network_s_pruned_weights_stay_pruned():
    network = networks.build("lenet5", "cpu")
    assert not any((weight == 0).any() for weight in network.parameters)
    optimizer, pruner = networks.pruned(network, "implied")
    for _ in range(3):
        network.give_gradients()
        optimizer.step()
    assert pruner.k == 55_323
    assert len(pruner.updates) == 1
    pruner.verify()


def test_mask_updates_and_thresholds(options):
    found = {each.name: each for each in mask_update.measure(options)}
    exact = [name for name, each in found.items() if each.note == "exact"]
    assert len(exact) == 3
    assert not any("sample" in name for name in exact)
    assert found["lenet5 (62k): mask update, implied"].value > 0


def test_thresholds_agree_and_a_sample_is_near():
    generator = torch.Generator().manual_seed(0)
    scores = [torch.randn(n, generator=generator) for n in (100_000, 7, 200_000)]
    k = 270_000
    wanted = torch.cat(scores).sort().values[k - 1]
    for way in mask_update.WAYS[:3]:
        assert way.find(scores, k) == wanted
    below = sum(int((each <= mask_update.sampling(scores, k)).sum()) for each in scores)
    assert 0 < abs(below - k) < 2_000


def test_pruning_s_share_of_training(options):
    def metric(section: str, name: str, value: float) -> Metric:
        return metrics.of(section, name, "", [value])

    steps = "lenet5 (62k): AdamWPrune, "
    found = [
        metric("one-run", "training step, train.py", 40.0),
        metric("optimizer-step", f"{steps}dense", 0.5),
        metric("optimizer-step", f"{steps}90% by state, masks implied", 0.7),
        metric("mask-update", "lenet5 (62k): mask update, implied", 0.002),
    ]
    (share,) = mask_update.share(found, replace(options, quick=False))
    # 17 updates of 2 ms; masked from step 150 of 1,180 on, at 0.2 ms a step; 47.2 s in all.
    assert share.value == pytest.approx(100 * (17 * 2 + 1030 * 0.2) / 47_200)
    assert share.goal == at_most(2.0)
    assert mask_update.share(found[1:], options) == []


def test_commands_without_torch(options, monkeypatch):
    like = fresh(options)
    monkeypatch.setattr(commands, "template", lambda options: like)
    found = commands.measure(options)
    assert [each.name for each in found] == [
        "make help",
        "make plan, 50 runs missing",
        "make plan, 50 runs done",
        "make status, 50 records",
        "make with nothing to do, 10 runs",
        "make export, 50 records",
        "make export, 50 records, peak memory",
    ]
    assert {each.note for each in found[:-1]} == {"without torch"}
    assert found[-1].value > 10
    plan = processes.run(matrix.make({"O": str(options.scratch / "full")}, "plan")).lines
    assert "50 runs: 50 done" in plan[-1][1]


def test_the_page_of_very_many_runs(options, monkeypatch):
    monkeypatch.setattr(commands, "template", fresh)
    found = {each.name: each.value for each in page.measure(options)}
    names = ["make html-report", "its peak memory, all processes", "size of report.html"]
    if CHROMIUM and DRIVER and find_spec("selenium"):
        names += ["first paint", "table to be read", "chart drawn, page ready",
                  "processor time of that"]  # fmt: skip
        assert 0 < found["table to be read, 20 runs"] < found["chart drawn, page ready, 20 runs"]
        assert found["processor time of that, 20 runs"] > 0
    assert list(found) == [f"{name}, 20 runs" for name in names]
    assert found["size of report.html, 20 runs"] > 1


def test_what_an_interpreter_imports_is_found_in_its_own_list():
    done = processes.run(
        [sys.executable, "-c", "import json"], extra={"PYTHONPROFILEIMPORTTIME": "1"}
    )
    found = commands.imported(line for _, line in done.lines)
    assert {"json", "json.decoder"} <= found
    assert "torch" not in found


# -- whole training steps ----------------------------------------------------------

TINY = Sizes(steps=1, turns=1, setup=4)


def test_resnet20_beside_the_plain_loop(options):
    found = {each.name: each for each in resnet20.measure(options)}
    ratio = found["a step, plain loop / ours"]
    assert ratio.value == found["a step, plain loop"].value / found["a step, ours"].value
    assert found["speed, ours"].value == pytest.approx(16_000 / found["a step, ours"].value)
    assert found["a step, ours"].note == "1,500 random images"
    assert {each.goal for each in found.values()} == {None}
    for method in ("magnitude", "state"):
        assert found[f"a step, ours, {method} at 90% / ours"].value > 0
        assert found[f"pruning's share, {method} at 90%"].value > 0
    assert found[resnet20.OUR_DATA].value > 0


def test_gpt_nano_beside_nanogpt_s_loop_and_a_bare_step(options):
    found = {each.name: each for each in gpt_nano.measure(options)}
    assert found["speed, ours"].value == pytest.approx(32_000 / found["a step, ours"].value)
    assert found["a step, plain loop / ours"].value > 0
    assert len(found["a checkpoint"].readings) == 3
    assert min(found["a checkpoint"].readings) > 0


def test_what_needs_a_gpu_says_so_in_a_line_on_a_cpu(options, capsys):
    for module in (resnet18, gpt2):
        assert module.measure(options) == []
        assert capsys.readouterr().out == f"{module.SECTION}: left out, it needs a CUDA GPU\n"


def test_resnet18_s_section_with_a_small_network_on_a_cpu(options, monkeypatch):
    """Everything but the GPU and its bfloat16: names, processes and figures."""
    monkeypatch.setattr(resnet18, "BATCH", 8)
    monkeypatch.setattr(resnet18, "LARGE", 16)
    monkeypatch.setattr(cells, "COMPILE", {})  # a compiler would take a minute
    found = {e.name: e for e in resnet18.compared(options, {"MODEL": "resnet8"}, TINY)}
    assert found["a step, plain loop, compiled / ours, compiled"].value > 0
    assert "speed, ours, batches of 512" in found
    assert found["pruning's share, state at 90%"].unit == "%"


def test_gpt2_s_section_with_a_small_network_on_a_cpu(options, monkeypatch):
    monkeypatch.setattr(cells, "COMPILE", {})
    network = {"MODEL": "gpt", "GPT_LAYERS": "1", "GPT_WIDTH": "32", "GPT_HEADS": "2",
               "BLOCK": "16", "BATCH_SIZE": "4", "ACCUMULATION": "2",
               "TEXT_VOCABULARY": "64"}  # fmt: skip
    found = {each.name: each for each in gpt2.compared(options, network, TINY, 2_000)}
    step = found["a step, ours, compiled"]
    assert found["speed, ours, compiled"].value == pytest.approx(64_000 / step.value)
    assert found["a step, ours, magnitude at 90%, compiled / ours, compiled"].value > 0
    assert "to the optimizer's step" in found["pruning's share, state at 90%"].note


@pytest.mark.parametrize(
    ("given", "network", "prunable"),
    [
        ({"MODEL": "resnet18", "DATASET": "cifar10"}, "resnet18", 11_164_352),
        ({"MODEL": "gpt-nano", "DATASET": "shakespeare"}, "gpt_nano", 786_432),
    ],
)
def test_cells_are_pruned_to_90_percent_in_three_steps_and_never_end(
    tmp_path, given, network, prunable
):
    found = cells.specs(tmp_path, given)
    assert list(found) == ["none", "magnitude", "state"]
    spec = found["state"]
    assert spec.run_id.startswith(network)
    assert (spec.total_steps, spec.ramp_end_step, spec["TARGET_SPARSITY"]) == (1_000_000, 3, 0.9)
    assert spec.evaluated_after == (1_000_000,)
    assert not spec.problems()
    with torch.device("meta"):
        module = network_for(spec.settings).module
    assert sum(w.numel() for w in prunable_weights(module).values()) == prunable


def test_cifar_10_is_used_where_it_is_and_random_images_where_not(options):
    specs = cells.specs(options.scratch / "x", {"DATASET": "cifar10", "MODEL": "resnet20"})
    given = cells.with_images(options, specs)
    assert given.data == "1,500 random images"
    assert {spec["TRAIN_EXAMPLES"] for spec in given.specs.values()} == {1500}
    there = replace(options, data_dir=given.data_dir, quick=False)
    assert cells.with_images(there, specs) == cells.Cells(specs, given.data_dir, "CIFAR-10")


def test_the_plain_loop_s_images_are_ours(options):
    from benchmarks.training.plain_images import Pictures

    cells.write_random_images(options.scratch / "data", 3)
    found = Pictures(options.scratch / "data")
    ours = cifar10.load({}, options.scratch / "data")
    image, label = found[4]
    assert (len(found), label) == (15, int(ours.train_labels[4]))
    assert image.shape == (3, 32, 32)
    assert (torch.from_numpy(found.images[4]).permute(2, 0, 1) == ours.train_images[4]).all()


def test_nanogpt_s_batches_are_blocks_and_the_tokens_one_further_on():
    from benchmarks.training.plain_text import get_batch

    tokens = np.arange(40_000, 40_100, dtype=np.uint16)
    x, y = get_batch(tokens, 5, 8, torch.device("cpu"))
    assert (x.shape, x.dtype) == ((5, 8), torch.int64)
    assert (y == x + 1).all()
    assert (x[:, 1:] == y[:, :-1]).all()
    assert 40_000 <= int(x.min()) <= int(y.max()) < 40_100


def test_a_pruned_optimizer_is_at_its_target(tmp_path):
    spec = cells.specs(tmp_path, {"MODEL": "gpt-nano", "DATASET": "shakespeare"})["magnitude"]
    one = pruning_cost.Optimizer(spec, "cpu")
    assert one.update() > 0
    one.step()
    assert one.pruner.k == round(0.9 * 786_432)
    one.pruner.verify()


def test_pruning_s_share_of_a_step(options, monkeypatch):
    """Masks add 1 ms to 100, and an update of 50 ms every 50 steps another one."""
    monkeypatch.setattr(pruning_cost, "updates", lambda spec, options: [0.050, 0.070, 0.040])
    steps = {"none": [0.100, 0.200], "state": [0.101, 0.199]}
    gpu = replace(options, device="cuda", quick=False)
    _, share = pruning_cost.shares("s", dict.fromkeys(steps), steps, 50, gpu)
    assert share.readings == pytest.approx((2.0, 0.5))
    assert share.goal == at_most(2.0)
    optimizers = {"none": [0.001, 0.001], "state": [0.003, 0.003]}
    monkeypatch.setattr(pruning_cost, "optimizer_steps", lambda *given: optimizers)
    _, share = pruning_cost.shares("s", dict.fromkeys(steps), steps, 50, options)
    assert share.readings == pytest.approx((3.0, 1.5))


def test_overhead_over_a_bare_step():
    """2% of data and trace; 2,000 steps of 51 ms with 10.7 checkpoints of 0.2 s: 2.098% more."""
    ends = {turns.pruned(method): {"checkpoint": 0.2} for method in cells.METHODS}
    seconds = {turns.OURS: [0.051], gpt_nano.BARE: [0.050]}
    told = Told("s", Times(seconds, {}, ends), 1, "")
    _, found = gpt_nano.overhead(told, None, is_judged=True)
    assert found.value == pytest.approx(2 + 100 * 10.7 * 0.2 / 102)
    assert found.goal == at_most(3.0)


def test_loops_take_steps_in_turn():
    class Loop:
        def __init__(self, name: str, seconds: float) -> None:
            self.name, self.seconds = name, seconds

        def steps(self, count: int, untimed: int) -> float:
            taken.append((self.name, count, untimed))
            return self.seconds

    taken: list[tuple[str, int, int]] = []
    found = paced.in_turns([Loop("a", 1.0), Loop("b", 3.0)], 5, 2, 2, 3)
    assert found == {"a": [1.0] * 3, "b": [3.0] * 3}
    assert taken == [("a", 5, 2), ("b", 5, 2)] * 6


def test_what_a_process_trains_survives_the_way_to_it(tmp_path):
    spec = cells.specs(tmp_path, {"MODEL": "resnet20", "DATASET": "cifar10"}, ("none",))["none"]
    work = Work("a.module", spec, tmp_path, tmp_path / "own", "cuda", "data", 3)
    assert Work.from_json(work.to_json()) == work


def test_a_process_that_fails_is_told_with_what_it_printed(options):
    spec = cells.specs(options.scratch / "x", {"DATASET": "cifar10", "MODEL": "resnet8"})["none"]
    work = Work(resnet20.LOOP, spec, options.scratch / "nowhere", options.scratch, part="no")
    with pytest.raises(UserError, match=r"(?s)one: exit status 1.*KeyError: 'no'"):
        turns.take({"one": work}, TINY, options)


# -- all of it ---------------------------------------------------------------------


def test_a_session_from_the_command_line(tmp_path, capsys):
    words = ["--quick", "--section", "optimizer-step", "--repetitions", "2", "--device", "cpu"]
    assert benchmark.main([*words, "--output", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("*.json")
    found = session.read(path)
    assert found.is_quick
    assert found.settings["sections"] == ["optimizer-step"]
    assert found.place["threads"] == torch.get_num_threads()
    assert {len(each.readings) for each in found.metrics} == {2}
    assert path.with_suffix(".md").is_file()
    assert str(path) in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["--section", "nope"], ["--networks", "nope"], ["--epochs", "x"]]
)
def test_an_unknown_word_is_refused(words, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(words)
    assert "error: argument" in capsys.readouterr().err


def test_numbers_below_one_are_refused(tmp_path):
    given = benchmark.parser().parse_args(["--quick", "--repetitions", "-1"])
    with pytest.raises(UserError, match="at least 1"):
        benchmark.options_of(given, tmp_path)
