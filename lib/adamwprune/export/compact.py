"""A pruned network without its zeros: in one file of plain numbers, and back to the same bits.

The file is safetensors (https://github.com/huggingface/safetensors): a JSON header and raw
numbers, read without executing anything. A tensor ``NAME`` that was pruned is two there:

    NAME.mask      uint8 [⌈n/8⌉], a bit an element in the order of the memory, the first one
                   lowest; 1 = kept; the last byte's spare bits are 0
    NAME.values    the kept elements, in the same order and of the tensor's own type

and every other one is there as it is. What is left out has all bits 0: a −0.0 is kept. The
header's metadata name the format, the run and all tensors (``tensors``: JSON, [name, type, shape]
in the order of the model's state), and hold the SHA-256 that the run's record has of them.
"""

import json
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from adamwprune.base.errors import UserError
from adamwprune.pruning.storage import pack, unpack
from adamwprune.run.weights import digest

FORMAT = "adamwprune-compact 1"
MASK, VALUES = ".mask", ".values"
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}


class Damaged(UserError):
    """The file is not what :func:`encode` made."""


@dataclass(frozen=True)
class Compact:
    """What a file holds."""

    weights: dict[str, Tensor]  # a model's state, dense again
    metadata: dict[str, str]


def encode(
    weights: Mapping[str, Tensor], pruned: Collection[str], metadata: Mapping[str, str]
) -> bytes:
    """The file's content: ``weights`` on the CPU, those named ``pruned`` without their zeros.

    Raises ``ValueError`` for a type that has no name in the format, or a name that is taken.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if tensor.dtype not in DTYPES.values():
            raise ValueError(f"{name}: {tensor.dtype} cannot be stored")
        plain = tensor.detach().contiguous()
        if name not in pruned:
            tensors[name] = plain
            continue
        kept = _has_bits(plain)
        tensors[name + MASK] = pack(kept)
        tensors[name + VALUES] = plain.flatten()[kept]
    if len(tensors) != len(weights) + len(pruned):
        raise ValueError(f"a tensor's name ends in {MASK} or {VALUES}, or is not in the model")
    shapes = [[name, _name(t.dtype), list(t.shape)] for name, t in weights.items()]
    own = {"format": FORMAT, "tensors": json.dumps(shapes), "sha256": digest(weights)}
    return save_safetensors(tensors, {**metadata, **own})


def decode(content: bytes) -> Compact:
    """The inverse of :func:`encode`, to the same bits; :class:`Damaged` says what is wrong.

    What is believed is bounded by the content's length: a mask of so many bytes makes a tensor of
    eight times as many elements at most.
    """
    try:
        stored = load_safetensors(content)
        metadata = _metadata(content)
        if metadata.get("format") != FORMAT:
            raise Damaged(f"is no {FORMAT}, but {metadata.get('format', 'something else')!r}")
        entries = json.loads(metadata["tensors"])
        weights = {name: _dense(stored, name, kind, shape) for name, kind, shape in entries}
    except Damaged:
        raise
    except SafetensorError as error:
        raise Damaged(f"is no safetensors file: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise Damaged(f"is damaged: {type(error).__name__}: {reason}") from None
    if stored:
        raise Damaged(f"holds what no model has: {', '.join(sorted(stored))}")
    if digest(weights) != metadata.get("sha256"):
        raise Damaged("is damaged: its numbers are not the ones that were written")
    return Compact(weights, metadata)


def _metadata(content: bytes) -> dict[str, str]:
    """The header's metadata; that there is a header, the library has checked."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return dict(header.get("__metadata__", {}))


def _dense(stored: dict[str, Tensor], name: str, kind: str, shape: list[int]) -> Tensor:
    """Takes what ``stored`` has of one tensor out of it, and makes the tensor."""
    tensor = stored.pop(name) if name in stored else None
    numel = prod(shape)
    if tensor is None:
        mask, values = stored.pop(name + MASK), stored.pop(name + VALUES)
        if mask.dtype != torch.uint8 or list(mask.shape) != [-(-numel // 8)]:
            raise Damaged(f"is damaged: the mask of {name} is not one of {numel} elements")
        kept = unpack(mask, torch.Size([numel]))
        if int(kept.sum()) != values.numel() or not torch.equal(pack(kept), mask):
            raise Damaged(f"is damaged: the mask of {name} does not fit its values")
        tensor = torch.zeros(numel, dtype=values.dtype).masked_scatter_(kept, values).view(shape)
    if tensor.dtype != DTYPES[kind] or list(tensor.shape) != shape:
        raise Damaged(f"is damaged: {name} is not {kind} {shape}")
    return tensor


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _has_bits(tensor: Tensor) -> Tensor:
    """Bool [n]: where an element is anything but all bits 0."""
    return tensor.flatten().view(torch.uint8).view(-1, tensor.element_size()).ne(0).any(1)


class SparseLinear(nn.Module):
    """A linear layer that multiplies with its non-zero weights only (torch's CSR format).

    Sums run in another order than in the dense layer: results are equal up to rounding.
    """

    def __init__(self, dense: nn.Linear) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
            found = dense.weight.detach().to_sparse_csr()
            rows, columns = found.crow_indices().int(), found.col_indices().int()
            # 32-bit indices are what the kernels of MKL take as they are.
            self.weight = torch.sparse_csr_tensor(
                rows, columns, found.values(), found.shape, check_invariants=True
            )
        self.bias = None if dense.bias is None else dense.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in]`` → ``[..., out]``."""
        outputs: Tensor = (self.weight @ x.flatten(0, -2).t()).t()
        if self.bias is not None:
            outputs = outputs + self.bias
        return outputs.reshape(*x.shape[:-1], -1)


def make_sparse(model: nn.Module) -> list[str]:
    """Replace, in ``model``, each linear layer that has zeros by a :class:`SparseLinear`.

    Their names; convolutions stay dense, torch has no sparse kernel for them.
    """
    linear = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear) and n]
    names = [name for name, layer in linear if bool((layer.weight == 0).any())]
    for name in names:
        model.set_submodule(name, SparseLinear(model.get_submodule(name)))  # type: ignore[arg-type]
    return names
