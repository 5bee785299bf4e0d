"""ResNet-18 on CIFAR-10 on a GPU, bfloat16: our graphs beside autocast and torch.compile."""

from benchmarks.metrics import Metric, Options, at_least
from benchmarks.training import cells, pruning_cost, turns
from benchmarks.training.turns import OURS, PLAIN, Sizes, Told, pruned

SECTION = "train-resnet18"
LOOP = "benchmarks.training.plain_images"
INTERVAL = 50  # steps between mask updates where nobody sets it
BATCH, LARGE = 128, 512
SIZES = Sizes(steps=100, turns=2, untimed=10, setup=40)
WORKERS = 8  # of the plain loop's DataLoader, if there are so many cores
COMPILED, LARGER = ", compiled", f", batches of {LARGE}"


def measure(options: Options) -> list[Metric]:
    """Nothing on a CPU."""
    if options.device == "cpu":
        print(f"{SECTION}: left out, it needs a CUDA GPU")
        return []
    return compared(options, {"MODEL": "resnet18", "PRECISION": "bf16"}, SIZES)


def compared(options: Options, network: dict[str, str], sizes: Sizes) -> list[Metric]:
    """The plain loop, eager and compiled; ours dense, pruned, compiled, and in larger batches."""
    settings = {"DATASET": "cifar10", "BATCH_SIZE": str(BATCH), **network}
    given = _cells(options, "resnet18", settings, cells.METHODS)
    fast = _cells(options, "resnet18-compiled", {**settings, **cells.COMPILE})
    large = _cells(options, "resnet18-large", {**settings, "BATCH_SIZE": str(LARGE)})
    workers = min(WORKERS, turns.cores())
    works = {
        PLAIN: turns.other(LOOP, given, options, workers=workers),
        PLAIN + COMPILED: turns.other(LOOP, fast, options, workers=workers),
        **turns.ours(given, options),
        **turns.ours(fast, options, COMPILED),
        **turns.ours(large, options, LARGER),
    }
    times = turns.take(works, sizes, options)
    told = Told(SECTION, times, BATCH, "images a second")
    goal = None if options.quick else at_least(25_000)
    loader = f"DataLoader with {workers} workers; {given.data}"
    rows = []
    for tag in ("", COMPILED):
        rows += told.step(PLAIN + tag, loader)
        rows += told.step(OURS + tag, "CUDA graphs, channels last", None if tag else goal)
        rows.append(told.ratio(PLAIN + tag, OURS + tag, None, f"batches of {BATCH}"))
    rows += Told(SECTION, times, LARGE, told.unit).step(OURS + LARGER)
    for method in cells.METHODS[1:]:
        rows.append(told.ratio(pruned(method), OURS))
    steps = told.by_method(cells.METHODS)
    return [*rows, *pruning_cost.shares(SECTION, given.specs, steps, INTERVAL, options)]


def _cells(
    options: Options,
    folder: str,
    settings: dict[str, str],
    methods: tuple[str, ...] = (cells.DENSE,),
) -> cells.Cells:
    return cells.with_images(options, cells.specs(options.scratch / folder, settings, methods))
