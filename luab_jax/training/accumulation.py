"""A large batch in pieces that fit the memory: the gradient of the whole from those of microbatches, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from luab_jax.metrics.means import Means

Gradient = Callable[[Any, Any, Any, jax.Array], tuple[Any, tuple[Any, Means]]]
"""(params, batch_stats, batch, key) -> (gradients, (batch_stats, means)): `jax.grad(loss, has_aux=True)`."""
T = TypeVar("T")


def accumulate(gradient: Gradient, steps: int) -> Gradient:
    """The mean gradient over `steps` microbatches, which `jax.lax.scan` takes in turn.

    Equals the gradient of the whole batch where the loss is a mean over rows; a loss with another denominator must be
    given the whole batch's. Means add up exactly. Batch statistics are updated by every microbatch after the other, as
    in torch when gradients are accumulated.
    """
    if steps == 1:
        return gradient

    def accumulated(params: Any, batch_stats: Any, batch: Any, key: jax.Array) -> tuple[Any, tuple[Any, Means]]:
        def one(carry: tuple[Any, Any], piece: tuple[Any, jax.Array]) -> tuple[tuple[Any, Any], Means]:
            total, batch_stats = carry
            rows, index = piece
            grads, (batch_stats, means) = gradient(params, batch_stats, rows, jax.random.fold_in(key, index))
            return (jax.tree.map(jnp.add, total, grads), batch_stats), means

        start = (jax.tree.map(jnp.zeros_like, params), batch_stats)
        pieces = (_microbatches(batch, steps), jnp.arange(steps))
        (total, batch_stats), means = jax.lax.scan(one, start, pieces)
        grads = jax.tree.map(lambda x: x / steps, total)
        return grads, (batch_stats, jax.tree.map(lambda x: jnp.sum(x, axis=0), means))

    return accumulated


def _microbatches(batch: T, steps: int) -> T:
    """Rows [B, ...] as [steps, B / steps, ...]: every `steps`-th row of each device, so that none moves to another."""
    return jax.tree.map(lambda x: jnp.swapaxes(x.reshape(-1, steps, *x.shape[1:]), 0, 1), batch)
