"""One training step and one evaluation step: pure functions of arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding
from jaxtyping import Array, Bool, Float, Int, UInt8

from luab_jax.augmentation.plan import Plan, Targets, make_plan
from luab_jax.augmentation.render import render
from luab_jax.augmentation.rows import pair_groups, partners
from luab_jax.config import Config, Task
from luab_jax.data.batch import Batch
from luab_jax.metrics.means import Means, masked_mean, single, top_k_correct
from luab_jax.models.functional import Model
from luab_jax.models.inputs import normalise
from luab_jax.models.rows import spread_over
from luab_jax.training import ema as ema_lib
from luab_jax.training.accumulation import accumulate
from luab_jax.training.byproduct_losses import eval_scores, regressed, train_loss, weighed_targets
from luab_jax.training.losses import binary_cross_entropy, cross_entropy, mean_one, num_counted
from luab_jax.training.own_loss import StepInputs, find_loss


class TrainState(NamedTuple):
    """All that a run must not lose. The random key is not here: it is a function of seed and step."""

    step: Int[Array, ""]
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    opt_state: Any
    ema: dict[str, Any] | None = None
    """Averages of `params` and `batch_stats` under these names; `None` where the run keeps none."""


Parts = tuple[dict[str, Any], dict[str, Any]]
"""Parameters and batch statistics of parts of a network: 'backbone', 'classifier', 'byproduct_head', and further heads
under 'byproduct_heads'."""


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
    more: tuple[Targets, ...] = ()
    """Targets and their weights of the byproducts after the first."""

    @property
    def of_byproducts(self) -> tuple[Targets, ...]:
        """Of all of them."""
        return (Targets(self.targets, self.target_weights), *self.more)


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
    side, groups = batch.images.shape[1], mixing_groups(config, processes)
    plan = None
    if config.augmentation.on_device:
        plan = make_plan(
            config.augmentation,
            jax.random.fold_in(key, _AUGMENTATION),
            num_rows=len(batch.images),
            side=side,
            processes=processes,
        )
    wanted = config.byproduct.targets or (config.byproduct.target,)
    columns = zip(wanted, batch.columns, strict=True)
    first, *more = (weighed_targets(target, column, plan, side=side, groups=groups) for target, column in columns)
    is_mixed = plan is not None and plan.mixing is not None
    return TrainRows(
        batch.images,
        batch.labels,
        batch.mask,
        weights,
        first.values,
        first.weights,
        plan=plan,
        partner_labels=partners(batch.labels, groups) if is_mixed else None,
        partner_weights=partners(weights, groups) if is_mixed and weights is not None else None,
        more=tuple(more),
    )


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


_LOGGED = ("loss", "gradient_norm", "learning_rate", "top1", "top1_of_larger_share")
"""Of every step, beside the losses of its config."""


def make_train_step(
    config: Config,
    model: Model,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    *,
    processes: int = 1,
    steps_per_epoch: float | None = None,
    spread: NamedSharding | None = None,
    parts: Any = None,
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Means]]:
    """The step (state, batch, root key) -> (state, means); jit it with the state donated.

    Where the config accumulates, the batch is taken in microbatches, with the loss of the whole.
    steps_per_epoch: for the schedules of byproducts' weights; not needed where λ is constant.
    processes: that feed the batch, which are the mesh's: a step may be compiled for hosts that are not there.
    spread: of the batch's rows over devices; `None` for a single one.
    parts: shardings of the parameters while they are updated, where every device updates a part.
    """
    preprocessing = config.data.preprocessing
    byproducts = regressed(config, model, steps_per_epoch)
    own_loss = find_loss(config)
    logged_later = {*_LOGGED, *(f"byproduct_weight{one.suffix}" for one in byproducts)}
    groups = mixing_groups(config, processes)

    def loss_fn(
        params: dict[str, Any],
        batch_stats: dict[str, Any],
        rows: TrainRows,
        key: jax.Array,
        counts: Sequence[Float[Array, ""]],
        weights: Sequence[float | Float[Array, ""]],
        number: Int[Array, ""],
        reached: list[bool],
    ) -> tuple[Array, tuple[dict[str, Any], Means]]:
        if rows.plan is None:
            images = normalise(rows.images, preprocessing.mean, preprocessing.std)
        else:
            images = render(
                rows.plan,
                rows.images,
                preprocessing.mean,
                preprocessing.std,
                groups=groups,
                rows=spread,
                probability=config.augmentation.rand_augment_probability,
            )
        with spread_over(spread):
            outputs, batch_stats = model.apply(params, batch_stats, images, train=True, key=key)
        loss = jnp.mean(_mixed_loss(config, outputs.logits, rows))
        means = {"classification_loss": single(loss)}
        if config.task is Task.SINGLE_LABEL:
            means |= _train_top1(outputs.logits, rows)
        for one, predictions, targets, count, weight in zip(
            byproducts, outputs.byproducts, rows.of_byproducts, counts, weights, strict=False
        ):
            byproduct, logged = train_loss(one, predictions, targets, count)
            loss = loss + weight * byproduct
            means |= logged
        if own_loss is not None:
            inputs = StepInputs(images, rows.labels, outputs, loss, params, number)
            loss, logged = own_loss(inputs, taken={*means, *logged_later}, reached=reached)
            means |= logged
        means["loss"] = single(loss)
        return loss, (batch_stats, means)

    def step(state: TrainState, batch: Batch, root_key: jax.Array) -> tuple[TrainState, Means]:
        key = jax.random.fold_in(root_key, state.step)
        pieces = config.accumulation_steps
        rows = train_rows(config, batch, key, processes=processes)
        # The mean over microbatches of sums over this is the whole batch's sum over its valid targets.
        counts = [num_counted(targets.weights) / pieces for targets in rows.of_byproducts]
        weights = [one.weight_at(state.step) for one in byproducts]
        reached: list[bool] = []  # filled while the gradient is traced
        of_step = functools.partial(loss_fn, counts=counts, weights=weights, number=state.step, reached=reached)
        gradient = jax.grad(of_step, has_aux=True)
        grads, (batch_stats, means) = accumulate(gradient, pieces)(state.params, state.batch_stats, rows, key)
        if own_loss is not None:
            own_loss.check_reached(reached)
        before = state.params
        if parts is not None:
            grads, before = (jax.lax.with_sharding_constraint(tree, parts) for tree in (grads, before))
        updates, opt_state = optimizer.update(grads, state.opt_state, before)
        params: Any = optax.apply_updates(before, updates)
        if parts is not None:
            params = jax.lax.with_sharding_constraint(params, parts)
        means["gradient_norm"] = single(optax.tree.norm(grads))
        for one, weight in zip(byproducts, weights, strict=True):
            if isinstance(weight, jax.Array):
                means[f"byproduct_weight{one.suffix}"] = single(weight)
        means["learning_rate"] = single(jnp.asarray(schedule(state.step), jnp.float32))
        ema = state.ema
        if ema is not None:
            ema = ema_lib.update(ema, params, batch_stats, decay=config.optim.ema_decay)
        return TrainState(state.step + 1, params, batch_stats, opt_state, ema), means

    return step


def make_eval_step(
    config: Config, model: Model, spread: NamedSharding | None = None
) -> Callable[[dict[str, Any], dict[str, Any], Batch], Means]:
    """The evaluation of one padded batch: exact sums over the rows that are real.

    spread: as in `make_train_step`.
    """
    preprocessing = config.data.preprocessing
    byproducts = regressed(config, model, 1.0)  # λ, and so the length of an epoch, has no part in it

    def step(params: dict[str, Any], batch_stats: dict[str, Any], batch: Batch) -> Means:
        images = normalise(batch.images, preprocessing.mean, preprocessing.std)
        with spread_over(spread):
            outputs, _ = model.apply(params, batch_stats, images, train=False)
        means = {
            "classification_loss": masked_mean(cross_entropy(outputs.logits, batch.labels), batch.mask),
            "top1": masked_mean(top_k_correct(outputs.logits, batch.labels, 1), batch.mask),
            "top5": masked_mean(top_k_correct(outputs.logits, batch.labels, 5), batch.mask),
        }
        return means | eval_scores(byproducts, outputs, batch)

    return step


class LabelSetRows(NamedTuple):
    """What mAP is made of: all rows of a batch on every host, padding among them."""

    logits: Float[Array, "b c"]
    labels: Bool[Array, "b c"]
    mask: Bool[Array, " b"]


def make_label_set_eval_step(
    config: Config, model: Model, spread: NamedSharding | None = None
) -> Callable[[dict[str, Any], dict[str, Any], Batch], tuple[Means, LabelSetRows]]:
    """`make_eval_step` for sets of labels, whose mAP needs the scores of all images together."""
    preprocessing = config.data.preprocessing
    byproducts = regressed(config, model, 1.0)  # λ, and so the length of an epoch, has no part in it

    def step(params: dict[str, Any], batch_stats: dict[str, Any], batch: Batch) -> tuple[Means, LabelSetRows]:
        images = normalise(batch.images, preprocessing.mean, preprocessing.std)
        with spread_over(spread):
            outputs, _ = model.apply(params, batch_stats, images, train=False)
        loss = masked_mean(binary_cross_entropy(outputs.logits, batch.labels), batch.mask)
        means = {"classification_loss": loss} | eval_scores(byproducts, outputs, batch)
        return means, LabelSetRows(outputs.logits, batch.labels, batch.mask)

    return step
