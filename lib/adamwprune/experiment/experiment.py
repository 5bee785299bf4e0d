"""What one invocation of make asks for: configuration, matrix of runs, and notes on both."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from adamwprune.base.errors import ConfigError, UserError
from adamwprune.config import sources
from adamwprune.config.sources import Workspace
from adamwprune.config.tree import Tree
from adamwprune.plan.matrix import Matrix, data_dir, expand
from adamwprune.plan.names import names
from adamwprune.plan.spec import RunSpec

if TYPE_CHECKING:
    from adamwprune.report.present import Request

LONGEST = 60  # characters of a configuration's name in that of a folder


@dataclass(frozen=True)
class Experiment:
    """A configuration and the runs that it means."""

    tree: Tree
    workspace: Workspace
    source: str  # where the configuration comes from, for people
    matrix: Matrix
    defconfig: str = ""  # the target's own, whatever .config says

    @classmethod
    def load(cls, workspace: Workspace, defconfig: str = "") -> Experiment:
        """The experiment of this invocation: its variables, and CONFIG=, ``defconfig`` or
        ``.config``. Raises :class:`~adamwprune.base.errors.ConfigError`.
        """
        tree = Tree()
        source = sources.load(workspace, tree, defconfig)
        for name in ("KEEP_STALE", "PUBLISHED"):
            if workspace.variables.get(name, "") not in ("", "0", "1"):
                raise UserError(f"{name}={workspace.variables[name]}: is neither 0 nor 1")
        return cls(tree, workspace, source, expand(tree), defconfig)

    def notes(self) -> list[str]:
        """What a user should know: what resolved to something else, and what changes nothing."""
        idle = [name for name in self.workspace.settings if self._is_idle(name)]
        settings = self.workspace.settings
        return [
            *self.matrix.notes,
            *(f"{name}={settings[name]} changes no run" for name in idle),
            *self._repeated(),
        ]

    def _repeated(self) -> Iterator[str]:
        """Values of a list, or members that the command line names, that are there twice."""
        for name, option in self.tree.options.items():
            if option.type.is_list and self.tree.is_visible(name):
                yield from _twice(name, self.tree.text(name), self.tree.value(name))
        for name, text in self.workspace.settings.items():
            if name in self.tree.families:
                yield from _twice(name, text, text.split())

    @property
    def request(self) -> Request:
        """How these runs were asked for, for a report on them."""
        # Of use to a report alone, and it takes as long to import as all the rest.
        from adamwprune.report.comparisons import Commands
        from adamwprune.report.present import Request

        return Request(self.matrix.deciders, Commands(self.workspace.variables, self.defconfig))

    @cached_property
    def _trial(self) -> Tree:
        """Another tree, to try settings with."""
        return Tree(self.tree.root)

    def _is_idle(self, name: str) -> bool:
        """Whether a setting of make's command line is another value and yet changes no run."""
        if self.tree.is_operational(name):
            return False
        others = {key: text for key, text in self.workspace.variables.items() if key != name}
        tree = self._trial
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # what it says was said once
                sources.load(Workspace(others), tree, self.defconfig)
            if tree.value(name) == self.tree.value(name):
                return False
            if name in tree.unread:
                return all(name not in spec for spec in self._outline)
            return expand(tree, outline=True).specs == self._outline
        except ConfigError:  # without it the configuration does not hold: it does something
            return False

    @cached_property
    def names(self) -> dict[RunSpec, str]:
        """What each run is called for people."""
        return names(self.matrix.specs, self.matrix.varying())

    @cached_property
    def _outline(self) -> list[RunSpec]:
        return expand(self.tree, outline=True).specs

    @property
    def root(self) -> Path:
        """The directory of this experiment's runs."""
        return self.workspace.results(self.tree)

    @property
    def figures(self) -> Path:
        """Where this configuration's figures go: a folder for each, named after its defconfig.

        One without a defconfig, or with settings that change its runs, is named by its runs.
        """
        return self.root / "figures" / self.slug

    @property
    def slug(self) -> str:
        """``memory-comparison``; ``lenet5-mnist5k-3f9a1c`` where no defconfig's name says all."""
        chosen = self.defconfig or self.workspace.variables.get("CONFIG", "")
        name = re.sub(r"[^A-Za-z0-9_+-]+", "-", chosen).strip("-")
        if name and not self.is_changed:
            return name
        subjects = {f"{s['MODEL']}-{s['DATASET']}": None for s in self.matrix.specs}
        name = name or "-".join(subjects) or "nothing"
        ids = " ".join(spec.run_id for spec in self.matrix.specs)
        return f"{name[:LONGEST]}-{hashlib.sha256(ids.encode()).hexdigest()[:6]}"

    @property
    def is_changed(self) -> bool:
        """Whether settings of the command line may make these other runs."""
        return any(not self.tree.is_operational(name) for name in self.workspace.settings)

    @property
    def data_dir(self) -> Path:
        """Where data sets are."""
        return data_dir(self.tree)

    @property
    def published(self) -> Path:
        """The tracked folder of published records."""
        return self.workspace.home(self.tree) / "results" / "published"

    @property
    def accepts_stale(self) -> bool:
        """KEEP_STALE=1: records that other code made are accepted, and marked."""
        return self.workspace.variables.get("KEEP_STALE") == "1"

    @property
    def takes_published(self) -> bool:
        """PUBLISHED=1: a published record stands for a run that was not done here."""
        return self.workspace.variables.get("PUBLISHED") == "1"


def _twice(name: str, text: str, values: Sequence[object]) -> Iterator[str]:
    """A note where a value is repeated."""
    if len(set(values)) < len(values):
        yield f"{name}={text}: a value that is repeated counts once"
