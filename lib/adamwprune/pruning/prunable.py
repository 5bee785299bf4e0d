"""Which weights of a network pruning may touch: by their role, and what is left out and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

Choice = Callable[[str, nn.Module, Tensor], bool]
WRAPPERS = ("module", "_orig_mod")  # of DataParallel and DDP, of torch.compile
# Parts of a name that torch's wrappers add: torch.compile, activation checkpoints and FSDP.
UNNAMED = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")
EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
EMPTY = "empty"


class Role(NamedTuple):
    """A weight that multiplies inputs of a layer."""

    owner: nn.Module
    attribute: str
    inputs: int  # the dimension along which the inputs lie


@dataclass(frozen=True)
class Coverage:
    """What a pruner prunes of a network, and what it leaves out.

    ``pruned``: the number of weights among which it chooses; ``parameters``: of all parameters,
    each tied one once; ``left_out``: why not, by parameter.
    """

    pruned: int
    parameters: int
    left_out: dict[str, str]

    @property
    def share(self) -> float:
        """The fraction of all parameters that is pruned."""
        return self.pruned / self.parameters if self.parameters else 0.0

    def __str__(self) -> str:
        reasons: dict[str, list[str]] = {}
        for name, reason in self.left_out.items():
            reasons.setdefault(reason, []).append(name)
        told = "; ".join(f"{reason}: {_few(names)}" for reason, names in reasons.items())
        text = f"{self.pruned:,} of {self.parameters:,} parameters ({self.share:.1%}) are prunable"
        return f"{text}; left out as {told}" if told else text


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


class Prunable:
    """The weights of ``model`` that pruning may touch, by name (:attr:`weights`).

    By default these are the weights of linear layers, of convolutions, of the transposed ``Conv1D``
    of GPT-2 and of attention's input projections. Embeddings, weights tied to one, normalisation,
    biases and frozen weights are not. Names are the plain model's: without the prefixes of
    DataParallel, DistributedDataParallel, ``torch.compile`` and activation checkpoints.

    ``weights``: names or patterns (as in a shell) of the parameters to prune in place of these, or
    a function of name, module and parameter that chooses among all parameters. ``exclude``: names
    or patterns to leave out. ``skip_first``, ``skip_last``: leave out the first or the last layer,
    in the order in which the model has its modules.

    Raises ``ValueError`` for a name or pattern that nothing matches, and for a weight that is
    computed (by a parametrization, ``weight_norm``, ``spectral_norm`` or ``torch.nn.utils.prune``)
    or cannot be pruned (complex, not initialised).
    """

    def __init__(
        self,
        model: nn.Module,
        weights: Iterable[str] | Choice | None = None,
        exclude: Iterable[str] = (),
        *,
        skip_first: bool = False,
        skip_last: bool = False,
    ) -> None:
        self._roles = dict(_roles(model))
        self._all = dict(_parameters(model))
        self._reasons = {name: self._reason(name) for name in self._all}
        excluded = self._matching(exclude)
        chosen = self._chosen(weights)
        ends = [name for name in self._roles if name in chosen]
        self._leave_out(ends[:1] if skip_first else [], "the first layer")
        self._leave_out(ends[-1:] if skip_last else [], "the last layer")
        self._leave_out(excluded, "excluded")
        self._refuse_computed(name for name in chosen if name not in excluded)
        if weights is None:
            embedded = {id(p) for owner, p in self._all.values() if isinstance(owner, EMBEDDINGS)}
            tied = [name for name, (_, p) in self._all.items() if id(p) in embedded]
            self._leave_out(tied, "tied to an embedding")
        self.weights: dict[str, Tensor] = {}
        seen: set[int] = set()
        for name in chosen:
            if self._reasons.get(name, "computed"):
                continue
            weight = self._all[name][1]
            _refuse(name, weight)
            if id(weight) not in seen:  # tied weights are one, under the first name
                self.weights[name] = weight
            seen.add(id(weight))
        self.inputs = {name: self._inputs(name) for name in self.weights}

    @property
    def coverage(self) -> Coverage:
        """What is pruned, and why the rest is not."""
        pruned = {id(weight) for weight in self.weights.values()}
        distinct = {id(p): p.numel() for _, p in self._all.values()}
        left = {
            name: self._reasons[name] or "of no kind of layer that is pruned"
            for name, (_, parameter) in self._all.items()
            if id(parameter) not in pruned
        }
        total = sum(weight.numel() for weight in self.weights.values())
        return Coverage(total, sum(distinct.values()), left)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The weights' shapes, as [outputs, inputs, …] whatever the layer's own order."""
        shapes = {name: tuple(weight.shape) for name, weight in self.weights.items()}
        for name, shape in shapes.items():
            if self.inputs[name] == 0 and len(shape) > 1:
                groups = getattr(self._all[name][0], "groups", 1)  # each reads inputs of its own
                shapes[name] = (shape[1] * groups, shape[0] // groups, *shape[2:])
        return shapes

    def places(self) -> dict[str, tuple[nn.Module, str]]:
        """The module and attribute where each weight is."""
        owners = {name: owner for name, (owner, _) in self._all.items()}
        return {name: (owners[name], name.rpartition(".")[2]) for name in self.weights}

    def _inputs(self, name: str) -> int:
        return self._roles[name].inputs if name in self._roles else 1

    def _reason(self, name: str) -> str:
        """Why a parameter is not pruned by default; empty for no reason."""
        owner, parameter = self._all[name]
        if isinstance(owner, EMBEDDINGS):
            return "an embedding"
        if "Norm" in type(owner).__name__ and name not in self._roles:
            return "normalisation"
        if is_lazy(parameter):
            return ""
        if parameter.numel() == 0:
            return EMPTY
        if parameter.dim() < 2:
            return "a bias or vector"
        return "" if parameter.requires_grad else "frozen"

    def _chosen(self, weights: Iterable[str] | Choice | None) -> list[str]:
        """The candidates. One that is asked for by name needs weights and no other reason."""
        if weights is None:
            return list(self._roles)
        if callable(weights):
            names = [name for name, found in self._all.items() if weights(name, *found)]
        else:
            names = self._matching(weights)
        for name, reason in self._reasons.items():
            if name not in names:
                self._reasons[name] = reason or "not asked for"
            elif reason != EMPTY:
                self._reasons[name] = ""
        return names

    def _matching(self, patterns: Iterable[str]) -> list[str]:
        if isinstance(patterns, str):
            raise ValueError(f"weights and exclude take a list of names, not the text {patterns!r}")
        known, found = [*self._all, *(n for n in self._roles if n not in self._all)], set()
        for pattern in patterns:
            plain = _plain(pattern)
            matching = [name for name in known if fnmatchcase(name, plain)]
            if plain in known:  # a name, whatever brackets it has
                matching = [plain]
            if not matching:
                raise ValueError(f"the model has no weight {pattern} (it has {_few(known)})")
            found.update(matching)
        return [name for name in known if name in found]

    def _leave_out(self, names: Iterable[str], reason: str) -> None:
        for name in names:
            self._reasons[name] = self._reasons.get(name) or reason

    def _refuse_computed(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self._all:
                raise ValueError(
                    f"the weight {name} is computed from other parameters "
                    f"({_how(self._roles[name])}): remove that first, or leave the weight out "
                    f"with exclude=[{name!r}]"
                )


def prunable(model: nn.Module, weights: Iterable[str] | Choice | None = None) -> dict[str, Tensor]:
    """The weights of ``model`` that pruning may touch, by name: see :class:`Prunable`."""
    return Prunable(model, weights).weights


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in UNNAMED)


def _modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """All modules, by the names that they have without wrappers around the model."""
    while (inner := _wrapped(model)) is not None:
        model = inner
    for name, module in model.named_modules():
        yield _plain(name), module


def _wrapped(model: nn.Module) -> nn.Module | None:
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    for name in WRAPPERS:
        inner = model._modules.get(name)
        if inner is not None and (name != "module" or isinstance(model, parallel)):
            return inner
    return None


def _parameters(model: nn.Module) -> Iterator[tuple[str, tuple[nn.Module, nn.Parameter]]]:
    for prefix, module in _modules(model):
        for name, parameter in module._parameters.items():
            if parameter is not None:
                yield f"{prefix}.{name}".lstrip("."), (module, parameter)


def _roles(model: nn.Module) -> Iterator[tuple[str, Role]]:
    for prefix, module in _modules(model):
        for name, inputs in _multiplying(module):
            if getattr(module, name, None) is not None:
                yield f"{prefix}.{name}".lstrip("."), Role(module, name, inputs)


def _multiplying(module: nn.Module) -> list[tuple[str, int]]:
    """The weights of a module that multiply inputs, and the dimension along which these lie."""
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        return [("weight", 0)]
    if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
        return [("weight", 1)]
    if type(module).__name__ == "Conv1D" and getattr(module, "weight", torch.empty(0)).dim() == 2:
        # of transformers: a linear layer with weights [in, out]
        return [("weight", 0)]
    if isinstance(module, nn.MultiheadAttention):
        names = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
        return [(name, 1) for name in names]
    return []


def _how(role: Role) -> str:
    if nn.utils.parametrize.is_parametrized(role.owner, role.attribute):
        parametrizations = role.owner.parametrizations[role.attribute]  # type: ignore[index]
        return ", ".join(type(each).__name__.lstrip("_") for each in parametrizations)
    hooks = role.owner._forward_pre_hooks.values()
    return ", ".join(type(hook).__name__ for hook in hooks) or "by its layer"


def _refuse(name: str, weight: Tensor) -> None:
    """Refuse what is no plain tensor of real numbers."""
    if is_lazy(weight):
        raise ValueError(f"the weight {name} is not initialised: run a batch through the model")
    if not weight.is_floating_point():
        raise ValueError(f"the weight {name} is of type {weight.dtype}, no real number")
    if weight.layout is not torch.strided:
        raise ValueError(f"the weight {name} has the layout {weight.layout}")
