"""The lease's protocol under every order of steps, crashes, long pauses, clocks that differ, and
a file system that shows what was: a model checked by hypothesis.
"""

from __future__ import annotations

import random
from pathlib import Path

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from adamwprune.records.lease import DURATION, Lease, Leases
from tests.support.shared import Client, Server, Stepped

RUN = Path("/results/run")
CHECKPOINT, RECORD = RUN / "checkpoint", RUN / "record"
STEPS = 3  # of a run


class Train:
    """What a worker does: it takes the run, goes on from its checkpoint, publishes its record."""

    def __init__(self, model: Model, skew: float, drift: float, seed: int) -> None:
        draw = random.Random(seed)
        self.model = model

        def program(pause):
            files = Client(model.server, pause, lambda: draw.random() < 0.7)
            leases = Leases(files=files, now=lambda: skew + drift * model.server.time)
            while not self._tried(files, leases):
                pass

        self.stepped = Stepped(program)

    def _tried(self, files: Client, leases: Leases) -> bool:
        """One try; whether the worker need not try again."""
        lease = leases.take(RUN)
        if lease is None:
            return False
        self.model.begun = max(self.model.begun, lease.attempt)
        if files.read(RECORD) is None:
            for step in range(int(files.read(CHECKPOINT) or 0) + 1, STEPS + 1):
                if not (lease.renew() and self._wrote(files, lease, CHECKPOINT, step)):
                    return False
            if not self._wrote(files, lease, RECORD, lease.attempt):
                return False
        lease.release("ended")
        return True

    def _wrote(self, files: Client, lease: Lease, path: Path, value: int) -> bool:
        """As :func:`adamwprune.base.files.replacing` does behind a fence."""
        temporary = lease.work / path.name
        try:
            files.write(temporary, str(value).encode())
        except FileNotFoundError:
            return False
        if not files.rename(temporary, path):
            return False
        self.model.wrote(lease.attempt, path, value)
        return True


class Model(RuleBasedStateMachine):
    """Three workers on three hosts and one run."""

    def __init__(self) -> None:
        super().__init__()
        self.server = Server()
        self.server.make(RUN)
        self.begun = 0  # the newest attempt that holds its lease
        self.records, self.step = [], 0
        self.workers: list[Train] = []
        self.seeds = iter(range(10**9))

    def wrote(self, attempt: int, path: Path, value: int) -> None:
        """A rename into place has succeeded."""
        assert attempt == self.begun, f"attempt {attempt} wrote after {self.begun} had begun"
        if path == RECORD:
            self.records.append(attempt)
        else:
            assert value == self.step + 1, f"step {value} after {self.step}: a checkpoint was lost"
            self.step = value

    def start(self, skew: float, drift: float) -> Train:
        return Train(self, skew, drift, next(self.seeds))

    @initialize(
        skews=st.tuples(*[st.floats(-86400, 86400)] * 3),
        drifts=st.tuples(*[st.floats(0.9, 1.1)] * 3),
        seed=st.integers(0, 1000),
    )
    def begin(self, skews, drifts, seed):
        self.seeds = iter(range(seed, 10**9))
        self.workers = [self.start(*each) for each in zip(skews, drifts, strict=True)]

    @rule(which=st.integers(0, 2), operations=st.integers(1, 20))
    def go_on(self, which, operations):
        """The others are suspended meanwhile, wherever they are."""
        for _ in range(operations):
            self.workers[which].stepped.step()

    @rule(which=st.integers(0, 2), operations=st.integers(10, 60))
    def go_on_slowly(self, which, operations):
        """Leases of the others expire meanwhile."""
        for _ in range(operations):
            self.server.time += 10
            self.workers[which].stepped.step()

    @rule(seconds=st.sampled_from([1.0, 20.0, DURATION * 1.2]))
    def wait(self, seconds):
        self.server.time += seconds

    @rule(which=st.integers(0, 2), skew=st.floats(-86400, 86400))
    def crash(self, which, skew):
        """kill -9, and another worker in its place."""
        self.workers[which].stepped.kill()
        self.workers[which] = self.start(skew, 1.0)

    @invariant()
    def one_record(self):
        assert len(self.records) <= 1, f"published by attempts {self.records}"

    def teardown(self):
        """All die; then a worker that lives ends the run, whatever they left."""
        for each in self.workers:
            each.stepped.kill()
        last = self.start(0.0, 1.0)
        for _ in range(2000):
            self.server.time += 1.0
            last.stepped.step()
        assert last.stepped.ended
        assert len(self.records) == 1
        assert self.step == STEPS


TestLeases = Model.TestCase
TestLeases.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    phases=(Phase.reuse, Phase.generate),  # to shrink one takes minutes
)
