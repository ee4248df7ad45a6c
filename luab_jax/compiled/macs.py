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
    times = equation.params["length"] if name == "scan" else 1
    inner = [_macs(jaxpr) for jaxpr in _inner(equation.params)]
    return max(inner, default=0) if name == "cond" else times * sum(inner)


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    for value in params.values():
        for entry in value if isinstance(value, (tuple, list)) else (value,):
            closed = getattr(entry, "jaxpr", entry)
            if hasattr(closed, "eqns"):
                yield closed
