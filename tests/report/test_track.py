"""Pruning tracks: arms, controls, verdicts, the tables of docs/track.md and the figure."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from adamwprune.base.errors import UserError
from adamwprune.experiment import tracks
from adamwprune.plan.spec import RunSpec
from adamwprune.records.record import RunResult
from adamwprune.report import track as report
from adamwprune.report.figures import check
from adamwprune.report.figures import tracks as figures
from adamwprune.report.groups import group_runs
from adamwprune.report.statistics import holm
from tests.support.records import expand, in_bits, synthetic

PRUNED = {"TARGET_SPARSITY": "0.5 0.9", "SEED": "0 1 2"}


def specs() -> list[RunSpec]:
    """A small track of LeNet-5: methods, scopes, a static mask, small and short dense networks."""
    dense = expand("adamw", SEED="0 1 2")
    main = expand("adamw-state-90", PRUNING_METHOD="magnitude state random", **PRUNED)
    erk = expand("adamw-magnitude-90", PRUNING_SCOPE="erk", **PRUNED)
    static = expand(
        "adamw-magnitude-90",
        PRUNING_METHOD="random rigl",
        PRUNING_SCHEDULE="constant",
        PRUNING_SCOPE="erk",
        **PRUNED,
    )
    small = expand("adamw", MODEL_WIDTH="0.707 0.316", SEED="0 1 2")
    short = expand("adamw", EPOCHS="7 4", SEED="0 1 2")
    return [*dense, *main, *erk, *static, *small, *short]


GAIN = {"state": 0.004, "random": -0.05}  # of accuracy over magnitude, at each sparsity


LEFT = {0: 1.0, 0.5: 0.7, 0.9: 0.4}  # of the training FLOPs, by sparsity


def record(spec: RunSpec) -> RunResult:
    """A made-up record: accuracy by method, a small noise that all arms of a seed share."""
    found = synthetic(spec)
    method = str(spec["PRUNING_METHOD"])
    noise = 0.001 * math.sin(int(spec["SEED"]))
    own = 0.0001 * math.sin(7 * int(spec["SEED"]) + len(found.run_id))
    accuracy = 0.97 + GAIN.get(method, 0.0) - 0.02 * spec.sparsity**4 + noise + own
    pruning, said = dict(found.pruning), found.operations
    layers = [{**each, "mean_density": LEFT[spec.sparsity]} for each in said["layers"]]
    flops = {"training_flops_sparse": LEFT[spec.sparsity] * said["training_flops"]}
    if spec["MODEL_WIDTH"] != 1:
        pruning["prunable"] = round(pruning["prunable"] * spec["MODEL_WIDTH"] ** 2)
    return replace(
        found,
        final={**found.final, "test_accuracy": accuracy},
        pruning=pruning,
        operations={**said, **flops, "layers": layers},
    )


@pytest.fixture(scope="module")
def found() -> report.Track:
    own = specs()
    track = report.track("track-x", own, [record(spec) for spec in own])
    assert track is not None
    return track


def test_arms_are_methods_with_scope_and_schedule_and_controls(found):
    assert [arm.label for arm in found.arms] == [
        "magnitude",
        "state (precond)",
        "random",
        "magnitude, ERK",
        "static random mask, ERK",
        "RigL, ERK",
        "small dense",
        "short dense",
    ]
    assert found.sparsities == [0.5, 0.9]
    assert {arm.label: sorted(arm.cells) for arm in found.arms if arm.is_control} == {
        "small dense": [0.5, 0.9],  # by their weights
        "short dense": [0.5, 0.9],  # by the training FLOPs that magnitude's masks leave there
    }
    widths = next(arm for arm in found.arms if arm.label == "small dense").cells
    assert widths[0.9].group.spec["MODEL_WIDTH"] == 0.316


def test_verdicts_are_against_magnitude_after_holm(found):
    marks = {arm.label: [cell.mark for cell in arm.cells.values()] for arm in found.arms}
    assert marks["magnitude"] == ["", ""]
    assert marks["state (precond)"] == [report.BETTER] * 2
    assert marks["random"] == [report.WORSE] * 2
    cells = [cell for arm in found.arms for cell in arm.cells.values() if cell.p is not None]
    assert [cell.p for cell in cells] == holm([cell.paired.p for cell in cells])


def test_training_flops_are_those_of_each_layer_s_masks_or_none():
    """A record of before they were counted says them only where one mean says as much."""
    (made,) = (record(spec) for spec in expand("adamw-magnitude-90", SEED="0"))

    def share(**changes):
        (spec,) = expand("adamw-magnitude-90", SEED="0", **changes)
        (group,) = group_runs([spec], [replace(older, spec=spec, run_id=spec.run_id)])
        return report.training_share(group)

    (group,) = group_runs([made.spec], [made])
    assert report.training_share(group) == pytest.approx(0.4)
    uncounted = [{k: v for k, v in each.items() if k != "mean_density"} for each in layers(made)]
    older = replace(made, operations={**made.operations, "layers": uncounted})
    assert share() is None  # a convolution's weight is used at each place, another one once
    assert share(PRUNING_SCOPE="layer") == pytest.approx(0.4)
    assert share(PRUNING_SCOPE="erk", PRUNING_SCHEDULE="constant") == pytest.approx(0.1)
    alike = [{**each, "multiply_adds": 3 * numel(made, each["name"])} for each in uncounted]
    older = replace(older, operations={**made.operations, "layers": alike})
    assert share() == pytest.approx(0.4)  # as in a GPT


def layers(made: RunResult) -> list[dict]:
    return made.operations["layers"]


def numel(made: RunResult, name: str) -> int:
    return next(each["numel"] for each in made.pruning["layers"] if each["name"] == name)


def test_of_a_track_that_is_partly_done_nothing_stands_for_something_else(found):
    """Neither a shorter dense run for the dense one, nor a control of 50% for one of 90%."""
    own = specs()

    def of(keep):
        return report.track("track-x", own, [record(spec) for spec in own if keep(spec)])

    assert of(lambda spec: spec["MODEL_WIDTH"] != 1 or spec.total_steps != 1180) is None
    some = of(lambda spec: not spec.sparsity or spec.sparsity == 0.9)
    controls = {arm.label: arm.cells for arm in some.arms if arm.is_control}
    assert controls["small dense"][0.9].group.spec["MODEL_WIDTH"] == 0.316
    assert controls["small dense"][0.5].group.spec["MODEL_WIDTH"] == 0.707
    assert {s: c.group.spec.total_steps for s, c in controls["short dense"].items()} == {0.9: 472}


def test_the_tables(found):
    lines = report.markdown(found).splitlines()
    assert lines[0].startswith(
        "lenet5 on mnist, adamw, 1,180 steps of 512 examples. Test accuracy %, mean ±"
    )
    assert "| arm | 50% sparse | 90% sparse |" in lines
    (state,) = [line for line in lines if line.startswith("| state (precond) | **")]
    assert state.count("**") == 2, "the best where no control is better"
    assert state.count(report.BETTER) == 2
    assert any(line.startswith("| *small dense* | ") for line in lines)
    assert "(one threshold for the network) at p < 0.05" in "\n".join(lines)
    costs = lines[lines.index("At 90%:") :]
    assert any(line.startswith("| dense | 61,470 | 100.0% |") for line in costs)


def test_a_track_without_its_dense_runs_is_none():
    own = [spec for spec in specs() if spec["PRUNING_METHOD"] != "none"]
    assert report.track("track-x", own, [record(spec) for spec in own]) is None


def test_the_page_keeps_what_stands_around_a_track(found, tmp_path: Path):
    page = tmp_path / "track.md"
    page.write_text(
        "# Tracks\n<!-- track-x -->\nan earlier table\n<!-- end of track-x -->\nAfter.\n"
    )
    tracks.write_page([found], page)
    first = page.read_text()
    assert first.startswith("# Tracks\n<!-- track-x -->\nlenet5 on mnist")
    assert first.endswith("<!-- end of track-x -->\nAfter.\n")
    assert "earlier" not in first
    tracks.write_page([found], page)
    assert page.read_text() == first
    page.write_text("nothing")
    with pytest.raises(UserError, match="the markers <!-- track-x --> and"):
        tracks.write_page([found], page)


def test_the_figure_is_drawn_with_what_it_plots(found, tmp_path: Path):
    figures.draw([found], tmp_path)
    assert check.files(tmp_path) == {"track_x.png", "track_x.svg", "data/track_x.json"}


def test_dense_runs_alone_are_no_figure(found, tmp_path: Path):
    controls = [arm for arm in found.arms if arm.is_control]
    assert figures.draw([replace(found, arms=()), replace(found, arms=controls)], tmp_path) == []


def test_losses_are_drawn_by_what_they_are_above_the_dense_one(tmp_path: Path):
    own = expand("adamw", SEED="0 1 2")
    own += expand("adamw-state-90", PRUNING_METHOD="magnitude random", **PRUNED)
    gpt = report.track("track-x", own, [in_bits(record(spec)) for spec in own])
    figures.draw([gpt], tmp_path, ("png",))
    panel, *_ = json.loads((tmp_path / "data" / "track_x.json").read_text())["axes"]
    (arm,) = (each for each in gpt.arms if each.label == "random")
    above = [cell.group.score.mean - gpt.dense.score.mean for cell in arm.cells.values()]
    assert min(above) > 0
    drawn = [[y for _, y in series["points"]] for series in panel["series"]]
    assert any(found == pytest.approx(above, rel=1e-5) for found in drawn)


def test_data_sets_of_one_network_are_panels_of_one_figure(found, tmp_path: Path):
    figures.draw([found, replace(found, name="track-x_other")], tmp_path, ("png",))
    assert check.files(tmp_path) == {"track_x.png", "data/track_x.json"}
    panels = json.loads((tmp_path / "data" / "track_x.json").read_text())["axes"]
    assert len(panels) == 2
    assert panels[0] == panels[1]


def test_parts_belong_to_the_shortest_name_before_them():
    names = ["track-a", "track-a-erk", "track-a8", "track-a8-small", "adamw", "study-x"]
    assert tracks.families(names) == {
        "track-a": ["track-a", "track-a-erk"],
        "track-a8": ["track-a8", "track-a8-small"],
    }
