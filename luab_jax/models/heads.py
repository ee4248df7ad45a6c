"""What stands on the pooled features: the classifier g and the byproduct head h.

Both multiply in the compute type and hand out float32: a softmax or a coordinate deserves more than
8 bits.
"""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from luab_jax.models.layers import gelu


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


def hidden_stddev(num_inputs: int) -> float:
    """He et al. 2015 (arXiv:1502.01852): keeps the scale of the features, which the last layer's 0.01 would not."""
    return (2.0 / num_inputs) ** 0.5


class ByproductHead(nnx.Module):
    """h: features [B, F] to predicted byproducts [B, K, D] in float32: linear, or with one hidden layer.

    K: byproducts per image; D: numbers per byproduct (2 for a point: x, y).
    hidden: units of a layer before, whose GELU is exact; None means there is none.
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

    def __call__(self, features: Float[Array, "b f"]) -> Float[Array, "b k d"]:
        if self.hidden is not None:
            features = gelu(self.hidden(features))
        return self.linear(features).reshape(features.shape[0], *self.shape)
