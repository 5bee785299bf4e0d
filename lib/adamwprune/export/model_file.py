"""``make export-model RUN=…``: the pruned network of a finished run without its zeros, measured."""

import copy
import gzip
import io
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from operator import truediv
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor

from adamwprune import tasks
from adamwprune.base import registry
from adamwprune.base.errors import UserError
from adamwprune.base.files import obstacle, read_own, reason, refusing, write_bytes
from adamwprune.base.kinds import Tokens
from adamwprune.datasets import _idx
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.experiment.experiment import Experiment
from adamwprune.export import compact
from adamwprune.export.compact import Damaged
from adamwprune.models import Model
from adamwprune.records.record import RunResult
from adamwprune.records.state import DONE
from adamwprune.records.store import WEIGHTS
from adamwprune.run.weights import digest
from adamwprune.train.data import loaded, network_for
from adamwprune.train.evaluation import evaluate

CLOSE = 1e-4  # relative difference of two values of a metric that is no count
NAME = "model.safetensors"  # in the run's directory
ROUNDS, CALLS = 60, 20  # rounds of calls that are timed together, one after the other
DENSE, RELOADED, SPARSE = "dense", "exported and reloaded", "with sparse linear layers"


@dataclass(frozen=True)
class Measured:
    """A file with a run's network that was written, read again and measured."""

    result: RunResult
    path: Path
    sizes: dict[str, int]  # bytes on disk, the dense network's first
    measured: float | None  # the network's headline as read; None where the data are not here
    dense: float  # seconds that the dense network takes for one example, median
    ratios: dict[str, float]  # to that of the same round, medians; below 1 is faster

    how = "after reload"

    @property
    def agrees(self) -> bool:
        """Whether nothing that was measured contradicts the record."""
        return self.measured is None or equal(self.result, self.measured)

    def text(self) -> str:
        """One screen."""
        return "\n".join([str(self.path), *self.of_file(), self._score(), *self.of_costs()])

    def of_file(self) -> Iterator[str]:
        """Lines on what is in the file."""
        raise NotImplementedError

    def _score(self) -> str:
        metric = self.result.headline
        told = f"{metric.text(self.result.score)} in the record"
        if self.measured is None:
            return (
                f"  {metric.label}  {told}; not measured: {self.result.spec['DATASET']} is not here"
            )
        device = self.result.environment.get("device", "an unknown device")
        same = equal(self.result, self.measured)
        verdict = "equal" if same else f"DIFFERENT (trained on {device})"
        found = metric.text(metric.shown(self.measured))
        return f"  {metric.label}  {found} {self.how}, {told}: {verdict}"

    def of_costs(self) -> Iterator[str]:
        """Lines on bytes and times."""
        whole = next(iter(self.sizes.values()))
        yield "  size on disk"
        for name, size in self.sizes.items():
            yield f"    {name:<28}{size:>12,} bytes {size / whole:>7.1%}"
        yield f"  one example on one thread of the CPU, medians of {ROUNDS} interleaved rounds"
        yield f"    {DENSE:<28}{1e6 * self.dense:>12,.1f} µs"
        for name, ratio in self.ratios.items():
            yield f"    {name:<28}{ratio:>12.2f} × the dense time, {_told(ratio)}"


@dataclass(frozen=True)
class Export(Measured):
    """``model.safetensors``."""

    sparse_layers: list[str]
    difference: float  # of the sparse network's outputs, at most

    def of_file(self) -> Iterator[str]:
        """Its zeros, and that its bits are the run's."""
        pruning = self.result.pruning
        share = pruning["zeros"] / pruning["prunable"] if pruning["prunable"] else 0.0
        yield f"  zeros     {pruning['zeros']:,} of {pruning['prunable']:,} weights ({share:.2%})"
        yield "  reload    bit-identical to weights.pt" + (
            ", which is the record's" if self.result.weights else "; the record holds no digest"
        )

    def of_costs(self) -> Iterator[str]:
        """Those of the network with sparse layers, too."""
        yield from super().of_costs()
        if self.sparse_layers:
            layers = ", ".join(self.sparse_layers)
            yield f"    sparse: {layers}; outputs differ by {self.difference:.1e} at most"
        else:
            yield "    no linear layer has zeros: none is sparse"


