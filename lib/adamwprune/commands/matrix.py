"""Train the runs of the configuration that are missing; then, on demand, tables and figures."""

import argparse
from collections.abc import Sequence

from adamwprune.base import terminal
from adamwprune.base.console import require
from adamwprune.base.wording import counted, wrapped
from adamwprune.config.sources import Workspace
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.experiment.experiment import Experiment
from adamwprune.experiment.launch import Choose, Launch
from adamwprune.plan.spec import RunSpec
from adamwprune.progress.status import estimate
from adamwprune.report import present
from adamwprune.report.comparisons import COMMAND

require("scipy")  # before hours of training, not after them

VARIABLES = ("FORMAT", "PUBLISHED", "KEEP_STALE")


def flags(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("--defconfig", default="", help="use this one, whatever .config says")
    which = parser.add_mutually_exclusive_group()
    which.set_defaults(choose=Catalogue.missing)
    for flag, choose, help in (
        ("--failed", Catalogue.failed, "train those that failed, only"),
        ("--measure", Catalogue.unmeasured, "train one at a time what was not, for times"),
    ):
        which.add_argument(flag, dest="choose", action="store_const", const=choose, help=help)
    parser.add_argument("--report", action="store_true", help="print the table, draw the figures")
    parser.add_argument("--memory", action="store_true", help="print the memory table too")


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    experiment = Experiment.load(workspace, given.defconfig)
    present.check_format(_format(experiment))
    _train(experiment, given.choose, measure=given.memory)
    catalogue = Catalogue.of(experiment)  # as it is after the training
    if given.report:
        _present(catalogue, memory=given.memory)
    return 1 if _tell_failures(catalogue) + _tell_missing(catalogue) else 0


def _present(catalogue: Catalogue, memory: bool) -> None:
    # Not before there is something to show: it takes as long as all that comes before a training.
    from adamwprune.commands import html_report
    from adamwprune.page import vendor

    experiment, records = catalogue.experiment, catalogue.records()
    specs = experiment.matrix.specs
    if not any(record.status == "done" for record in records):
        print("there is no record to draw")
        return
    form = _format(experiment)
    tell = terminal.show if form == "text" else print  # only that one has colours
    tell(present.tables_of(specs, records, form, memory, experiment.request))
    folder = experiment.figures
    drawn = present.draw_if_changed(specs, records, folder, _print_wrapped)
    count = counted(len({path.stem for path in drawn}), "figure")  # each in several formats
    print(f"{count} in {folder}" if drawn else f"figures in {folder} are up to date")
    if vendor.is_installed():
        print(html_report.write(catalogue))
    else:
        print(f"no report.html: {vendor.PACKAGE} is not installed")


def _print_wrapped(line: str) -> None:
    print(*wrapped(line, "", "  "), sep="\n")


def _format(experiment: Experiment) -> str:
    return experiment.workspace.variables.get("FORMAT", "text")


def _train(experiment: Experiment, choose: Choose, *, measure: bool) -> None:
    """Train what is missing, what failed, or what was not alone when it was trained.

    ``measure``: a step of a network of which nothing is recorded, to say how long all will take.
    """
    alone, launch = choose is Catalogue.unmeasured, Launch(experiment)
    print(f"{experiment.source}: {_counts(experiment)}")
    for note in experiment.notes():
        print(f"note: {note}")
    for dropped in experiment.matrix.dropped:
        print(f"dropped: {dropped.label}: {dropped.reason}")
    catalogue = Catalogue.of(experiment)
    catalogue.sweep()
    chosen = choose(catalogue)
    if not chosen:
        print("nothing to train")
        if launch.trackers:
            print("make track writes what there is to the trackers")
        return
    launch.places()  # refuses what cannot be trained here, before anything is said to go on
    if alone:
        print(f"{len(chosen)} to measure, one at a time")
    else:
        _tell_time(experiment, launch, [cell.spec for cell in chosen], measure)
    try:
        launch.train(choose, alone=alone)
    except BaseException:
        print(f"stopped: {_counts(experiment)}; done runs stay. This goes on with the rest:")
        print(COMMAND + experiment.request.commands.make())
        raise


def _tell_time(
    experiment: Experiment, launch: Launch, specs: Sequence[RunSpec], measure: bool
) -> None:
    """How long these will take, where that is known; before any of them starts.

    On a GPU no step is measured for it: the runs themselves say it before a process would have
    imported torch for that alone.
    """
    catalogue, places = Catalogue.of(experiment), launch.places()
    states = [catalogue.states[spec] for spec in specs]
    measure = measure and places(1)[0].device == "cpu"
    told = estimate(states, experiment.root, places, launch.agents, measure=measure)
    for line in told:
        if "not known" not in line:
            print(line)


def _counts(experiment: Experiment) -> str:
    """``10 runs, 6 done, 1 failed, 3 to train``."""
    catalogue = Catalogue.of(experiment)
    runs, missing = len(catalogue.states), len(catalogue.missing())
    failed = len(catalogue.failed())
    told = f", {failed} failed" if failed else ""
    return f"{counted(runs, 'run')}, {runs - missing - failed} done{told}, {missing} to train"


def _tell_failures(catalogue: Catalogue) -> int:
    """Name the runs that failed and what to do about them; how many there are."""
    failures = catalogue.failed()
    for cell in failures:
        print(f"failed: {cell.spec.run_id}: {catalogue.states[cell.spec].why}")
    if failures:
        only = failures[0].spec.run_id if len(failures) == 1 else ""
        them = "it" if only else "them"
        print(f"make why RUN={only or 'ID'} shows more, make retry trains {them} again")
    return len(failures)


def _tell_missing(catalogue: Catalogue) -> int:
    """Name what is still to be trained, or again; how many runs that is."""
    missing = catalogue.missing()
    for cell in missing:
        state = catalogue.states[cell.spec]
        print(f"{state.name}: {cell.spec.run_id}{f': {state.why}' if state.why else ''}")
    if missing:
        print("make trains them")
    return len(missing)
