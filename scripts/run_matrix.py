"""Train the runs of the configuration that are missing; then, on demand, tables and figures."""

import argparse

import _packages  # noqa: F401
from adamwprune.command import run_command
from adamwprune.experiment import Experiment
from adamwprune.report import present


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--defconfig", default="", help="use this one, whatever .config says")
    parser.add_argument("--report", action="store_true", help="print the table, draw the figures")
    parser.add_argument("--memory", action="store_true", help="print the memory table too")
    arguments = parser.parse_args()

    experiment = Experiment.load(arguments.defconfig)
    present.check_format(_format(experiment))
    failed = _train(experiment)
    if arguments.report:
        _present(experiment, memory=arguments.memory)
    return 1 if failed else 0


def _present(experiment: Experiment, memory: bool) -> None:
    specs, records = experiment.matrix.specs, experiment.records()
    print(present.tables_of(specs, records, _format(experiment), memory))
    folder = experiment.store.root / "figures"
    drawn = present.draw_if_changed(specs, records, folder)
    print(f"{len(drawn)} figures in {folder}" if drawn else f"figures in {folder} are up to date")


def _format(experiment: Experiment) -> str:
    return experiment.workspace.variables.get("FORMAT", "text")


def _train(experiment: Experiment) -> int:
    """Train what is missing and say what was done; the number of runs that failed."""
    runs, missing = len(experiment.matrix.cells), experiment.missing()
    print(f"{experiment.source}: {runs} runs, {runs - len(missing)} done, {len(missing)} to train")
    for note in experiment.notes():
        print(f"note: {note}")
    for dropped in experiment.matrix.dropped:
        print(f"dropped: {dropped.label}: {dropped.reason}")
    if not missing:
        print("nothing to train")
        return 0
    try:
        outcome = experiment.train(missing)
    except BaseException:
        left = len(experiment.missing())
        print(f"stopped: {runs - left} of {runs} runs are done and stay; make trains the rest")
        raise
    for spec in outcome.failed:
        print(f"failed: {spec.run_id}: see {experiment.store.folder(spec)}/result.json")
    return len(outcome.failed)


if __name__ == "__main__":
    run_command(main)
