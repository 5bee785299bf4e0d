"""What GPUs can compute at most, to say which share of it a run reached.

Dense products in TFLOP/s, from NVIDIA's data sheets; where these give the rate "with sparsity",
half of it. float32 is the rate without tensor cores: convolutions that torch computes in TF32 all
the same may exceed it.
"""

from __future__ import annotations

import re

TERA = 10**12
# A pattern of the device's name -> peaks by precision. The first that matches counts.
PEAKS: tuple[tuple[str, dict[str, float]], ...] = (
    # H100 Tensor Core GPU data sheet: SXM, PCIe; the H200's: the same processor.
    (r"H100 PCIe\b", {"float32": 51, "tf32": 378, "bf16": 756}),
    (r"H100\b.*HBM3|H200\b", {"float32": 67, "tf32": 494.7, "bf16": 989.4}),
    (r"A100\b", {"float32": 19.5, "tf32": 156, "bf16": 312}),  # A100 data sheet
    (r"A10\b", {"float32": 31.2, "tf32": 62.5, "bf16": 125}),  # A10 data sheet
    (r"L40S\b", {"float32": 91.6, "tf32": 183, "bf16": 362}),  # L40S data sheet
    (r"L4\b", {"float32": 30.3, "tf32": 60, "bf16": 121}),  # L4 data sheet
    # Ada and Ampere GA102 architecture white papers; bf16 with accumulation in float32.
    (r"RTX 4090\b", {"float32": 82.6, "tf32": 82.6, "bf16": 165.2}),
    (r"RTX 3090$", {"float32": 35.6, "tf32": 35.6, "bf16": 71}),
    (r"V100-SXM2\b", {"float32": 15.7}),  # V100 data sheet
    (r"T4\b", {"float32": 8.1}),  # T4 data sheet
)


def share(device_name: str, precision: str, flops_per_second: float) -> float | None:
    """The fraction of a device's peak at this precision; None where it is not known here.

    A part of a GPU (MIG) is none of these.
    """
    if "MIG" in device_name:
        return None
    for pattern, peaks in PEAKS:
        if re.search(pattern, device_name):
            peak = peaks.get(precision)
            return None if peak is None else flops_per_second / (peak * TERA)
    return None
