"""What the text of an optimised HLO program says: cycles, loops, collectives.

jaxlib reads HLO too (`jaxlib._hlo`), but neither shapes nor called computations nor backend configs of an instruction
can be had from it except as text. Text in, numbers out; nothing here needs jax.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
"""HLO's opcodes; each may also be written as a start and a done."""
BETWEEN_SLICES = "between slices"
"""What the compiler makes of a collective over several slices: a part within each, and a `send` to the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """One exchange among devices, as one device sees it."""

    kind: str
    num_bytes: int
    """Of the whole result that it works on: what is reduced, what was gathered, what is exchanged."""
    group_size: int
    """Devices that take part together."""
    count: int
    """Times per step: more than one in a loop."""

    @property
    def between_slices(self) -> bool:
        """Whether it leaves the slice: over the data centre's network, not over the links of the chips."""
        return self.kind == BETWEEN_SLICES

    @property
    def sent_bytes(self) -> float:
        """What each device sends once, by the bound of a ring (Patarasu and Yuan, JPDC 2009): an all-reduce is a
        reduce-scatter and an all-gather, each of (n - 1) / n of the bytes."""
        share = (self.group_size - 1) / self.group_size
        match self.kind:
            case "all-reduce":
                return 2 * share * self.num_bytes
            case "collective-permute" | "collective-broadcast" | "between slices":
                return float(self.num_bytes) if self.group_size > 1 else 0.0
            case _:
                return share * self.num_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramText:
    """The numbers of one program, for one device and one step."""

    cycles: int | None
    """The compiler's `estimated_cycles`, summed over what is executed; `None` where the compiler states none."""
    collectives: tuple[Collective, ...]
    num_loops: int
    num_unknown_loops: int
    """Loops of which the compiler does not know how often they run; counted as if once."""
    scattered: int = 0
    """Slices that gathers and scatters read or write one by one. A TPU's compiler states no cycles for them."""


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


@dataclass(slots=True)
class _Instruction:
    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    attributes: str


@dataclass(slots=True)
class _Totals:
    cycles: int = 0
    states_cycles: bool = False
    collectives: list[Collective] = field(default_factory=list)
    num_loops: int = 0
    num_unknown_loops: int = 0
    scattered: int = 0
    kernels: list[Kernel] = field(default_factory=list)


_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+)[ (].*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"([a-z][a-z0-9]*)\[([^\]]*)\]")
_CYCLES = re.compile(r'"estimated_cycles":"?(\d+)')
_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"?(\d+)')
_EXPECTED = re.compile(r'op_name="[^"]*\babout_(\d+)_trips/while"')
"""What this package writes on a loop whose length depends on the data (`luab_jax.augmentation.chosen`)."""
_LESS_THAN = re.compile(r"^\s+ROOT .* compare\(%?[\w.\-]+, %?([\w.\-]+)\), direction=LT")
_OPERATION = re.compile(r'op_name="([^"]*)"')
_PRODUCT = re.compile(r"= \S+ (convolution|dot)\(")
_CHANNEL = re.compile(r"channel_id=(\d+)")


def read(text: str) -> ProgramText:
    """Reads `compiled.as_text()`. Whatever it does not know counts as nothing."""
    totals = _totals(text)
    return ProgramText(
        cycles=totals.cycles if totals.states_cycles else None,
        collectives=tuple(totals.collectives),
        num_loops=totals.num_loops,
        num_unknown_loops=totals.num_unknown_loops,
        scattered=totals.scattered,
    )


def kernels(text: str) -> list[Kernel]:
    """Of `compiled.as_text()`, in the order in which they are written; their cycles are those of `read`."""
    return _totals(text).kernels


def _totals(text: str) -> _Totals:
    computations, entry = _computations(text)
    totals = _Totals()
    if entry is not None:
        partitions = math.prod(int(n) for n in re.findall(r"(?:num_partitions|replica_count)=(\d+)", text[:100_000]))
        _Walk(computations, totals, partitions).walk(entry, 1)
    return totals


def _computations(text: str) -> tuple[dict[str, list[str]], str | None]:
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


def _instructions(lines: list[str]) -> Iterator[_Instruction]:
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
            operands = re.findall(r"%([\w.\-]+)", rest[len(opcode) : end])
            yield _Instruction(name, shape, opcode.strip(), tuple(operands), rest[end:])


def _closing(text: str, start: int) -> int:
    """The position after the bracket that closes the one at `start`."""
    depth = 0
    for bracket in re.finditer(r"[()]", text[start:]):
        depth += 1 if bracket[0] == "(" else -1
        if not depth:
            return start + bracket.end()
    return len(text)


