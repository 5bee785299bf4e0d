"""Vectors of eight numbers as values in functions compiled by Numba.

Numba leaves vector instructions to LLVM's loop vectoriser, which looks at innermost loops only and
keeps no sums in registers over the loops around them. A ``Lanes`` is one LLVM vector, so that a
kernel says what stays in a register. LLVM splits it where the machine's registers are shorter.

Arrays are contiguous; ``index`` counts single numbers from their beginning and is not checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

LANES = 8

instruction: Callable[[Any], Any] = intrinsic  # for mypy, which knows nothing about Numba


class Lanes(types.Type):  # type: ignore[misc]
    """Eight numbers of ``dtype``."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


@register_model(Lanes)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Lanes) -> None:
        number = manager.lookup(kind.dtype).get_value_type()
        super().__init__(manager, kind, ir.VectorType(number, LANES))


def _pointer(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """Where the array, the first argument, holds the number at the second."""
    array = context.make_array(signature.args[0])(context, builder, args[0])
    return builder.gep(array.data, [args[1]])


def _numbers(numbers: list[int]) -> Any:
    """A constant vector, for a shuffle."""
    return ir.Constant(ir.VectorType(ir.IntType(32), LANES), numbers)


@instruction
def load(typing: Any, array: Any, index: Any) -> Any:
    """``array[index : index + 8]``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature, args)
        vector = context.get_value_type(signature.return_type)
        instruction = builder.load(builder.bitcast(pointer, vector.as_pointer()))
        instruction.align = array.dtype.bitwidth // 8
        return instruction

    return Lanes(array.dtype)(array, types.intp), generate


@instruction
def store(typing: Any, array: Any, index: Any, lanes: Any) -> Any:
    """``array[index : index + 8] = lanes``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature, args)
        pointer = builder.bitcast(pointer, args[2].type.as_pointer())
        builder.store(args[2], pointer).align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), generate


@instruction
def spread(typing: Any, array: Any, index: Any) -> Any:
    """``array[index]`` in every lane."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        number = builder.load(_pointer(context, builder, signature, args))
        none = ir.Constant(ir.VectorType(number.type, LANES), ir.Undefined)
        first = builder.insert_element(none, number, ir.IntType(32)(0))
        return builder.shuffle_vector(first, none, _numbers([0] * LANES))

    return Lanes(array.dtype)(array, types.intp), generate


@instruction
def zeros_like(typing: Any, array: Any) -> Any:
    """Zero in every lane, of the array's kind of numbers."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(context.get_value_type(signature.return_type), [0.0] * LANES)

    return Lanes(array.dtype)(array), generate


@instruction
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``, in one instruction where the machine has it."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = args[0].type
        name = f"llvm.fmuladd.v{LANES}f{a.dtype.bitwidth}"
        kind = ir.FunctionType(vector, [vector] * 3)
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    return a(a, b, c), generate


@instruction
def add(typing: Any, a: Any, b: Any) -> Any:
    """``a + b``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fadd(*args)

    return a(a, b), generate


@instruction
def larger(typing: Any, a: Any, b: Any) -> Any:
    """The larger of ``a`` and ``b``; ``a`` where one of them is no number."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_unordered(">=", *args), *args)

    return a(a, b), generate


@instruction
def where_less(typing: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
    """``yes`` where ``a < b``, else ``no``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a, b, yes, no = args
        return builder.select(builder.fcmp_ordered("<", a, b), yes, no)

    return a(a, b, yes, no), generate


@instruction
def transpose(typing: Any, source: Any, i: Any, stride: Any, into: Any, j: Any, step: Any) -> Any:
    """``into[j + step * b + a] = source[i + stride * a + b]`` for ``a`` and ``b`` up to 8."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array, i, stride, target, j, step = args
        kind = ir.VectorType(context.get_value_type(source.dtype), LANES)
        align = source.dtype.bitwidth // 8

        def at(kind_of: Any, array: Any, index: Any, step: Any, row: int) -> Any:
            index = builder.add(index, builder.mul(step, step.type(row)))
            data = context.make_array(kind_of)(context, builder, array).data
            return builder.bitcast(builder.gep(data, [index]), kind.as_pointer())

        rows = [builder.load(at(source, array, i, stride, n), align=align) for n in range(LANES)]
        for size in (1, 2, 4):  # swap the blocks of this size beside the diagonal
            for row in range(LANES):
                if row & size == 0:
                    one, other = rows[row], rows[row + size]
                    for half in (0, size):
                        # From `one`, or by LANES more from `other`.
                        lanes = [n & ~size | half | n // size % 2 * LANES for n in range(LANES)]
                        rows[row + half] = builder.shuffle_vector(one, other, _numbers(lanes))
        for n in range(LANES):
            builder.store(rows[n], at(into, target, j, step, n), align=align)
        return context.get_dummy_value()

    number = types.intp
    return types.void(source, number, number, into, number, number), generate
