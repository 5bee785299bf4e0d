"""Repeat a recorded run, RUN=, by its values, and compare the two records.

The exit status is 1 where they differ by more than chance.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
from collections.abc import Iterator

from adamwprune.base import registry
from adamwprune.base.errors import ConfigError, UserError
from adamwprune.commands.train import train_here
from adamwprune.config import strict
from adamwprune.config.options import Value
from adamwprune.config.sources import Workspace
from adamwprune.config.tree import Tree
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.experiment.experiment import Experiment
from adamwprune.experiment.launch import Launch
from adamwprune.plan.job import Job
from adamwprune.plan.lineage import is_unset
from adamwprune.plan.matrix import expand
from adamwprune.plan.spec import RunSpec
from adamwprune.records.comparison import DIFFERENT, Comparison, compare, other_seeds
from adamwprune.records.record import RunResult
from adamwprune.records.store import RESULT
from adamwprune.scheduler import devices
from adamwprune.scheduler.devices import Slot

VARIABLES = ("RUN",)
FOLDER = ".reproduced"  # of the repetitions, below the directory of results


def reproduce(experiment: Experiment, prefix: str) -> Comparison:
    """Repeat the run whose identity starts with ``prefix``, on its kind of device and with its
    number of threads and ranks where they are here, and compare the two records.

    The repetition has a directory of its own; one that was interrupted goes on. Raises
    :class:`UserError` where no record or several are found, or its values mean another run.
    """
    if not prefix:
        raise UserError("make reproduce needs RUN=, a run's id or the start of it")
    catalogue, launch = Catalogue.of(experiment), Launch(experiment)
    original = catalogue.find(prefix)
    spec = spec_of(original)
    folder = experiment.root / FOLDER / original.run_id
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        (folder / RESULT).unlink()
    command = str(original.environment.get("command", ""))
    shards = bool(original.environment.get("sharded"))
    job = Job(spec, folder.absolute(), experiment.data_dir, command=command, shards=shards)
    repeated = train_here(launch.placed(job, _slot(original)), catalogue.code.of(spec))
    return compare(original, repeated, other_seeds(original, catalogue.store.sound_results()))


def spec_of(original: RunResult) -> RunSpec:
    """The record's run, as the tree that is here understands its values; :class:`UserError` where
    it has another meaning for them.

    All of them are set, so that no default counts: that may have changed since.
    """
    tree = Tree()
    settings = {
        name: _text(value)
        for name, value in original.spec.values.items()
        if (name in tree.families or name in tree.options) and not is_unset(tree, name, value)
    }
    place = f"record of {original.run_id}"
    try:
        strict.apply(tree, strict.command_line(tree, settings, place))
    except ConfigError as error:
        raise ConfigError([*error.problems, *_members_from(original)]) from None
    specs = expand(tree).specs
    if specs != [original.spec]:
        found = ", ".join(spec.run_id for spec in specs)
        raise UserError(f"{original.run_id}: the values in its record mean {found} here")
    return specs[0]


def _members_from(original: RunResult) -> Iterator[str]:
    """Where a record's members from outside the tree were, unless these are there now."""
    words = shlex.split(str(original.environment.get("command", "")))
    for word in words:
        if word.startswith("M=") and word != f"M={registry.outside()}":
            yield f"record of {original.run_id}: it was trained with {word}, which brings members"


def _text(value: Value) -> str:
    return "ny"[value] if isinstance(value, bool) else str(value)


def _slot(original: RunResult) -> Slot:
    kind = str(original.environment.get("device", "cpu")).partition(":")[0]
    here = devices.machine("auto")
    threads, ranks = (original.environment.get(name) for name in ("threads", "ranks"))
    return Slot(
        next(iter(here.gpus)) if kind == "cuda" and here.gpus else "cpu",
        threads if isinstance(threads, int) and threads > 0 else here.cores,
        ranks if isinstance(ranks, int) and ranks > 0 else 1,
    )


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    experiment = Experiment.load(workspace)
    comparison = reproduce(experiment, experiment.workspace.variables.get("RUN", ""))
    print(comparison.text())
    return 1 if comparison.verdict == DIFFERENT else 0
