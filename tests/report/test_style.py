"""Colours and markers: what is known here keeps its own, and no two others share one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from adamwprune.plan.spec import RunSpec
from adamwprune.report import style
from adamwprune.report.figures import memory
from adamwprune.report.groups import group_runs
from tests.support.records import expand, synthetic

OPTIMIZERS = ("sgd", "adam", "adamw", "adamwadv", "adamwspam", "adamwprune")
OUTSIDE = ("adafactor", "lion", "muon", "shampoo", "sophia")
LEAST = 0.1  # of black to white in OKLab: what the closest two of Okabe and Ito's keep apart
# B. Ottosson, "A perceptual color space for image processing", 2020.
TO_CONES = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
]
TO_LAB = [
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
]


def lab(colour: str) -> np.ndarray:
    """The colour in OKLab, where distances are as large as they look."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.array(TO_LAB) @ np.cbrt(np.array(TO_CONES) @ linear)


def closest(colours: dict[str, str]) -> tuple[float, str, str]:
    """The least distance of two of them, and whose they are."""
    pairs = itertools.combinations(colours.items(), 2)
    return min(
        (float(np.linalg.norm(lab(a) - lab(b))), one, other) for (one, a), (other, b) in pairs
    )


def outside(**options: str) -> list[RunSpec]:
    """A run of each optimizer or method, known here or not."""
    (spec,) = expand("adamw-magnitude-90")
    return [
        RunSpec({**spec.values, name: each})
        for name, values in options.items()
        for each in values.split()
    ]


def test_optimizers_from_outside_the_tree_have_colours_of_their_own():
    with style.sheet(outside(OPTIMIZER=" ".join([*OPTIMIZERS, *OUTSIDE]))):
        colours = {name: style.colour_of(name) for name in (*OPTIMIZERS, *OUTSIDE)}
    assert closest(colours)[0] > LEAST, closest(colours)
    known = {name: colours[name] for name in OPTIMIZERS}
    assert list(known.values()) == list(style.OKABE_ITO[:6])
    assert style.colour_of("adamw") == known["adamw"], "with others beside it and alone"


@pytest.mark.parametrize("name", OUTSIDE)
def test_an_optimizer_from_outside_is_none_of_those_known_here(name):
    alone = {**{known: style.colour_of(known) for known in OPTIMIZERS}, name: style.colour_of(name)}
    assert closest(alone)[0] > LEAST


def test_of_very_many_no_two_have_one_colour():
    names = {f"novel{number}" for number in range(23)}
    for found in (style.optimizer_colours(names), style.owner_colours(names)):
        assert len(set(found.values())) == 23
    assert len(set(style.distinct(30))) == 30
    methods = style.method_colours(["magnitude", *sorted(names)])
    assert len(set(methods.values())) == 24


def test_states_from_outside_the_tree_have_colours_of_their_own():
    states = ("row", "col", "momentum", "preconditioner")
    colours = style.owner_colours({*style.OWNERS, *states})
    assert closest(colours)[0] > LEAST, closest(colours)
    assert {name: colours[name] for name in style.OWNERS} == style.OWNERS


def test_owners_are_stacked_in_one_order_with_states_from_outside_among_the_states():
    (spec,) = expand("adamw-magnitude-90")
    record = synthetic(spec)
    record.memory["optimizer"].update(row=50_000, col=50_000)
    colours = memory.colours_of(group_runs([spec], [record]))
    assert list(colours) == [
        *("weights", "gradients", "exp_avg", "exp_avg_sq", "col", "row", "masks", "other")
    ]
    assert len(set(colours.values())) == len(colours)


def test_methods_from_outside_the_tree_have_markers_of_their_own():
    known = "magnitude movement movement-seed state random set rigl"
    specs = outside(PRUNING_METHOD=f"{known} wanda snip grasp")
    with style.sheet(specs):
        looks = [style.marker_and_dashes(group) for group in group_runs(specs, [])]
    assert len({marker for marker, _ in looks}) == 10
    assert len({dashes for _, dashes in looks}) == 10


def test_criteria_of_state_pruning_have_markers_that_no_method_has():
    assert not set(style._CRITERIA.values()) & {marker for marker, _ in style._METHODS.values()}
