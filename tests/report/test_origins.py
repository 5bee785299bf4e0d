"""Origins: what sets runs apart beside their specification, and how it is said."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adamwprune.records.record import FROZEN, STALE
from adamwprune.report.origins import MEANS, Origins, Place, count_marks, status
from tests.support.records import elsewhere, marked


def test_gpus_of_a_kind_are_one_place(published, make):
    one, two = (elsewhere(make(published[0], gpu=True), device=f"cuda:{i}") for i in (0, 1))
    assert Place.of(one) == Place.of(two)
    assert str(Place.of(one)) == "cuda (Imaginary 9000), 2 threads, torch 2.14.1"


@pytest.mark.parametrize(
    "other", [{"device_name": "x"}, {"threads": 1}, {"torch": "2.9.0"}, {"device": "cuda:0"}]
)
def test_each_of_them_makes_another_place(other, published, make):
    here = make(published[0])
    assert Place.of(elsewhere(here, **other)) != Place.of(here)
    unrelated = elsewhere(here, host="other", os="other", commit="other", started="other")
    assert Place.of(unrelated) == Place.of(here)


def test_what_a_record_does_not_say_is_unknown(published, make):
    record = make(published[0])
    del record.environment["torch"]
    assert str(Place.of(elsewhere(record, threads=1))).endswith(", 1 thread, torch unknown")


def test_there_are_signs_for_any_number_of_places(published, make):
    runs = [elsewhere(make(spec), threads=max(1, i)) for i, spec in enumerate(published[:8])]
    signs = Origins.of(runs).signs
    assert list(signs.values()) == ["†", "‡", "§", "¶", "††", "‡‡"]
    assert [place.threads for place in signs] == ["2", "3", "4", "5", "6", "7"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(threads=st.lists(st.integers(1, 4), max_size=12))
def test_the_most_common_place_has_no_sign(published, make, threads):
    runs = [elsewhere(make(s), threads=n) for s, n in zip(published, threads, strict=False)]
    origins = Origins.of(runs)
    assert origins.n == len(runs)
    assert len(origins.signs) == max(0, len(set(threads)) - 1)
    unsigned = [n for run, n in zip(runs, threads, strict=True) if not origins.sign([run])]
    assert len(set(unsigned)) <= 1
    assert len(unsigned) == max((threads.count(n) for n in threads), default=0)
    assert origins.elsewhere(runs) == len(runs) - len(unsigned)
    assert bool(origins.captions(seconds=True)) == (len(set(threads)) > 1)


def test_a_failed_run_has_no_numbers_and_so_no_place(published, make):
    runs = [make(published[0]), elsewhere(make(published[1], status="failed"), threads=9)]
    assert Origins.of(runs).signs == {}
    assert Origins.of(runs[1:]).common is None


def test_a_run_is_counted_once(published, make):
    run = marked(make(published[0]), STALE)
    origins = Origins.of([run, run])
    assert (origins.n, origins.marks) == (1, {STALE: 1})


def test_the_status_counts_marks(published, make):
    plain = [make(spec) for spec in published[:3]]
    stale = [marked(run, STALE) for run in plain]
    both = [marked(plain[0], STALE, FROZEN), stale[1], plain[2]]
    assert status("done", plain) == "done"
    assert status("done", stale) == "done, stale"
    assert status("done", both) == "done, 1 of 3 frozen, 2 of 3 stale"
    assert status("1 failed", stale[:2]) == "1 failed, 2 of 2 stale"
    assert status("missing", []) == "missing"
    assert count_marks(both) == {FROZEN: 1, STALE: 2}


def test_a_label_says_what_not_all_have_in_common(published, make):
    plain = [make(spec) for spec in published[:3]]
    stale = [marked(run, STALE) for run in plain]
    assert Origins.of(stale).label("dense", stale[:1]) == "dense"
    mixed = [*stale[:2], elsewhere(plain[2], threads=1)]
    origins = Origins.of(mixed)
    assert origins.label("dense", mixed[:2]) == "dense, stale"
    assert origins.label("dense", mixed[1:]) == "dense, 1 of 2 stale †"
    assert origins.label("dense", mixed[2:]) == "dense †"


def test_every_mark_is_explained():
    assert set(MEANS) == {STALE, FROZEN}
