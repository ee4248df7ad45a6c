"""What stands on the pooled features: the classifier g and the byproduct head h.

Both multiply in the compute type and hand out float32: a softmax or a coordinate deserves more than
8 bits.
"""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


def _cast_product(arrays: Any, /, *, dtype: Any = None, inexact: bool = True) -> Any:
    """Casts the operands of the product; the bias stays float32, as the sum it is added to."""
    del inexact
    inputs, kernel, bias = arrays
    return inputs.astype(dtype), kernel.astype(dtype), bias


def _linear(inputs: int, outputs: int, *, stddev: float, dtype: jnp.dtype, rngs) -> nnx.Linear:
    return nnx.Linear(
        inputs,
        outputs,
        dtype=dtype,
        preferred_element_type=jnp.float32,
        promote_dtype=_cast_product,
        kernel_init=nnx.initializers.normal(stddev=stddev),
        rngs=rngs,
    )


def classifier(num_features: int, num_classes: int, *, stddev: float, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.Linear:
    """g: features [B, F] to logits [B, C] in float32.

    stddev: of the initial weights; the bias starts at 0.
    """
    return _linear(num_features, num_classes, stddev=stddev, dtype=dtype, rngs=rngs)


class ByproductHead(nnx.Module):
    """h: features [B, F] to predicted byproducts [B, K, D] in float32, linear.

    K: byproducts per image; D: numbers per byproduct (2 for a point: x, y).
    """

    def __init__(
        self,
        num_features: int,
        shape: tuple[int, int],
        *,
        stddev: float,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.shape = shape
        self.linear = _linear(num_features, shape[0] * shape[1], stddev=stddev, dtype=dtype, rngs=rngs)

    def __call__(self, features: Float[Array, "b f"]) -> Float[Array, "b k d"]:
        return self.linear(features).reshape(features.shape[0], *self.shape)
