"""Train the configuration's one run in the foreground; a configuration of several is refused."""

import _packages  # noqa: F401
from adamwprune.command import run_command
from adamwprune.experiment import Experiment, train_in_foreground


def main() -> int:
    return train_in_foreground(Experiment.load())


if __name__ == "__main__":
    run_command(main)
