"""How a matrix stands, from what is on disk: also from another shell, also when nothing runs."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from adamwprune.base.errors import UserError
from adamwprune.base.wording import counted, rounded
from adamwprune.plan import names
from adamwprune.plan.spec import RunSpec
from adamwprune.progress import eta, history, rows, steps
from adamwprune.progress.eta import Estimate, Paces, Work
from adamwprune.progress.live import summary
from adamwprune.progress.reading import Reading
from adamwprune.progress.rows import Row
from adamwprune.records.record import RunResult
from adamwprune.records.state import DAMAGED, FAILED, INTERRUPTED, NAMES, RUNNING, State
from adamwprune.scheduler.devices import Agents, Slot

Places = Callable[[int], list[Slot]]  # what so many runs would get if make were started now
Asked = Callable[[int], Agents | None]  # what of a cluster, if it is one


def reading(state: State) -> Reading | None:
    """How far a run in hand is."""
    return None if state.progress is None else Reading.of(state.spec, state.progress)


def _work(state: State) -> Work:
    """What is left of a run."""
    work = Work.of(state.spec, reading(state))
    return work if state.name == RUNNING else replace(work, rate=None)


def report(
    source: str,
    states: Sequence[State],
    root: Path,
    places: Places,
    width: int,
    agents: Asked = lambda runs: None,
    known: Mapping[RunSpec, str] | None = None,
) -> list[str]:
    """The lines of ``make status``; those of the table within ``width``.

    ``known``: the names of the runs, where they are not to be told apart in any other way.
    """
    counts = {name: sum(each.name == name for each in states) for name in NAMES}
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    lines = [f"{source}: {counted(len(states), 'run')}: {told}"]
    known = names.names([each.spec for each in states]) if known is None else known
    failed = [RunResult("", FAILED, each.spec, error=each.why) for each in states if each.is_failed]
    lines += [summary(each.spec, each, name=known[each.spec]) for each in failed]
    lines += [f"damaged {each.why}" for each in states if each.name == DAMAGED]
    held = [each for each in states if each.name == INTERRUPTED]
    lines += [f"{known[each.spec]}: {each.name} {each.why}" for each in held]
    running = [
        replace(_row(each), given=known[each.spec]) for each in states if each.name == RUNNING
    ]
    if running:
        lines += rows.table(running, width, (rows.AGE, rows.LEFT, rows.DEVICE))
    lines += estimate(states, root, places, agents)
    within, scored = history.scores(root)
    if scored:
        lines.append(f"past estimates: {within} of {scored} within P90")
    return lines


def _row(state: State) -> Row:
    now = reading(state)
    updated = now.updated if now else None
    age = None if updated is None else time.time() - updated
    return Row(state.spec, now, age)


def estimate(
    states: Sequence[State],
    root: Path,
    places: Places,
    agents: Asked = lambda runs: None,
    *,
    measure: bool = False,
) -> list[str]:
    """One line on when all would be done; none where nothing is left to do.

    Where no record is like a run, a step of its network on this machine says it: one that is cached
    or, with ``measure``, is measured now; a line a network says so. A last line says what it costs,
    where a cluster is asked for ``agents``.
    """
    running = [each for each in states if each.name == RUNNING]
    waiting = [each for each in states if each.is_due and each.name != RUNNING]
    if not running and not waiting:
        return []
    slots = [_slot(reading(each)) for each in running] or _places(places, len(waiting))
    paces, told = Paces(history.records(root)), []
    asked = agents(len(running) + len(waiting))
    if slots and asked is None:
        told = steps.learn(paces, [each.spec for each in waiting], slots[0], measure=measure)
    left = time_left(running, waiting, slots, paces)
    if left is None:
        return ["eta     not known yet"]
    when = "" if running else "if make starts now, "
    eta_line = f"eta     {rows.quantiles(left)}  {when}{len(slots)} at a time"
    return [*told, eta_line, *([_cost(asked, left)] if asked else [])]


def _cost(agents: Agents, left: Estimate) -> str:
    """What a cluster will count."""
    unit = "GPU" if agents.gpus else "core"
    p50, p90 = agents.cost(left.p50), agents.cost(left.p90)
    return f"cost    {rounded(p50)} {unit} hours (P90 {rounded(p90)})  {agents}"


def time_left(
    running: Sequence[State], waiting: Sequence[State], slots: Sequence[Slot], paces: Paces
) -> Estimate | None:
    """Seconds until all of these have ended; None where nothing is known of one of them."""
    return eta.remaining(list(map(_work, running)), list(map(_work, waiting)), slots, paces)


def running_left(states: Sequence[State], paces: Paces) -> Estimate | None:
    """Until all are done, where some are running, in the places that these have."""
    running = [each for each in states if each.name == RUNNING]
    waiting = [each for each in states if each.is_due and each.name != RUNNING]
    slots = [_slot(reading(each)) for each in running]
    return time_left(running, waiting, slots, paces) if running else None


def _places(places: Places, runs: int) -> list[Slot]:
    try:
        return places(runs)
    except UserError:  # the device that is asked for is not here; make says so
        return []


def _slot(reading: Reading | None) -> Slot:
    return Slot(reading.device, reading.threads, reading.ranks) if reading else Slot("cpu", 1)
