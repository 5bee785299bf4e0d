"""Processes that train and wait for each other: one takes some steps while the others wait.

The parent (:class:`Paced`) writes a line with two numbers, steps that are not timed and steps that
are; the process (:class:`Pace`) answers with one line of JSON. It ends when its standard input
does.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from adamwprune.base.errors import UserError
from adamwprune.config.tree import SOURCE_TREE
from adamwprune.plan.spec import RunSpec
from adamwprune.scheduler import devices
from benchmarks import processes

PRODUCT = "benchmarks.training.product"


@dataclass(frozen=True)
class Work:
    """What a process trains; it crosses to it as JSON."""

    module: str  # that is run
    spec: RunSpec
    data_dir: Path
    folder: Path  # in which it gets a directory of its own
    device: str = "cpu"
    part: str = "all"  # of a step; which parts there are is the module's affair
    workers: int = 2  # of a DataLoader

    def to_json(self) -> str:
        """The inverse of :meth:`from_json`."""
        plain = {"data_dir": str(self.data_dir), "folder": str(self.folder)}
        return json.dumps({**vars(self), **plain, "spec": dict(self.spec.values)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What the parent has written."""
        plain: dict[str, Any] = json.loads(text)
        folder, data_dir = Path(plain.pop("folder")), Path(plain.pop("data_dir"))
        return cls(spec=RunSpec(plain.pop("spec")), folder=folder, data_dir=data_dir, **plain)


# -- the process ----------------------------------------------------------------------------


class Pace:
    """Tells a loop when to go on, and the parent how long its steps took.

    Takes the process's standard output for itself: what anything prints goes to standard error.
    """

    def __init__(self, wait_for_device: Callable[[], object] = lambda: None) -> None:
        self._wait_for_device = wait_for_device
        self._answers = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self.notes: list[str] = []  # for the parent
        self._untimed = self._timed = 0
        self._start = 0.0

    def begin(self) -> bool:
        """Wait for the first command; false where none comes."""
        words = sys.stdin.readline().split()
        if not words:
            return False
        self._untimed, self._timed = map(int, words)
        self._start_if_due()
        return True

    def stepped(self) -> bool:
        """After each step: false where no other one is wanted. Waits while it is not this
        process's turn.
        """
        if self._untimed:
            self._untimed -= 1
            self._start_if_due()
            if self._timed or self._untimed:
                return True
        else:
            self._timed -= 1
            if self._timed:
                return True
        self._wait_for_device()
        self.tell({"seconds": time.perf_counter() - self._start, "notes": self.notes})
        return self.begin()

    def tell(self, answer: Mapping[str, Any]) -> None:
        """Write an answer; nobody need be there to read it."""
        print(json.dumps(answer), file=self._answers)

    def _start_if_due(self) -> None:
        if not self._untimed:
            self._wait_for_device()
            self._start = time.perf_counter()


def run(parts: Mapping[str, Callable[[Work, Pace], None]]) -> Pace:
    """Do the part of the work that the command line asks for, in the process that was started."""
    work = Work.from_json(sys.argv[1])
    pace = Pace(waiter(work.device))
    parts[work.part](work, pace)
    return pace


def waiter(device: str) -> Callable[[], object]:
    """What waits until ``device`` has done all its work."""
    if device == "cpu":
        return lambda: None
    import torch

    return torch.cuda.synchronize


# -- the parent -----------------------------------------------------------------------------


@dataclass
class Paced:
    """A process that trains when it is told to."""

    name: str
    process: subprocess.Popen[str]
    errors: Path  # what it prints
    notes: list[str] = field(default_factory=list)

    def steps(self, count: int, untimed: int = 0) -> float:
        """Seconds of a step: the mean of ``count``, after some that are not timed."""
        assert self.process.stdin is not None
        try:
            print(untimed, count, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            self._fail()
        answer = self._answer()
        self.notes = answer["notes"]
        return float(answer["seconds"]) / max(1, count)

    def end(self) -> dict[str, Any]:
        """Let it end; its last words."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self._fail()
        found: dict[str, Any] = json.loads(line)
        return found

    def _fail(self) -> None:
        status = self.process.wait()
        tail = "\n".join(self.errors.read_text(errors="replace").splitlines()[-20:])
        raise UserError(f"{self.name}: exit status {status}\n{tail}")


@contextmanager
def started(works: Mapping[str, Work]) -> Iterator[dict[str, Paced]]:
    """The processes by name; they get ready side by side, and are gone afterwards."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(_start(name, work)) for name, work in works.items()}


@contextmanager
def _start(name: str, work: Work) -> Iterator[Paced]:
    own_folder = Path(tempfile.mkdtemp(prefix="loop-", dir=work.folder))
    work, errors = replace(work, folder=own_folder), own_folder / "output.txt"
    # The loops of tutorials have the environment that anybody's process has.
    own = devices.environment(len(os.sched_getaffinity(0))) if work.module == PRODUCT else {}
    with errors.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", work.module, work.to_json()],
            cwd=SOURCE_TREE,
            env=processes.environment(own),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        )
    with process:
        try:
            yield Paced(name, process, errors)
        finally:
            process.kill()


def in_turns(
    those: Sequence[Paced], steps: int, untimed: int, turns: int, repetitions: int
) -> dict[str, list[float]]:
    """Seconds of a step by process; a reading is the mean of its ``turns`` in a repetition."""
    found: dict[str, list[float]] = {each.name: [] for each in those}
    for _ in range(repetitions):
        sums = dict.fromkeys(found, 0.0)
        for _ in range(turns):
            for each in those:
                sums[each.name] += each.steps(steps, untimed)
        for name, total in sums.items():
            found[name].append(total / turns)
    return found
