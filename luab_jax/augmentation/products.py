"""Exact histograms, table look-ups and gathers as one-hot matrix products.

For TPUs, which read and write scattered numbers one at a time, at about 13 cycles each (as libtpu 0.0.42.1 compiles it
for v5e). Their matrix unit is exact on these products: whole numbers up to 255 fit bfloat16, and of every sum
one term at most is not zero, or it counts.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

_BLOCK = 32
"""Side of the squares of new pixels that share their part of the old image."""
STEEPEST = 1.65
"""|∂/∂x| + |∂/∂y| of either old coordinate, at most: see `packed_at`. Two of RandAugment's operations reach 1.63."""


def histograms(values: Int[Array, "b n 3"]) -> Int[Array, "b 3 256"]:
    """How often each byte occurs in each channel: a product of upper and lower halves counts each pair of them."""
    high, low = _halves(values)
    counts = jnp.einsum("bcin,bcjn->bcij", high, low, preferred_element_type=jnp.float32)
    return counts.reshape(len(values), 3, 256).astype(jnp.int32)


def looked_up(values: Int[Array, "b n 3"], table: Int[Array, "b 3 256"]) -> Float[Array, "b n 3"]:
    """table[value] of each image and channel: the lower half picks a column of the table, the upper one of its rows."""
    high, low = _halves(values)
    grid = table.reshape(-1, 3, 16, 16).astype(jnp.bfloat16)
    column = jnp.einsum("bcij,bcjn->bcin", grid, low)
    return jnp.moveaxis(jnp.sum(column * high, axis=2, dtype=jnp.float32), 1, 2)


def _halves(values: Int[Array, "b n 3"]) -> tuple[Float[Array, "b 3 16 n"], Float[Array, "b 3 16 n"]]:
    """One-hot vectors of the upper and the lower four bits."""
    values = jnp.moveaxis(values, 2, 1)
    return jax.nn.one_hot(values >> 4, 16, axis=2, dtype=jnp.bfloat16), jax.nn.one_hot(
        values & 15, 16, axis=2, dtype=jnp.bfloat16
    )


def packed_at(
    images: Float[Array, "b h w 3"],
    rows: tuple[Int[Array, "b n"], Int[Array, "b n"]],
    columns: tuple[Int[Array, "b n"], Int[Array, "b n"]],
) -> list[UInt32[Array, "b n"]]:
    """Pixels of square images at (rows[i], columns[j]), for i and j of 0 and 1 in this order, three bytes in a number.

    n = h · w places, row by row, from affine maps cut to the image, whose slopes `STEEPEST` bounds: a square of them
    then comes from a small part of the old image. rows[1] is rows[0] or one more, columns likewise.
    """
    return jax.vmap(_packed_at)(images, rows, columns)


def _packed_at(
    image: Float[Array, "h w 3"],
    rows: tuple[Int[Array, " n"], Int[Array, " n"]],
    columns: tuple[Int[Array, " n"], Int[Array, " n"]],
) -> list[UInt32[Array, " n"]]:
    side = len(image)
    length = min(side, -(-int((_BLOCK - 1) * STEEPEST + 3) // 8) * 8)
    row_blocks, column_blocks = ([_blocks(places, side) for places in pair] for pair in (rows, columns))
    top, left = (jnp.minimum(jnp.min(blocks[0], -1), side - length) for blocks in (row_blocks, column_blocks))
    part = _parts(image, top, left, length)
    found = []
    for column in column_blocks:
        places = jnp.broadcast_to((column - left[:, None])[:, None], (len(column), 3, column.shape[1]))
        here = jax.nn.one_hot(places, length, axis=2, dtype=jnp.bfloat16)
        packed = jnp.einsum("kpcq,kcqn->kpn", part, here, preferred_element_type=jnp.float32)
        for row in row_blocks:
            there = jax.nn.one_hot(row - top[:, None], length, axis=1, dtype=jnp.bool_)
            found.append(_rows(jnp.sum(jnp.where(there, packed, 0.0), axis=1).astype(jnp.uint32), side))
    return [found[0], found[2], found[1], found[3]]


def _parts(image: Float[Array, "h w 3"], top: Int[Array, " k"], left: Int[Array, " k"], length: int) -> Array:
    """Squares of an image, [k, length, 3, length], in which a channel is 256 times what it is in the one before.

    So a sum over channels has all three, and is below 2^24.
    """
    pixels, steps = image.astype(jnp.bfloat16), jnp.arange(length)
    down, along = (jax.nn.one_hot(low[:, None] + steps, len(image), dtype=jnp.bfloat16) for low in (top, left))
    strips = jnp.einsum("kpr,rqc->kpcq", down, pixels * jnp.asarray([1.0, 256.0, 65536.0], jnp.bfloat16))
    return jnp.einsum("kpcq,kmq->kpcm", strips, along)


def _blocks(places: Int[Array, " n"], side: int) -> Int[Array, "k m"]:
    """Places by square blocks; those of blocks that reach over the border repeat the last ones."""
    count = -(-side // _BLOCK)
    grid = jnp.pad(places.reshape(side, side), ((0, count * _BLOCK - side),) * 2, mode="edge")
    return grid.reshape(count, _BLOCK, count, _BLOCK).swapaxes(1, 2).reshape(count**2, -1)


def _rows(blocks: Array, side: int) -> Array:
    """Back from `_blocks`."""
    count = -(-side // _BLOCK)
    grid = blocks.reshape(count, count, _BLOCK, _BLOCK).swapaxes(1, 2).reshape(count * _BLOCK, -1)
    return grid[:side, :side].reshape(-1)
