"""Write a finished run's pruned network, RUN=, without its zeros: model.safetensors beside it.

FORMAT=onnx writes model.onnx, which is dense, instead. The file is read again and compared: its
bits or outputs, what it is judged by where the data are, its size against the dense network's and
its latency. The exit status is 1 if it is not what the record says.
"""

import argparse
from collections.abc import Callable

from adamwprune.base.console import require
from adamwprune.base.errors import UserError
from adamwprune.config.sources import Workspace
from adamwprune.experiment.experiment import Experiment

require("safetensors")

from adamwprune.export import model_file, onnx_file  # noqa: E402  after what is missing is told

VARIABLES = ("RUN", "FORMAT")
Export = model_file.Export | onnx_file.OnnxExport
FORMATS: dict[str, Callable[[Experiment, str], Export]] = {
    "safetensors": model_file.export,
    "onnx": onnx_file.export,
}


def main(workspace: Workspace, given: argparse.Namespace) -> int:
    experiment = Experiment.load(workspace)
    variables = experiment.workspace.variables
    name = variables.get("FORMAT", "safetensors")
    if name not in FORMATS:
        raise UserError(f"no format of a model {name!r}; there are {', '.join(FORMATS)}")
    found = FORMATS[name](experiment, variables.get("RUN", ""))
    print(found.text())
    return 0 if found.agrees else 1
