"""Applies an operation to selected images without computing it for the rest.

On a CPU and a TPU by a loop over the chosen images, whose number only the running program knows. A GPU would have to
ask its host before every turn of such a loop. It computes all images and selects; or, where an operation is worth it,
it gathers a fixed number of images that is almost never exceeded, and its host checks once whether more were selected:
then the operation is computed for all.

A loop must see the images of one device: see `luab_jax.models.rows`. It is then as long as the device has chosen
images, and a step waits for the device with most of them; how many those usually are is written into the program, for
preflight.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from luab_jax.augmentation.colour import Images

Operation = Callable[..., Images]
USUAL_SCOPE = "usual_branch"
"""The name of a scope around the branch that nearly every batch takes, by which `luab_jax.preflight.hlo` knows it."""


def for_chosen(
    images: Images,
    chosen: Bool[Array, " b"],
    operation: Operation,
    arguments: Any = (),
    *,
    chance: float = 1.0,
    devices: int = 1,
    gathers: bool = False,
) -> Images:
    """operation(images, *arguments) where chosen, the images elsewhere.

    operation: for any number of images; of its arguments, trees of arrays, every row belongs to an image.
    chance: of an image to be chosen. devices: that take a share of the batch; used only for preflight's estimate.
    gathers: whether a GPU gathers the chosen images, which costs it a copy of all: for operations that cost more.
    """
    room = room_for(chance, len(images))
    few = gathers and 2 * room <= len(images)
    on_gpu = functools.partial(few_at_once, operation, room) if few else _all_at_once(operation)
    looped = functools.partial(_one_by_one, operation, loop_scope(expected_maximum(chance, len(images), devices)))
    return jax.lax.platform_dependent(images, chosen, arguments, cuda=on_gpu, rocm=on_gpu, default=looped)


def _all_at_once(operation: Operation) -> Operation:
    def run(images: Images, chosen: Bool[Array, " b"], arguments: Any) -> Images:
        return jnp.where(chosen[:, None, None, None], operation(images, *arguments), images)

    return run


def few_at_once(operation: Operation, room: int, images: Images, chosen: Bool[Array, " b"], arguments: Any) -> Images:
    """Gathers as many images as there is room for, the chosen ones among them; computes all if more are chosen."""

    @jax.named_scope(USUAL_SCOPE)
    def few(images: Images, chosen: Bool[Array, " b"], arguments: Any) -> Images:
        places = jnp.flatnonzero(chosen, size=room, fill_value=len(images))
        own = jax.tree.map(lambda rows: rows.at[places].get(mode="clip"), (images, *arguments))
        return images.at[places].set(operation(*own), mode="drop")

    return jax.lax.cond(jnp.sum(chosen) > room, _all_at_once(operation), few, images, chosen, arguments)


def _one_by_one(operation: Operation, scope: str, images: Images, chosen: Bool[Array, " b"], arguments: Any) -> Images:
    places = jnp.argsort(~chosen, stable=True)

    def change(number: Array, images: Images) -> Images:
        def own(rows: Array) -> Array:
            return jax.lax.dynamic_slice_in_dim(rows, places[number], 1)

        changed = operation(own(images), *jax.tree.map(own, arguments))
        return jax.lax.dynamic_update_slice_in_dim(images, changed, places[number], 0)

    with jax.named_scope(scope):
        return jax.lax.fori_loop(0, jnp.sum(chosen), change, images)


def room_for(chance: float, rows: int) -> int:
    """How many images to gather of so many: more are selected in fewer than one batch in 10^8."""
    mean = chance * rows
    return min(rows, math.ceil(mean + 6.0 * math.sqrt(mean) + 6.0))


def loop_scope(expected_trips: int) -> str:
    """The name of a scope around a loop of unknown length, by which `luab_jax.preflight.hlo` counts it."""
    return f"about_{expected_trips}_trips"


def expected_maximum(chance: float, rows: int, devices: int) -> int:
    """Expected number of selected images on the busiest device, of `rows` on each, rounded to the nearest integer.

    Images are selected independently, each with `chance`. The number is part of what preflight caches, but the name of
    a scope is not part of any cache key: a change here must raise `_FORMAT` in `luab_jax.preflight.facts`.
    """
    if chance <= 0.0 or chance >= 1.0:
        return rows if chance > 0.0 else 0
    # In logarithms: binomial coefficients exceed a float from 1,030 rows on.
    chosen, other = math.log(chance), math.log1p(-chance)
    at_least, expected = 0.0, 0.0
    for count in range(rows, 0, -1):
        ways = math.lgamma(rows + 1) - math.lgamma(count + 1) - math.lgamma(rows - count + 1)
        at_least += math.exp(ways + count * chosen + (rows - count) * other)
        expected += 1.0 - (1.0 - min(at_least, 1.0)) ** devices
    return round(expected)