def equal(result: RunResult, measured: float) -> bool:
    """Whether a value of the headline metric is the record's: a share of examples to the bit, any
    other within what another order of its sums makes.
    """
    metric = result.headline
    recorded = result.final[f"test_{metric.name}"]
    return measured == recorded or (
        not metric.is_fraction and math.isclose(measured, recorded, rel_tol=CLOSE)
    )


def _told(ratio: float) -> str:
    if abs(ratio - 1) < 0.1:  # what a shared machine makes of the same network twice
        return "the same within 10%"
    return f"{1 / ratio:.2f} times as fast" if ratio < 1 else "slower"


def export(experiment: Experiment, prefix: str) -> Export:
    """Write ``model.safetensors`` beside the run's weights, read it again and measure it.

    Raises :class:`UserError` where there is no one finished run of that name with its weights.
    """
    result = finished(experiment, prefix)
    folder = experiment.root / result.run_id
    weights = read_weights(folder / WEIGHTS, result)
    pruned = [layer["name"] for layer in result.pruning["layers"] if layer["zeros"]]
    content = compact.encode(weights, pruned, metadata(result))
    path = folder / NAME
    with refusing(f"cannot write {path}"):
        write_bytes(path, content)
    reloaded = read(path).weights
    if digest(reloaded) != digest(weights):
        raise UserError(f"{path}: does not hold the weights that were written")
    sizes = _sizes(weights, (folder / WEIGHTS).stat().st_size, content)
    with threads(result.environment.get("threads")):  # the run's: last bits depend on it
        measured = _measured(experiment.data_dir, result, reloaded)
    return Export(result, path, sizes, measured, *_latency(result, weights, reloaded))


def read(path: Path) -> compact.Compact:
    """What an exported file holds; :class:`UserError` if it is damaged or something else."""
    with refusing(str(path)):
        content = path.read_bytes()
    try:
        return compact.decode(content)
    except Damaged as error:
        raise UserError(f"{path}: {obstacle(content) or error}") from None


def finished(experiment: Experiment, prefix: str) -> RunResult:
    """The record of the one run whose identity starts with ``prefix``; :class:`UserError` where
    there is no such run, or it has not ended well.
    """
    if not prefix:
        raise UserError("make export-model needs RUN=, a run's id or the start of it")
    result = Catalogue.of(experiment).find(prefix)
    if result.status != DONE:
        raise UserError(f"{result.run_id}: failed, and has no final weights (make why RUN=…)")
    return result


