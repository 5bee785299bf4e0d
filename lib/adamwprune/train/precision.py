"""In which precision and memory format a network computes.

Weights, gradients and optimizer states are float32 in any case.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adamwprune.base.errors import UserError
from adamwprune.plan.spec import RunSpec
from adamwprune.tasks import Network


def prepare(spec: RunSpec, device: torch.device) -> None:
    """Set what torch keeps for the whole process; :class:`UserError` where the device cannot."""
    if spec["PRECISION"] == "bf16" and device.type == "cpu" and not _cpu_has_bf16():
        raise UserError(
            "PRECISION=bf16: this processor has no bfloat16 instructions (avx512_bf16 or amx_bf16) "
            "and would emulate them; train in float32, or on a GPU"
        )
    high = spec["PRECISION"] == "tf32"
    torch.set_float32_matmul_precision("high" if high and device.type == "cuda" else "highest")


def _cpu_has_bf16() -> bool:
    found = torch.cpu.get_capabilities()
    return found["architecture"] != "x86_64" or bool(found["avx512_bf16"] or found["amx_bf16"])


def in_format(module: nn.Module, spec: RunSpec) -> nn.Module:
    """The module with its weights in the run's memory format."""
    if spec["MEMORY_FORMAT"] == "channels-last":
        return module.to(memory_format=torch.channels_last)
    return module


class Forward:
    """The forward pass of ``network``, a module or its compiled form, as a run has it.

    Outputs are float32, so that losses and metrics are.
    """

    def __init__(self, network: Network, spec: RunSpec, device: torch.device) -> None:
        self.network = network
        self.channels_last = spec["MEMORY_FORMAT"] == "channels-last"
        self.bf16 = spec["PRECISION"] == "bf16"
        self.device_type = device.type

    def __call__(self, inputs: Tensor) -> Tensor:
        """Inputs as the data give them -> the network's output."""
        if self.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        if not self.bf16:
            return self.network(inputs)
        with torch.autocast(self.device_type, torch.bfloat16):
            return self.network(inputs).float()
