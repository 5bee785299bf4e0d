"""Train a run by the code of a commit, in a checkout of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import threading
from functools import cached_property
from pathlib import Path

from adamwprune.base import registry, subprocesses
from adamwprune.base.errors import UserError
from adamwprune.base.wording import last_line
from adamwprune.config.sources import flag
from adamwprune.config.tree import Tree
from adamwprune.plan.lineage import is_unset
from adamwprune.plan.spec import RunSpec
from adamwprune.records import provenance
from adamwprune.records.brief import read_result
from adamwprune.records.code import Sources
from adamwprune.records.record import RunResult

_OURS = ("MAKEFLAGS", "MFLAGS", "KCONFIG_CONFIG", registry.VARIABLE)  # are not for that code
STEPS = 100  # that a shortened run has at least
# Such a run has pruned, and reset its moments, several times.
_AT_MOST = {"PRUNING_WARMUP": 10, "PRUNING_INTERVAL": 10, "SPAM_WARMUP_STEPS": 10,
            "SPAM_INTERVAL": 50, "LR_WARMUP": 10, "EVALUATION_INTERVAL": 50}  # fmt: skip
# A narrow network goes the same way through the code; these would take minutes a run.
_NARROW = {"MODEL_WIDTH": 0.25}
_LARGE = ("resnet18", "resnet50", "gpt2", "gpt2-medium")


def shortened(spec: RunSpec) -> RunSpec:
    """The run with seed 0, of ``STEPS`` steps or of the epochs that make so many; of a large
    network, a narrow one.
    """
    known = [name for name in _AT_MOST if name in spec]
    fewer = {name: min(int(spec.settings[name]), _AT_MOST[name]) for name in known}
    # The length is said in one of two ways: code of any age takes the one without the other.
    rest = {name: value for name, value in spec.values.items() if name not in ("STEPS", "EPOCHS")}
    if spec["STEPS"]:
        length = {"STEPS": min(int(spec["STEPS"]), STEPS)}
    else:
        length = {"EPOCHS": min(int(spec["EPOCHS"]), -(-STEPS // spec.steps_per_epoch))}
    width = _NARROW if spec["MODEL"] in _LARGE else {}
    return RunSpec({**rest, **fewer, **length, **width, "SEED": 0})


class Worktrees:
    """Checkouts of commits of the repository at ``root``, made when they are asked for.

    A context manager, which removes them.
    """

    def __init__(self, tree: Tree, root: Path, data_dir: Path) -> None:
        self.tree, self.root, self.data_dir = tree, root, data_dir
        self.folder = Path(tempfile.mkdtemp(prefix="adamwprune-"))
        self._sources: dict[str, Sources] = {}
        self._making = threading.Lock()

    def __enter__(self) -> Worktrees:
        return self

    def __exit__(self, *reason: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._git("worktree", "prune")

    @cached_property
    def head(self) -> str:
        """The commit that is checked out in the repository itself."""
        return self._git("rev-parse", "HEAD")

    def has(self, commit: str) -> bool:
        """Whether the repository has this commit."""
        found = subprocess.run(
            ["git", "-C", str(self.root), "cat-file", "-e", f"{commit}^{{commit}}"],
            stderr=subprocess.DEVNULL,
            check=False,
        )
        return found.returncode == 0

    def at(self, commit: str) -> Path:
        """The checkout of a commit."""
        path = self.folder / commit
        with self._making:
            if not path.exists():
                self._git("worktree", "add", "--detach", str(path), commit)
        return path

    def digest(self, commit: str, spec: RunSpec) -> str:
        """The digest, by today's rule, of the code of a run at a commit."""
        if commit not in self._sources:
            self._sources[commit] = Sources(self.at(commit) / "lib", None)
        return self._sources[commit].of(spec).digest

    def train(self, commit: str, spec: RunSpec, device: str) -> RunResult:
        """The record of a run by a commit's code; with one thread, so that it rounds alike.

        ``device``: ``cpu`` or ``cuda``. :class:`UserError` where it makes no such record.
        """
        place = self.at(commit)
        environment = subprocesses.environment(place / "lib")
        words = [*self._flags(spec), "--device", device, "--threads", "1"]
        done = subprocess.run(
            [sys.executable, "train.py", *words, "--data-dir", str(self.data_dir)],
            cwd=place,
            env={name: text for name, text in environment.items() if name not in _OURS},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        folder = place / "results" / spec.run_id
        if done.returncode or not folder.is_dir():
            reason = last_line(done.stderr or done.stdout or "no word of it")
            raise UserError(f"commit {commit[:10]} does not train {spec.run_id}: {reason}")
        try:
            return read_result(folder / "result.json")
        finally:
            shutil.rmtree(folder)

    def _flags(self, spec: RunSpec) -> list[str]:
        """The run's values as words for ``train.py``, which every commit has."""
        words: list[str] = []
        for name, value in spec.values.items():
            if is_unset(self.tree, name, value):
                continue
            if isinstance(value, bool) and name in self.tree.options:
                words.append(flag(name) if value else f"--no-{flag(name)[2:]}")
            elif name in self.tree.options or name in self.tree.families:
                words += [flag(name), str(value)]
        return words

    def _git(self, *words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.root), *words], capture_output=True, text=True, check=False
        )
        if note := provenance.note(self.root) if done.returncode else "":
            raise UserError(note)
        if done.returncode:
            raise UserError(f"git {words[0]}: {last_line(done.stderr)}")
        return done.stdout.strip()
