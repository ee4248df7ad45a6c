"""The kernels of a program for GPUs, by the text of its optimised HLO: what each multiplies and what it moves.

A GPU's compiler states no cycles. A kernel reads its operands from memory and writes its result there; of products and
convolutions the shapes say how often they multiply. Text in, numbers out; nothing here needs jax.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from luab_jax.preflight.hlo_text import Instruction, called, dimensions, read_instructions, shape_bytes


class Kind(enum.StrEnum):
    PRODUCT = "product"
    """A matrix product or a convolution, with what is fused to it."""
    ATTENTION = "attention"
    """One of cuDNN's kernels."""
    PASS = "pass"
    """Everything else, bound by memory bandwidth."""


@dataclass(frozen=True, slots=True)
class GpuKernel:
    kind: Kind
    flops: int
    """Of its products; 0 of a pass."""
    num_bytes: int
    """Operands, each once, and results."""
    times: int
    """Per step."""
    dtype: str = ""
    """Of the operands of its products, the widest; empty of a pass."""


_NO_KERNELS = {
    *("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "opt-barrier"),
    *("partition-id", "replica-id", "while", "conditional", "call", "send", "recv"),
}
_WORKSPACE = re.compile(r", [us]8\[\d*\]\{0\}\)$")
"""Of NVIDIA's libraries, behind their results."""
_TARGET = re.compile(r'custom_call_target="([^"]*)"')


def kernel_of(
    instruction: Instruction, shapes: dict[str, str], computations: dict[str, list[str]], times: int
) -> GpuKernel | None:
    """`None` if nothing is launched for it, or it stands for others (a loop, the end of something asynchronous)."""
    opcode = instruction.opcode
    if opcode in _NO_KERNELS or opcode.endswith("-done") or opcode.startswith("async-"):
        return None
    target = _TARGET.search(instruction.attributes)
    name = target[1] if target else ""
    if name.startswith("__cudnn$fmha"):
        kind, products = Kind.ATTENTION, _attention(instruction, shapes, is_backward="Backward" in name)
    elif name.startswith("__cublas"):
        kind, products = Kind.PRODUCT, _product(instruction, shapes)
    elif name.startswith("__cudnn$conv"):
        kind, products = Kind.PRODUCT, _convolution(instruction, shapes, name)
    else:
        products = _products_inside(instruction, shapes, computations)
        kind = Kind.PRODUCT if products.flops else Kind.PASS
    num_bytes = _moved(instruction, shapes, computations)
    return GpuKernel(kind=kind, flops=products.flops, num_bytes=num_bytes, times=times, dtype=products.dtype)


def _moved(instruction: Instruction, shapes: dict[str, str], computations: dict[str, list[str]]) -> int:
    """Operands, each once, and results, without the workspace of a library."""
    read = {name: shape_bytes(shapes.get(name, "")) for name in instruction.operands}
    if instruction.opcode == "copy-start":  # its shape names both arrays
        return 2 * sum(read.values())
    written = shape_bytes(_WORKSPACE.sub(")", instruction.shape))
    if instruction.opcode != "fusion":
        alone = {name: Instruction(name, shapes.get(name, ""), "parameter", (), "", "") for name in read}
        alone[instruction.name] = instruction
        read = {name: min(num_bytes, _read_of(alone[name], alone)) for name, num_bytes in read.items()}
        return sum(read.values()) + written - _kept_by(instruction, alone)
    for name in called(instruction.attributes, "calls"):
        inner = {each.name: each for each in read_instructions(computations.get(name, []))}
        parameters = {int(each.arguments.strip("()")): each for each in inner.values() if each.opcode == "parameter"}
        for number, operand in enumerate(instruction.operands):
            if number in parameters:
                read[operand] = min(read[operand], _read_of(parameters[number], inner))
        written -= sum(_kept_by(root, inner) for root in list(inner.values())[-1:])
    return sum(read.values()) + written


def _read_of(parameter: Instruction, inner: dict[str, Instruction]) -> int:
    """Bytes that a fusion reads of a parameter: of one that is only sliced, gathered from or updated, the parts."""
    total = 0
    for user in inner.values():
        if parameter.name not in user.operands:
            continue
        is_once = user.operands.count(parameter.name) == 1
        if user.opcode == "bitcast":
            total += _read_of(user, inner)
        elif is_once and parameter.name == user.operands[0] and user.opcode in ("slice", "dynamic-slice", "gather"):
            total += shape_bytes(user.shape)
        elif not (is_once and parameter.name in _updates(user)):
            return shape_bytes(parameter.shape)
    return total


def _updates(instruction: Instruction) -> dict[str, str]:
    """The arrays that it updates, each with the update; none unless it is a scatter or a dynamic-update-slice."""
    operands = instruction.operands
    if instruction.opcode == "dynamic-update-slice":
        return {operands[0]: operands[1]}
    if instruction.opcode == "scatter":  # arrays, indices, updates
        count = len(operands) // 2
        return dict(zip(operands[:count], operands[count + 1 :], strict=True))
    return {}


def _kept_by(root: Instruction, inner: dict[str, Instruction]) -> int:
    """Bytes of results that a fusion updates in place, without what it writes."""
    if root.opcode in ("tuple", "bitcast"):
        return sum(_kept_by(inner[name], inner) for name in root.operands if name in inner)
    return sum(
        max(0, shape_bytes(inner[array].shape) - shape_bytes(inner[update].shape))
        for array, update in _updates(root).items()
        if array in inner and update in inner and _is_parameter(inner[array], inner)
    )


def _is_parameter(instruction: Instruction, inner: dict[str, Instruction]) -> bool:
    while instruction.opcode == "bitcast" and instruction.operands[0] in inner:
        instruction = inner[instruction.operands[0]]
    return instruction.opcode == "parameter"


class _Products(NamedTuple):
    flops: int = 0
    dtype: str = ""
    """The widest of their operands."""


def _widest(*dtypes: str) -> str:
    return max(dtypes, key=lambda dtype: shape_bytes(f"{dtype}[8]"), default="")


def _type_of(instruction: Instruction, shapes: dict[str, str]) -> str:
    """Of both factors, the wider."""
    return _widest(*(shapes.get(name, "").partition("[")[0] for name in instruction.operands[:2]))


def _products_inside(instruction: Instruction, shapes: dict[str, str], computations: dict[str, list[str]]) -> _Products:
    """A product or a convolution, and those in a fusion."""
    match instruction.opcode:
        case "dot":
            return _product(instruction, shapes)
        case "convolution":
            return _convolution(instruction, shapes, "")
        case "fusion":
            return _sum(_products_of(name, computations) for name in called(instruction.attributes, "calls"))
    return _Products()


def _products_of(computation: str, computations: dict[str, list[str]]) -> _Products:
    lines = computations.get(computation, [])
    if not any(word in line for line in lines for word in (" dot(", " convolution(", " fusion(")):
        return _Products()
    shapes: dict[str, str] = {}
    found: list[_Products] = []
    for instruction in read_instructions(lines):
        shapes[instruction.name] = instruction.shape
        found.append(_products_inside(instruction, shapes, computations))
    return _sum(found)


def _sum(products: Iterable[_Products]) -> _Products:
    found = list(products)
    return _Products(sum(each.flops for each in found), _widest(*(each.dtype for each in found)))


def _product(instruction: Instruction, shapes: dict[str, str]) -> _Products:
    """HLO's own notation, `lhs_contracting_dims={1}`, or that of a call of cuBLAS."""
    found = re.search(r'lhs_contracting_dim(?:s=\{|ensions":\[)([\d,"]*)', instruction.attributes)
    axes = [int(axis) for axis in re.findall(r"\d+", found[1])] if found else []
    left = dimensions(shapes.get(instruction.operands[0], ""))
    contracted = math.prod(left[axis] for axis in axes if axis < len(left))
    return _Products(2 * math.prod(dimensions(instruction.shape)) * contracted, _type_of(instruction, shapes))


def _convolution(instruction: Instruction, shapes: dict[str, str], target: str) -> _Products:
    """Every number on the side of the output is a sum over the kernel, forward and for either gradient."""
    arrays = [dimensions(shapes.get(name, "")) for name in instruction.operands[:2]]
    result = dimensions(instruction.shape)
    if target.endswith("BackwardFilter"):
        kernel, outputs = result, arrays[1]
    elif target.endswith("BackwardInput"):
        kernel, outputs = arrays[1], arrays[0]
    else:
        kernel, outputs = arrays[1], result
    labels = re.search(r"dim_labels=\w+_(\w+)->", instruction.attributes)
    axis = labels[1].find("o") if labels else -1
    features = kernel[axis] if 0 <= axis < len(kernel) else 1
    flops = 2 * math.prod(outputs) * math.prod(kernel) // max(1, features)
    return _Products(flops, _type_of(instruction, shapes))


def _attention(instruction: Instruction, shapes: dict[str, str], *, is_backward: bool) -> _Products:
    """Two products forward, five backward, since the kernel computes the weights anew."""
    found = re.search(r'"intermediate_tensor_shape".*?"dimensions":\s*\[([^\]]*)\]', instruction.attributes)
    weights = math.prod(int(n) for n in re.findall(r"\d+", found[1])) if found else 0
    channels = (dimensions(shapes.get(instruction.operands[0], "")) or [0])[-1]
    return _Products(2 * weights * channels * (5 if is_backward else 2), _type_of(instruction, shapes))
