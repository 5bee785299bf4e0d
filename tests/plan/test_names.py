"""Names of runs: what the slug does not say is said, and no more."""

from adamwprune.plan.names import differing, names
from tests.support.records import expand


def test_a_slug_that_is_one_runs_is_its_name():
    specs = expand("quickstart", SEED="0 1")
    assert names(specs) == {spec: spec.slug for spec in specs}


def test_the_values_of_an_axis_stand_before_the_seed():
    specs = expand("sgd", LR="0.001 0.01", BATCH_SIZE="64 128", SEED="0 1")
    found = list(names(specs).values())
    assert found[0] == "lenet5-mnist-sgd-none-batch_size64-lr0.001-s0"
    assert len(set(found)) == len(specs) == 8


def test_what_follows_from_another_option_is_not_named():
    specs = expand("sgd", EPOCHS="2 4")
    assert differing(specs) == ["EPOCHS"]
    assert differing(expand("sgd", LR="0.1 0.2"), ["LR"]) == ["LR"]


def test_a_whole_number_has_no_decimals():
    found = list(names(expand("sgd", LR="0.001 100")).values())
    assert [name.split("-")[-2] for name in found] == ["lr0.001", "lr100"]


def test_a_value_stands_apart_from_a_digit():
    found = list(names(expand("adam", BETA1="0.8 0.9")).values())
    assert [name.split("-")[-2] for name in found] == ["beta1_0.8", "beta1_0.9"]
