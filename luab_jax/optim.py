"""Schedules and optimisers, composed from optax."""

from __future__ import annotations

from typing import Any

import jax
import optax

from luab_jax.config import OptimConfig, Optimizer, WeightDecayMask

_NOT_MATRICES = ("position_embed", "class_token")
"""ViT tables that are no kernels though they have two axes or more; DeiT does not decay them (`no_weight_decay`)."""


def make_schedule(config: OptimConfig, *, total_steps: int, warmup_steps: int) -> optax.Schedule:
    """Linear warm-up from 0 to the peak, then a half cosine to `final_learning_rate` at `total_steps`."""
    decay = optax.cosine_decay_schedule(
        config.learning_rate,
        decay_steps=max(1, total_steps - warmup_steps),
        alpha=config.final_learning_rate / config.learning_rate,
    )
    if not warmup_steps:
        return decay
    return optax.join_schedules([optax.linear_schedule(0.0, config.learning_rate, warmup_steps), decay], [warmup_steps])


def weight_decay_mask(params: Any, mask: WeightDecayMask) -> Any:
    """A tree of booleans: which parameters decay."""

    def decays(path: tuple[Any, ...], value: Any) -> bool:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return mask is WeightDecayMask.ALL or (value.ndim > 1 and not name.endswith(_NOT_MATRICES))

    return jax.tree_util.tree_map_with_path(decays, params)


def make_optimizer(config: OptimConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Clip, then SGD with coupled decay (torch's) or AdamW with decoupled decay (Loshchilov & Hutter 2019)."""
    steps = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm is not None else []
    decay = optax.add_decayed_weights(
        config.weight_decay, mask=lambda params: weight_decay_mask(params, config.weight_decay_mask)
    )
    match config.name:
        case Optimizer.SGD:
            steps += [decay, optax.trace(decay=config.momentum, nesterov=config.nesterov)]
        case Optimizer.ADAMW:
            steps += [optax.scale_by_adam(b1=config.beta1, b2=config.beta2, eps=config.epsilon), decay]
    return optax.chain(*steps, optax.scale_by_learning_rate(schedule))
