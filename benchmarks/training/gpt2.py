"""GPT-2 124M on a GPU, bfloat16, blocks of 1,024: our graphs beside nanoGPT's loop."""

from benchmarks.metrics import Metric, Options, at_least
from benchmarks.training import cells, pruning_cost, turns
from benchmarks.training.turns import OURS, PLAIN, Sizes, Told, pruned

SECTION = "train-gpt2"
LOOP = "benchmarks.training.plain_text"
INTERVAL = 40  # steps between mask updates: 0.02 of the recipe's 2,000 steps
# A batch in micro-batches of 12, as nanoGPT has it: four loops fit a GPU's 80 GB side by side.
NETWORK = {"MODEL": "gpt2", "PRECISION": "bf16", "BATCH_SIZE": "120", "ACCUMULATION": "10",
           "TEXT_VOCABULARY": "50304"}  # fmt: skip
SIZES = Sizes(steps=8, turns=2, untimed=1, setup=9)
TOKENS = 10_000_000
COMPILED = ", compiled"


def measure(options: Options) -> list[Metric]:
    """Nothing on a CPU."""
    if options.device == "cpu":
        print(f"{SECTION}: left out, it needs a CUDA GPU")
        return []
    return compared(options, NETWORK, SIZES, TOKENS)


def compared(options: Options, network: dict[str, str], sizes: Sizes, tokens: int) -> list[Metric]:
    """Plain and ours, first eager, then compiled; then the latter pruned."""
    text = options.scratch / "random-tokens"
    cells.write_random_tokens(text, tokens, int(network["TEXT_VOCABULARY"]))
    settings = {"DATASET": "text-file", "TEXT_FILE": str(text), **network}
    eager = _cells(options, "gpt2", (cells.DENSE,), settings)
    fast = _cells(options, "gpt2-compiled", cells.METHODS, {**settings, **cells.COMPILE})
    rows: list[Metric] = []
    dense = fast.specs[cells.DENSE]
    per_step = dense["BATCH_SIZE"] * dense["BLOCK"]
    for tag, given in (("", eager), (COMPILED, fast)):
        works = {PLAIN + tag: turns.other(LOOP, given, options), **turns.ours(given, options, tag)}
        told = Told(SECTION, turns.take(works, sizes, options), per_step, "tokens a second")
        goal = at_least(400_000) if tag and not options.quick else None
        rows += told.step(PLAIN + tag, f"autocast; {given.data}")
        rows += told.step(OURS + tag, "CUDA graphs", goal)
        rows.append(told.ratio(PLAIN + tag, OURS + tag, None, f"{per_step:,} tokens a step"))
    rows += [told.ratio(pruned(m) + COMPILED, OURS + COMPILED) for m in cells.METHODS[1:]]
    steps = told.by_method(cells.METHODS, COMPILED)
    return [*rows, *pruning_cost.shares(SECTION, fast.specs, steps, INTERVAL, options)]


def _cells(
    options: Options, folder: str, methods: tuple[str, ...], settings: dict[str, str]
) -> cells.Cells:
    found = cells.specs(options.scratch / folder, settings, methods)
    return cells.Cells(found, options.data_dir, "random tokens")
