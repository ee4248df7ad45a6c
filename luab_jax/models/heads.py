"""What stands on the pooled features: the classifier g and the byproduct head h.

Both multiply in the compute type and hand out float32: a softmax or a coordinate deserves more than
8 bits.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from luab_jax.models.config import Init
from luab_jax.models.layers import gelu, torch_uniform


def _cast_product(arrays: Any, /, *, dtype: Any = None, inexact: bool = True) -> Any:
    """Casts the operands of the product; the bias stays float32, as the sum it is added to."""
    del inexact
    inputs, kernel, bias = arrays
    return inputs.astype(dtype), kernel.astype(dtype), bias


def _linear(
    inputs: int, outputs: int, *, stddev: float, dtype: jnp.dtype, rngs, init: Init = Init.NORMAL
) -> nnx.Linear:
    is_torchs = init is Init.TORCH
    return nnx.Linear(
        inputs,
        outputs,
        dtype=dtype,
        preferred_element_type=jnp.float32,
        promote_dtype=_cast_product,
        rngs=rngs,
        kernel_init=torch_uniform(inputs) if is_torchs else nnx.initializers.normal(stddev=stddev),
        bias_init=torch_uniform(inputs) if is_torchs else nnx.initializers.zeros_init(),
    )


def classifier(
    num_features: int,
    num_classes: int,
    *,
    stddev: float,
    dtype: jnp.dtype,
    rngs: nnx.Rngs,
    init: Init = Init.NORMAL,
) -> nnx.Linear:
    """g: features [B, F] to logits [B, C] in float32.

    stddev: of the initial weights for `init=NORMAL`, where the bias starts at 0.
    """
    return _linear(num_features, num_classes, stddev=stddev, dtype=dtype, rngs=rngs, init=init)


def hidden_stddev(num_inputs: int) -> float:
    """He et al. 2015 (arXiv:1502.01852): keeps the scale of the features, which the last layer's 0.01 would not."""
    return (2.0 / num_inputs) ** 0.5


class ByproductHead(nnx.Module):
    """h: features [B, F] to predicted byproducts [B, K, D] in float32: linear, or with one hidden layer.

    K: byproducts per image; D: numbers per byproduct (2 for a point: x, y).
    hidden: units of a layer before, whose GELU is exact; None means there is none.
    A map of features is read as one long vector, all positions in their places.
    """

    def __init__(
        self,
        num_features: int,
        shape: tuple[int, int],
        *,
        hidden: int | None,
        stddev: float,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.shape = shape
        if hidden is None:
            self.hidden = nnx.data(None)
        else:
            self.hidden = _linear(num_features, hidden, stddev=hidden_stddev(num_features), dtype=dtype, rngs=rngs)
            num_features = hidden
        self.linear = _linear(num_features, shape[0] * shape[1], stddev=stddev, dtype=dtype, rngs=rngs)

    def __call__(self, features: Float[Array, "b f"] | Float[Array, "b i j f"]) -> Float[Array, "b k d"]:
        features = features.reshape(features.shape[0], -1)
        if self.hidden is not None:
            features = gelu(self.hidden(features))
        return self.linear(features).reshape(features.shape[0], *self.shape)


class DenseHead(nnx.Module):
    """A map of features [B, I, J, F] to K heat maps [B, K, I·J], row by row, in float32, before their softmax.

    The same layers at every position, so a map of any size will do.
    """

    def __init__(
        self,
        num_features: int,
        num_maps: int,
        *,
        hidden: int | None,
        stddev: float,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        if hidden is None:
            self.hidden = nnx.data(None)
        else:
            self.hidden = _linear(num_features, hidden, stddev=hidden_stddev(num_features), dtype=dtype, rngs=rngs)
            num_features = hidden
        self.linear = _linear(num_features, num_maps, stddev=stddev, dtype=dtype, rngs=rngs)

    def __call__(self, features: Float[Array, "b i j f"]) -> Float[Array, "b k d"]:
        if self.hidden is not None:
            features = gelu(self.hidden(features))
        scores = self.linear(features)
        return scores.reshape(scores.shape[0], -1, scores.shape[-1]).swapaxes(1, 2)


def map_side(cells: int) -> int:
    """Of a square map of so many cells."""
    side = math.isqrt(cells)
    if side * side != cells:
        raise ValueError(f"{cells} cells are no square map.")
    return side


def cell_centres(side: int) -> Float[np.ndarray, "cells 2"]:
    """(x, y) of every cell's middle, row by row, in fractions of the map."""
    at = (np.arange(side, dtype=np.float32) + 0.5) / side
    return np.stack([np.tile(at, side), np.repeat(at, side)], axis=-1)


def heat_map_points(scores: Float[Array, "*b d"]) -> Float[Array, "*b 2"]:
    """The point that a heat map stands for: the mean place under its softmax.

    The place of the least expected squared distance, exact between cells (Sun et al., Integral human pose regression,
    ECCV 2018), where the highest cell would be a multiple of the cell's side.
    """
    return jax.nn.softmax(scores, axis=-1) @ jnp.asarray(cell_centres(map_side(scores.shape[-1])))
