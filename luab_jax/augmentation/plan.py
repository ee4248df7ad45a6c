"""What will happen to every image of a batch, drawn before any pixel is touched; and what it does to the targets.

Byproducts decide the denominator of their loss over the global batch, so they are moved and weighed here, for all rows
at once; `render.py` carries the plan out on pixels, perhaps microbatch by microbatch.

Every image's random numbers hang on the step's key and its place in the data order alone. Mixup or cutmix, λ and the
rectangle are drawn once for each of `mix_draws` equal parts of the batch in that order, on any number of hosts: DeiT
draws them once per process, four times for a batch of 1,024 on four GPUs.

How byproducts live with mixing is a choice made here; the paper does not say. A target weighs what is to be seen of it:

* geometric operations move it; off the image it does not count;
* erasing hides it: a point in the rectangle does not count, a box or heat map weighs the share that is left;
* cutmix: a point of the image below counts outside of the pasted rectangle, one of the pasted image inside of it, boxes
  and heat maps by their share there;
* mixup: both images' targets count, by λ and 1 - λ; so do those without a place (times, annotators) under cutmix too;
* a heat map is cut to what is to be seen and has sum 1 again; a box stays whole.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from luab_jax.augmentation.config import AugmentationConfig
from luab_jax.augmentation.geometry import moved, normalised
from luab_jax.augmentation.rand_augment import Layer, draw_layer, sampling
from luab_jax.augmentation.rectangles import Rectangles, covered, covered_cells, draw_erased, draw_pasted
from luab_jax.augmentation.rows import elements, for_each_row, partners
from luab_jax.byproducts.kinds import TargetKind


class Jitter(NamedTuple):
    """Brightness, contrast, saturation."""

    factors: Float[Array, "b 3"]
    order: Int[Array, "b 3"]


class Erasing(NamedTuple):
    """Rectangles, some of them empty, and where their noise comes from."""

    rectangles: Rectangles
    keys: Key[Array, " b"]


class Mixing(NamedTuple):
    """Each image's share in itself; the rest is its partner's, who has the same draw where a batch divides by 16."""

    share: Float[Array, " b"]
    """λ, of the losses; where a rectangle is pasted, the share of the pixels outside of it."""
    outside: Float[Array, " b"]
    """Share of the pixels outside of the rectangle: λ in mixup, 1 in cutmix; 0 inside of it."""
    pasted: Rectangles
    """Empty in mixup."""


class Plan(NamedTuple):
    """Of each image; `None` is what does not happen to any. All arrays have the batch's rows first."""

    jitter: Jitter | None
    layers: tuple[Layer, Layer] | None
    lighting: Float[Array, "b 3"] | None
    erasing: Erasing | None
    mixing: Mixing | None


class Targets(NamedTuple):
    """Z and how much each of it counts, 0 to 1."""

    values: Float[Array, "b j d"]
    weights: Float[Array, "b j"]


_STAGES = ("jitter", "first layer", "second layer", "lighting", "erasing", "noise", "mixing", "pasting")
"""Each has random numbers of its own, so that turning one on or off leaves those of the others."""


def make_plan(config: AugmentationConfig, key: Key[Array, ""], *, num_rows: int, side: int, processes: int = 1) -> Plan:
    """Draws everything for a global batch of images of `side` pixels, whose rows come from so many processes."""
    keys = {stage: jax.random.fold_in(key, number) for number, stage in enumerate(_STAGES)}
    rows = elements(num_rows, processes)
    layers = None
    if config.rand_augment_magnitude:
        first, second = (
            for_each_row(keys[f"{name} layer"], rows, lambda key: draw_layer(key, config))
            for name in ("first", "second")
        )
        layers = (first, second)
    return Plan(
        jitter=_draw_jitter(config.colour_jitter, keys["jitter"], rows) if config.colour_jitter else None,
        layers=layers,
        lighting=_draw_lighting(config.lighting, keys["lighting"], rows) if config.lighting else None,
        erasing=_draw_erasing(config.erasing, keys, rows, side) if config.erasing else None,
        mixing=_draw_mixing(config, keys, rows, side) if config.mixes else None,
    )


def _draw_jitter(strength: float, key: Array, rows: Int[np.ndarray, " b"]) -> Jitter:
    numbers = for_each_row(key, rows, lambda key: jax.random.uniform(key, (2, 3)))
    low, high = max(0.0, 1.0 - strength), 1.0 + strength
    return Jitter(low + (high - low) * numbers[:, 0], jnp.argsort(numbers[:, 1], axis=-1))


def _draw_lighting(strength: float, key: Array, rows: Int[np.ndarray, " b"]) -> Float[Array, "b 3"]:
    return strength * for_each_row(key, rows, lambda key: jax.random.normal(key, (3,)))


def _draw_erasing(probability: float, keys: dict[str, Array], rows: Int[np.ndarray, " b"], side: int) -> Erasing:
    rectangles = for_each_row(keys["erasing"], rows, lambda key: draw_erased(key, side, probability))
    return Erasing(rectangles, for_each_row(keys["noise"], rows, lambda key: key))


