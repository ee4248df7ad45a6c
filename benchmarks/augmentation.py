"""What the augmentation on the device costs: `python -m benchmarks.augmentation`.

Per image of 224 px: milliseconds on this CPU, the least of some runs of the compiled function on a batch, and FLOPs.
Then, for each recipe, the share of the whole training step's FLOPs, from its config with augmentation and without.
FLOPs are the compiler's, before compilation, of the program for a GPU, which has no loops over selected images: the
body of a loop would count once. `equalize` counts as where too many images are selected, that is for all of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from luab_jax.augmentation.config import AugmentationConfig
from luab_jax.augmentation.plan import make_plan
from luab_jax.augmentation.render import render
from luab_jax.byproducts.kinds import TargetSettings
from luab_jax.config import Config
from luab_jax.data.transforms import Preprocessing
from luab_jax.training import program as program_lib
from luab_jax.training.program import make_checked_mesh, make_program

SIDE = 224
PARTS = {
    "normalisation alone": AugmentationConfig(),
    "colour jitter": AugmentationConfig(colour_jitter=0.4),
    "lighting": AugmentationConfig(lighting=0.1),
    "RandAugment": AugmentationConfig(rand_augment_magnitude=9.0),
    "erasing": AugmentationConfig(erasing=0.25),
    "mixup and cutmix": AugmentationConfig(mixup=0.8, cutmix=1.0),
    "all of the ResNets": AugmentationConfig(colour_jitter=0.4, lighting=0.1),
    "all of the ViTs": AugmentationConfig(rand_augment_magnitude=9.0, erasing=0.25, mixup=0.8, cutmix=1.0),
}
RECIPES = ("resnet18", "resnet50", "vit_ti", "vit_s", "vit_b")


def measure(config: AugmentationConfig, batch_size: int, repeats: int) -> tuple[float, float]:
    """Milliseconds and millions of FLOPs per image."""
    images = np.random.default_rng(0).integers(0, 256, (batch_size, SIDE, SIDE, 3), np.uint8)
    key = jax.random.key(0)
    traced = traced_augmentation(config, batch_size)
    compiled = traced.lower().compile()
    seconds = min(_timed(lambda: compiled(images, key)) for _ in range(repeats))
    return 1e3 * seconds / batch_size, count_flops(traced) / batch_size / 1e6


def traced_augmentation(config: AugmentationConfig, batch_size: int) -> jax.stages.Traced:
    preprocessing = Preprocessing(image_size=SIDE)

    def augmented(images: jax.Array, key: jax.Array) -> jax.Array:
        plan = make_plan(config, key, num_rows=batch_size, side=SIDE)
        return render(plan, images, preprocessing.mean, preprocessing.std)

    images = jax.ShapeDtypeStruct((batch_size, SIDE, SIDE, 3), np.uint8)
    return jax.jit(augmented).trace(images, jax.eval_shape(lambda: jax.random.key(0)))


def count_flops(traced: jax.stages.Traced) -> float:
    """Of the program for a GPU, before it is optimised."""
    analysis: Any = traced.lower(lowering_platforms=("cuda",)).cost_analysis()
    return analysis["flops"]


def _timed(call: Callable[[], jax.Array]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def step_flops(config: Config, batch_size: int) -> float:
    """Of one training step per image."""
    config = dataclasses.replace(config, batch_size=batch_size)
    mesh = make_checked_mesh(config, jax.devices()[:1])
    program = make_program(config, mesh, num_classes=1000, num_examples=1_281_167, target_settings=TargetSettings())
    return program_lib.count_flops(program) / batch_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=8)
    arguments = parser.parse_args()
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}\n{'':22}{'ms/image':>10}{'MFLOP/image':>14}")
    for name, part in PARTS.items():
        milliseconds, flops = measure(part, arguments.batch_size, arguments.repeats)
        print(f"{name:22}{milliseconds:10.2f}{flops:14.1f}", flush=True)
    print(f"\n{'':22}{'GFLOP/image':>14}{'share of the augmentation':>28}")
    for name in RECIPES:
        config: Config = importlib.import_module(f"configs.{name}").get_config()
        whole = step_flops(config, arguments.batch_size)
        config.augmentation.enabled = False
        plain = step_flops(config, arguments.batch_size)
        print(f"{name:22}{whole / 1e9:14.2f}{(whole - plain) / whole:28.2%}", flush=True)


if __name__ == "__main__":
    main()
