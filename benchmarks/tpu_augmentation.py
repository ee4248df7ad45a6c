"""What the augmentation costs on a TPU, by its compiler: `python -m benchmarks.tpu_augmentation`.

Needs libtpu (extra `preflight`) and no TPU. Compiles the parts of the ViTs' augmentation alone, for 16 images a chip.
Milliseconds are cycles over the clock. Scattered reads and writes, for which the compiler states no cycles, are counted
beside them; one takes about 13 cycles in what libtpu 0.0.42.1 makes of a gather for v5e (829 bundles of instructions
for 64 of them, as `LIBTPU_INIT_ARGS="--xla_jf_dump_to=DIR --xla_jf_dump_llo_text=true"` shows).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from luab_jax.augmentation.config import AugmentationConfig
from luab_jax.errors import UserError
from luab_jax.preflight import hlo
from luab_jax.preflight.topology import Topology, find, parse

IMAGES_PER_CHIP, SIDE = 16, 224
PARTS = {
    "normalisation alone": AugmentationConfig(),
    "RandAugment": AugmentationConfig(rand_augment_magnitude=9.0),
    "erasing": AugmentationConfig(erasing=0.25),
    "mixup and cutmix": AugmentationConfig(mixup=0.8, cutmix=1.0, mix_draws=4),
    "all of the ViTs": AugmentationConfig(rand_augment_magnitude=9.0, erasing=0.25, mixup=0.8, cutmix=1.0, mix_draws=4),
}


def compiled(config: AugmentationConfig, topology: Topology) -> hlo.ProgramText:
    """The augmentation of a batch that is spread over a topology, and no network."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from luab_jax.augmentation.plan import make_plan
    from luab_jax.augmentation.render import render
    from luab_jax.augmentation.rows import pair_groups
    from luab_jax.config import MeshConfig
    from luab_jax.distributed import sharding

    mesh = sharding.make_mesh(MeshConfig(), topology.devices)
    rows = sharding.batch_sharding(mesh)
    count = IMAGES_PER_CHIP * mesh.size
    groups = pair_groups(count, processes=topology.num_hosts) if config.mixes else 1

    def augmented(images: Any, key: Any) -> Any:
        plan = make_plan(config, key, num_rows=count, side=SIDE, processes=topology.num_hosts)
        return render(plan, images, (0.5,) * 3, (0.25,) * 3, groups=groups, rows=rows).astype(jnp.bfloat16)

    images = jax.ShapeDtypeStruct((count, SIDE, SIDE, 3), np.uint8)
    step = jax.jit(augmented, in_shardings=(rows, sharding.replicated(mesh)), out_shardings=rows)
    return hlo.read(step.lower(images, jax.eval_shape(lambda: jax.random.key(0))).compile().as_text() or "")


def tpu(name: str) -> tuple[Topology, float]:
    """A topology and its clock in Hz. Raises `UserError`."""
    if parse(name) is None:
        raise UserError(f"--topology={name} is no TPU; name one, such as v5e:16x16, which need not be here")
    topology = find(name)
    assert topology.chip is not None
    if topology.chip.clock_hz is None:
        raise UserError(f"--topology={name}: nobody states the clock of {topology.chip.name}; v5e's is known")
    return topology, topology.chip.clock_hz


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topology", default="v5e:16x16")
    try:
        topology, clock_hz = tpu(parser.parse_args(argv).topology)
    except UserError as e:
        sys.exit(str(e))
    print(f"{topology.name}, {IMAGES_PER_CHIP} images a chip\n{'':22}{'cycles ms':>12}{'scattered':>14}")
    for name, config in PARTS.items():
        text = compiled(config, topology)
        if text.cycles is None:
            sys.exit(f"{name}: the compiler of {topology.name} states no cycles; try v5e:16x16")
        print(f"{name:22}{1e3 * text.cycles / clock_hz:12.2f}{text.scattered:14,}", flush=True)


if __name__ == "__main__":
    main()
