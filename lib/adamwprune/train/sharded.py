"""States of a training whose weights are sharded, whole and in the form of one that is not: so a
checkpoint goes on on any number of ranks, sharded or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.distributed.checkpoint import state_dict as states
from torch.optim import Optimizer

WHOLE = states.StateDictOptions(full_state_dict=True, cpu_offload=True)
LOADED = states.StateDictOptions(full_state_dict=True)


def model_state(model: nn.Module) -> dict[str, Any]:
    """The model's ``state_dict`` in the CPU's memory; on all ranks but the first it is empty."""
    return states.get_model_state_dict(model, options=WHOLE)


def optimizer_state(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """The optimizer's ``state_dict``, by numbers of parameters; on other ranks it is empty."""
    named: Any = states.get_optimizer_state_dict(model, optimizer, options=WHOLE)
    if not named:
        return {}
    numbers = {name: number for number, name in enumerate(_names(model, optimizer))}
    return {
        "state": {numbers[name]: state for name, state in named["state"].items()},
        "param_groups": [
            {**group, "params": [numbers[name] for name in group["params"]]}
            for group in named["param_groups"]
        ],
    }


def load(model: nn.Module, optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """The inverse of both, from what every rank has read whole."""
    states.set_model_state_dict(model, state["model"], options=LOADED)
    names, held = _names(model, optimizer), state["optimizer"]
    named: Any = {
        "state": {names[number]: each for number, each in held["state"].items()},
        "param_groups": [
            {**group, "params": [names[number] for number in group["params"]]}
            for group in held["param_groups"]
        ],
    }
    states.set_optimizer_state_dict(model, optimizer, named, options=LOADED)
    for group in optimizer.param_groups:  # whose pairs torch has made lists
        pairs = {key: tuple(value) for key, value in group.items() if isinstance(value, list)}
        group.update({key: pair for key, pair in pairs.items() if key != "params"})


def _names(model: nn.Module, optimizer: Optimizer) -> list[str]:
    """Of the optimizer's parameters, in its order."""
    names = {param: name for name, param in model.named_parameters()}
    return [names[param] for group in optimizer.param_groups for param in group["params"]]
