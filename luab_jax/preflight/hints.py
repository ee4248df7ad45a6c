"""What would fit, where a step does not: by the memory of its state, and activations in proportion to the batch."""

from __future__ import annotations

import math
import re

from luab_jax.config import Config
from luab_jax.models.config import Remat
from luab_jax.preflight.chips import Chip
from luab_jax.preflight.facts import Facts
from luab_jax.preflight.topology import Topology

_USABLE = 0.95
"""Of a device's memory: the rest is the program's, the runtime's and fragments."""
OPTIMIZER_PARTS = ("optimiser state", "moving average")
"""Of the state, what `config.mesh.split_optimizer` splits."""
_WORTH_SPLITTING = 0.1
"""The share of the state from which on that is proposed."""
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def needed_bytes(facts: Facts) -> int | None:
    """Per device; of a refused program as the compiler's message says, which may name no number."""
    if facts.memory is not None:
        return facts.memory.allocated
    found = re.search(r"(?:[Uu]sed |HLO temporaries \()([\d.]+)([KMGT]?)", facts.refused)
    return int(float(found[1]) * _UNITS[found[2]]) if found else None


def hints(config: Config, topology: Topology, facts: Facts, state: dict[str, int]) -> tuple[str, ...]:
    """Changes that should make a step fit, best first. Proposals: only another preflight knows.

    state: bytes per device of each part (`experiment.state_bytes`).
    """
    state_bytes = sum(state.values())
    needed, memory = needed_bytes(facts), topology.memory_bytes
    found: list[str] = []
    if needed is not None and memory is not None:
        room, rest = _USABLE * memory - state_bytes, max(1, needed - state_bytes)
        found += _of_batch(config, topology, room / rest)
    if config.model.remat is not Remat.BLOCKS:
        found.append("compute activations anew in the backward pass: --config.model.remat=blocks, a third more work")
    if memory is not None and state_bytes > memory / 4:
        found += of_state(config, state, len(topology.devices))
    return tuple(found)


def of_state(config: Config, state: dict[str, int], fsdp: int) -> list[str]:
    """Where the state is too large: what to split, the parameters into `fsdp` parts."""
    if config.mesh.fsdp >= fsdp:
        return []
    split = config.mesh.split_optimizer
    found: list[str] = []
    if not split and sum(state.get(name, 0) for name in OPTIMIZER_PARTS) > _WORTH_SPLITTING * sum(state.values()):
        found.append("split optimiser state and moving average: --config.mesh.split_optimizer=true")
        split = True
    what = "parameters as well" if split else "the state"
    return [*found, f"split {what}: --config.mesh.fsdp={fsdp}"]


def _of_batch(config: Config, topology: Topology, share: float) -> list[str]:
    """Where the activations may be `share` of what they are."""
    devices = len(topology.devices)
    parts = config.accumulation_steps
    per_device = config.batch_size // devices
    fitting = int(per_device * share)
    found: list[str] = []
    if 0 < share < 1:
        steps = next((n for n in range(parts + 1, per_device + 1) if per_device % n == 0 and n * share >= parts), None)
        if steps:
            found.append(f"the same batch in parts: --config.accumulation_steps={steps}")
        if fitting:
            found.append(f"a smaller batch: --config.batch_size={fitting * devices} ({fitting} images per device)")
        larger = _larger(topology.chip, devices, config.batch_size, share)
        if larger:
            found.append(f"more chips: --topology={larger}")
    return found


def _larger(chip: Chip | None, devices: int, batch_size: int, share: float) -> str | None:
    """The smallest slice on which each device's part of the batch is small enough."""
    if chip is None:
        return None
    for shape in chip.topologies:
        count = chip.devices_per_chip * math.prod(int(side) for side in shape.split("x"))
        if count >= devices / share and not batch_size % count:
            return f"{chip.name}:{shape}"
    return None
