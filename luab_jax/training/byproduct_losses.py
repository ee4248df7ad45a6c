"""The byproducts of a step: what each is compared with, its loss, its weight at every step, and its metrics."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from luab_jax.augmentation.plan import Plan, Targets, control_points, plan_targets
from luab_jax.augmentation.rows import partners
from luab_jax.byproducts.kinds import TargetKind
from luab_jax.byproducts.targets import Target, kind_of
from luab_jax.config import Config
from luab_jax.config.byproduct import Byproduct, WeightSchedule
from luab_jax.data.batch import Batch, Column
from luab_jax.metrics.means import Mean, Means, box_iou, top_k_correct
from luab_jax.models.functional import Model, Outputs
from luab_jax.models.heads import heat_map_points
from luab_jax.training.heat_maps import heat_map_of
from luab_jax.training.losses import (
    byproduct_loss,
    class_cross_entropy,
    distribution_divergence,
    mean_one,
    smooth_l1,
)

Weight = float | Callable[[Int[Array, ""]], Float[Array, ""]]
"""λ, or what gives it at a step."""


class Regressed(NamedTuple):
    """One byproduct as a step sees it."""

    target: Target
    kind: TargetKind
    dense: bool
    weight: Weight
    loss: Callable[[Array, Array], Array]
    """Of predictions and targets."""
    suffix: str
    """Of its metrics' names: empty where it is the only one."""

    def weight_at(self, step: Int[Array, ""]) -> float | Float[Array, ""]:
        return self.weight(step) if callable(self.weight) else self.weight


def regressed(config: Config, model: Model, steps_per_epoch: float | None = None) -> tuple[Regressed, ...]:
    """Those of a run, in the order of the model's heads; `steps_per_epoch` is needed where a λ has a schedule."""
    entries = config.byproduct.entries if model.heads else ()
    return tuple(
        Regressed(
            target=entry.target,
            kind=_kind(entry.target),
            dense=spec.dense,
            weight=_weight(entry, steps_per_epoch),
            loss=_loss(entry, dense=spec.dense),
            suffix=f"/{entry.target.value}" if len(entries) > 1 else "",
        )
        for entry, spec in zip(entries, model.heads, strict=True)
    )


def _kind(target: Target) -> TargetKind:
    kind = kind_of(target)
    assert kind is not None, "the baseline has no entry"
    return kind


def _loss(entry: Byproduct, *, dense: bool) -> Callable[[Array, Array], Array]:
    """Of one target, by its kind and its head."""
    kind = _kind(entry.target)
    if dense:
        return functools.partial(_dense_loss, kind, entry.heat_sigma)
    match kind:
        case TargetKind.DISTRIBUTION:
            return distribution_divergence
        case TargetKind.CLASS:
            return class_cross_entropy
        case _:
            return functools.partial(smooth_l1, beta=entry.smooth_l1_beta)


def _dense_loss(kind: TargetKind, sigma: float, scores: Array, targets: Array) -> Array:
    return distribution_divergence(scores, heat_map_of(kind, targets, scores.shape[-1], sigma))


def _weight(entry: Byproduct, steps_per_epoch: float | None) -> Weight:
    if entry.weight_schedule is WeightSchedule.CONSTANT:
        return float(entry.weight)
    assert steps_per_epoch is not None and entry.weight_epochs is not None
    length = max(1.0, entry.weight_epochs * steps_per_epoch)
    return functools.partial(_scheduled, entry, length)


def _scheduled(entry: Byproduct, length: float, step: Int[Array, ""]) -> Float[Array, ""]:
    share = jnp.minimum(step.astype(jnp.float32) / length, 1.0)
    if entry.weight_schedule is WeightSchedule.WARMUP:
        return entry.weight * share
    return entry.weight * 0.5 * (1.0 + jnp.cos(jnp.pi * share))


def weighed_targets(target: Target, column: Column, plan: Plan | None, *, side: int, groups: int) -> Targets:
    """What a head is compared with, moved and weighed by the step's augmentation and by the sample weights."""
    kind = kind_of(target)
    if plan is None:
        values = control_points(column.targets, column.valid) if kind is TargetKind.CONTROL_POINT else column.targets
        made = Targets(values, column.valid.astype(jnp.float32))
    else:
        made = plan_targets(plan, kind, column.targets, column.valid, side=side, groups=groups)
    if column.weights is None:
        return made
    weights = jnp.broadcast_to(mean_one(column.weights)[:, None], column.valid.shape)
    if made.weights.shape != weights.shape:  # the partners' targets are behind one's own
        weights = jnp.concatenate([weights, partners(weights, groups)], axis=1)
    return made._replace(weights=made.weights * weights)


