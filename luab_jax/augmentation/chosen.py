"""An operation on some images of a batch, at the cost of those alone.

On a CPU and a TPU by a loop over the chosen images, whose number only the running program knows. A GPU would have to
ask its host before every turn of such a loop, so it computes all images and selects.

A loop must see the images of one device: see `on_each_device`. It is then as long as the device has chosen images, and
a step waits for the device with most of them; how many those usually are is written into the program, for preflight.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jaxtyping import Array, Bool

from luab_jax.augmentation.colour import Images

T = TypeVar("T")


def for_chosen(
    images: Images,
    chosen: Bool[Array, " b"],
    operation: Callable[..., Images],
    arguments: Any = (),
    *,
    about: int | None = None,
) -> Images:
    """operation(images, *arguments) where chosen, the images elsewhere.

    operation: for any number of images; of its arguments, trees of arrays, every row belongs to an image.
    about: so many are chosen on the device that has most of them, usually.
    """

    def all_at_once(images: Images, chosen: Bool[Array, " b"], arguments: Any) -> Images:
        return jnp.where(chosen[:, None, None, None], operation(images, *arguments), images)

    def one_by_one(images: Images, chosen: Bool[Array, " b"], arguments: Any) -> Images:
        places = jnp.argsort(~chosen, stable=True)

        def change(number: Array, images: Images) -> Images:
            def own(rows: Array) -> Array:
                return jax.lax.dynamic_slice_in_dim(rows, places[number], 1)

            changed = operation(own(images), *jax.tree.map(own, arguments))
            return jax.lax.dynamic_update_slice_in_dim(images, changed, places[number], 0)

        with jax.named_scope("chosen" if about is None else expected_trips(about)):
            return jax.lax.fori_loop(0, jnp.sum(chosen), change, images)

    return jax.lax.platform_dependent(images, chosen, arguments, cuda=all_at_once, rocm=all_at_once, default=one_by_one)


def expected_trips(count: int) -> str:
    """The name of a scope around a loop of unknown length, by which `luab_jax.preflight.hlo` counts it."""
    return f"about_{count}_trips"


def usual_most(chance: float, rows: int, devices: int) -> int:
    """How many of `rows` images are chosen on the device with most of them: the expectation, to the next whole number.

    Images are chosen independently, each with `chance`.
    """
    below, expected = 0.0, 0.0
    for count in range(rows):
        below += math.comb(rows, count) * chance**count * (1.0 - chance) ** (rows - count)
        expected += 1.0 - min(below, 1.0) ** devices
    return round(expected)


def on_each_device(function: Callable[..., T], rows: NamedSharding | None, *arguments: Any) -> T:
    """function(*arguments), by every device for its own rows; `rows` is how they are spread, `None` for one device."""
    if rows is None or rows.mesh.size == 1:
        return function(*arguments)
    return jax.shard_map(
        function, mesh=rows.mesh, in_specs=(rows.spec,) * len(arguments), out_specs=rows.spec, check_vma=False
    )(*arguments)
