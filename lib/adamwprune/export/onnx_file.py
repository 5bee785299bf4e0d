"""``make export-model RUN=… FORMAT=onnx``: a finished run's network as ONNX, run and compared.

The file is dense. The standard has sparse initializers, but no operator that takes one: onnx's
checker refuses them at Conv and Gemm, and a runtime that accepts them makes them dense when it
loads them. The zeros are in the file as zeros, which gzip packs.
"""

import contextlib
import gzip
import importlib
import importlib.util
import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adamwprune import tasks
from adamwprune.base.errors import UserError
from adamwprune.base.files import refusing, write_bytes
from adamwprune.datasets import Data
from adamwprune.datasets._images import ImageData
from adamwprune.experiment.experiment import Experiment
from adamwprune.export import model_file
from adamwprune.export.model_file import Measured
from adamwprune.records.record import RunResult
from adamwprune.records.store import WEIGHTS
from adamwprune.train.data import loaded, network_for
from adamwprune.train.evaluation import evaluate

NAME = "model.onnx"  # in the run's directory
PACKAGES = ("onnx", "onnxscript", "onnxruntime")  # the extra named onnx
INPUT, OUTPUT = "images", "logits"
TOLERANCE = 1e-4  # of outputs, absolute and relative to the largest


@dataclass(frozen=True)
class OnnxExport(Measured):
    """``model.onnx``, as onnxruntime reads it, beside torch."""

    opset: int
    zeros: int  # in the file, of the weights that pruning may set to zero
    examples: int  # whose outputs were compared
    difference: float  # of an output from torch's, at most
    largest: float  # of torch's outputs

    how = "by onnxruntime"

    @property
    def agrees(self) -> bool:
        """Whether nothing that was measured contradicts the record or torch."""
        zeros = self.zeros == self.result.pruning["zeros"]
        return super().agrees and zeros and self.difference <= TOLERANCE * max(1.0, self.largest)

    def of_file(self) -> Iterator[str]:
        """Its opset, its zeros and its outputs."""
        pruning = self.result.pruning
        yield f"  opset     {self.opset}; input {INPUT}, any number of them, output {OUTPUT}"
        yield (
            f"  zeros     {self.zeros:,} of {pruning['prunable']:,} weights, as numbers: the file "
            f"is dense; {pruning['zeros']:,} in the record"
        )
        yield (
            f"  outputs   of {self.examples:,} examples differ from torch's by "
            f"{self.difference:.1e} at most; the largest is {self.largest:.1f}"
        )


def export(experiment: Experiment, prefix: str) -> OnnxExport:
    """Write ``model.onnx`` beside the run's weights, read it again and compare it with torch.

    Raises :class:`UserError` without the packages, and where there is no one finished run of that
    name with its weights.
    """
    _require()
    result = model_file.finished(experiment, prefix)
    folder = experiment.root / result.run_id
    weights = model_file.read_weights(folder / WEIGHTS, result)
    settings = result.spec.settings
    network = network_for(settings)
    network.module.load_state_dict(weights)
    module = network.module.eval()
    example = model_file.one_example(network)
    data = None
    if model_file.is_here(str(result.spec["DATASET"]), experiment.data_dir):
        data = loaded(settings, experiment.data_dir, network.takes, "cpu")
    proto = _translate(module, example)
    _describe(proto, {**model_file.metadata(result), **_of_pixels(data)})
    path = folder / NAME
    content: bytes = proto.SerializeToString()
    with refusing(f"cannot write {path}"):
        write_bytes(path, content)
    session = _session(path)
    with torch.inference_mode(), model_file.threads(result.environment.get("threads")):
        measured, examples, difference, largest = _compare(session, module, example, result, data)
    sizes = {
        "weights.pt, dense": (folder / WEIGHTS).stat().st_size,
        NAME: len(content),
        f"{NAME}, gzip": len(gzip.compress(content, 9)),
    }
    zeros = _zeros(proto, {layer["name"] for layer in result.pruning["layers"]})
    opset = max(each.version for each in proto.opset_import if each.domain == "")
    dense, ratios = model_file.relative(_latency(session, module, example))
    found = (result, path, sizes, measured, dense, ratios)
    return OnnxExport(*found, opset, zeros, examples, difference, largest)


