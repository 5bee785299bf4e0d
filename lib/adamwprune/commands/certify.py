"""Prove that the code here gives the bits of the code that made the records, and note it.

Where the code of published records, or of those below the directory of results, is another than
today's, representative runs are trained by both, on this machine: the older one from a checkout
of the record's commit, today's from one of HEAD. Where all bits are equal the two records are
kept in results/certified.jsonl, and records of the older code count as fresh. What is proved is
not proved again. CHECK=N examines that file, and trains N of its lines again, by chance chosen
(CHECK=0: none; CHECK=all: all).
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from adamwprune.base.errors import UserError
from adamwprune.base.wording import counted
from adamwprune.config.sources import Workspace
from adamwprune.config.tree import IS_CHECKOUT, SOURCE_TREE
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.experiment.experiment import Experiment
from adamwprune.experiment.worktrees import Worktrees, shortened
from adamwprune.plan.spec import RunSpec
from adamwprune.records import staleness
from adamwprune.records.certified import Certificates, Proof, device_kind, path_of
from adamwprune.records.code import CERTIFIED, Code, Sources
from adamwprune.records.comparison import IDENTICAL, compare
from adamwprune.records.published import each_published
from adamwprune.records.record import RunResult
from adamwprune.scheduler import devices

VARIABLES = ("CHECK",)
NAMED = 10  # records without a proof that are listed by name


@dataclass(frozen=True)
class Pair:
    """Two codes to compare, by one run on one kind of device."""

    digest: str  # of the code that made some records
    commit: str  # which has that code
    spec: RunSpec
    device: str


@dataclass
class Needed:
    """What remains to be proved, and the records of which nothing can be proved."""

    pairs: list[Pair] = field(default_factory=list)
    beyond: dict[str, list[str]] = field(default_factory=dict)  # reason -> run ids


def needed(
    records: Iterable[RunResult],
    code: Sources,
    trees: Worktrees,
    kinds: set[str],
    certificates: Certificates,
) -> Needed:
    """The pairs that the records need. ``kinds``: of device that this machine has.

    Of codes that were shown to be equal only the newest is compared with today's.
    """
    found, groups = Needed(), dict[tuple[str, str, str], RunResult]()
    order = sorted(records, key=lambda each: (bool(each.environment.get("dirty")), each.run_id))
    for record in order:  # what was made without uncommitted changes first
        device = kind if (kind := device_kind(record)) in kinds else "cpu"
        try:
            today = code.of(record.spec)
            if not _is_proved(record, today, device):
                _check(record, trees)
                proof = certificates.newest(str(record.code["digest"]), record.spec, device)
                newest = proof.after if proof else record
                key = (path_of(record.spec), str(newest.code["digest"]), device)
                groups.setdefault(key, newest)
        except UserError as error:
            found.beyond.setdefault(str(error), []).append(record.run_id)
    shared: dict[str, RunSpec] = {}  # one run a path, so that today's code trains it once
    for (path, _, _), record in sorted(groups.items(), key=lambda each: len(each[1].spec.values)):
        shared.setdefault(path, shortened(record.spec))  # in the words that the oldest code knows
    for (path, digest, device), record in groups.items():
        spec = shared[path]
        found.pairs.append(Pair(digest, str(record.environment["commit"]), spec, device))
    return found


def _is_proved(record: RunResult, today: Code, device: str) -> bool:
    if not staleness.changes(record, today):
        return not staleness.proof(record, today) or device in staleness.proved_on(record, today)
    return False


def _check(record: RunResult, trees: Worktrees) -> None:
    """Raise :class:`UserError` for a record whose code cannot be had."""
    place = record.environment
    if record.status != "done" or not record.code:
        raise UserError("failed, or does not say what code made it")
    if place.get("members"):
        raise UserError("made with members from outside the tree")
    if not trees.has(str(place.get("commit"))):
        raise UserError(f"commit {place.get('commit')} is not in this repository")


def prove(pairs: list[Pair], trees: Worktrees, code: Sources) -> Iterator[tuple[Pair, Proof | str]]:
    """For each pair the proof, or why there is none, as they come."""
    for pair in pairs:
        if trees.digest(trees.head, pair.spec) != code.of(pair.spec).digest:
            raise UserError("modules that make numbers have uncommitted changes: commit them first")

    now: dict[tuple[RunSpec, str], Future[RunResult]] = {}
    before: dict[Future[RunResult], Pair] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for pair in sorted(pairs, key=lambda each: each.spec.run_id):  # both sides soon
            if (pair.spec, pair.device) not in now:
                run = pool.submit(trees.train, trees.head, pair.spec, pair.device)
                now[pair.spec, pair.device] = run
            before[pool.submit(trees.train, pair.commit, pair.spec, pair.device)] = pair
        try:
            for done in as_completed(before):
                pair = before[done]
                yield pair, _proof(pair, done, now[pair.spec, pair.device])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _proof(pair: Pair, before: Future[RunResult], after: Future[RunResult]) -> Proof | str:
    try:
        proof = Proof.of(before.result(), after.result())
    except UserError as error:
        return str(error)
    if proof.codes[0] != pair.digest:
        return "the records were made with uncommitted changes of that code"
    return proof.problem() or proof


def certify(experiment: Experiment, trees: Worktrees, certificates: Certificates) -> int:
    """Prove what is needed and can be proved; the exit status."""
    published = list(_sound(experiment.published))
    records = [*published, *Catalogue.of(experiment).store.sound_results()]
    code = Sources()
    kinds = {"cpu", "cuda"} if devices.machine("auto").gpus else {"cpu"}
    todo = needed(records, code, trees, kinds, certificates)
    print(
        f"{counted(len(todo.pairs), 'pair')} of codes to compare, by a short run each", flush=True
    )
    failures = 0
    proofs = {(p.path, *p.codes, p.kind): p for p in certificates.proofs}
    for number, (pair, found) in enumerate(prove(todo.pairs, trees, code), 1):
        what = f"[{number}/{len(todo.pairs)}] {pair.spec.run_id}, {pair.device}: {pair.commit[:10]}"
        if isinstance(found, Proof):
            proofs[(found.path, *found.codes, found.kind)] = found
            certificates.write(proofs.values())
            print(f"{what} and {trees.head[:10]} give the same bits", flush=True)
        else:
            failures += 1
            print(f"{what} is not shown to be equal: {found}", flush=True)
    for line in summary(published, Sources(), todo.beyond):
        print(line)
    return 1 if failures else 0


def _sound(folder: Path) -> Iterator[RunResult]:
    """Every published record; a run may have several."""
    for found in each_published(folder):
        if isinstance(found, UserError):
            raise found
        yield found


def summary(
    published: list[RunResult], code: Sources, beyond: dict[str, list[str]]
) -> Iterator[str]:
    """How many published records are fresh, and what could not be proved."""
    worth = Counter(_worth(record, code) for record in published)
    fresh = worth["fresh"] + worth["elsewhere"]
    yield f"{fresh} of {len(published)} published records are fresh"
    if worth["elsewhere"]:
        yield f"for {worth['elsewhere']} of them the proof was given on another kind of device"
    for reason, names in beyond.items():
        yield f"{counted(len(names), 'record')} without proof: {reason}"
        yield from (f"    {name}" for name in names[:NAMED])
        if len(names) > NAMED:
            yield f"    and {len(names) - NAMED} others"


def _worth(record: RunResult, code: Sources) -> str:
    try:
        today = code.of(record.spec)
    except UserError:
        return "stale"
    if staleness.changes(record, today):
        return "stale"
    return "fresh" if _is_proved(record, today, device_kind(record)) else "elsewhere"


def check(certificates: Certificates, trees: Worktrees, text: str) -> int:
    """Examine every line, and train ``text`` of them again (a number or ``all``)."""
    lines = list(certificates.lines())
    proofs = [line for line in lines if isinstance(line, Proof)]
    problems = [str(line) for line in lines if not isinstance(line, Proof)]
    if text != "all" and not text.isdecimal():
        raise UserError(f"CHECK={text}: neither a number of lines nor all")
    chosen = proofs if text == "all" else random.sample(proofs, min(int(text), len(proofs)))
    print(f"{certificates.path}: {counted(len(proofs), 'line')} hold, {len(chosen)} trained again")
    for proof in chosen:
        problem = _repeated(proof, trees)
        name = f"{proof.before.run_id}, {' and '.join(c[:10] for c in proof.commits)}"
        print(f"{name}: {problem or 'the same bits again'}", flush=True)
        problems += [f"{name}: {problem}"] if problem else []
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _repeated(proof: Proof, trees: Worktrees) -> str:
    """Why a proof does not hold when its runs are trained again; empty if it does."""
    spec = proof.before.spec
    try:
        again = Proof.of(*(trees.train(commit, spec, proof.kind) for commit in proof.commits))
    except UserError as error:
        return str(error)
    if again.codes != proof.codes:
        return "its commits have other code"
    circumstances = ("device_name", "threads", "torch", "cpu")
    place, here = proof.before.environment, again.before.environment
    if all(place.get(name) == here.get(name) for name in circumstances):
        found = compare(proof.before, again.before)
        if found.verdict != IDENTICAL:
            return f"the same machine gives other bits than it holds: {found.text()}"
    return again.problem()


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    experiment = Experiment.load(workspace)
    text = workspace.variables.get("CHECK", "")
    if not IS_CHECKOUT:
        raise UserError("certify trains by the code of commits: it needs the source tree")
    certificates = Certificates(CERTIFIED)
    with Worktrees(experiment.tree, SOURCE_TREE, experiment.data_dir) as trees:
        if text:
            return check(certificates, trees, text)
        return certify(experiment, trees, certificates)
