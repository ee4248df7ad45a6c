"""The text of an HLO program: its computations and instructions, and what the attributes of an instruction say.

jaxlib reads HLO too (`jaxlib._hlo`), but neither shapes nor called computations nor backend configs of an instruction
can be had from it except as text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
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


def groups(attributes: str, num_partitions: int) -> tuple[tuple[int, ...], ...]:
    """Numbers of the devices that take part together, by `replica_groups` in any of its three notations.

    All devices where none are named; of a permutation, each sender and its receiver.
    """
    if found := re.search(r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{}]*\})\}", attributes):
        return tuple(tuple(int(n) for n in group.split(",")) for group in re.findall(r"\{([\d,]+)\}", found[1]))
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attributes):
        sizes = [int(n) for n in found[2].split(",")]
        order = [int(n) for n in found[3].split(",")] if found[3] else range(len(sizes))
        devices = _transposed(sizes, order)
        return tuple(tuple(devices[i : i + int(found[1])]) for i in range(0, len(devices), int(found[1])))
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", attributes):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", found[1])}
        return _of_mesh(sizes, re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", found[2]))
    return (tuple(range(num_partitions)),)


def _transposed(sizes: list[int], order: Sequence[int]) -> list[int]:
    """The numbers of an array of such sizes, row by row, after its axes were reordered."""
    steps = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    numbers = [0]
    for axis in order:
        numbers = [number + i * steps[axis] for number in numbers for i in range(sizes[axis])]
    return numbers


def _of_mesh(sizes: dict[str, int], axes: list[tuple[str, str, str]]) -> tuple[tuple[int, ...], ...]:
    """Groups along axes of a mesh; `(2)4` behind an axis is a part of 4, inside of a major part of 2."""
    found: dict[tuple[int, ...], list[int]] = {}
    for device in range(math.prod(sizes.values())):
        place, rest = dict.fromkeys(sizes, 0), device
        for name in reversed(sizes):
            rest, place[name] = divmod(rest, sizes[name])
        for name, before, part in axes:
            step = sizes[name] // (int(before) * int(part)) if part else 1
            place[name] -= place[name] // step % int(part or sizes[name]) * step
        found.setdefault(tuple(place.values()), []).append(device)
    return tuple(map(tuple, found.values()))


def operation(attributes: str) -> str:
    """The path of the operation in the program that was traced (`op_name`); empty where the compiler made it up."""
    found = re.search(r'op_name="([^"]*)"', attributes)
    return found[1] if found else ""
