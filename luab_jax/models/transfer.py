"""Weights of one network as the beginning of another: other resolution, other classes, same backbone."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from luab_jax.models.config import ModelConfig, filled_preset
from luab_jax.models.functional import BatchStats, Model, Params, param_name

POSITIONS = "position_embed"


class Backbone(NamedTuple):
    """A backbone that fits a model, numpy float32."""

    params: dict[str, Any]
    batch_stats: dict[str, Any]
    resampled: tuple[int, int] | None
    """Patches along a side before and after, where position embeddings were interpolated."""


def patches_per_side(num_tokens: int) -> int:
    """Of a square grid, behind a class token or alone; raises ValueError for any other number of tokens."""
    for patches in (num_tokens - 1, num_tokens):
        side = math.isqrt(max(0, patches))
        if num_tokens > 1 and side * side == patches:
            return side
    raise ValueError(
        f"{num_tokens} position embeddings are neither those of a square grid nor a class token's and those of one"
    )


def resample_positions(
    positions: Float[Array, "1 n c"] | Float[np.ndarray, "1 n c"], side: int
) -> Float[np.ndarray, "1 m c"]:
    """Embeddings of a square grid, and of a class token before it where there is one, for `side` x `side` patches.

    Bicubic (Keys, a = -0.5) and antialiased, the class token untouched: timm's `resample_abs_pos_embed`.
    """
    old = patches_per_side(positions.shape[1])
    extra, channels = positions.shape[1] - old * old, positions.shape[2]
    grid = jnp.asarray(positions[:, extra:], jnp.float32).reshape(old, old, channels)
    grid = jax.image.resize(grid, (side, side, channels), "cubic", antialias=True)
    resampled = np.asarray(grid).reshape(1, side * side, channels)
    return np.concatenate([np.asarray(positions[:, :extra]), resampled], axis=1)


def fit_backbone(model: Model, params: Params, batch_stats: BatchStats) -> Backbone:
    """The backbone of `params` for `model`, position embeddings interpolated where the number of patches differs.

    Raises ValueError that names what differs if it is another architecture.
    """
    resampled = None
    backbone = jax.device_get(params["backbone"])
    wanted, wanted_stats = model.abstract()
    positions = wanted["backbone"].get(POSITIONS)
    if positions is not None and POSITIONS in backbone:
        sides = patches_per_side(backbone[POSITIONS].shape[1]), patches_per_side(positions.shape[1])
        if sides[0] != sides[1] and backbone[POSITIONS].shape[2] == positions.shape[2]:
            resampled = sides
            backbone = backbone | {POSITIONS: resample_positions(backbone[POSITIONS], sides[1])}
    stats = jax.device_get(batch_stats.get("backbone", {}))
    _check_same({"params": backbone, "stats": stats}, _backbone_of(wanted, wanted_stats))
    return Backbone(backbone, stats, resampled)


def _backbone_of(params: Params, batch_stats: BatchStats) -> dict[str, Any]:
    return {"params": params["backbone"], "stats": batch_stats.get("backbone", {})}


def _check_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    a, b = shapes(found), shapes(wanted)
    if a == b:
        return
    differing = [name for name in dict.fromkeys([*b, *a]) if a.get(name) != b.get(name)]
    listed = "; ".join(
        f"{name} {a.get(name, 'missing')} where {b.get(name, 'none')} is needed" for name in differing[:4]
    )
    more = f"; and {len(differing) - 4} more" if len(differing) > 4 else ""
    raise ValueError(f"{len(differing)} arrays of the backbone differ: {listed}{more}")


def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Name to shape of every array."""
    return {param_name(path): leaf.shape for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def num_heads(config: ModelConfig) -> int | None:
    """Attention heads of a ViT, which no shape tells; None for a network without."""
    return getattr(filled_preset(config), "num_heads", None)
