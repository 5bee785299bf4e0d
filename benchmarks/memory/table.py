"""Count the bytes of LeNet-5, ResNet-18 and GPT-2 small by owner, for every way to prune them.

Writes results/published/memory-models.md. The names of networks as arguments, and --output, do
a part of it elsewhere. GPT-2 takes 6 GB of memory and some minutes.
"""

import argparse
import math
import os
import platform
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

# Before torch is imported: the profiler's library writes what no one asked for, and that it does
# not see what is freed of what was allocated before.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import torch

from adamwprune.base.errors import UserError
from adamwprune.base.files import refusing, write_text
from adamwprune.config.tree import SOURCE_TREE
from adamwprune.records import provenance
from adamwprune.run import environment
from benchmarks.memory import counted
from benchmarks.memory.counted import NETWORKS, Row

PUBLISHED = SOURCE_TREE / "results" / "published" / "memory-models.md"
HEAD = """\
# Memory by model

Bytes by owner, counted in the live tensors after two steps with random gradients and a mask update
to {target:.0%} (`make memory-models`). *computed* is what the formulas of
[docs/memory.md](../../docs/memory.md) expect: equal, owner by owner, in {equal} of {rows} rows.
*update* is what existed only during the mask update: the tensors that were made and freed, and
what torch's allocator gave out for it, with what kernels take for themselves. *other*: batch-norm
buffers, step counters, the window of gradient norms.

{place}
"""
NOTES = {
    "lenet5": "trained here",
    "resnet18": "for 32x32 images, ten classes; shapes only",
    "gpt2": "the head is the token embedding, which is not pruned; shapes only",
}


def rows_of(name: str) -> Iterator[Row]:
    """The rows of one network, told as they are measured."""
    for spec in counted.runs():
        start = time.perf_counter()
        row = counted.measure(NETWORKS[name], spec)
        seconds = time.perf_counter() - start
        words = (name, *counted.head(spec), f"{row.measured['total']:,} bytes")
        print(" ".join(filter(None, words)), f"({seconds:.1f} s)", flush=True)
        yield row


def place() -> str:
    """Hardware, versions and code, in one sentence."""
    cpu = environment.cpu()
    source = provenance.source(SOURCE_TREE).record()
    changed = ", with changes" if source["dirty"] else ""
    return (
        f"{cpu['model']}, {cpu['cores']} cores, {torch.get_num_threads()} threads; torch "
        f"{torch.__version__}, Python {platform.python_version()}; commit "
        f"{str(source['commit'])[:12]}{changed}."
    )


def section(name: str, rows: list[Row]) -> str:
    """One network: its size and its table."""
    size = rows[0].size
    prunable = sum(map(math.prod, size.prunable))
    return (
        f"## {name}: {size.parameters:,} parameters, {prunable:,} prunable\n\n"
        f"{NOTES[name][0].upper()}{NOTES[name][1:]}.\n\n{counted.table(rows)}\n"
    )


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args(words)
    names = arguments.networks or list(NETWORKS)
    if unknown := [name for name in names if name not in NETWORKS]:
        raise UserError(f"no such network: {', '.join(unknown)} (there are {', '.join(NETWORKS)})")
    output = arguments.output or (None if arguments.networks else PUBLISHED)
    found = {name: list(rows_of(name)) for name in names}
    every = [row for rows in found.values() for row in rows]
    equal = sum(row.measured == row.computed for row in every)
    text = HEAD.format(
        target=max(row.spec.sparsity for row in every),
        equal=equal,
        rows=len(every),
        place=place(),
    )
    text += "".join(f"\n{section(name, rows)}" for name, rows in found.items())
    if output is None:
        print(text)
        return 0
    with refusing(f"cannot write {output}"):
        write_text(output, text)
    print(f"{output}: {len(every)} rows; computed equals measured in {equal}")
    return 0 if equal == len(every) else 1
