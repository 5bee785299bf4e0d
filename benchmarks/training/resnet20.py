"""ResNet-20 on CIFAR-10: our step with its data beside the loop that tutorials write."""

from benchmarks.metrics import Metric, Options, at_least
from benchmarks.training import cells, paced, pruning_cost, turns
from benchmarks.training.turns import OURS, PLAIN, Sizes, Told, pruned

SECTION = "train-resnet20"
LOOP = "benchmarks.training.plain_images"
INTERVAL = 50  # steps between mask updates where nobody sets it
SIZES = Sizes(steps=4, turns=2)
PLAIN_DATA, OUR_DATA = "data of a step, plain loop's DataLoader alone", "data of a step, ours alone"


def measure(options: Options) -> list[Metric]:
    """Dense, pruned by magnitude and by state; and the data alone."""
    model, batch = ("resnet8", 16) if options.quick else ("resnet20", 128)
    settings = {"DATASET": "cifar10", "MODEL": model, "BATCH_SIZE": str(batch)}
    found = cells.specs(options.scratch / "resnet20", settings)
    given = cells.with_images(options, found)
    whole = {PLAIN: turns.other(LOOP, given, options), **turns.ours(given, options)}
    sizes = Sizes(steps=1, turns=1, setup=4) if options.quick else SIZES
    told = Told(SECTION, turns.take(whole, sizes, options), batch, "images a second")
    goal = at_least(2.0) if options.device == "cpu" and not options.quick else None
    loader = f"{turns.WORKERS} workers; {given.data}"
    rows = told.step(PLAIN, loader)
    rows += told.step(OURS, given.data)
    rows.append(told.ratio(PLAIN, OURS, goal, f"batches of {batch}, with their data"))
    rows += _data(given, options, batch)
    for method in given.specs:
        if method != cells.DENSE:
            rows.append(told.ratio(pruned(method), OURS))
    steps = told.by_method(list(given.specs))
    return [*rows, *pruning_cost.shares(SECTION, given.specs, steps, INTERVAL, options)]


def _data(given: cells.Cells, options: Options, batch: int) -> list[Metric]:
    """The data path alone; of the DataLoader more steps than it has batches ready."""
    works = {
        PLAIN_DATA: turns.other(LOOP, given, options, "data"),
        OUR_DATA: turns.other(paced.PRODUCT, given, options, "data"),
    }
    sizes = Sizes(2, 1, 1, 1) if options.quick else Sizes(steps=20, turns=1, untimed=8)
    told = Told(SECTION, turns.take(works, sizes, options), batch, "images a second")
    loader = f"{turns.WORKERS} workers, which have the machine to themselves"
    return [*told.part(PLAIN_DATA, loader), *told.part(OUR_DATA, given.data)]
