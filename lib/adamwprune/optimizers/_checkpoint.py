"""Check that a state dict is one from which an optimizer can go on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor


def check_settings(name: str, groups: Iterable[Mapping[str, Any]], needed: Sequence[str]) -> None:
    """Raise ``ValueError`` unless each group has the settings ``needed`` by optimizer ``name``."""
    for index, group in enumerate(groups):
        missing = [setting for setting in needed if setting not in group]
        if missing:
            raise ValueError(
                f"{name} cannot continue from this state dict, whose weights another optimizer "
                f"trained: parameter group {index} has no {_listed(missing)}"
            )


def check_states(
    name: str,
    groups: Iterable[Mapping[str, Any]],
    states: Mapping[Any, Mapping[str, Any]],
    needed: Sequence[str],
) -> None:
    """Raise ``ValueError`` unless each parameter has no state, or all that ``name`` needs.

    A state with dimensions, where it is needed, has the shape of its parameter.
    """
    params = (param for group in groups for param in group["params"])
    for index, param in enumerate(params):
        state = states.get(param)
        if not state:
            continue
        where = f"{name} cannot continue from this state dict: parameter {index}"
        missing = [each for each in needed if each not in state]
        if missing:
            raise ValueError(f"{where} has no {_listed(missing)}, but {_listed(list(state))}")
        for each in needed:
            _check_shape(f"{where} has shape", each, param, state[each])


def _check_shape(where: str, name: str, param: Tensor, value: Any) -> None:
    if isinstance(value, Tensor) and value.dim() and value.shape != param.shape:
        raise ValueError(f"{where} {list(param.shape)}, its {name} {list(value.shape)}")


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
