"""Count the bytes of LeNet-5, ResNets and GPT-2s by owner, for every way to prune them.

Writes results/published/memory-models.md. The names of networks as arguments, and --output, do
a part of it elsewhere. GPT-2 with 350M parameters takes 10 GB of memory and most of the time.
"""

import argparse
import os
import platform
from collections.abc import Sequence
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
from benchmarks.memory import by_sparsity, counted
from benchmarks.memory.counted import Row
from benchmarks.memory.formulas import Size
from benchmarks.memory.shapes import EVERY_METHOD, NETWORKS, TOLD

PUBLISHED = SOURCE_TREE / "results" / "published" / "memory-models.md"
HEAD = """\
# Memory by model

Bytes counted in the live tensors after two steps and a mask update (`make memory-models`). What the
formulas of [docs/memory.md](../../docs/memory.md) expect is equal, owner by owner, in {equal} of
{rows} rows.

{place}

## By sparsity

{sparsity_head}
{by_sparsity}## By owner, at {target:.0%}

*computed* is what the formulas expect. *update* is what existed only during the mask update: the
tensors that were made and freed, and what torch's allocator gave out for it, with what kernels take
for themselves. *other*: batch-norm buffers, step counters, the window of gradient norms.

{by_owner}"""


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


def section(name: str, size: Size, table: str) -> str:
    """One network: its size and its table."""
    prunable = sum(count.numel for count in size.counts)
    return (
        f"### {name}: {size.parameters:,} parameters, {prunable:,} prunable\n\n"
        f"{TOLD[name][0].upper()}{TOLD[name][1:]}.\n\n{table}\n\n"
    )


def _told(name: str, row: Row) -> Row:
    """The row, of which a line is printed."""
    amsgrad = "AMSGrad" if row.spec.values.get("AMSGRAD") == "on" else ""
    released = "released" if row.spec.values.get("RELEASE_GRADIENTS") else ""
    words = (name, f"{row.spec.sparsity:.0%}", *counted.head(row.spec), amsgrad, released)
    print(*filter(None, words), f"{row.measured['total']:,} bytes", flush=True)
    return row


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args(words)
    names = arguments.networks or list(NETWORKS)
    if unknown := [name for name in names if name not in NETWORKS]:
        raise UserError(f"no such network: {', '.join(unknown)} (there are {', '.join(NETWORKS)})")
    output = arguments.output or (None if arguments.networks else PUBLISHED)
    owners = {
        name: [_told(name, counted.measure(NETWORKS[name], spec)) for spec in counted.runs()]
        for name in names
        if name in EVERY_METHOD
    }
    sparsities = {
        name: {
            key: _told(name, counted.measure(NETWORKS[name], spec, update=False))
            for key, spec in by_sparsity.runs().items()
        }
        for name in names
    }
    every = [row for rows in owners.values() for row in rows]
    target = max((row.spec.sparsity for row in every), default=0.9)
    every += [row for rows in sparsities.values() for row in rows.values()]
    equal = sum(row.measured == row.computed for row in every)
    text = HEAD.format(
        target=target,
        equal=equal,
        rows=len(every),
        place=place(),
        sparsity_head=by_sparsity.HEAD,
        by_sparsity="".join(
            section(name, next(iter(rows.values())).size, by_sparsity.table(rows))
            for name, rows in sparsities.items()
        ),
        by_owner="".join(
            section(name, rows[0].size, counted.table(rows)) for name, rows in owners.items()
        ),
    )
    if output is None:
        print(text)
        return 0
    with refusing(f"cannot write {output}"):
        write_text(output, text.rstrip("\n") + "\n")
    print(f"{output}: {len(every)} rows; computed equals measured in {equal}")
    return 0 if equal == len(every) else 1
