"""The kernels of a program for GPUs, by the text of its optimised HLO: what each multiplies and what it moves.

A GPU's compiler states no cycles. A kernel reads its operands from memory and writes its result there; of products and
convolutions the shapes say how often they multiply. Text in, numbers out; nothing here needs jax.
"""

from __future__ import annotations

import enum
import math
import re
from dataclasses import dataclass

from luab_jax.preflight.hlo_text import Instruction, called, dimensions, read_instructions, shape_bytes


class Kind(enum.StrEnum):
    PRODUCT = "product"
    """A matrix product or a convolution, with what is fused to it."""
    ATTENTION = "attention"
    """One of cuDNN's kernels."""
    PASS = "pass"
    """All else: it takes as long as its arrays need to pass the memory."""


@dataclass(frozen=True, slots=True)
class GpuKernel:
    kind: Kind
    flops: int
    """Of its products; 0 of a pass."""
    num_bytes: int
    """Operands, each once, and results."""
    times: int
    """Per step."""
    name: str
    operation: str
    """The path of the operation in the program that was traced (`op_name`); empty where the compiler made it up."""


_NO_KERNELS = {
    *("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "opt-barrier"),
    *("partition-id", "replica-id", "while", "conditional", "call", "send", "recv"),
}
_WORKSPACE = re.compile(r", [us]8\[\d*\]\{0\}\)$")
"""Of NVIDIA's libraries, behind their results."""
_OPERATION = re.compile(r'op_name="([^"]*)"')
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
        kind, flops = Kind.ATTENTION, _attention_flops(instruction, shapes, is_backward="Backward" in name)
    elif name.startswith("__cublas"):
        kind, flops = Kind.PRODUCT, _product_flops(instruction, shapes)
    elif name.startswith("__cudnn$conv"):
        kind, flops = Kind.PRODUCT, _convolution_flops(instruction, shapes, name)
    else:
        flops = _flops_inside(instruction, shapes, computations)
        kind = Kind.PRODUCT if flops else Kind.PASS
    operation = _OPERATION.search(instruction.attributes)
    return GpuKernel(
        kind=kind,
        flops=flops,
        num_bytes=_moved(instruction, shapes, computations),
        times=times,
        name=instruction.name,
        operation=operation[1] if operation else "",
    )


def _moved(instruction: Instruction, shapes: dict[str, str], computations: dict[str, list[str]]) -> int:
    """Operands, each once, and results, without the workspace of a library."""
    read = {name: shape_bytes(shapes.get(name, "")) for name in instruction.operands}
    written = shape_bytes(_WORKSPACE.sub(")", instruction.shape))
    if instruction.opcode != "fusion":
        return sum(read.values()) + written
    for name in called(instruction.attributes, "calls"):
        inner = {each.name: each for each in read_instructions(computations.get(name, []))}
        for parameter in inner.values():
            if parameter.opcode == "parameter" and (number := int(parameter.arguments.strip("()"))) < len(read):
                operand = instruction.operands[number]
                read[operand] = min(read[operand], _read_of(parameter, inner))
        written -= _kept_by(list(inner.values())[-1:], inner)
    return sum(read.values()) + written


def _read_of(parameter: Instruction, inner: dict[str, Instruction]) -> int:
    """Bytes that a fusion reads of a parameter: of one that is only sliced, gathered from or updated, the parts."""
    total = 0
    for user in inner.values():
        if parameter.name not in user.operands:
            continue
        is_first = user.operands.index(parameter.name) == 0 and user.operands.count(parameter.name) == 1
        if user.opcode == "bitcast":
            total += _read_of(user, inner)
        elif is_first and user.opcode in ("slice", "dynamic-slice", "gather"):
            total += shape_bytes(user.shape)
        elif not (is_first and user.opcode == "dynamic-update-slice"):
            return shape_bytes(parameter.shape)
    return total


def _kept_by(roots: list[Instruction], inner: dict[str, Instruction]) -> int:
    """Bytes of results that a fusion updates in place, without what it writes."""
    total = 0
    for root in roots:
        if root.opcode in ("tuple", "bitcast"):
            total += _kept_by([inner[name] for name in root.operands if name in inner], inner)
        elif root.opcode == "dynamic-update-slice" and root.operands[1] in inner:
            total += shape_bytes(root.shape) - shape_bytes(inner[root.operands[1]].shape)
    return total


def _flops_inside(instruction: Instruction, shapes: dict[str, str], computations: dict[str, list[str]]) -> int:
    """Of a product or a convolution, and of those in a fusion."""
    match instruction.opcode:
        case "dot":
            return _product_flops(instruction, shapes)
        case "convolution":
            return _convolution_flops(instruction, shapes, "")
        case "fusion":
            return sum(_flops_of(name, computations) for name in called(instruction.attributes, "calls"))
    return 0


def _flops_of(computation: str, computations: dict[str, list[str]]) -> int:
    lines = computations.get(computation, [])
    if not any(word in line for line in lines for word in (" dot(", " convolution(", " fusion(")):
        return 0
    shapes: dict[str, str] = {}
    total = 0
    for instruction in read_instructions(lines):
        shapes[instruction.name] = instruction.shape
        total += _flops_inside(instruction, shapes, computations)
    return total


def _product_flops(instruction: Instruction, shapes: dict[str, str]) -> int:
    """HLO's own notation, `lhs_contracting_dims={1}`, or that of a call of cuBLAS."""
    found = re.search(r'lhs_contracting_dim(?:s=\{|ensions":\[)([\d,"]*)', instruction.attributes)
    axes = [int(axis) for axis in re.findall(r"\d+", found[1])] if found else []
    left = dimensions(shapes.get(instruction.operands[0], ""))
    contracted = math.prod(left[axis] for axis in axes if axis < len(left))
    return 2 * math.prod(dimensions(instruction.shape)) * contracted


def _convolution_flops(instruction: Instruction, shapes: dict[str, str], target: str) -> int:
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
    return 2 * math.prod(outputs) * math.prod(kernel) // max(1, features)


def _attention_flops(instruction: Instruction, shapes: dict[str, str], *, is_backward: bool) -> int:
    """Two products forward, five backward, since the kernel computes the weights anew."""
    found = re.search(r'"intermediate_tensor_shape".*?"dimensions":\s*\[([^\]]*)\]', instruction.attributes)
    weights = math.prod(int(n) for n in re.findall(r"\d+", found[1])) if found else 0
    channels = (dimensions(shapes.get(instruction.operands[0], "")) or [0])[-1]
    return 2 * weights * channels * (5 if is_backward else 2)