def read_weights(path: Path, result: RunResult) -> dict[str, Tensor]:
    """The run's final weights, checked against its record; no code in the file is executed."""
    try:
        content = read_own(path)
    except FileNotFoundError:
        raise UserError(
            f"{path}: is not there. A run's weights stay where it was trained; they are not "
            "published with its record"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {reason(error)}") from None
    try:
        weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  torch's reader raises whatever it trips over
        told = (str(error).splitlines() or [""])[0] or type(error).__name__
        # Its advice, to load the file without this check, is none for a file of anybody's.
        why = obstacle(content) or ("is no file of weights" if "weights_only" in told else told)
        raise UserError(f"{path}: cannot be read: {why}") from None
    if not isinstance(weights, dict) or not all(isinstance(w, Tensor) for w in weights.values()):
        raise UserError(f"{path}: holds no model's weights")
    if result.weights and digest(weights) != result.weights:
        raise UserError(f"{path}: these are not the weights of its record: the digests differ")
    return dict(weights)


def metadata(result: RunResult) -> dict[str, str]:
    """What the file says of its run; all texts."""
    place, pruning = result.environment, result.pruning
    headline = f"test_{result.headline.name}"
    return {
        "run_id": result.run_id,
        "commit": str(place.get("commit") or "unknown") + ("+" if place.get("dirty") else ""),
        "model": str(result.spec["MODEL"]),
        headline: repr(result.final[headline]),
        "zeros": f"{pruning['zeros']} of {pruning['prunable']}",
    }


def _sizes(weights: Mapping[str, Tensor], on_disk: int, content: bytes) -> dict[str, int]:
    """Bytes of the network as files; each gzip at its best."""
    dense = save_safetensors({name: w.detach().contiguous() for name, w in weights.items()})
    return {
        "weights.pt, dense": on_disk,
        "safetensors, dense": len(dense),
        "safetensors, dense, gzip": len(gzip.compress(dense, 9)),
        NAME: len(content),
        f"{NAME}, gzip": len(gzip.compress(content, 9)),
    }


def _measured(data_dir: Path, result: RunResult, weights: Mapping[str, Tensor]) -> float | None:
    """The headline of a network with these weights, as the run measured its own; None without
    the data.
    """
    if not is_here(str(result.spec["DATASET"]), data_dir):
        return None
    settings = result.spec.settings
    network = network_for(settings)
    network.module.load_state_dict(weights)
    data = loaded(settings, data_dir, network.takes, "cpu")
    task = tasks.build(settings, data)
    return evaluate(network.module, task, data)[result.headline.name]


def is_here(dataset: str, data_dir: Path) -> bool:
    """Whether a data set need not be downloaded: it is embedded, or all its files are there."""
    if not hasattr(registry.member("adamwprune.datasets", dataset), "SHA256"):
        return True
    name = dataset.replace("-", "")
    folders = (path for path in data_dir.glob("*/raw") if path.parent.name.lower() == name)
    return any(map(_idx._complete, folders))


@contextmanager
def threads(number: object = 1) -> Iterator[None]:
    """So many threads of one operation, or one where a record holds no number."""
    before = torch.get_num_threads()
    torch.set_num_threads(number if isinstance(number, int) and number > 0 else 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _latency(
    result: RunResult, weights: Mapping[str, Tensor], reloaded: Mapping[str, Tensor]
) -> tuple[float, dict[str, float], list[str], float]:
    """One example through three networks in turn: seconds, ratios, sparse layers, difference."""
    network = network_for(result.spec.settings)
    dense = network.module.eval()
    again = copy.deepcopy(dense)
    dense.load_state_dict(weights)
    again.load_state_dict(reloaded)
    sparse = copy.deepcopy(again)
    layers = compact.make_sparse(sparse)
    example = one_example(network)
    networks = {DENSE: dense, RELOADED: again, **({SPARSE: sparse} if layers else {})}
    with torch.inference_mode(), threads():
        difference = float((sparse(example) - dense(example)).abs().max())
        times = interleaved({name: partial(module, example) for name, module in networks.items()})
    return *relative(times), layers, difference


def relative(times: Mapping[str, Sequence[float]]) -> tuple[float, dict[str, float]]:
    """The median of the first's times, and of the others' ratios to it in the same round."""
    first, *others = times
    ratios = {name: statistics.median(map(truediv, times[name], times[first])) for name in others}
    return statistics.median(times[first]), ratios


def one_example(network: Model) -> Tensor:
    """A batch of one random input, as the network takes it."""
    shape, generator = network.example().shape, torch.Generator().manual_seed(0)
    if isinstance(network.takes, Tokens):
        return torch.randint(network.takes.vocabulary, shape, generator=generator)
    return torch.randn(shape, generator=generator)


def interleaved(
    calls: Mapping[str, Callable[[], Any]],
    rounds: int = ROUNDS,
    each: int = CALLS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds a call, by name and round. In a round all are called, each round by another first:
    what else the machine does meets all alike.
    """
    names = list(calls)
    times: dict[str, list[float]] = {name: [] for name in names}
    for call in calls.values():
        call()  # the first call of all makes caches
    for turn in range(rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            begin = clock()
            for _ in range(each):
                calls[name]()
            times[name].append((clock() - begin) / each)
    return times