def _draw_mixing(config: AugmentationConfig, keys: dict[str, Array], rows: Int[np.ndarray, " b"], side: int) -> Mixing:
    """For every row the draw of its part of the batch; see the note above."""
    draws = config.mix_draws
    if draws == 1:
        drawn = _draw_mixture(config, keys["mixing"], keys["pasting"], side)
        part = np.zeros(len(rows), np.int32)
    else:
        one_each = jax.vmap(lambda number: _draw_mixture(config, *_folded(keys, number), side))
        drawn = one_each(jnp.arange(draws))
        part = rows * draws // len(rows)
    return jax.tree.map(lambda values: jnp.atleast_1d(values)[part], drawn)


def _folded(keys: dict[str, Array], number: Array) -> tuple[Array, Array]:
    return jax.random.fold_in(keys["mixing"], number), jax.random.fold_in(keys["pasting"], number)


def _draw_mixture(config: AugmentationConfig, key: Array, pasting: Array, side: int) -> Mixing:
    """One draw, all scalars: timm's Mixup in mode `batch`, λ corrected where the rectangle was cut at the border."""
    which, for_mixup, for_cutmix = jax.random.split(key, 3)
    pastes = jnp.asarray(config.cutmix > 0)
    if config.mixup and config.cutmix:
        pastes = jax.random.uniform(which) < config.mix_switch_probability
    blended = jax.random.beta(for_mixup, config.mixup, config.mixup) if config.mixup else jnp.ones(())
    kept = jax.random.beta(for_cutmix, config.cutmix, config.cutmix) if config.cutmix else jnp.ones(())
    pasted = draw_pasted(pasting, side, jnp.where(pastes, kept, 1.0))
    share = jnp.where(pastes, 1.0 - pasted.area(side)[0], blended)
    outside = jnp.where(pastes, 1.0, blended)
    return Mixing(share, outside, Rectangles(*(edge[0] for edge in pasted)))


def plan_targets(
    plan: Plan, kind: TargetKind | None, values: Float[Array, "b k d"], valid: Array, *, side: int, groups: int = 1
) -> Targets:
    """The targets of a global batch after the plan: J = K, or 2 K with the partners' behind one's own.

    side: of the images, in pixels. groups: `rows.pair_groups` of the batch. Targets that are not valid may be anything.
    A control point stays where it is in the crop, and weighs what the click behind it does; only the point is returned.
    """
    if kind is TargetKind.CONTROL_POINT:
        weights = plan_targets(plan, TargetKind.POINT, values[..., 2:], valid, side=side, groups=groups).weights
        control = control_points(values, valid)
        mixed = [control] if plan.mixing is None else [control, partners(control, groups)]
        return Targets(jnp.concatenate(mixed, axis=1), weights)
    targets = Targets(jnp.where(valid[..., None], values, 0.0), valid.astype(jnp.float32))
    if plan.layers is not None:
        values, shown = moved(kind, targets.values, [sampling(layer) for layer in plan.layers])
        targets = Targets(values, targets.weights * shown)
    if plan.erasing is not None:
        targets = _outside(kind, targets, plan.erasing.rectangles, side)
    if plan.mixing is None:
        return targets
    own = _shared(kind, targets, plan.mixing, side, own=True)
    others = Targets(*(partners(column, groups) for column in targets))
    others = _shared(kind, others, plan.mixing, side, own=False)
    return Targets(*(jnp.concatenate(columns, axis=1) for columns in zip(own, others, strict=True)))


def control_points(values: Float[Array, "b k 4"], valid: Array) -> Float[Array, "b k 2"]:
    """The points of a control target without the clicks that decide whether they count."""
    return jnp.where(valid[..., None], values[..., :2], 0.0)


def _shared(kind: TargetKind | None, targets: Targets, mixing: Mixing, side: int, *, own: bool) -> Targets:
    """One's own targets, or the partner's, weighed by what of their image is in the mixture."""
    has_place = kind in (TargetKind.POINT, TargetKind.BOX, TargetKind.DISTRIBUTION)
    if not has_place:
        share = mixing.share if own else 1.0 - mixing.share
        return targets._replace(weights=targets.weights * share[:, None])
    pastes = mixing.outside[:, None] == 1.0
    seen = (_outside if own else _within)(kind, targets, mixing.pasted, side)
    share = mixing.share if own else 1.0 - mixing.share
    return Targets(
        jnp.where(pastes[..., None], seen.values, targets.values),
        jnp.where(pastes, seen.weights, targets.weights * share[:, None]),
    )


def _outside(kind: TargetKind | None, targets: Targets, hiding: Rectangles, side: int) -> Targets:
    """Targets behind a rectangle."""
    weights = targets.weights * (1.0 - covered(kind, targets.values, hiding, side))
    if kind is not TargetKind.DISTRIBUTION:
        return Targets(targets.values, weights)
    cells = covered_cells(hiding, targets.values.shape[-1], side)[:, None]
    return _cut(targets.values * (1.0 - cells), weights)


def _within(kind: TargetKind | None, targets: Targets, pasted: Rectangles, side: int) -> Targets:
    """Targets of which only a rectangle is to be seen."""
    weights = targets.weights * covered(kind, targets.values, pasted, side)
    if kind is not TargetKind.DISTRIBUTION:
        return Targets(targets.values, weights)
    cells = covered_cells(pasted, targets.values.shape[-1], side)[:, None]
    return _cut(targets.values * cells, weights)


def _cut(maps: Float[Array, "b k d"], weights: Float[Array, "b k"]) -> Targets:
    values, present = normalised(maps)
    return Targets(values, jnp.where(present, weights, 0.0))
