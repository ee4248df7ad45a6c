"""The kernels of an optimised HLO program: what each was traced from, and whether it multiplies."""

from __future__ import annotations

import re
from dataclasses import dataclass

from luab_jax.preflight import hlo
from luab_jax.preflight.hlo_text import called, operation

_PRODUCT = re.compile(r"= \S+ (convolution|dot)\(")


@dataclass(frozen=True, slots=True)
class Kernel:
    """A fusion, or another instruction with cycles of its own."""

    cycles: int
    """Of all its executions in a step."""
    times: int
    name: str
    operation: str
    """The path of the operation in the program that was traced (`op_name`); empty where the compiler made it up."""
    is_product: bool
    """Whether a matrix product or a convolution is in it."""


def kernels(text: str) -> list[Kernel]:
    """Of `compiled.as_text()`, in the order of the walk through what is executed."""
    timed, computations = hlo.timed(text)
    return [_kernel(each, computations) for each in timed]


def _kernel(timed: hlo.Timed, computations: dict[str, list[str]]) -> Kernel:
    instruction, cycles, times = timed
    return Kernel(
        cycles=cycles,
        times=times,
        name=instruction.name,
        operation=operation(instruction.attributes),
        is_product=instruction.opcode in ("convolution", "dot") or _multiplies(instruction.attributes, computations),
    )


def _multiplies(attributes: str, computations: dict[str, list[str]]) -> bool:
    """Whether a product is in a fusion, or in one inside of it."""
    lines = [line for name in called(attributes, "calls") for line in computations.get(name, [])]
    return any(_PRODUCT.search(line) or (" fusion(" in line and _multiplies(line, computations)) for line in lines)
