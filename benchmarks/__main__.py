"""Run sections of the benchmark and write what they found; docs/benchmarks.md explains them.

``benchmarks compare A=FILE B=FILE`` compares two sessions, ``benchmarks memory`` counts the bytes
of larger networks. make's DEVICE=, DATA_DIR= and the words of BENCH_ARGS= are taken.
"""

import argparse
import datetime
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

# As a directory that is run (make bench) or by its name; never from the current directory.
if __name__ == "__main__":
    tree = Path(__file__).resolve().parents[1]
    sys.path[:1] = [str(tree), str(tree / "lib")]

from benchmarks import processes  # noqa: F401  notes the environment that its children get

# Before torch is imported: the profiler's library writes what no one asked for.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

from adamwprune.base.console import run_command
from adamwprune.base.errors import UserError
from adamwprune.config.sources import Workspace
from adamwprune.config.tree import SOURCE_TREE
from adamwprune.experiment.experiment import Experiment
from adamwprune.records import provenance
from adamwprune.scheduler import devices
from benchmarks import session
from benchmarks.metrics import Metric, Options
from benchmarks.session import Session

SECTIONS = {
    "start": "benchmarks.start",
    "one-run": "benchmarks.one_run",
    "matrix": "benchmarks.matrix",
    "optimizer-step": "benchmarks.optimizer_step",
    "mask-update": "benchmarks.mask_update",
    "commands": "benchmarks.commands",
    "page": "benchmarks.page",
    "cluster": "benchmarks.cluster",
    "train-resnet20": "benchmarks.training.resnet20",
    "train-gpt-nano": "benchmarks.training.gpt_nano",
    "train-resnet18": "benchmarks.training.resnet18",
    "train-gpt2": "benchmarks.training.gpt2",
}
NETWORKS = ("lenet5", "resnet18", "gpt2")


def parser() -> argparse.ArgumentParser:
    """The flags."""
    found = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    found.add_argument("--section", action="append", choices=SECTIONS, help="all, if not given")
    found.add_argument("--epochs", type=int, help="of each run that is timed (10; quick: 1)")
    found.add_argument("--repetitions", type=int, help="of everything, in turn (3; quick: 1)")
    found.add_argument("--networks", nargs="+", choices=NETWORKS, help="whose steps are timed")
    found.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    found.add_argument("--data-dir", type=Path, default=Path("data"))
    found.add_argument("--output", type=Path, default=Path("results") / "bench")
    found.add_argument("--quick", action="store_true", help="tiny sizes: does it work at all?")
    return found


def options_of(given: argparse.Namespace, scratch: Path) -> Options:
    """What the sections are told; :class:`UserError` for numbers that make no sense."""
    epochs = given.epochs or (1 if given.quick else 10)
    repetitions = given.repetitions or (1 if given.quick else 3)
    if epochs < 1 or repetitions < 1:
        raise UserError("--epochs and --repetitions must be at least 1")
    here = devices.machine(given.device)
    networks = tuple(given.networks or (NETWORKS[:1] if given.quick else NETWORKS))
    device = "cuda" if here.gpus else "cpu"
    return Options(scratch, given.data_dir, device, epochs, repetitions, given.quick, networks)


def place(device: str) -> dict[str, object]:
    """Hardware, software and code."""
    import torch

    from adamwprune.run import environment

    described = environment.describe(torch.device(device), torch.get_num_threads())
    return {**described, **provenance.source(SOURCE_TREE).record()}


def measure(
    names: Sequence[str], options: Options, tell: Callable[[list[Metric]], object]
) -> list[Metric]:
    """The sections, one after the other; ``tell`` is called with all that is known after each."""
    found: list[Metric] = []
    for name in names:
        start = time.perf_counter()
        print(f"{name} ...", flush=True)
        found += import_module(SECTIONS[name]).measure(options)
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
        tell(found)
    if "mask-update" in names:
        found += import_module(SECTIONS["mask-update"]).share(found, options)
        tell(found)
    return found


def from_make(workspace: Workspace) -> list[str]:
    """The words that make's variables stand for."""
    experiment = Experiment.load(workspace)
    try:
        words = shlex.split(workspace.variables.get("BENCH_ARGS", ""))
    except ValueError as error:
        raise UserError(f"BENCH_ARGS=: {error}") from None
    own = ["--device", str(experiment.tree.operational()["DEVICE"])]
    own += ["--data-dir", str(experiment.data_dir)]
    return [*own, "--output", str(experiment.root / "bench"), *words]


def compare(workspace: Workspace) -> int:
    """Print two sessions side by side, A= and B=: the JSON files that make bench wrote."""
    paths = [workspace.variables.get(name, "") for name in ("A", "B")]
    if not all(paths):
        raise UserError("make bench-compare needs A= and B=, two files of results/bench/")
    one, other = (session.read(Path(path)) for path in paths)
    print(session.compare(one, other))
    return 0


def command() -> int:
    """What make calls: ``compare``, ``memory``, or the sections."""
    words = sys.argv[1:]
    workspace = Workspace.from_environment()
    if words[:1] == ["compare"]:
        return compare(workspace)
    if words[:1] == ["memory"]:
        from benchmarks.memory.table import main as memory

        return memory(words[1:])
    return main(words or from_make(workspace))


def main(words: Sequence[str] | None = None) -> int:
    given = parser().parse_args(words)
    names = [name for name in SECTIONS if name in (given.section or SECTIONS)]
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with tempfile.TemporaryDirectory(prefix="adamwprune-bench-") as scratch:
        options = options_of(given, Path(scratch))
        settings = {
            # Where things are on this machine is nobody else's business.
            **{k: v for k, v in vars(options).items() if k not in ("scratch", "data_dir")},
            "networks": list(options.networks),
            "sections": names,
        }

        def tell(found: list[Metric]) -> None:  # after each section: what is there stays there
            known = Session(date, place(options.device), settings, tuple(found))
            session.write(known, given.output)

        found = measure(names, options, tell)
        known = Session(date, place(options.device), settings, tuple(found))
    print(session.text(known))
    print(session.write(known, given.output))
    drawn = session.draw_history(session.sessions(given.output), given.output / session.HISTORY)
    if drawn:
        print(drawn)
    return 0


if __name__ == "__main__":
    run_command(command)
