"""Multiply-accumulates of a traced function: what its matrix products and convolutions need, however it is compiled.

The compiler's own count has every addition in it too, what is computed again in a rematerialised pass, and the body of
a loop once instead of as often as it runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax


def count_macs(function: Callable[..., Any], *arguments: Any) -> int:
    """Of one call with arguments of these shapes (arrays or `ShapeDtypeStruct`)."""
    return _macs(jax.make_jaxpr(function)(*arguments).jaxpr)


def count_bytes(function: Callable[..., Any], *arguments: Any) -> int:
    """Bytes that matrix products and convolutions read and write, each array once for each: all else may be fused.

    Products of activations with activations, which are attention's, are left out: fused kernels keep them on the chip.
    """
    return _bytes(jax.make_jaxpr(function)(*arguments).jaxpr)


def _bytes(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            if equation.primitive.name == "dot_general" and equation.params["dimension_numbers"][1][0]:
                continue
            arrays = [variable.aval for variable in (*equation.invars, *equation.outvars)]
            total += sum(math.prod(aval.shape) * aval.dtype.itemsize for aval in arrays)
            continue
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        inner = [_bytes(each) for each in _inner(equation.params)]
        total += max(inner, default=0) if equation.primitive.name == "cond" else times * sum(inner)
    return total


def _macs(jaxpr: Any) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: Any) -> int:
    name = equation.primitive.name
    if name == "dot_general":
        (contracting, _), _ = equation.params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracting)
    if name == "conv_general_dilated":
        kernel, numbers = equation.invars[1].aval.shape, equation.params["dimension_numbers"]
        per_output = math.prod(kernel) // kernel[numbers.rhs_spec[0]]
        return math.prod(equation.outvars[0].aval.shape) * per_output
    if name == "by_platform":  # the CPU's way may take other products
        inputs = [jax.ShapeDtypeStruct(each.aval.shape, each.aval.dtype) for each in equation.invars]
        return count_macs(equation.params["elsewhere"], *inputs)
    times = equation.params["length"] if name == "scan" else 1
    inner = [_macs(jaxpr) for jaxpr in _inner(equation.params)]
    return max(inner, default=0) if name == "cond" else times * sum(inner)


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    for value in params.values():
        for entry in value if isinstance(value, (tuple, list)) else (value,):
            closed = getattr(entry, "jaxpr", entry)
            if hasattr(closed, "eqns"):
                yield closed
