"""One training step and one evaluation step: pure functions of arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, UInt8

from luab_jax import ema as ema_lib
from luab_jax.accumulation import accumulate
from luab_jax.augmentation.plan import Plan, make_plan, plan_targets
from luab_jax.augmentation.render import render
from luab_jax.augmentation.rows import pair_groups, partners
from luab_jax.byproducts.kinds import TargetKind
from luab_jax.byproducts.targets import Target, kind_of
from luab_jax.config import Config, Task
from luab_jax.data.batch import Batch
from luab_jax.losses import (
    binary_cross_entropy,
    byproduct_loss,
    class_cross_entropy,
    cross_entropy,
    distribution_divergence,
    mean_one,
    num_counted,
    smooth_l1,
)
from luab_jax.metrics import Mean, Means, box_iou, masked_mean, single, top_k_correct
from luab_jax.models.functional import Model
from luab_jax.models.inputs import normalise


class TrainState(NamedTuple):
    """All that a run must not lose. The random key is not here: it is a function of seed and step."""

    step: Int[Array, ""]
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    opt_state: Any
    ema: dict[str, Any] | None = None
    """Averages of `params` and `batch_stats` under these names; `None` where the run keeps none."""


Parts = tuple[dict[str, Any], dict[str, Any]]
"""Parameters and batch statistics of parts of a network: 'backbone', 'classifier', 'byproduct_head'."""


def init_state(
    model: Model,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    given: Parts | None = None,
    *,
    ema: bool = False,
) -> TrainState:
    """Freshly drawn, but for the parts that are given."""
    params, batch_stats = model.init(key)
    if given is not None:
        params, batch_stats = params | given[0], batch_stats | given[1]
    average = ema_lib.start(params, batch_stats) if ema else None
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params), average)


def _classification_loss(config: Config, logits: Float[Array, "b c"], labels: Array) -> Float[Array, " b"]:
    if config.task is Task.MULTI_LABEL:
        return binary_cross_entropy(logits, labels)
    return cross_entropy(logits, labels, label_smoothing=config.label_smoothing)


def _byproduct_loss(config: Config) -> Callable[[Array, Array], Array]:
    """The loss of one target, by its kind."""
    match kind_of(config.byproduct.target):
        case TargetKind.DISTRIBUTION:
            return distribution_divergence
        case TargetKind.CLASS:
            return class_cross_entropy
        case _:
            return functools.partial(smooth_l1, beta=config.byproduct.smooth_l1_beta)


class TrainRows(NamedTuple):
    """A global batch with all that was decided about it before its pixels are touched; every array has its rows first.

    J = K targets per image, or 2 K where images are mixed: one's own, then the partner's.
    """

    images: UInt8[Array, "b h w 3"]
    labels: Int[Array, " b"] | Bool[Array, "b c"]
    mask: Bool[Array, " b"]
    weights: Float[Array, " b"] | None
    """Of the classification loss, with mean one."""
    targets: Float[Array, "b j d"]
    target_weights: Float[Array, "b j"]
    plan: Plan | None
    """`None` where nothing is augmented on the device."""
    partner_labels: Array | None
    """`None` where nothing is mixed, as are the weights where nothing is weighted."""
    partner_weights: Float[Array, " b"] | None


_AUGMENTATION = 0xA06
"""Folded into a step's key for the augmentation's; dropout takes small numbers."""


def mixing_groups(config: Config, processes: int = 1) -> int:
    """See `pair_groups`; 1 where nothing is mixed."""
    if not config.augmentation.mixes:
        return 1
    return pair_groups(
        config.batch_size,
        processes=processes,
        microbatches=config.accumulation_steps,
        crops_in_a_row=config.augmentation.crops_in_a_row,
    )


def train_rows(config: Config, batch: Batch, key: jax.Array, *, processes: int = 1) -> TrainRows:
    """A batch with the step's augmentation planned, its targets moved and weighed by it; `key` is the step's.

    processes: whose rows follow each other in the batch; see `augmentation.rows`.
    """
    weights = None if batch.weights is None else mean_one(batch.weights)
    rows = TrainRows(
        batch.images,
        batch.labels,
        batch.mask,
        weights,
        batch.targets,
        batch.valid.astype(jnp.float32),
        plan=None,
        partner_labels=None,
        partner_weights=None,
    )
    if not config.augmentation.on_device:
        return rows
    side, groups = batch.images.shape[1], mixing_groups(config, processes)
    plan = make_plan(
        config.augmentation,
        jax.random.fold_in(key, _AUGMENTATION),
        num_rows=len(batch.images),
        side=side,
        processes=processes,
    )
    targets = plan_targets(plan, kind_of(config.byproduct.target), batch.targets, batch.valid, side=side, groups=groups)
    rows = rows._replace(plan=plan, targets=targets.values, target_weights=targets.weights)
    if plan.mixing is None:
        return rows
    others = None if weights is None else partners(weights, groups)
    return rows._replace(partner_labels=partners(batch.labels, groups), partner_weights=others)


def _mixed_loss(config: Config, logits: Float[Array, "b c"], rows: TrainRows) -> Float[Array, " b"]:
    """The classification loss of every image; of a mixture λ · own + (1 - λ) · partner's.

    Both losses are linear in the labels, so this is the loss of labels mixed by λ, smoothed or not.
    """
    losses = _classification_loss(config, logits, rows.labels)
    if rows.weights is not None:
        losses = rows.weights * losses
    if rows.plan is None or rows.plan.mixing is None or rows.partner_labels is None:
        return losses
    others = _classification_loss(config, logits, rows.partner_labels)
    if rows.partner_weights is not None:
        others = rows.partner_weights * others
    share = rows.plan.mixing.share
    return share * losses + (1.0 - share) * others


def _train_top1(logits: Float[Array, "b c"], rows: TrainRows) -> Means:
    """Under a name of its own where images are mixed: of the two labels the one with the larger share counts."""
    if rows.plan is None or rows.plan.mixing is None or rows.partner_labels is None:
        return {"top1": masked_mean(top_k_correct(logits, rows.labels, 1), rows.mask)}
    heavier = jnp.where(rows.plan.mixing.share >= 0.5, rows.labels, rows.partner_labels)
    return {"top1_of_larger_share": masked_mean(top_k_correct(logits, heavier, 1), rows.mask)}


def make_train_step(
    config: Config,
    model: Model,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    *,
    processes: int = 1,
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Means]]:
    """The step (state, batch, root key) -> (state, means); jit it with the state donated.

    Where the config accumulates, the batch is taken in microbatches, with the loss of the whole.
    processes: that feed the batch, which are the mesh's: a step may be compiled for hosts that are not there.
    """
    preprocessing = config.data.preprocessing
    target_loss = _byproduct_loss(config)
    groups = mixing_groups(config, processes)

    def loss_fn(
        params: dict[str, Any],
        batch_stats: dict[str, Any],
        rows: TrainRows,
        key: jax.Array,
        byproduct_count: Float[Array, ""],
    ) -> tuple[Array, tuple[dict[str, Any], Means]]:
        if rows.plan is None:
            images = normalise(rows.images, preprocessing.mean, preprocessing.std)
        else:
            images = render(rows.plan, rows.images, preprocessing.mean, preprocessing.std, groups=groups)
        outputs, batch_stats = model.apply(params, batch_stats, images, train=True, key=key)
        loss = jnp.mean(_mixed_loss(config, outputs.logits, rows))
        means = {"classification_loss": single(loss)}
        if config.task is Task.SINGLE_LABEL:
            means |= _train_top1(outputs.logits, rows)
        if outputs.byproduct is not None:
            predictions = outputs.byproduct
            if rows.targets.shape[1] != predictions.shape[1]:  # the partners' targets stand behind one's own
                predictions = jnp.concatenate([predictions, predictions], axis=1)
            byproduct = byproduct_loss(
                predictions, rows.targets, rows.target_weights, loss=target_loss, count=byproduct_count
            )
            loss = loss + config.byproduct.weight * byproduct
            num_valid = jnp.sum(rows.target_weights)
            means["byproduct_loss"] = Mean(byproduct * byproduct_count, num_valid)
            means["valid_targets"] = Mean(num_valid, jnp.asarray(outputs.byproduct[..., 0].size, jnp.float32))
            if config.byproduct.target is Target.ANNOTATOR:
                means |= _byproduct_scores(config, predictions, rows.targets, rows.target_weights)
        means["loss"] = single(loss)
        return loss, (batch_stats, means)

    def step(state: TrainState, batch: Batch, root_key: jax.Array) -> tuple[TrainState, Means]:
        key = jax.random.fold_in(root_key, state.step)
        pieces = config.accumulation_steps
        rows = train_rows(config, batch, key, processes=processes)
        # The mean over microbatches of sums over this is the whole batch's sum over its valid targets.
        byproduct_count = num_counted(rows.target_weights) / pieces
        gradient = jax.grad(functools.partial(loss_fn, byproduct_count=byproduct_count), has_aux=True)
        grads, (batch_stats, means) = accumulate(gradient, pieces)(state.params, state.batch_stats, rows, key)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params: Any = optax.apply_updates(state.params, updates)
        means["gradient_norm"] = single(optax.tree.norm(grads))
        means["learning_rate"] = single(jnp.asarray(schedule(state.step), jnp.float32))
        ema = state.ema
        if ema is not None:
            ema = ema_lib.update(ema, params, batch_stats, decay=config.optim.ema_decay)
        return TrainState(state.step + 1, params, batch_stats, opt_state, ema), means

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
        return means | _valid_scores(config, outputs.byproduct, batch)

    return step


def _click_distance(points: Float[Array, "b k 2"], clicks: Float[Array, "b k 2"]) -> Float[Array, "b k"]:
    """Of predicted points to clicks or icons, in fractions of the input's side."""
    return jnp.linalg.norm(points - clicks, axis=-1)


