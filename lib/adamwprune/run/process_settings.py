"""What a process that trains asks of the C library and of torch, once, before its first run.

It changes no number, and is no part of what makes a record stale.
"""

from __future__ import annotations

import contextlib
import ctypes

from torch.optim import Optimizer

from adamwprune.run.operations import Counter
from adamwprune.train.measure.update_peak import Storages

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
LEFT_ALONE = (  # by torch's compiler, on torch's order
    *(Optimizer.add_param_group, Optimizer.load_state_dict),
    *(Optimizer.state_dict, Optimizer.zero_grad),
    *(Storages.__torch_dispatch__, Counter.__torch_dispatch__),
)


def prepare() -> None:
    """Everything here; a second call changes nothing."""
    keep_freed_memory()
    leave_compiler_out()


def keep_freed_memory() -> None:
    """Have glibc keep what is freed: a step's tensors come back at the next one.

    Otherwise it gives the end of its heap back to the kernel after each step, and takes it again
    page by page: some 2,000 faults, a tenth of a step of LeNet-5.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_MMAP_THRESHOLD, 2**25)  # the largest it takes


def leave_compiler_out() -> None:
    """Have torch not import its compiler, which takes as long as torch itself.

    The first call of one of these methods imports it, only to have it leave the method alone, and
    keeps what it gives back in an attribute of the method's function. Where nothing is compiled the
    function itself does as well. A torch that does this in another way imports what it likes.
    """
    for method in LEFT_ALONE:
        function = getattr(method, "__wrapped__", None)
        if function is not None:
            function.__dict__.setdefault("__dynamo_disable", function)
