"""The text of an HLO program: its computations and instructions, and what the attributes of an instruction say.

jaxlib reads HLO too (`jaxlib._hlo`), but neither shapes nor called computations nor backend configs of an instruction
can be had from it except as text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+)[ (].*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"([a-z][a-z0-9]*)\[([^\]]*)\]")


@dataclass(slots=True)
class Instruction:
    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    arguments: str
    """What is in the brackets: the operands, or the number of a parameter."""
    attributes: str


def read_computations(text: str) -> tuple[dict[str, list[str]], str | None]:
    """The lines of each computation, by name, and the name of the one that is executed."""
    computations: dict[str, list[str]] = {}
    current: list[str] | None = None
    entry = None
    for line in text.splitlines():
        if current is None:
            header = None if line.startswith((" ", "HloModule")) else _HEADER.match(line)
            if header:
                current = computations.setdefault(header[2], [])
                entry = header[2] if header[1] else entry
        elif line.startswith("}"):
            current = None
        else:
            current.append(line)
    return computations, entry


def read_instructions(lines: list[str]) -> Iterator[Instruction]:
    for line in lines:
        found = _INSTRUCTION.match(line)
        if not found:
            continue
        name, rest = found[1], found[2]
        end = _closing(rest, 0) if rest.startswith("(") else rest.find(" ")
        shape, rest = rest[:end], rest[end:].lstrip()
        opcode, opening, _ = rest.partition("(")
        if opening:
            end = _closing(rest, len(opcode))
            arguments = rest[len(opcode) : end]
            operands = re.findall(r"%([\w.\-]+)", arguments)
            yield Instruction(name, shape, opcode.strip(), tuple(operands), arguments, rest[end:])


def _closing(text: str, start: int) -> int:
    """The position after the bracket that closes the one at `start`."""
    depth = 0
    for bracket in re.finditer(r"[()]", text[start:]):
        depth += 1 if bracket[0] == "(" else -1
        if not depth:
            return start + bracket.end()
    return len(text)


def num_slices(instruction: Instruction, shapes: dict[str, str]) -> int:
    """Of a gather, what it reads, and of a scatter, what it writes; 0 of anything else."""
    if instruction.opcode == "gather":
        sizes = re.search(r"slice_sizes=\{([\d,]*)\}", instruction.attributes)
        size = math.prod(int(n) for n in sizes[1].split(",") if n) if sizes else 1
        return math.prod(dimensions(instruction.shape)) // max(1, size) if _ARRAY.search(instruction.shape) else 0
    if instruction.opcode == "scatter":
        window = re.search(r"update_window_dims=\{([\d,]*)\}", instruction.attributes)
        sizes = dimensions(shapes.get(instruction.operands[-1], "")) if instruction.operands else []
        inner = {int(n) for n in window[1].split(",") if n} if window else set()
        return math.prod(size for axis, size in enumerate(sizes) if axis not in inner)
    return 0


def dimensions(shape: str) -> list[int]:
    """Of an array, or of the first one of a tuple."""
    found = _ARRAY.search(shape)
    return [int(n) for n in found[2].split(",") if n.isdigit()] if found else []


def num_targets(attributes: str) -> int:
    """Slices that take part in a transfer, as its target names them: 2 of `{1,2}x{0:15}`."""
    found = re.search(r'_xla_megascale_target="\{([\d,:]*)\}', attributes)
    return max(2, len(found[1].split(","))) if found else 2


def called(attributes: str, *names: str) -> list[str]:
    called: list[str] = []
    for name in names:
        for found in re.finditer(rf"\b{name}=(\{{[^}}]*\}}|%?[\w.\-]+)", attributes):
            called += re.findall(r"[\w.\-]+", found[1])
    return called


def shape_bytes(shape: str) -> int:
    """Bytes of an array or a tuple of arrays, without the padding of a layout: 6 of `(bf16[3]{0})`."""
    bits = 0
    for dtype, dimensions in _ARRAY.findall(shape):
        width = re.search(r"\d+", dtype)
        size = 8 if dtype == "pred" else int(width[0]) if width else 0
        bits += size * math.prod(int(n.lstrip("<=")) for n in dimensions.split(",") if n)
    return bits // 8


def group_size(attributes: str, num_partitions: int) -> int:
    """Of `replica_groups` in any of its three notations; all devices where none are named."""
    if found := re.search(r"replica_groups=\{\{([\d,]*)\}", attributes):
        return len(found[1].split(","))
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]", attributes):
        return int(found[1])
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", attributes):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", found[1])}
        axes = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", found[2])
        return math.prod(int(part) if part else sizes.get(name, 1) for name, part in axes)
    return num_partitions