def train_loss(
    one: Regressed,
    predictions: Float[Array, "b k h"],
    targets: Targets,
    count: Float[Array, ""],
) -> tuple[Float[Array, ""], Means]:
    """The loss of one byproduct without λ, and what is logged of it."""
    of_head = predictions
    if targets.values.shape[1] != predictions.shape[1]:  # the partners' targets stand behind one's own
        predictions = jnp.concatenate([predictions, predictions], axis=1)
    loss = byproduct_loss(predictions, targets.values, targets.weights, loss=one.loss, count=count)
    num_valid = jnp.sum(targets.weights)
    means = {
        f"byproduct_loss{one.suffix}": Mean(loss * count, num_valid),
        f"valid_targets{one.suffix}": Mean(num_valid, jnp.asarray(of_head[..., 0].size, jnp.float32)),
    }
    if one.target is Target.ANNOTATOR:
        means |= byproduct_scores(one, predictions, targets.values, targets.weights)
    return loss, means


def eval_scores(all_of_them: Sequence[Regressed], outputs: Outputs, batch: Batch) -> Means:
    """The mean score of each head over the targets that are valid."""
    means: Means = {}
    for one, predictions, column in zip(all_of_them, outputs.byproducts, batch.columns, strict=False):
        weights = (column.valid & batch.mask[:, None]).astype(jnp.float32)
        means |= byproduct_scores(one, predictions, column.targets, weights)
    return means


def byproduct_scores(
    one: Regressed, predictions: Float[Array, "b j h"], targets: Float[Array, "b j d"], weights: Float[Array, "b j"]
) -> Means:
    """The weighted mean score of a head, under a name that says what it is."""
    if one.dense:
        name, score = _DENSE_SCORES.get(one.kind, ("heat_map_divergence", one.loss))
    else:
        name, score = _SCORES[one.kind]
    values = jnp.where(weights > 0, score(predictions, targets), 0.0)
    return {f"{name}{one.suffix}": Mean(jnp.sum((weights * values).ravel()), jnp.sum(weights.ravel()))}


def _click_distance(points: Float[Array, "b k 2"], clicks: Float[Array, "b k 2"]) -> Float[Array, "b k"]:
    """Of predicted points to clicks or icons, in fractions of the input's side."""
    return jnp.linalg.norm(points - clicks, axis=-1)


def _number_error(numbers: Float[Array, "b k 1"], targets: Float[Array, "b k 1"]) -> Float[Array, "b k"]:
    """In standard deviations of the training split; to know only the mean costs 0.8 where they are normal."""
    return jnp.abs(numbers - targets)[..., 0]


def _annotator_top1(logits: Float[Array, "b k h"], classes: Float[Array, "b k 1"]) -> Float[Array, "b k"]:
    flat = top_k_correct(logits.reshape(-1, logits.shape[-1]), classes.ravel().astype(jnp.int32), 1)
    return flat.reshape(classes.shape[:-1])


def _map_distance(scores: Float[Array, "b k cells"], clicks: Float[Array, "b k 2"]) -> Float[Array, "b k"]:
    return _click_distance(heat_map_points(scores), clicks)


def _inside_box(scores: Float[Array, "b k cells"], boxes: Float[Array, "b k 4"]) -> Float[Array, "b k"]:
    """Whether the point that a heat map stands for lies in the box."""
    points = heat_map_points(scores)
    within = (points >= boxes[..., :2]) & (points <= boxes[..., 2:])
    return jnp.all(within, axis=-1).astype(jnp.float32)


_SCORES: dict[TargetKind, tuple[str, Callable[[Array, Array], Array]]] = {
    TargetKind.POINT: ("click_distance", _click_distance),
    TargetKind.CONTROL_POINT: ("click_distance", _click_distance),
    TargetKind.BOX: ("box_iou", box_iou),
    TargetKind.NUMBER: ("number_error", _number_error),
    TargetKind.DISTRIBUTION: ("heat_map_divergence", distribution_divergence),
    TargetKind.CLASS: ("annotator_top1", _annotator_top1),
}
_DENSE_SCORES: dict[TargetKind, tuple[str, Callable[[Array, Array], Array]]] = {
    TargetKind.POINT: ("click_distance", _map_distance),
    TargetKind.CONTROL_POINT: ("click_distance", _map_distance),
    TargetKind.BOX: ("inside_box", _inside_box),
}
