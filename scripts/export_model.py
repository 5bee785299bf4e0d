"""Write a finished run's pruned network, RUN=, without its zeros: model.safetensors beside it.

FORMAT=onnx writes model.onnx, which is dense, instead. The file is read again and compared: its
bits or outputs, its accuracy where the data are, its size against the dense network's and its
latency. The exit status is 1 if it is not what the record says.
"""

from collections.abc import Callable

import _packages  # noqa: F401
from adamwprune.command import require, run_command
from adamwprune.errors import UserError
from adamwprune.experiment import Experiment

require("safetensors")

from adamwprune import model_export, onnx_export  # noqa: E402  after what is missing is told

Export = model_export.Export | onnx_export.OnnxExport
FORMATS: dict[str, Callable[[Experiment, str], Export]] = {
    "safetensors": model_export.export,
    "onnx": onnx_export.export,
}


def main() -> int:
    experiment = Experiment.load()
    variables = experiment.workspace.variables
    name = variables.get("FORMAT", "safetensors")
    if name not in FORMATS:
        raise UserError(f"no format of a model {name!r}; there are {', '.join(FORMATS)}")
    found = FORMATS[name](experiment, variables.get("RUN", ""))
    print(found.text())
    return 0 if found.agrees else 1


if __name__ == "__main__":
    run_command(main)
