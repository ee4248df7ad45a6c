"""Rectangles, mixtures, and what they leave of pixels, labels and targets."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from luab_jax.augmentation.config import AugmentationConfig
from luab_jax.augmentation.plan import Plan, Targets, make_plan, plan_targets
from luab_jax.augmentation.rectangles import Rectangles, covered, covered_cells, draw_erased, draw_pasted
from luab_jax.augmentation.render import render
from luab_jax.augmentation.rows import elements, pair_groups, partners
from luab_jax.byproducts.kinds import TargetKind
from luab_jax.training.losses import distribution_divergence
from tests.augmentation.pictures import MEAN, STD, centre_of_light, dotted, pictures

SIDE = 32
IMAGES = pictures(8, SIDE)
BLACK = np.asarray([-m / s for m, s in zip(MEAN, STD, strict=True)])


def plan_of(step: int, num_rows: int = 8, **fields: float) -> Plan:
    return make_plan(AugmentationConfig(**fields), jax.random.key(step), num_rows=num_rows, side=SIDE)


def pixels(plan: Plan, images: np.ndarray) -> np.ndarray:
    return np.asarray(render(plan, jnp.asarray(images), MEAN, STD, groups=1))


def normalised(images: np.ndarray) -> np.ndarray:
    return (images / 255 - np.asarray(MEAN)) / np.asarray(STD)


def levels(images: np.ndarray) -> np.ndarray:
    return 255 * (images * np.asarray(STD) + np.asarray(MEAN))


def rectangle(left: int, top: int, right: int, bottom: int) -> Rectangles:
    return Rectangles(*(jnp.asarray([edge]) for edge in (left, top, right, bottom)))


# --- rectangles


def test_an_erased_rectangle_has_the_area_and_aspect_of_random_erasing() -> None:
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = jax.vmap(functools.partial(draw_erased, side=224, probability=0.25))(keys)
    width, height = np.asarray(drawn.right - drawn.left), np.asarray(drawn.bottom - drawn.top)
    assert np.array_equal(width > 0, height > 0)
    erased = width > 0
    assert erased.mean() == pytest.approx(0.25, abs=0.03)
    # Uniform from 0.02 to 1/3, of which the long ones are drawn again: a mean a little below 0.177.
    area = (width * height)[erased] / 224**2
    assert area.min() > 0.018 and area.max() < 0.345 and area.mean() == pytest.approx(0.17, abs=0.01)
    aspect = np.log((height / np.maximum(width, 1))[erased])
    assert np.abs(aspect).max() < 1.3 and aspect.mean() == pytest.approx(0, abs=0.1)
    assert min(np.asarray(drawn.left).min(), np.asarray(drawn.top).min()) == 0
    assert max(np.asarray(drawn.right).max(), np.asarray(drawn.bottom).max()) == 224
    middle = np.asarray(drawn.left + drawn.right)[erased] / 448
    assert middle.mean() == pytest.approx(0.5, abs=0.02)


def test_a_pasted_rectangle_is_cut_at_the_border_and_its_area_says_what_is_left() -> None:
    for seed in range(50):
        share = jax.random.uniform(jax.random.key(seed))
        drawn = draw_pasted(jax.random.key(seed + 100), SIDE, share)
        mask = np.asarray(drawn.mask(SIDE))
        assert mask.mean() == pytest.approx(float(drawn.area(SIDE)[0]))
        assert mask.mean() <= 1 - float(share) + 1e-6
    assert float(draw_pasted(jax.random.key(0), SIDE, jnp.ones(())).area(SIDE)[0]) == 0


def test_what_a_rectangle_covers_of_a_target() -> None:
    drawn = rectangle(8, 16, 24, 32)  # x from a quarter to three quarters, the lower half
    points = jnp.asarray([[[0.5, 0.75], [0.5, 0.49], [0.25, 0.5], [0.76, 0.9], [0.7, 1.0]]])
    assert covered(TargetKind.POINT, points, drawn, SIDE).tolist() == [[1, 0, 1, 0, 1]]
    boxes = jnp.asarray([[[0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 1.0, 1.0], [0.5, 0.25, 1.0, 0.75], [0.0, 0.0, 0.2, 0.4]]])
    np.testing.assert_allclose(covered(TargetKind.BOX, boxes, drawn, SIDE), [[1, 0.25, 0.25, 0]], atol=1e-6)
    np.testing.assert_allclose(covered_cells(drawn, 4, SIDE), [[0, 0, 0.5, 0.5]], atol=1e-6)
    maps = jnp.asarray([[[0.1, 0.2, 0.3, 0.4]]])
    np.testing.assert_allclose(covered(TargetKind.DISTRIBUTION, maps, drawn, SIDE), [[0.35]], atol=1e-6)
    assert covered(TargetKind.NUMBER, jnp.ones((1, 1, 1)), drawn, SIDE).tolist() == [[0]]


@pytest.mark.parametrize(("side", "count"), [(224, 7), (224, 14), (48, 7), (16, 7)])
def test_no_rectangle_covers_more_than_all_of_a_cell(side: int, count: int) -> None:
    """Whose rest would be a share below 0 in a heat map, and its logarithm no number."""
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(0, side + 1, (500, 2, 2)), axis=-1)
    drawn = Rectangles(*(jnp.asarray(corners[:, axis, end]) for axis, end in ((0, 0), (1, 0), (0, 1), (1, 1))))
    shares = np.asarray(covered_cells(drawn, count * count, side))
    assert shares.min() == 0 and shares.max() == 1
    pixels_of_cells = shares.reshape(500, -1).sum(-1) * (side / count) ** 2
    np.testing.assert_allclose(pixels_of_cells, np.asarray(drawn.mask(side)).sum((1, 2)), rtol=1e-5, atol=1e-3)
    maps = jnp.full((500, 1, count * count), 1 / count**2)
    nothing, all_of_it = jnp.zeros_like(drawn.left), jnp.full_like(drawn.left, side)
    everything = Rectangles(nothing, nothing, all_of_it, all_of_it)
    for hiding in (drawn, everything):
        weights = 1 - covered(TargetKind.DISTRIBUTION, maps, hiding, side)
        assert float(weights.min()) >= 0


@pytest.mark.parametrize("setting", ["erasing", "cutmix"])
def test_what_is_left_of_a_heat_map_has_a_loss(setting: str) -> None:
    plan = plan_of(1, num_rows=64, **{setting: 1.0})
    maps = jax.random.dirichlet(jax.random.key(0), jnp.ones(49), (64, 1))
    targets = plan_targets(plan, TargetKind.DISTRIBUTION, maps, jnp.ones((64, 1), bool), side=SIDE)
    assert float(targets.values.min()) >= 0 and float(targets.weights.min()) >= 0
    assert np.isfinite(distribution_divergence(jnp.zeros_like(targets.values), targets.values)).all()


# --- erasing


def test_erased_pixels_are_normal_noise_and_a_point_among_them_does_not_count() -> None:
    plan = plan_of(1, num_rows=64, erasing=0.5)
    assert plan.erasing is not None
    images = np.repeat(IMAGES, 8, axis=0)
    result, mask = pixels(plan, images), np.asarray(plan.erasing.rectangles.mask(SIDE))
    np.testing.assert_allclose(result[~mask], normalised(images)[~mask], atol=1e-5)
    noise = result[mask]
    assert noise.mean() == pytest.approx(0, abs=0.05) and noise.std() == pytest.approx(1, abs=0.05)
    assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.1
    points = jax.random.uniform(jax.random.key(0), (64, 1, 2))
    targets = plan_targets(plan, TargetKind.POINT, points, jnp.ones((64, 1), bool), side=SIDE)
    row, column = np.asarray(points[:, 0, 1] * SIDE, int), np.asarray(points[:, 0, 0] * SIDE, int)
    hidden = mask[np.arange(64), row, column]
    assert np.array_equal(targets.weights[:, 0], 1 - hidden) and 2 < hidden.sum() < 20
    assert np.array_equal(targets.values, points)


# --- mixing


def step_that(pastes: bool) -> Plan:
    """A mixture of which either part is more than a tenth."""
    for step in range(40):
        plan = plan_of(step, mixup=0.8, cutmix=1.0)
        assert plan.mixing is not None
        if bool(plan.mixing.outside[0] == 1) == pastes and 0.1 < plan.mixing.share[0] < 0.9:
            return plan
    raise AssertionError("no such step")


def mixing(plan: Plan) -> tuple[float, np.ndarray]:
    assert plan.mixing is not None
    assert len(np.unique(plan.mixing.share)) == 1
    return float(plan.mixing.share[0]), np.asarray(plan.mixing.pasted.mask(SIDE)[0])


def test_half_of_the_steps_paste_and_half_blend() -> None:
    plans = [plan_of(step, num_rows=2, mixup=0.8, cutmix=1.0) for step in range(60)]
    pastes = [float(plan.mixing.outside[0]) == 1 for plan in plans if plan.mixing]
    assert 18 < sum(pastes) < 42
    assert all(plan_of(step, num_rows=2, mixup=0.8).mixing.pasted.area(SIDE)[0] == 0 for step in range(3))  # pyright: ignore
    assert all(plan_of(step, num_rows=2, cutmix=1.0).mixing.outside[0] == 1 for step in range(3))  # pyright: ignore


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_each_part_of_the_batch_has_a_mixture_of_its_own_on_any_number_of_processes(processes: int) -> None:
    config = AugmentationConfig(mixup=0.8, cutmix=1.0, mix_draws=4)
    mixtures = []
    for hosts in (1, processes):
        plan = make_plan(config, jax.random.key(2), num_rows=64, side=SIDE, processes=hosts)
        assert plan.mixing is not None
        in_order = np.argsort(elements(64, hosts))
        mixtures.append(jax.tree.map(lambda values, order=in_order: np.asarray(values)[order], plan.mixing))
    for one, other in zip(jax.tree.leaves(mixtures[0]), jax.tree.leaves(mixtures[1]), strict=True):
        np.testing.assert_array_equal(one, other)
    shares = mixtures[0].share.reshape(4, 16)
    assert (shares == shares[:, :1]).all() and len(np.unique(shares)) == 4
    groups = pair_groups(64, processes=processes)
    plan = make_plan(config, jax.random.key(2), num_rows=64, side=SIDE, processes=processes)
    assert plan.mixing is not None
    np.testing.assert_array_equal(partners(plan.mixing.share, groups), plan.mixing.share)  # of pairs the same


FIRST_DRAW = [0.487305, 7, 32]
"""Share, left and right edge, printed by the version before."""


def test_a_single_draw_is_that_of_runs_from_before_there_were_several() -> None:
    mixing = plan_of(3, mixup=0.8, cutmix=1.0).mixing
    assert mixing is not None
    assert [round(float(mixing.share[0]), 6), int(mixing.pasted.left[0]), int(mixing.pasted.right[0])] == FIRST_DRAW
    assert len(np.unique(mixing.share)) == 1


def test_a_control_point_stays_in_place_and_weighs_what_the_click_weighs() -> None:
    plan = plan_of(5, num_rows=64, rand_augment_magnitude=9.0, erasing=0.5, mixup=0.8, cutmix=1.0, mix_draws=4)
    rng = np.random.default_rng(0)
    clicks, control = rng.uniform(0, 1, (2, 64, 1, 2))
    valid = rng.uniform(size=(64, 1)) < 0.8
    of_click = targets_of(plan, TargetKind.POINT, clicks, valid)
    made = targets_of(plan, TargetKind.CONTROL_POINT, np.concatenate([control, clicks], axis=-1), valid)
    np.testing.assert_array_equal(made.weights, of_click.weights)
    assert 0 < float(made.weights.sum()) < 64
    np.testing.assert_allclose(made.values[:, 0], np.where(valid, control[:, 0], 0), rtol=1e-6)


def test_mixup_blends_the_pixels_by_the_share_of_the_labels() -> None:
    plan = step_that(pastes=False)
    share, mask = mixing(plan)
    assert not mask.any()
    own, others = normalised(IMAGES), normalised(np.roll(IMAGES, 4, axis=0))
    np.testing.assert_allclose(pixels(plan, IMAGES), share * own + (1 - share) * others, atol=1e-5)


def test_cutmix_pastes_as_many_pixels_as_the_partners_label_weighs() -> None:
    plan = step_that(pastes=True)
    share, mask = mixing(plan)
    assert mask.mean() == pytest.approx(1 - share, abs=1e-6)
    expected = np.where(mask[..., None], np.roll(IMAGES, 4, axis=0), IMAGES)
    np.testing.assert_allclose(pixels(plan, IMAGES), normalised(expected), atol=1e-5)


def targets_of(plan: Plan, kind: TargetKind, values: np.ndarray, valid: np.ndarray | None = None) -> Targets:
    valid = np.ones(values.shape[:2], bool) if valid is None else valid
    return plan_targets(plan, kind, jnp.asarray(values, jnp.float32), jnp.asarray(valid), side=SIDE)


def test_in_a_blend_both_images_targets_count_by_their_shares() -> None:
    plan = step_that(pastes=False)
    share, _ = mixing(plan)
    rng = np.random.default_rng(0)
    valid = np.asarray([True] * 7 + [False])[:, None]
    for kind, width in ((TargetKind.POINT, 2), (TargetKind.NUMBER, 1), (TargetKind.CLASS, 1)):
        values = rng.uniform(0, 1, (8, 1, width))
        result = targets_of(plan, kind, values, valid)
        assert result.values.shape == (8, 2, width)
        np.testing.assert_allclose(result.values[:, 1], np.roll(np.where(valid[..., None], values, 0), 4, axis=0)[:, 0])
        np.testing.assert_allclose(result.weights[:, :1], share * valid, rtol=1e-5)
        np.testing.assert_allclose(result.weights[:, 1:], (1 - share) * np.roll(valid, 4, axis=0), rtol=1e-5)


def test_in_a_pasted_image_a_point_counts_where_its_dot_is_to_be_seen() -> None:
    """Dots of all images, drawn, pasted with them, and looked for."""
    plan = step_that(pastes=True)
    _, mask = mixing(plan)
    points = np.random.default_rng(4).uniform(0.1, 0.9, (8, 2)).astype(np.float32)
    result = targets_of(plan, TargetKind.POINT, points[:, None])
    shown = levels(pixels(plan, dotted(points, SIDE, radius=0.7)))[..., 0]
    for row in range(8):
        for place in (0, 1):
            x, y = np.asarray(result.values[row, place])
            own = points[row] if place == 0 else points[(row + 4) % 8]
            np.testing.assert_allclose([x, y], own, rtol=1e-6)
            inside = bool(mask[int(y * SIDE), int(x * SIDE)])
            weight = float(result.weights[row, place])
            assert weight == (inside if place else not inside)
            if weight:
                assert shown[row, int(y * SIDE), int(x * SIDE)] > 100
    assert 0 < float(result.weights.sum()) <= 16


def test_boxes_and_maps_weigh_the_share_that_is_to_be_seen() -> None:
    plan = step_that(pastes=True)
    share, mask = mixing(plan)
    whole = np.tile(np.asarray([[[0.0, 0.0, 1.0, 1.0]]]), (8, 1, 1))
    result = targets_of(plan, TargetKind.BOX, whole)
    np.testing.assert_allclose(result.weights, np.tile([[share, 1 - share]], (8, 1)), atol=1e-5)
    assert np.array_equal(result.values[:, 0], whole[:, 0])
    side = 8
    heat = np.random.default_rng(0).dirichlet(np.ones(side * side), (8, 1))
    result = targets_of(plan, TargetKind.DISTRIBUTION, heat)
    hidden = mask.reshape(side, 4, side, 4).mean((1, 3)).ravel()
    np.testing.assert_allclose(result.values.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(result.weights[:, 0], (heat[:, 0] * (1 - hidden)).sum(-1), atol=1e-5)
    np.testing.assert_allclose(result.weights[:, 1], np.roll((heat[:, 0] * hidden).sum(-1), 4), atol=1e-5)
    left = heat[:, 0] * (1 - hidden)
    np.testing.assert_allclose(result.values[:, 0], left / left.sum(-1, keepdims=True), atol=1e-5)


def test_a_target_that_is_not_valid_stays_so_whatever_it_holds() -> None:
    plan = plan_of(0, rand_augment_magnitude=9.0, erasing=0.25, mixup=0.8, cutmix=1.0)
    for kind, width in (
        (TargetKind.POINT, 2),
        (TargetKind.BOX, 4),
        (TargetKind.DISTRIBUTION, 9),
        (TargetKind.NUMBER, 1),
    ):
        result = targets_of(plan, kind, np.full((8, 1, width), np.nan), np.zeros((8, 1), bool))
        assert not result.weights.any() and np.isfinite(np.asarray(result.values)).all()


# --- all of it


EVERYTHING = {"colour_jitter": 0.4, "lighting": 0.1, "rand_augment_magnitude": 9.0, "erasing": 0.25}


def test_dots_stay_on_their_points_through_rand_augment() -> None:
    """Of images of which nothing else is bright: only what moved them counts, so colours are left out."""
    num_rows = 64
    points = np.random.default_rng(0).uniform(0.2, 0.8, (num_rows, 2)).astype(np.float32)
    plan = plan_of(3, num_rows=num_rows, rand_augment_magnitude=9.0, rand_augment_probability=1.0)
    assert plan.layers is not None
    result = targets_of(plan, TargetKind.POINT, points[:, None])
    blank = levels(np.asarray(render(plan, jnp.zeros((num_rows, SIDE, SIDE, 3), jnp.uint8), MEAN, STD)))
    shown = levels(np.asarray(render(plan, jnp.asarray(dotted(points, SIDE)), MEAN, STD)))
    only_moved = np.asarray([min(layer.operation[row] for layer in plan.layers) >= 10 for row in range(num_rows)])
    assert only_moved.sum() > 3
    found = centre_of_light(np.abs(shown - blank))
    checked = 0
    for row in np.flatnonzero(only_moved & (np.asarray(result.weights[:, 0]) > 0)):
        place = np.asarray(result.values[row, 0])
        if ((place > 0.12) & (place < 0.88)).all():
            assert np.abs(found[row] - place).max() < 1 / SIDE
            checked += 1
    assert checked > 2


@pytest.mark.parametrize("name", EVERYTHING)
def test_an_image_depends_on_its_row_and_the_key_alone(name: str) -> None:
    """Not on the size of the batch, nor on what else is turned on before it."""
    fields = {name: EVERYTHING[name]}
    small, large = plan_of(0, num_rows=4, **fields), plan_of(0, num_rows=8, **fields)
    assert np.array_equal(pixels(small, IMAGES[:4]), pixels(large, IMAGES)[:4])
    assert not np.array_equal(pixels(plan_of(1, **fields), IMAGES), pixels(large, IMAGES))
    with_more = plan_of(0, **(EVERYTHING | {"mixup": 0.8}))
    for own, other in zip(
        jax.tree.leaves(large._replace(mixing=None)), jax.tree.leaves(_part(with_more, name)), strict=True
    ):
        assert np.array_equal(
            jax.random.key_data(own) if own.dtype.name.startswith("key") else own,
            jax.random.key_data(other) if other.dtype.name.startswith("key") else other,
        )


def _part(plan: Plan, name: str) -> Plan:
    """Only what the field brings."""
    of_field = {
        "colour_jitter": "jitter",
        "lighting": "lighting",
        "rand_augment_magnitude": "layers",
        "erasing": "erasing",
    }
    return Plan(**{part: getattr(plan, part) if part == of_field[name] else None for part in Plan._fields})
