"""What may run beside what, with fake devices."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adamwprune.plan.job import Job
from adamwprune.records.record import RunResult
from adamwprune.records.store import Store, publish
from adamwprune.scheduler import pool
from adamwprune.scheduler.devices import Slot
from adamwprune.scheduler.events import Message, Policy
from adamwprune.scheduler.packing import CONTEXT, History, Need, Packer, reserve
from tests.support.records import LEAST
from tests.support.runs import specs

GIB = 1 << 30
GPU = [Slot("cuda:0", 1)] * 3
KNOWN = Need(1, 10 * GIB)


def packer(slots=GPU, cores=8, free=80 * GIB) -> Packer:
    return Packer(slots, cores, {"cuda:0": free, "cuda:1": free})


def test_an_unmeasured_run_starts_alone_and_makes_room_when_it_is_measured():
    pack = packer()
    assert pack.fits(0, Need(1))
    pack.take(0, Need(1))
    assert pack.held("cuda:0") == 80 * GIB
    assert not pack.fits(1, KNOWN)
    assert not pack.fits(1, Need(1))
    pack.measured(0, 20 * GIB)
    assert pack.held("cuda:0") == reserve(20 * GIB) == 22 * GIB + CONTEXT
    assert pack.fits(1, KNOWN)
    assert not pack.fits(1, Need(1)), "nobody knows what it takes"


def test_bytes_are_reserved_and_given_back():
    pack = packer(free=25 * GIB)
    pack.take(0, KNOWN)
    pack.take(1, KNOWN)
    assert not pack.fits(2, KNOWN)
    pack.release(0)
    assert pack.fits(2, KNOWN)


def test_devices_have_memory_of_their_own():
    pack = packer([Slot("cuda:0", 1), Slot("cuda:1", 1)], free=12 * GIB)
    pack.take(0, KNOWN)
    assert pack.fits(1, KNOWN)


def test_what_ran_out_of_memory_gets_its_device_to_itself():
    pack = packer()
    pack.take(0, KNOWN)
    assert not pack.fits(1, Need(1, GIB, alone=True))
    pack.release(0)
    pack.take(1, Need(1, GIB, alone=True))
    assert not pack.fits(0, Need(1, GIB))
    pack.measured(1, GIB)
    assert not pack.fits(0, Need(1, GIB)), "it stays alone"


def test_what_is_larger_than_the_device_may_fail_by_itself():
    assert packer(free=GIB).fits(0, KNOWN)


def test_threads_of_runs_that_keep_theirs_do_not_exceed_the_cores():
    cpu = Packer([Slot("cpu", 1)] * 2, 2, {})
    cpu.take(0, Need(1))
    assert cpu.fits(1, Need(1))
    assert not cpu.fits(1, Need(2)), "it began with two threads"
    cpu.release(0)
    assert cpu.fits(1, Need(2))
    assert cpu.fits(1, Need(16)), "nothing else runs: better slowly than never"


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.one_of(st.none(), st.integers(0, 100 * GIB)),
            st.booleans(),
            st.one_of(st.none(), st.integers(0, 60 * GIB)),
        ),
        max_size=40,
    )
)
def test_devices_are_never_oversubscribed(steps):
    """Runs come, are measured and go in any order; only one alone may be larger than its device."""
    slots = [Slot("cuda:0", 1), Slot("cuda:0", 1), Slot("cuda:1", 1), Slot("cuda:0", 1)]
    pack = packer(slots)
    busy: dict[int, Need] = {}
    for place, size, alone, peak in steps:
        need = Need(1, size, alone)
        if place in busy:
            if peak is None:
                pack.release(place)
                del busy[place]
            else:
                pack.measured(place, peak)
        elif pack.fits(place, need):
            pack.take(place, need)
            busy[place] = need
        for device in ("cuda:0", "cuda:1"):
            here = [busy[p] for p in busy if slots[p].device == device]
            assert len(here) <= 1 or pack.held(device) <= 80 * GIB
            assert len(here) <= 1 or not any(each.alone for each in here)
            assert sum(each.bytes is None for each in here) <= 1


def measured(spec, peak):
    """The record of a run that took so many bytes of its GPU."""
    return RunResult(spec.run_id, "done", spec, memory={"device": {"reserved": peak}})


def test_history_knows_the_largest_peak_of_like_runs():
    adamw, other_lr, sgd = (
        specs(OPTIMIZER="adamw")[0],
        specs(OPTIMIZER="adamw", LR="0.1", SEED="7")[0],
        specs(OPTIMIZER="sgd")[0],
    )
    results = [measured(*each) for each in ((adamw, 100), (other_lr, 300), (adamw, 200))]
    history = History([*results, RunResult(sgd.run_id, "failed", sgd)])
    assert history.bytes_of(adamw) == reserve(300)
    assert history.bytes_of(sgd) == reserve(900)  # another optimizer, the same network
    history.learn(sgd, 5)
    assert history.bytes_of(sgd) == reserve(5)
    larger = specs(OPTIMIZER="sgd", BATCH_SIZE="512")[0]
    assert history.bytes_of(larger) is None


def test_runs_of_other_machines_speak_until_one_is_measured_here():
    adamw, sgd = (specs(OPTIMIZER=each)[0] for each in ("adamw", "sgd"))
    reads = []

    def elsewhere():
        reads.append(1)
        return [measured(adamw, 1000)]

    larger = specs(OPTIMIZER="sgd", BATCH_SIZE="512")[0]
    history = History([measured(larger, 7)], elsewhere)
    assert history.bytes_of(larger) == reserve(7)
    assert not reads  # the files are large, and what was measured here is enough
    assert history.bytes_of(adamw) == reserve(1000)
    assert history.bytes_of(sgd) == reserve(3000)
    history.learn(sgd, 5)
    assert history.bytes_of(adamw) == reserve(15)
    assert reads == [1]


class Scripted:
    """An executor without processes: answers each job with the events of a script."""

    def __init__(self, script, slots, events, share_gpus, tell):
        self.script, self.events, self.discarded = script, events, []

    def start(self, job, place):
        handle = SimpleNamespace(name="scripted")
        for event in self.script(job):
            self.events.put(Message(handle, event))
        return handle

    def discard(self, handle):
        self.discarded.append(handle)

    stop = kill = None  # whoever called them would fail


def test_an_out_of_memory_run_is_tried_again_alone_with_what_was_learnt(tmp_path):
    """Three runs of 10 GiB on a device with room for two; the second needs more than it said."""
    store, slots = Store(tmp_path), [Slot("cuda:0", 1)] * 2
    todo = [Job(spec, store.folder(spec), tmp_path) for spec in specs(SEED="0 1 2")]
    history = History()
    history.learn(todo[0].spec, 5 * GIB)
    started = []

    class Observer:
        ended = progress = stopped = lambda self, *arguments: None

        def started(self, spec, slot):
            running = [run.attempt.spec["SEED"] for run in made.running.values()]
            started.append((spec["SEED"], sorted(running)))

        def told(self, text):
            told.append(text)

    def script(job):
        spec = job.spec
        if spec["SEED"] == 1 and not told:
            return [
                {"event": "memory", "bytes": 9 * GIB},
                {"event": "crashed", "error": "OutOfMemoryError: CUDA", "out_of_memory": True},
            ]
        store.folder(spec).mkdir(parents=True)
        publish(store.folder(spec), RunResult(spec.run_id, "done", spec, **LEAST))
        return [{"event": "end", "status": "done"}]

    told = []
    made = pool.Pool(
        store,
        slots,
        Observer(),
        Policy(retries=0),
        packer=Packer(slots, 8, {"cuda:0": 16 * GIB}),
        history=history,
        executors=lambda *given: nullcontext(Scripted(script, *given)),
    )
    outcome = made.run(todo)
    assert {spec["SEED"] for spec in outcome.done} == {0, 1, 2}
    assert told == [f"again, alone: {todo[1].spec.slug}: OutOfMemoryError: CUDA"]
    assert started[:2] == [(0, [0]), (1, [0, 1])], "two fit by what history said"
    assert started[-1] == (1, [1]), "alone"
    assert history.bytes_of(todo[0].spec) == reserve(9 * GIB)


KILLED = {"event": "died", "error": "signal SIGKILL", "killed": True}
ENDS = {
    "killed": [{"event": "accepted"}, KILLED],
    "killed before it began": [KILLED],
    "told to stop": [{"event": "accepted"}, {"event": "stopped"}],
    "no memory": [{"event": "crashed", "error": "MemoryError", "out_of_memory": True}],
}


@pytest.mark.parametrize("end", ENDS)
def test_runs_of_a_cpu_that_are_killed_for_memory_are_tried_again_one_at_a_time(end, tmp_path):
    """Of three at a time all are killed at first; by itself each of them ends well."""
    store, slots = Store(tmp_path), [Slot("cpu", 1)] * 3
    todo = [Job(spec, store.folder(spec), tmp_path) for spec in specs(SEED="0 1 2")]
    begun, together = [], []

    class Observer:
        ended = progress = stopped = told = lambda self, *arguments: None

        def started(self, spec, slot):
            if begun.count(spec) > 1:
                together.append(len(made.running))

    def script(job):
        begun.append(job.spec)
        if begun.count(job.spec) == 1:
            return ENDS[end]
        store.folder(job.spec).mkdir(parents=True)
        publish(store.folder(job.spec), RunResult(job.spec.run_id, "done", job.spec, **LEAST))
        return [{"event": "accepted"}, {"event": "end", "status": "done"}]

    executors = lambda *given: nullcontext(Scripted(script, *given))  # noqa: E731
    made = pool.Pool(store, slots, Observer(), Policy(retries=0), executors=executors)
    assert len(made.run(todo).done) == 3
    assert together == [1, 1, 1]


@pytest.mark.parametrize("by_make", [True, False])
def test_a_scheduler_whose_make_has_gone_stops_at_a_checkpoint(tmp_path, monkeypatch, by_make):
    """A shell may go while its command goes on; make cannot be sent Ctrl-C any more."""
    (spec,) = specs()
    store, texts = Store(tmp_path), []

    class Stoppable(Scripted):
        def stop(self):
            self.events.put(Message(self.handle, {"event": "stopped"}))

        def start(self, job, place):
            monkeypatch.setattr(
                pool.subprocesses.os, "getppid", lambda: 1
            )  # whoever started it has gone
            self.handle = super().start(job, place)
            return self.handle

    def script(job):
        if by_make:
            return []
        store.folder(spec).mkdir(parents=True)
        publish(store.folder(spec), RunResult(spec.run_id, "done", spec, **LEAST))
        return [{"event": "end", "status": "done"}]

    class Observer:
        ended = progress = started = stopped = lambda self, *arguments: None
        told = lambda self, text: texts.append(text)  # noqa: E731

    if by_make:
        monkeypatch.setenv("MAKELEVEL", "1")
    monkeypatch.setattr(pool, "LOOK", 0.01)
    executors = lambda *given: nullcontext(Stoppable(script, *given))  # noqa: E731
    made = pool.Pool(store, [Slot("cpu", 1)], Observer(), executors=executors)
    job = Job(spec, store.folder(spec), tmp_path)
    if by_make:
        with pytest.raises(KeyboardInterrupt):
            made.run([job])
        assert texts == ["make has gone: stopping the runs at a checkpoint"]
    else:
        assert made.run([job]).done == [spec]


def test_a_run_that_does_not_fit_is_looked_up_once_and_not_at_each_end(tmp_path, monkeypatch):
    """Where memory is short thousands wait, and each end asks whether one of them fits now."""
    looked = []
    monkeypatch.setattr(Store, "begun", lambda store, spec: looked.append(spec))
    gpus = [Slot("cuda:0", 1)] * 2
    made = pool.Pool(
        Store(tmp_path),
        gpus,
        SimpleNamespace(started=print),
        packer=Packer(gpus, 2, {"cuda:0": 100}),
    )
    made.executor = SimpleNamespace(start=lambda job, place: None)
    jobs = [Job(spec, tmp_path, tmp_path) for spec in specs(SEED=" ".join(map(str, range(9))))]
    made.waiting.extend(pool._Attempt(job) for job in jobs)
    for _ in range(5):
        made._fill()  # the first holds all of the GPU's memory until it is measured
    assert list(made.running) == [0]
    assert sorted(map(looked.count, [each.spec for each in made.waiting])) == [1] * 8