def _require() -> None:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"FORMAT=onnx needs {', '.join(missing)}: {sys.executable} -m pip install "
            f"{' '.join(missing)}"
        )


def _translate(module: nn.Module, example: Tensor) -> Any:
    """An ONNX model of ``module`` that takes any number of examples, checked by onnx."""
    onnx: Any = importlib.import_module("onnx")
    batch = {0: torch.export.Dim("batch")}
    with _quiet():
        program: Any = torch.onnx.export(
            module,
            (example.repeat(2, 1, 1, 1),),  # of one the exporter would make a constant
            dynamo=True,
            dynamic_shapes=(batch,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            external_data=False,
            verbose=False,
        )
    proto = program.model_proto
    onnx.checker.check_model(proto, full_check=True)
    return proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of its own progress and of its own code."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _describe(proto: Any, metadata: Mapping[str, str]) -> None:
    """Say of the model which run it is, and nothing of the machine that it was exported on.

    The exporter notes with each node where in which file of this machine it comes from.
    """
    graph = proto.graph
    parts = (graph.node, graph.input, graph.output, graph.value_info, graph.initializer)
    for each in (graph, *chain.from_iterable(parts)):
        each.ClearField("metadata_props")
        each.ClearField("doc_string")
    proto.ClearField("metadata_props")
    for name, value in metadata.items():
        proto.metadata_props.add(key=name, value=value)


def _of_pixels(data: Data | None) -> dict[str, str]:
    """How pixels become inputs; only the data say it."""
    if not isinstance(data, ImageData):
        return {}
    told = "(pixel / 255 - pixel_mean) / pixel_std"
    mean, std = (" ".join(map(repr, each)) for each in (data.mean, data.std))  # by channel
    return {"normalised": told, "pixel_mean": mean, "pixel_std": std}


def _session(path: Path) -> Any:
    """The file in onnxruntime, on one thread of the CPU."""
    runtime: Any = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _run(session: Any, images: Tensor) -> Tensor:
    return torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])


class _Compared(nn.Module):
    """onnxruntime's outputs, as a network's that is evaluated; compares each batch's with torch."""

    def __init__(self, session: Any, module: nn.Module) -> None:
        super().__init__()
        self.session = session
        self.module = module
        self.examples = 0
        self.difference = self.largest = 0.0

    def forward(self, images: Tensor) -> Tensor:
        found, expected = _run(self.session, images), self.module(images)
        self.examples += len(images)
        self.difference = max(self.difference, float((found - expected).abs().max()))
        self.largest = max(self.largest, float(expected.abs().max()))
        return found


def _compare(
    session: Any, module: nn.Module, example: Tensor, result: RunResult, data: Data | None
) -> tuple[float | None, int, float, float]:
    """The headline, examples, and difference and size of outputs at most, over all that is here."""
    compared = _Compared(session, module)
    measured = None
    if data is None:
        compared(example)
    else:
        task = tasks.build(result.spec.settings, data)
        measured = evaluate(compared, task, data)[result.headline.name]
    return measured, compared.examples, compared.difference, compared.largest


def _latency(session: Any, module: nn.Module, example: Tensor) -> dict[str, list[float]]:
    """Seconds of one example through both in turn, on one thread."""
    images = {INPUT: example.numpy()}
    calls: dict[str, Callable[[], object]] = {
        "torch": lambda: module(example),
        "onnxruntime": lambda: session.run([OUTPUT], images),
    }
    with torch.inference_mode(), model_file.threads():
        return model_file.interleaved(calls)


def _zeros(proto: Any, names: set[str]) -> int:
    """Zeros among the initializers of these names; batch normalisation may have been folded in."""
    helper: Any = importlib.import_module("onnx.numpy_helper")
    found = [each for each in proto.graph.initializer if each.name in names]
    return sum(int((helper.to_array(each) == 0).sum()) for each in found)
