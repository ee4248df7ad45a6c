"""What a dense head learns: a place as shares of the cells of a map, with sum 1.

A point becomes a Gaussian around it, a box the share of its area in each cell, a heat map its shares on the head's own
grid. The loss is the divergence from the softmax of the head's scores, the cross-entropy over cells less a constant.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from luab_jax.byproducts.kinds import TargetKind
from luab_jax.models.heads import cell_centres, map_side


def heat_map_of(kind: TargetKind, targets: Float[Array, "*b d"], cells: int, sigma: float) -> Float[Array, "*b cells"]:
    """A target in fractions of the crop as shares of the cells of a square map, row by row.

    sigma: standard deviation of a point's Gaussian, in fractions of the crop. A box without an area has shares of 0.
    """
    side = map_side(cells)
    match kind:
        case TargetKind.BOX:
            return _occupancy(targets, side)
        case TargetKind.DISTRIBUTION:
            return _resampled(targets, side)
        case _:
            squares = jnp.sum(jnp.square(targets[..., None, :] - cell_centres(side)), axis=-1)
            return jax.nn.softmax(-squares / (2 * sigma**2), axis=-1)


def _occupancy(boxes: Float[Array, "*b 4"], side: int) -> Float[Array, "*b cells"]:
    edges = np.arange(side + 1, dtype=np.float32) / side

    def covered(low: Array, high: Array) -> Array:
        return jnp.clip(jnp.minimum(high, edges[1:]) - jnp.maximum(low, edges[:-1]), 0.0)

    across = covered(boxes[..., 0:1], boxes[..., 2:3])
    down = covered(boxes[..., 1:2], boxes[..., 3:4])
    areas = (down[..., :, None] * across[..., None, :]).reshape(*boxes.shape[:-1], side * side)
    total = jnp.sum(areas, axis=-1, keepdims=True)
    return areas / jnp.where(total > 0, total, 1.0)


def _resampled(maps: Float[Array, "*b d"], side: int) -> Float[Array, "*b cells"]:
    """Every cell's share goes to the cells that lie on it, by area."""
    old = map_side(maps.shape[-1])
    if old == side:
        return maps
    share = _shares(old, side)
    grid = maps.reshape(*maps.shape[:-1], old, old)
    return jnp.einsum("ia,jb,...ab->...ij", share, share, grid).reshape(*maps.shape[:-1], side * side)


def _shares(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Which part of each of `old` equal pieces of a line lies in each of `new`."""
    from_, to = np.arange(old + 1) / old, np.arange(new + 1) / new
    shared = np.minimum(to[1:, None], from_[None, 1:]) - np.maximum(to[:-1, None], from_[None, :-1])
    return (np.clip(shared, 0, None) * old).astype(np.float32)
