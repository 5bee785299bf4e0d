"""Write a finished run's pruned network, RUN=, without its zeros: model.safetensors beside it.

The file is read again and compared: its bits, its accuracy where the data are, its size against
the dense network's and its latency. The exit status is 1 if it is not what the record says.
"""

import _packages  # noqa: F401
from adamwprune.command import require, run_command
from adamwprune.experiment import Experiment

require("safetensors")

from adamwprune.model_export import export  # noqa: E402  after the message about what is missing


def main() -> int:
    experiment = Experiment.load()
    found = export(experiment, experiment.workspace.variables.get("RUN", ""))
    print(found.text())
    return 0 if found.agrees else 1


if __name__ == "__main__":
    run_command(main)
