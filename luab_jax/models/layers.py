"""Layers that both families share: normalisation with float32 statistics, stochastic depth."""

import functools
from typing import Any

import jax.numpy as jnp
from flax import nnx


def keep_dtypes(arrays: Any, /, *, dtype: Any = None, inexact: bool = True) -> Any:
    """Leaves every array in its own type.

    Handed to a normalisation layer instead of its default, which casts scale, bias and the running
    statistics to the compute type: bfloat16 keeps only 8 bits of a running mean. Float32 statistics
    make the arithmetic float32, and only the result is cast.
    """
    del dtype, inexact
    return arrays


# Momentum: torch's default 0.1 is the weight of the new batch, 0.9 here is the weight of the past.
BatchNorm = functools.partial(
    nnx.BatchNorm, momentum=0.9, epsilon=1e-5, promote_dtype=keep_dtypes, param_dtype=jnp.float32
)

# Epsilon: timm's vit_* and DeiT use 1e-6, torch's default is 1e-5.
LayerNorm = functools.partial(nnx.LayerNorm, epsilon=1e-6, promote_dtype=keep_dtypes, param_dtype=jnp.float32)


def drop_path(rate: float, *, ndim: int) -> nnx.Dropout:
    """Stochastic depth: drops whole examples' branches, scales the rest by 1 / (1 - rate).

    ndim: number of axes of the branch's output, batch included.
    """
    return nnx.Dropout(rate, broadcast_dims=tuple(range(1, ndim)))


def drop_path_rates(last: float, num_blocks: int) -> list[float]:
    """Rates growing linearly from 0 at the first block to `last` (timm, DeiT)."""
    return [last * index / max(1, num_blocks - 1) for index in range(num_blocks)]