class _Walk:
    """Follows what is executed, from the entry through loops, branches, calls and asynchronous parts."""

    def __init__(self, computations: dict[str, list[str]], totals: _Totals, num_partitions: int):
        self._computations, self._totals, self._num_partitions = computations, totals, num_partitions
        self._channels: set[str] = set()

    def walk(self, computation: str, times: int, *, fused: bool = False) -> None:
        """Adds a computation that runs `times`; the parts of a fusion have no cycles beside the fusion's own."""
        shapes: dict[str, str] = {}
        for instruction in _instructions(self._computations.get(computation, [])):
            shapes[instruction.name] = instruction.shape
            cycles = None if fused else _CYCLES.search(instruction.attributes)
            if cycles:
                self._totals.states_cycles = True
                self._totals.cycles += times * int(cycles[1])
                self._totals.kernels.append(self._kernel(instruction, times * int(cycles[1]), times))
            self._totals.scattered += times * _num_slices(instruction, shapes)
            kind = instruction.opcode.removesuffix("-start")
            if kind == "send" and "xla_megascale_runtime" in instruction.attributes:
                sent = shape_bytes(shapes.get(instruction.operands[0], ""))
                slices = _num_targets(instruction.attributes)
                self._totals.collectives.append(
                    Collective(kind=BETWEEN_SLICES, num_bytes=sent, group_size=slices, count=times)
                )
            elif kind in COLLECTIVES:
                self._add_collective(kind, instruction, shapes, times)
            else:
                self._descend(instruction, times, fused=fused)

    def _kernel(self, instruction: _Instruction, cycles: int, times: int) -> Kernel:
        operation = _OPERATION.search(instruction.attributes)
        return Kernel(
            cycles=cycles,
            times=times,
            name=instruction.name,
            operation=operation[1] if operation else "",
            is_product=instruction.opcode in ("convolution", "dot") or self._multiplies(instruction.attributes),
        )

    def _multiplies(self, attributes: str) -> bool:
        """Whether a product is in a fusion, or in one inside of it."""
        lines = [line for name in _called(attributes, "calls") for line in self._computations.get(name, [])]
        return any(_PRODUCT.search(line) or (" fusion(" in line and self._multiplies(line)) for line in lines)

    def _descend(self, instruction: _Instruction, times: int, *, fused: bool) -> None:
        attributes = instruction.attributes
        match instruction.opcode:
            case "while":
                trips = self._trips(attributes)
                self._totals.num_loops += 1
                self._totals.num_unknown_loops += trips is None
                for name in _called(attributes, "body"):
                    self.walk(name, times * (1 if trips is None else trips), fused=fused)
            case "conditional":
                self._walk_longest(
                    _called(attributes, "branch_computations", "true_computation", "false_computation"), times
                )
            case "call":
                for name in _called(attributes, "to_apply"):
                    self.walk(name, times, fused=fused)
            case "fusion":
                for name in _called(attributes, "calls"):
                    self.walk(name, times, fused=True)
            case "async-start":
                for name in _called(attributes, "calls"):
                    self.walk(name, times, fused=fused)

    def _trips(self, attributes: str) -> int | None:
        """Of a loop, as the compiler states it, or the constant that its counter is compared with.

        A TPU's compiler states nothing of a loop whose constants it moved; jax's own loops count from 0 by 1. Of a loop
        as long as the data make it, what the program expects.
        """
        if found := _TRIP_COUNT.search(attributes):
            return int(found[1])
        for name in _called(attributes, "condition"):
            lines = self._computations.get(name, [])
            bounds = {found[1] for line in lines if (found := _LESS_THAN.match(line))}
            for line in lines:
                constant = re.match(r"\s+%?([\w.\-]+) = [su]32\S* constant\((\d+)\)", line)
                if constant and constant[1] in bounds:
                    return int(constant[2])
        expected = _EXPECTED.search(attributes)
        return int(expected[1]) if expected else None

    def _walk_longest(self, branches: list[str], times: int) -> None:
        """Of branches the one with most cycles: what a step may take."""

        def cycles(name: str) -> int:
            totals = _Totals()
            _Walk(self._computations, totals, self._num_partitions).walk(name, 1)
            return totals.cycles

        if branches:
            self.walk(max(branches, key=cycles), times)

    def _add_collective(self, kind: str, instruction: _Instruction, shapes: dict[str, str], times: int) -> None:
        """Once per channel: an asynchronous collective stands in the start, the overlapped parts and the end."""
        channel = _CHANNEL.search(instruction.attributes)
        if channel:
            if channel[1] in self._channels:
                return
            self._channels.add(channel[1])
        size = _group_size(instruction.attributes, self._num_partitions)
        num_bytes = sum(shape_bytes(shapes.get(name, "")) for name in instruction.operands)
        num_bytes *= size if kind == "all-gather" else 1
        self._totals.collectives.append(Collective(kind=kind, num_bytes=num_bytes, group_size=size, count=times))


def _num_slices(instruction: _Instruction, shapes: dict[str, str]) -> int:
    """Of a gather, what it reads, and of a scatter, what it writes; 0 of anything else."""
    if instruction.opcode == "gather":
        sizes = re.search(r"slice_sizes=\{([\d,]*)\}", instruction.attributes)
        size = math.prod(int(n) for n in sizes[1].split(",") if n) if sizes else 1
        return _num_elements(instruction.shape) // max(1, size)
    if instruction.opcode == "scatter":
        window = re.search(r"update_window_dims=\{([\d,]*)\}", instruction.attributes)
        updates = _ARRAY.search(shapes.get(instruction.operands[-1], "")) if instruction.operands else None
        sizes = [int(n) for n in updates[2].split(",") if n.isdigit()] if updates else []
        inner = {int(n) for n in window[1].split(",") if n} if window else set()
        return math.prod(size for axis, size in enumerate(sizes) if axis not in inner)
    return 0


def _num_elements(shape: str) -> int:
    found = _ARRAY.search(shape)
    return math.prod(int(n) for n in found[2].split(",") if n.isdigit()) if found else 0


def _num_targets(attributes: str) -> int:
    """Slices that take part in a transfer, as its target names them: 2 of `{1,2}x{0:15}`."""
    found = re.search(r'_xla_megascale_target="\{([\d,:]*)\}', attributes)
    return max(2, len(found[1].split(","))) if found else 2


def _called(attributes: str, *names: str) -> list[str]:
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


def _group_size(attributes: str, num_partitions: int) -> int:
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