def _number_error(numbers: Float[Array, "b k 1"], targets: Float[Array, "b k 1"]) -> Float[Array, "b k"]:
    """In standard deviations of the training split; to know only the mean costs 0.8 where they are normal."""
    return jnp.abs(numbers - targets)[..., 0]


def _annotator_top1(logits: Float[Array, "b k h"], classes: Float[Array, "b k 1"]) -> Float[Array, "b k"]:
    flat = top_k_correct(logits.reshape(-1, logits.shape[-1]), classes.ravel().astype(jnp.int32), 1)
    return flat.reshape(classes.shape[:-1])


_SCORES: dict[TargetKind, tuple[str, Callable[[Array, Array], Array]]] = {
    TargetKind.POINT: ("click_distance", _click_distance),
    TargetKind.BOX: ("box_iou", box_iou),
    TargetKind.NUMBER: ("number_error", _number_error),
    TargetKind.DISTRIBUTION: ("heat_map_divergence", distribution_divergence),
    TargetKind.CLASS: ("annotator_top1", _annotator_top1),
}


def _valid_scores(config: Config, byproduct: Float[Array, "b k h"] | None, batch: Batch) -> Means:
    """The mean score of the head over the targets that are valid."""
    if byproduct is None:
        return {}
    weights = (batch.valid & batch.mask[:, None]).astype(jnp.float32)
    return _byproduct_scores(config, byproduct, batch.targets, weights)


def _byproduct_scores(
    config: Config, byproduct: Float[Array, "b j h"], targets: Float[Array, "b j d"], weights: Float[Array, "b j"]
) -> Means:
    """The weighted mean score of the head, under a name that says what it is."""
    kind = kind_of(config.byproduct.target)
    if kind is None:
        return {}
    name, score = _SCORES[kind]
    values = jnp.where(weights > 0, score(byproduct, targets), 0.0)
    return {name: Mean(jnp.sum((weights * values).ravel()), jnp.sum(weights.ravel()))}


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
        means = {"classification_loss": loss} | _valid_scores(config, outputs.byproduct, batch)
        return means, LabelSetRows(outputs.logits, batch.labels, batch.mask)

    return step
