"""GPT-nano on the embedded plays: our step beside nanoGPT's loop and beside a bare step."""

from collections.abc import Sequence
from statistics import median

from adamwprune.plan.spec import RunSpec
from benchmarks import metrics
from benchmarks.metrics import Metric, Options, at_least, at_most
from benchmarks.training import cells, paced, pruning_cost, turns
from benchmarks.training.turns import OURS, PLAIN, Sizes, Told, pruned

SECTION = "train-gpt-nano"
LOOP = "benchmarks.training.plain_text"
INTERVAL = 40  # steps between mask updates: 0.02 of the recipe's 2,000 steps (defconfig gpt-nano)
RECIPE_STEPS, EVALUATIONS = 2000, 10
CHECKPOINT_SECONDS = 60  # between checkpoints, beside those after each evaluation
SIZES = Sizes(steps=30, turns=4, untimed=2)
BARE = "bare step"


def measure(options: Options) -> list[Metric]:
    """Dense, pruned by magnitude and by state; nanoGPT's loop, and a bare step."""
    small = {"BLOCK": "16", "BATCH_SIZE": "2"} if options.quick else {}
    settings = {"MODEL": "gpt-nano", "DATASET": "shakespeare", **small}
    found = cells.specs(options.scratch / "gpt-nano", settings)
    given = cells.Cells(found, options.data_dir)
    works = {
        PLAIN: turns.other(LOOP, given, options),
        BARE: turns.other(paced.PRODUCT, given, options, "step"),
        **turns.ours(given, options),
    }
    sizes = Sizes(steps=2, turns=1, setup=4) if options.quick else SIZES
    spec = found[cells.DENSE]
    tokens = spec["BATCH_SIZE"] * spec["BLOCK"]
    told = Told(SECTION, turns.take(works, sizes, options), tokens, "tokens a second")
    is_judged = options.device == "cpu" and not options.quick
    rows = [row for name in (PLAIN, OURS) for row in told.step(name)]
    rows += told.part(BARE, "our network and optimizer, one batch, nothing else")
    goal = at_least(1.0) if is_judged else None
    rows.append(told.ratio(PLAIN, OURS, goal, f"{tokens} tokens a step"))
    rows += overhead(told, spec, is_judged)
    for method in found:
        if method != cells.DENSE:
            rows.append(told.ratio(pruned(method), OURS))
    steps = told.by_method(list(found))
    return [*rows, *pruning_cost.shares(SECTION, found, steps, INTERVAL, options)]


def overhead(told: Told, spec: RunSpec, is_judged: bool) -> list[Metric]:
    """What data, watch, trace and checkpoints add to a bare step, as per cent of it."""
    seconds = told.times.seconds
    wrote: Sequence[float] = [
        told.times.ends[pruned(method)]["checkpoint"] for method in cells.METHODS
    ]
    run = RECIPE_STEPS * median(seconds[OURS])
    checkpoints = EVALUATIONS - 1 + run / CHECKPOINT_SECONDS
    written = 100 * checkpoints * median(wrote) / run
    added = [
        100 * (ours / bare - 1) + written
        for ours, bare in zip(seconds[OURS], seconds[BARE], strict=True)
    ]
    goal = at_most(3.0) if is_judged else None
    note = (
        f"checkpoints {written:.2f}: {checkpoints:.1f} in the recipe's {RECIPE_STEPS} steps; the "
        "rest data, trace and progress"
    )
    return [
        metrics.of(SECTION, "a checkpoint", "ms", [1000 * each for each in wrote]),
        metrics.of(SECTION, f"overhead over the {BARE}", "%", added, goal, note),
    ]
