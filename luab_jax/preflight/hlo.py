"""What the text of an optimised HLO program says: cycles or kernels, loops, collectives.

Text in, numbers out; nothing here needs jax.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import NamedTuple

from luab_jax.preflight.gpu_kernels import GpuKernel, kernel_of
from luab_jax.preflight.hlo_text import (
    Instruction,
    called,
    groups,
    num_slices,
    num_targets,
    operation,
    read_computations,
    read_instructions,
    shape_bytes,
)

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
    groups: tuple[tuple[int, ...], ...] = field(default=(), compare=False, repr=False)
    """Numbers of the devices of each group; of a permutation, of each sender and its receiver."""

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
    kernels: tuple[GpuKernel, ...] = ()
    """What is executed, where the compiler states no cycles."""


class Timed(NamedTuple):
    """An instruction with cycles of its own."""

    instruction: Instruction
    cycles: int
    """Of all its executions in a step."""
    times: int


@dataclass(slots=True)
class _Totals:
    cycles: int = 0
    states_cycles: bool = False
    collectives: list[Collective] = field(default_factory=list)
    num_loops: int = 0
    num_unknown_loops: int = 0
    scattered: int = 0
    timed: list[Timed] = field(default_factory=list)
    kernels: list[GpuKernel] = field(default_factory=list)


_CYCLES = re.compile(r'"estimated_cycles":"?(\d+)')
_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"?(\d+)')
_EXPECTED = re.compile(r'op_name="[^"]*\babout_(\d+)_trips/while"')
"""What this package writes on a loop whose length depends on the data (`luab_jax.augmentation.chosen`)."""
_USUAL = "usual_branch"
"""The scope of the branch that nearly every batch takes (`luab_jax.augmentation.chosen.USUAL_SCOPE`)."""
_LESS_THAN = re.compile(r"^\s+ROOT .* compare\(%?[\w.\-]+, %?([\w.\-]+)\), direction=LT")
_CHANNEL = re.compile(r"channel_id=(\d+)")
_LAYOUT = re.compile(r"\{[^}]*\}")
_WHOLE = "all-reduce-scatter"
"""What a TPU's compiler calls a fusion that is a collective by itself: of an all-reduce, each device's own part."""


def read(text: str) -> ProgramText:
    """Reads `compiled.as_text()`. Whatever it does not know counts as nothing."""
    totals = _totals(text, read_computations(text))
    return ProgramText(
        cycles=totals.cycles if totals.states_cycles else None,
        collectives=tuple(totals.collectives),
        num_loops=totals.num_loops,
        num_unknown_loops=totals.num_unknown_loops,
        scattered=totals.scattered,
        kernels=() if totals.states_cycles else tuple(totals.kernels),
    )


def timed(text: str) -> tuple[list[Timed], dict[str, list[str]]]:
    """What has cycles, in the order of the walk, and the lines of each computation; the cycles are those of `read`."""
    computations = read_computations(text)
    return _totals(text, computations).timed, computations[0]


def _totals(text: str, computations: tuple[dict[str, list[str]], str | None]) -> _Totals:
    lines, entry = computations
    totals = _Totals()
    if entry is not None:
        partitions = math.prod(int(n) for n in re.findall(r"(?:num_partitions|replica_count)=(\d+)", text[:100_000]))
        _Walk(lines, totals, partitions).walk(entry, 1)
    return totals


class _Walk:
    """Follows what is executed, from the entry through loops, branches, calls and asynchronous parts."""

    def __init__(self, computations: dict[str, list[str]], totals: _Totals, num_partitions: int):
        self._computations, self._totals, self._num_partitions = computations, totals, num_partitions
        self._parts: set[tuple[str, ...]] = set()

    def walk(self, computation: str, times: int, *, fused: bool = False, is_part: bool = False) -> None:
        """Adds a computation that runs `times`; the parts of a fusion have no cycles beside the fusion's own.

        is_part: of a fusion that may be one of several parts of the same collective.
        """
        shapes: dict[str, str] = {}
        for instruction in read_instructions(self._computations.get(computation, [])):
            shapes[instruction.name] = instruction.shape
            cycles = None if fused else _CYCLES.search(instruction.attributes)
            if cycles:
                self._totals.states_cycles = True
                self._totals.cycles += times * int(cycles[1])
                self._totals.timed.append(Timed(instruction, times * int(cycles[1]), times))
            self._totals.scattered += times * num_slices(instruction, shapes)
            kind = instruction.opcode.removesuffix("-start")
            if kind == "send" and "xla_megascale_runtime" in instruction.attributes:
                sent = shape_bytes(shapes.get(instruction.operands[0], ""))
                slices = num_targets(instruction.attributes)
                self._totals.collectives.append(
                    Collective(kind=BETWEEN_SLICES, num_bytes=sent, group_size=slices, count=times)
                )
            elif kind in COLLECTIVES:
                self._add_collective(kind, instruction, shapes, times, is_part=is_part)
            else:
                self._descend(instruction, times, fused=fused, is_part=is_part)
                if not fused and not self._totals.states_cycles:
                    kernel = kernel_of(instruction, shapes, self._computations, times)
                    self._totals.kernels += [kernel] if kernel else []

    def _descend(self, instruction: Instruction, times: int, *, fused: bool, is_part: bool) -> None:
        attributes = instruction.attributes
        match instruction.opcode:
            case "while":
                trips = self._trips(attributes)
                self._totals.num_loops += 1
                self._totals.num_unknown_loops += trips is None
                for name in called(attributes, "body"):
                    self.walk(name, times * (1 if trips is None else trips), fused=fused, is_part=is_part)
            case "conditional":
                self.walk(self._branch(instruction), times, fused=fused, is_part=is_part)
            case "call":
                for name in called(attributes, "to_apply"):
                    self.walk(name, times, fused=fused, is_part=is_part)
            case "fusion":
                for name in called(attributes, "calls"):
                    self.walk(name, times, fused=True, is_part=not name.startswith(_WHOLE))
            case "async-start":
                for name in called(attributes, "calls"):
                    self.walk(name, times, fused=fused)
            case "call-start":  # on a TPU's SparseCore, beside the core whose cycles are counted
                for name in called(attributes, "to_apply"):
                    self.walk(name, times, fused=True)

    def _trips(self, attributes: str) -> int | None:
        """Of a loop, as the compiler states it, or the constant that its counter is compared with.

        A TPU's compiler states nothing of a loop whose constants it moved; jax's own loops count from 0 by 1. Of a loop
        as long as the data make it, what the program expects.
        """
        if found := _TRIP_COUNT.search(attributes):
            return int(found[1])
        for name in called(attributes, "condition"):
            lines = self._computations.get(name, [])
            bounds = {found[1] for line in lines if (found := _LESS_THAN.match(line))}
            for line in lines:
                constant = re.match(r"\s+%?([\w.\-]+) = [su]32\S* constant\((\d+)\)", line)
                if constant and constant[1] in bounds:
                    return int(constant[2])
        expected = _EXPECTED.search(attributes)
        return int(expected[1]) if expected else None

    def _branch(self, conditional: Instruction) -> str:
        """The one that the program calls usual, or that with most cycles, or that moves most: what a step may take."""
        branches = called(conditional.attributes, "branch_computations", "true_computation", "false_computation")
        scope = re.compile(re.escape(operation(conditional.attributes)) + rf"/branch_\d+_fun/{_USUAL}\b")

        def weight(name: str) -> tuple[bool, int, int]:
            totals = _Totals()
            _Walk(self._computations, totals, self._num_partitions).walk(name, 1)
            is_usual = any(scope.search(line) for line in self._computations.get(name, []))
            return is_usual, totals.cycles, sum(kernel.times * kernel.num_bytes for kernel in totals.kernels)

        return max(branches, key=weight, default="")

    def _add_collective(
        self, kind: str, instruction: Instruction, shapes: dict[str, str], times: int, *, is_part: bool
    ) -> None:
        """A TPU's asynchronous collective counts once, by its channel and operands: it is in several fusions.

        A collective outside such a part always counts, because all collectives of one `shard_map` share a channel.
        """
        operands = tuple(shapes.get(name, "") for name in instruction.operands)
        channel = _CHANNEL.search(instruction.attributes)
        if channel and is_part:
            part = (channel[1], kind, *(_LAYOUT.sub("", shape) for shape in operands))
            if part in self._parts:
                return
            self._parts.add(part)
        members = groups(instruction.attributes, self._num_partitions)
        size = max(map(len, members), default=1)
        num_bytes = sum(map(shape_bytes, operands)) * (size if kind == "all-gather" else 1)
        self._totals.collectives.append(
            Collective(kind=kind, num_bytes=num_bytes, group_size=size, count=times, groups=members)
        )
