"""One training step and one evaluation step: pure functions of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from luab_jax.config import Config, Task
from luab_jax.data.batch import Batch
from luab_jax.losses import binary_cross_entropy, byproduct_loss, cross_entropy
from luab_jax.metrics import Mean, Means, masked_mean, single, top_k_correct
from luab_jax.models.functional import Model
from luab_jax.models.inputs import normalise


class TrainState(NamedTuple):
    """All that a run must not lose. The random key is not here: it is a function of seed and step."""

    step: Int[Array, ""]
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    opt_state: Any


def init_state(model: Model, optimizer: optax.GradientTransformation, key: jax.Array) -> TrainState:
    params, batch_stats = model.init(key)
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params))


def _classification_loss(config: Config, logits: Float[Array, "b c"], labels: Array) -> Float[Array, " b"]:
    if config.task is Task.MULTI_LABEL:
        return binary_cross_entropy(logits, labels)
    return cross_entropy(logits, labels, label_smoothing=config.label_smoothing)


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
        loss = jnp.mean(_classification_loss(config, outputs.logits, batch.labels))
        means = {"classification_loss": single(loss)}
        if config.task is Task.SINGLE_LABEL:
            means["top1"] = masked_mean(top_k_correct(outputs.logits, batch.labels, 1), batch.mask)
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
        return means | _click_distance(outputs.byproduct, batch)

    return step


def _click_distance(byproduct: Float[Array, "b k d"] | None, batch: Batch) -> Means:
    """Mean distance of predicted points to clicks or icons, in fractions of the input's side."""
    if byproduct is None or byproduct.shape != batch.targets.shape or byproduct.shape[-1] != 2:
        return {}
    distance = jnp.linalg.norm(byproduct - batch.targets, axis=-1)
    return {"click_distance": masked_mean(distance.ravel(), (batch.valid & batch.mask[:, None]).ravel())}


class LabelSetRows(NamedTuple):
    """What mAP is made of: all rows of a batch on every host, padding among them."""

    logits: Float[Array, "b c"]
    labels: Bool[Array, "b c"]
    mask: Bool[Array, " b"]


def make_label_set_eval_step(
    config: Config, model: Model
) -> Callable[[dict[str, Any], dict[str, Any], Batch], tuple[Means, LabelSetRows]]:
    """`make_eval_step` for sets of labels, whose mAP needs the scores of all images together."""
    preprocessing = config.data.preprocessing

    def step(params: dict[str, Any], batch_stats: dict[str, Any], batch: Batch) -> tuple[Means, LabelSetRows]:
        images = normalise(batch.images, preprocessing.mean, preprocessing.std)
        outputs, _ = model.apply(params, batch_stats, images, train=False)
        loss = masked_mean(binary_cross_entropy(outputs.logits, batch.labels), batch.mask)
        means = {"classification_loss": loss} | _click_distance(outputs.byproduct, batch)
        return means, LabelSetRows(outputs.logits, batch.labels, batch.mask)

    return step
