"""Which value of an axis is best, on validation data, and whether that is shown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from adamwprune.plan.spec import RunSpec
from adamwprune.report.comparisons import COMMAND, Commands
from adamwprune.report.groups import Group, Setting, held_out, score_digits
from adamwprune.report.statistics import ALPHA, LEAST, Estimate, Paired, enough_seeds
from adamwprune.report.sweeps import Sweep, place_text, sweeps

NAMED = 4  # values in a sentence; of more there is a count
HELD_OUT = 10  # of the training examples one in so many is held out in the advice


@dataclass(frozen=True, eq=False)
class Choice:
    """The groups of one optimizer, method and target along the axes of a sweep."""

    sweep: Sweep
    candidates: tuple[Group, ...]  # with a completed run

    @property
    def best(self) -> Group:
        """The one with the best mean."""
        return max(self.candidates, key=lambda group: group.worth)

    @property
    def left(self) -> tuple[Group, ...]:
        """Those that may be the best: with 95% confidence the best one is among them.

        A candidate is ruled out where some other one is better than it in a one-sided paired
        t-test at 5% divided by the number of the others. The best one is ruled out by error at
        most once in twenty times, whichever it is: of all the tests only those against it matter
        (J. Hsu, Annals of Statistics 9, 1981, with Bonferroni's bound).
        """
        level = ALPHA / max(1, len(self.candidates) - 1)
        return tuple(
            one
            for one in self.candidates
            if not any(_is_beaten(one, other, level) for other in self.candidates)
        )

    @property
    def has_enough_seeds(self) -> bool:
        """Whether every candidate has as many pairs as a verdict needs."""
        return all(group.n >= LEAST for group in self.candidates)

    def name(self, group: Group) -> str:
        """``lr 0.001, batch size 64``."""
        return place_text(self.sweep.texts(group))


def _is_beaten(one: Group, other: Group, level: float) -> bool:
    """Whether ``other`` is better than ``one``, over the seeds that both have done."""
    beaten, better = ({run.spec["SEED"]: run.score for run in group.done} for group in (one, other))
    both = [seed for seed in beaten if seed in better]
    if len(both) < LEAST or other.worth <= one.worth:
        return False
    paired = Paired.of([better[seed] for seed in both], [beaten[seed] for seed in both])
    is_better = other.done[0].headline.sign * paired.difference.mean > 0
    return paired.p is not None and is_better and paired.p / 2 < level


def choices(settings: Sequence[Setting]) -> list[Choice]:
    """One for each optimizer, method and target of which several values are done."""
    found = []
    for sweep in sweeps(settings):
        for cell in sweep.cells if sweep.axes else ():
            done = tuple(group for group in cell if group.done)
            if len(done) > 1:
                found.append(Choice(sweep, done))
    return found


def sentences(settings: Sequence[Setting], commands: Commands) -> list[str]:
    """What may be said of the values, and what to do where nothing may be."""
    found = choices(settings)
    by_test = [each for each in found if held_out(each.candidates) == "test"]
    lines = [_told(each) for each in found if each not in by_test]
    if by_test:
        lines += _without_validation(by_test[0], commands)
    elif found and not all(each.has_enough_seeds for each in found):
        seeds = sorted(
            {int(spec["SEED"]) for each in found for g in each.candidates for spec in g.specs}
        )
        if len(seeds) < LEAST:
            lines += [
                "This trains the seeds that are missing:",
                COMMAND + commands.add_seeds(enough_seeds(seeds)),
            ]
    return lines


def _told(choice: Choice) -> str:
    best, left = choice.best, choice.left
    metric, digits = best.done[0].headline, score_digits(choice.candidates)
    interval = Estimate.of([run.score for run in best.done]).interval
    spread = (
        f"; 95% interval {interval[0]:.{digits}f} to {interval[1]:.{digits}f}" if interval else ""
    )
    told = (
        f"{best.label}: {choice.name(best)} has the best validation {metric.label}, "
        f"{metric.text(best.score.mean)} (n = {best.n}{spread})."
    )
    count = len(choice.candidates)
    if not choice.has_enough_seeds:
        rest = "the other" if count == 2 else "the others"
        return f"{told} Whether it is better than {rest} is not known: that takes {LEAST} seeds."
    if left == (best,):
        worse = "the other is worse" if count == 2 else f"all {count - 1} others are worse"
        return f"{told} That it is the best is shown: {worse} (95% confidence)."
    others = [group for group in left if group is not best]
    named = "; ".join(choice.name(group) for group in others[:NAMED])
    more = f"; and {len(others) - NAMED} more" if len(others) > NAMED else ""
    which = "the other" if count == 2 else f"{len(others)} of {count - 1} others"
    return f"{told} That it is the best is not shown: {which} may be as good: {named}{more}."


def _without_validation(choice: Choice, commands: Commands) -> Iterator[str]:
    count = choice.best.spec.train_examples // HELD_OUT
    told = (
        "No value is called best: these scores are of the test set, and the best of many test "
        "scores promises too much."
    )
    specs = (group.spec for group in choice.candidates)
    values = ({**spec.values, "VALIDATION_EXAMPLES": count} for spec in specs)
    if any(RunSpec(each).problems() for each in values):
        yield f"{told} VALIDATION_EXAMPLES={count} would hold out some to measure on; " + (
            "these runs are too short for that: more epochs leave enough steps."
        )
        return
    yield f"{told} This measures on training examples that are held out:"
    yield COMMAND + commands.change(VALIDATION_EXAMPLES=str(count))
