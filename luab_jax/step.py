"""One training step and one evaluation step: pure functions of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, UInt8

from luab_jax.config import Config
from luab_jax.data.batch import Batch
from luab_jax.losses import byproduct_loss, cross_entropy
from luab_jax.metrics import Mean, Means, masked_mean, single, top_k_correct
from luab_jax.models.functional import Model


class TrainState(NamedTuple):
    """All that a run must not lose. The random key is not here: it is a function of seed and step."""

    step: Int[Array, ""]
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    opt_state: Any


def init_state(model: Model, optimizer: optax.GradientTransformation, key: jax.Array) -> TrainState:
    params, batch_stats = model.init(key)
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params))


def normalise(
    images: UInt8[Array, "b h w 3"], mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Array, "b h w 3"]:
    """uint8 pixels to (x / 255 - mean) / std, on the device: a quarter of the bytes cross the bus."""
    return (images.astype(jnp.float32) / 255.0 - jnp.asarray(mean)) / jnp.asarray(std)


def make_train_step(
    config: Config, model: Model, optimizer: optax.GradientTransformation, schedule: optax.Schedule
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Means]]:
    """The step (state, batch, root key) -> (state, means); jit it with the state donated."""
    preprocessing = config.data.preprocessing

    def loss_fn(
        params: dict[str, Any], batch_stats: dict[str, Any], batch: Batch, key: jax.Array
    ) -> tuple[Array, tuple[dict[str, Any], Means]]:
        images = normalise(batch.images, preprocessing.mean, preprocessing.std)
        outputs, batch_stats = model.apply(params, batch_stats, images, train=True, key=key)
        classification = cross_entropy(outputs.logits, batch.labels, label_smoothing=config.label_smoothing)
        loss = jnp.mean(classification)
        means = {
            "classification_loss": single(loss),
            "top1": masked_mean(top_k_correct(outputs.logits, batch.labels, 1), batch.mask),
        }
        if outputs.byproduct is not None:
            byproduct = byproduct_loss(
                outputs.byproduct, batch.targets, batch.valid, beta=config.byproduct.smooth_l1_beta
            )
            loss = loss + config.byproduct.weight * byproduct
            num_valid = jnp.sum(batch.valid.astype(jnp.float32))
            means["byproduct_loss"] = Mean(byproduct * num_valid, num_valid)
            means["valid_targets"] = masked_mean(
                batch.valid.astype(jnp.float32).ravel(), jnp.ones(batch.valid.size, bool)
            )
        means["loss"] = single(loss)
        return loss, (batch_stats, means)

    def step(state: TrainState, batch: Batch, root_key: jax.Array) -> tuple[TrainState, Means]:
        key = jax.random.fold_in(root_key, state.step)
        grads, (batch_stats, means) = jax.grad(loss_fn, has_aux=True)(state.params, state.batch_stats, batch, key)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params: Any = optax.apply_updates(state.params, updates)
        means["gradient_norm"] = single(optax.tree.norm(grads))
        means["learning_rate"] = single(jnp.asarray(schedule(state.step), jnp.float32))
        return TrainState(state.step + 1, params, batch_stats, opt_state), means

    return step


def make_eval_step(config: Config, model: Model) -> Callable[[dict[str, Any], dict[str, Any], Batch], Means]:
    """The evaluation of one padded batch: exact sums over the rows that are real."""
    preprocessing = config.data.preprocessing

    def step(params: dict[str, Any], batch_stats: dict[str, Any], batch: Batch) -> Means:
        images = normalise(batch.images, preprocessing.mean, preprocessing.std)
        outputs, _ = model.apply(params, batch_stats, images, train=False)
        means = {
            "classification_loss": masked_mean(cross_entropy(outputs.logits, batch.labels), batch.mask),
            "top1": masked_mean(top_k_correct(outputs.logits, batch.labels, 1), batch.mask),
            "top5": masked_mean(top_k_correct(outputs.logits, batch.labels, 5), batch.mask),
        }
        if outputs.byproduct is not None and outputs.byproduct.shape[1:] == (1, 2):
            distance = jnp.linalg.norm(outputs.byproduct - batch.targets, axis=-1)
            means["click_distance"] = masked_mean(distance[:, 0], batch.valid[:, 0] & batch.mask)
        return means

    return step
