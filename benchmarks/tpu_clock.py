"""How many operations the TPU compiler counts per cycle of a large matrix product.

    python -m benchmarks.tpu_clock        (needs libtpu, extra `preflight`; no TPU)

A product of two 8,192² matrices in bfloat16 is bound by the matrix units. With a public clock, operations per second
over peak is the share of peak that the compiler expects. Where no clock is public, `chips.py` takes the one that gives
the same share.
"""

from __future__ import annotations

import sys
from typing import Any

from luab_jax.errors import UserError
from luab_jax.preflight import hlo
from luab_jax.preflight.chips import CHIPS
from luab_jax.preflight.topology import find

SIDE = 8192
NAMES = ("v5e:2x2", "v5p:2x2x1", "v6e:2x2", "tpu7x:2x2x1")


def operations_per_cycle(device: Any) -> float:
    """Of one product, compiled for one device."""
    import jax
    import jax.numpy as jnp

    matrix = jax.ShapeDtypeStruct((SIDE, SIDE), jnp.bfloat16, sharding=jax.sharding.SingleDeviceSharding(device))
    text = jax.jit(jnp.matmul).lower(matrix, matrix).compile().as_text()
    cycles = hlo.read(text or "").cycles
    assert cycles, "this compiler states no cycles"
    return 2 * SIDE**3 / cycles


def main() -> int:
    """Prints one line per chip."""
    print("| chip | operations per cycle | clock | share of peak |\n|---|---|---|---|")
    for name in NAMES:
        try:
            topology = find(name)
        except UserError as e:
            sys.exit(str(e))
        chip = CHIPS[name.partition(":")[0]]
        found = operations_per_cycle(topology.devices[0])
        assert chip.clock_hz is not None
        clock = f"{chip.clock_hz / 1e9:.2f} GHz, {'by this share' if chip.clock_is_calibrated else 'public'}"
        print(f"| {chip.name} | {found:,.0f} | {clock} | {found * chip.clock_hz / chip.peak_flops:.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
