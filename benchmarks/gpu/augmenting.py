"""Augmentation on the device: milliseconds of each part for a batch of 512, and of what is done otherwise for a GPU.

    python -m benchmarks.gpu.augmenting --out=DIR

The pixels are smooth pictures: counting the values of `equalize` waits where many pixels have the same.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp

from benchmarks.augmentation import PARTS, SIDE, traced_augmentation
from benchmarks.gpu.jax_results import jax_results
from benchmarks.gpu.record import Results, parser
from luab_jax.augmentation import chosen, products, tones

RAND_AUGMENT = "RandAugment"
QUICK = ("lighting", RAND_AUGMENT)


def all_at_once() -> AbstractContextManager[Any]:
    """Operations for chosen images are computed for all."""
    return mock.patch.object(chosen, "room_for", lambda chance, rows: rows)


def by_products() -> AbstractContextManager[Any]:
    """`equalize` counts and looks up as on a TPU."""
    return mock.patch.multiple(tones, histograms=products.histograms, looked_up=products.looked_up)


def variants(parts: tuple[str, ...]) -> dict[str, tuple[str, AbstractContextManager[Any]]]:
    """The part, and what is changed while it is traced."""
    return {
        **{part: (part, nullcontext()) for part in parts},
        f"{RAND_AUGMENT}, all images at once": (RAND_AUGMENT, all_at_once()),
        f"{RAND_AUGMENT}, equalize by products": (RAND_AUGMENT, by_products()),
    }


def drawn(batch: int) -> jax.Array:
    """Smooth pictures as uint8 [B, 224, 224, 3]."""
    coarse = jax.random.uniform(jax.random.key(1), (batch, 14, 14, 3))
    levels = 255 * jax.image.resize(coarse, (batch, SIDE, SIDE, 3), "cubic")
    return jnp.clip(levels, 0, 255).astype(jnp.uint8)


def milliseconds(program: Any, images: jax.Array, key: jax.Array, repeats: int) -> float:
    """Of one call, the least of three rounds, after a warm-up."""
    jax.block_until_ready(program(images, key))
    rounds = []
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready([program(images, key) for _ in range(repeats)][-1])
        rounds.append(1e3 * (time.perf_counter() - start) / repeats)
    return min(rounds)


def measure(results: Results, *, rehearse: bool) -> None:
    batch, repeats = (4, 1) if rehearse else (512, 5)
    lowered = {}
    for name, (part, changed) in variants(QUICK if rehearse else tuple(PARTS)).items():
        with changed:
            lowered[name] = traced_augmentation(PARTS[part], batch).lower()
    images, key = drawn(batch), jax.random.key(0)
    with ThreadPoolExecutor(1 if rehearse else 8) as pool:
        futures = {name: pool.submit(program.compile) for name, program in lowered.items()}
    for name, future in futures.items():
        try:
            results.add(name, part=name, batch=batch, ms=milliseconds(future.result(), images, key, repeats))
        except Exception as e:  # the other parts go on
            results.failed(name, e)


def main() -> None:
    arguments = parser(__doc__).parse_args()
    measure(jax_results(arguments.out, "augmentation"), rehearse=arguments.rehearse)


if __name__ == "__main__":
    main()
