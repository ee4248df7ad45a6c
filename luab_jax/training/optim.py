"""Schedules and optimisers, composed from optax."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from luab_jax import config as config_lib
from luab_jax.config import Config, OptimConfig, Optimizer, Schedule, WeightDecayMask
from luab_jax.errors import ConfigError

_NOT_MATRICES = ("position_embed", "class_token", "registers")
"""ViT tables that are no kernels though they have two axes or more; DeiT does not decay them (`no_weight_decay`)."""


def schedule_of(config: Config, num_examples: int) -> optax.Schedule:
    """That of an experiment on a training split of so many images."""
    return make_schedule(
        config.optim,
        total_steps=config_lib.total_steps(config, num_examples),
        warmup_steps=config_lib.warmup_steps(config, num_examples),
        steps_per_epoch=config_lib.steps_per_epoch(config, num_examples),
    )


def make_schedule(
    config: OptimConfig, *, total_steps: int, warmup_steps: int, steps_per_epoch: float = 1.0
) -> optax.Schedule:
    """Linear warm-up to the peak, then half a cosine to `final_learning_rate`; see `Schedule` for the three kinds.

    steps_per_epoch: may have a fraction; an epoch begins with the nearest whole step. Matters for the schedules by
        epochs only, which raise `ConfigError` for a run too short to leave its warm-up.
    """
    start = min(config.warmup_learning_rate, config.learning_rate)
    if config.schedule is Schedule.PER_STEP:
        return _per_step(config, start, total_steps, warmup_steps)
    delay = 1 if config.schedule is Schedule.DEIT else 0
    epochs = total_steps / steps_per_epoch
    warmup = min(config.warmup_epochs, epochs / 2)
    last = max(0, math.ceil(epochs) - 1 - delay)
    if last < warmup:
        raise ConfigError(
            f"config.optim.schedule={config.schedule.value} sets the learning rate once an epoch, and a run of"
            f" {epochs:.3g} epochs would end in its warm-up of {warmup:.3g}; set config.optim.schedule=per_step, lower"
            " config.optim.warmup_epochs, or train longer"
        )

    def rate(step: Any) -> jax.Array:
        done = jnp.asarray(step, jnp.float32)
        # Half a step more, since a quotient in float32 may fall short of a whole epoch by rounding.
        epoch = jnp.maximum(jnp.floor((done + 0.5) / steps_per_epoch) - delay, 0.0)
        rising = start + (config.learning_rate - start) * epoch / max(warmup, 1e-9)
        low, high = config.final_learning_rate, config.learning_rate
        falling = low + 0.5 * (high - low) * (1.0 + jnp.cos(jnp.pi * jnp.minimum(epoch / epochs, 1.0)))
        return jnp.where(epoch < warmup, rising, falling)

    return rate


def _per_step(config: OptimConfig, start: float, total_steps: int, warmup_steps: int) -> optax.Schedule:
    decay = optax.cosine_decay_schedule(
        config.learning_rate,
        decay_steps=max(1, total_steps - warmup_steps),
        alpha=config.final_learning_rate / config.learning_rate,
    )
    if not warmup_steps:
        return decay
    rise = optax.linear_schedule(0.0, config.learning_rate - start, warmup_steps)
    return optax.join_schedules([lambda step: start + rise(step), decay], [warmup_steps])


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
