"""Several byproducts in one step: the paper's one stays as it was to the last bit; each has a loss of its own."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from luab_jax.augmentation.config import AugmentationConfig
from luab_jax.byproducts.kinds import TargetKind
from luab_jax.byproducts.responses import SampleWeight
from luab_jax.byproducts.targets import Target
from luab_jax.config import Config
from luab_jax.config.byproduct import Byproduct, WeightSchedule, several
from luab_jax.data.batch import Batch, Column
from luab_jax.metrics.means import Mean, masked_mean, single, top_k_correct
from luab_jax.models.config import ByproductPool, Head
from luab_jax.models.functional import Model
from luab_jax.models.heads import cell_centres, heat_map_points
from luab_jax.models.inputs import normalise
from luab_jax.training import optim
from luab_jax.training.byproduct_losses import regressed
from luab_jax.training.heat_maps import heat_map_of
from luab_jax.training.losses import byproduct_loss, cross_entropy, num_counted, smooth_l1
from luab_jax.training.step import TrainState
from tests.training.test_step import RESNET, SIDE, VIT, assert_close, batch_of, experiment, program_of, steps

CLICK = Byproduct(target=Target.CLICK_LAST, weight=3.0)
BOX = Byproduct(target=Target.BOX, weight=2.0, head=Head.MLP, hidden=8, pool=ByproductPool.MAP)
TIME = Byproduct(target=Target.TIME_TO_CLICK, weight=0.5, block=1)


def column(kind: str, size: int = 16, seed: int = 3, *, weighted: bool = False) -> Column:
    rng = np.random.default_rng(seed)
    numbers = {"box": 4, "number": 1, "point": 2}[kind]
    values = rng.random((size, 1, numbers), np.float32)
    if kind == "box":
        values = np.concatenate([values[..., :2] / 2, values[..., :2] / 2 + 0.2 + values[..., 2:] / 4], axis=-1)
    weights = rng.integers(0, 4, size).astype(np.float32) if weighted else None
    return Column(values.astype(np.float32), rng.random((size, 1)) < 0.7, weights)


def three(model: Any = VIT, **changes: Any) -> Config:
    return experiment(model, byproduct=several(CLICK, BOX, TIME), **changes)


def batch_of_three(**options: Any) -> Batch:
    return batch_of(16)._replace(more=(column("box", **options), column("number", seed=4)))


def step_as_it_was(config: Config, model: Model) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Any]]:
    """The step of the version that knew one byproduct, without what these experiments do not have."""
    preprocessing, schedule = config.data.preprocessing, optim.schedule_of(config, 160)
    optimizer = optim.make_optimizer(config.optim, schedule)

    def loss_fn(params: Any, batch_stats: Any, batch: Batch, weights: Any, key: jax.Array, count: Any) -> Any:
        images = normalise(batch.images, preprocessing.mean, preprocessing.std)
        outputs, batch_stats = model.apply(params, batch_stats, images, train=True, key=key)
        loss = jnp.mean(cross_entropy(outputs.logits, batch.labels, label_smoothing=config.label_smoothing))
        means = {
            "classification_loss": single(loss),
            "top1": masked_mean(top_k_correct(outputs.logits, batch.labels, 1), batch.mask),
        }
        target_loss = functools.partial(smooth_l1, beta=config.byproduct.smooth_l1_beta)
        byproduct = byproduct_loss(outputs.byproduct, batch.targets, weights, loss=target_loss, count=count)
        loss = loss + config.byproduct.weight * byproduct
        num_valid = jnp.sum(weights)
        means["byproduct_loss"] = Mean(byproduct * count, num_valid)
        means["valid_targets"] = Mean(num_valid, jnp.asarray(outputs.byproduct[..., 0].size, jnp.float32))
        means["loss"] = single(loss)
        return loss, (batch_stats, means)

    def step(state: TrainState, batch: Batch, root_key: jax.Array) -> tuple[TrainState, Any]:
        key = jax.random.fold_in(root_key, state.step)
        weights = batch.valid.astype(jnp.float32)
        gradient = jax.grad(functools.partial(loss_fn, count=num_counted(weights)), has_aux=True)
        grads, (batch_stats, means) = gradient(state.params, state.batch_stats, batch, weights, key)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params: Any = optax.apply_updates(state.params, updates)
        means["gradient_norm"] = single(optax.tree.norm(grads))
        means["learning_rate"] = single(jnp.asarray(schedule(state.step), jnp.float32))
        return TrainState(state.step + 1, params, batch_stats, opt_state, state.ema), means

    return step


@pytest.mark.parametrize("model", [VIT, RESNET], ids=["vit", "resnet"])
def test_one_byproduct_goes_the_way_it_went_to_the_last_bit(model: Any) -> None:
    config, batch = experiment(model), batch_of(16)
    expected, means = steps(config, batch, 3)
    old = jax.jit(step_as_it_was(config, program_of(config).model), donate_argnums=0)
    state, told, root = jax.device_put(expected[0]), None, jax.random.key(1)
    for number in range(1, 4):
        state, told = old(state, batch, root)
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), expected[number])
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(told), jax.device_get(means))


def test_a_list_of_one_is_the_one() -> None:
    listed = experiment(VIT)
    listed.byproduct = [CLICK]  # pyright: ignore[reportAttributeAccessIssue]
    assert listed == experiment(VIT)


def test_the_loss_is_the_sum_and_every_byproduct_is_told_apart() -> None:
    _, means = steps(three(), batch_of_three())
    values = {name: float(mean.total / mean.count) for name, mean in jax.device_get(means).items()}
    parts = {name: values[f"byproduct_loss/{name}"] for name in ("click_last", "box", "time_to_click")}
    expected = values["classification_loss"] + 3 * parts["click_last"] + 2 * parts["box"] + 0.5 * parts["time_to_click"]
    assert values["loss"] == pytest.approx(expected, rel=1e-5)
    assert values["valid_targets/box"] == pytest.approx(batch_of_three().more[0].valid.mean())
    assert "byproduct_loss" not in values


def test_further_heads_leave_the_others_beginning_as_they_were() -> None:
    alone, both = (program_of(config).init(jax.random.key(5)).params for config in (experiment(VIT), three()))
    for part in ("backbone", "classifier", "byproduct_head"):
        jax.tree.map(np.testing.assert_array_equal, alone[part], both[part])
    assert set(both["byproduct_heads"]) == {"box", "time_to_click"}
    assert both["byproduct_heads"]["box"]["hidden"]["kernel"].shape == (2 * 2 * 16, 8)  # all four patches
    fewer = program_of(experiment(VIT, byproduct=several(CLICK, TIME))).init(jax.random.key(5)).params
    jax.tree.map(
        np.testing.assert_array_equal,
        fewer["byproduct_heads"]["time_to_click"],
        both["byproduct_heads"]["time_to_click"],
    )


def test_microbatches_give_the_step_of_the_whole_batch() -> None:
    whole, _ = steps(three(), batch_of_three(weighted=True))
    config = three(accumulation_steps=2)
    pieces, _ = steps(config, batch_of_three(weighted=True))
    assert_close(pieces[-1].params, whole[-1].params)


def test_a_weight_of_nothing_trains_the_others_alone() -> None:
    entries = [dataclasses.replace(entry, weight=0.0) for entry in (BOX, TIME)]
    silent, _ = steps(experiment(VIT, byproduct=several(CLICK, *entries)), batch_of_three())
    alone, _ = steps(experiment(VIT), batch_of(16))
    for part in ("backbone", "classifier", "byproduct_head"):
        assert_close(silent[-1].params[part], alone[-1].params[part])


@pytest.mark.parametrize(
    ("schedule", "expected"), [(WeightSchedule.WARMUP, [0, 1, 2, 2]), (WeightSchedule.COSINE, [2, 1, 0, 0])]
)
def test_a_weight_follows_its_schedule(schedule: WeightSchedule, expected: list[float]) -> None:
    entry = Byproduct(weight=2.0, weight_schedule=schedule, weight_epochs=0.4)
    config = experiment(VIT, byproduct=several(entry))
    (one,) = regressed(config, program_of(experiment(VIT)).model, steps_per_epoch=10.0)
    found = [float(one.weight_at(jnp.int32(step))) for step in (0, 2, 4, 9)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_run_logs_a_weight_that_moves() -> None:
    entry = dataclasses.replace(CLICK, weight_schedule=WeightSchedule.WARMUP, weight_epochs=1.0)
    states, means = steps(experiment(VIT, byproduct=several(entry)), batch_of(16))
    assert float(means["byproduct_weight"].total) == 0.0
    jax.tree.map(np.testing.assert_array_equal, states[0].params["byproduct_head"], states[1].params["byproduct_head"])


def test_images_weigh_in_one_byproducts_loss_as_their_answers_say() -> None:
    """The loss by weights is that of every image, weighed; images without a response count as the average one."""
    entries = several(CLICK, dataclasses.replace(BOX, target_sample_weight=SampleWeight.NUM_CORRECTIONS))
    batch = batch_of(16)._replace(more=(column("box", weighted=True),))
    states, means = steps(experiment(VIT, byproduct=entries), batch)
    images = batch.images.astype(np.float32) / 255.0
    preprocessing = experiment(VIT).data.preprocessing
    images = (images - np.asarray(preprocessing.mean)) / np.asarray(preprocessing.std)
    model = program_of(experiment(VIT, byproduct=entries)).model
    outputs, _ = model.apply(states[0].params, states[0].batch_stats, jnp.asarray(images), train=True)
    apart = np.asarray(smooth_l1(outputs.more[0], jnp.asarray(batch.more[0].targets)))[:, 0]
    weights = batch.more[0].weights
    assert weights is not None
    scaled = np.where(weights > 0, weights / weights[weights > 0].mean(), 1.0) * batch.more[0].valid[:, 0]
    found = means["byproduct_loss/box"]
    assert float(found.total / found.count) == pytest.approx((scaled * apart).sum() / scaled.sum(), rel=1e-4)


# Dense heads.


def test_a_point_becomes_a_gaussian_whose_mean_is_the_point() -> None:
    shares = heat_map_of(TargetKind.POINT, jnp.asarray([[0.5, 0.25]]), 20 * 20, 0.05)
    assert float(shares.sum()) == pytest.approx(1.0)
    np.testing.assert_allclose(np.asarray(shares) @ cell_centres(20), [[0.5, 0.25]], atol=2e-3)
    np.testing.assert_allclose(heat_map_points(jnp.log(shares)), [[0.5, 0.25]], atol=2e-3)
    spread = (np.asarray(shares)[0] * (cell_centres(20)[:, 0] - 0.5) ** 2).sum() ** 0.5
    assert spread == pytest.approx(0.05, rel=0.02)


def test_a_box_becomes_the_share_of_its_area_in_every_cell() -> None:
    boxes = jnp.asarray([[0.0, 0.5, 0.75, 1.0], [0.2, 0.2, 0.2, 0.2]])
    np.testing.assert_allclose(heat_map_of(TargetKind.BOX, boxes, 4, 0.1)[0], [0, 0, 2 / 3, 1 / 3], atol=1e-6)
    assert not np.any(heat_map_of(TargetKind.BOX, boxes, 4, 0.1)[1])  # nothing to learn from, and no NaN


@pytest.mark.parametrize("side", [2, 3, 5, 8])
def test_a_heat_map_on_another_grid_keeps_its_mass_and_its_mean(side: int) -> None:
    maps = np.random.default_rng(0).dirichlet(np.ones(16), 3).astype(np.float32)
    found = np.asarray(heat_map_of(TargetKind.DISTRIBUTION, jnp.asarray(maps), side**2, 0.1))
    np.testing.assert_allclose(found.sum(axis=-1), 1.0, atol=1e-6)
    if side >= 4 and side % 4 == 0:
        np.testing.assert_allclose(found @ cell_centres(side), maps @ cell_centres(4), atol=1e-6)


@pytest.mark.parametrize("model", [VIT, RESNET], ids=["vit", "resnet"])
def test_a_dense_head_learns_a_place_that_is_to_be_seen(model: Any) -> None:
    """A bright patch on black: its place can be learnt by a head that is the same at every position."""
    rng = np.random.default_rng(0)
    at = rng.integers(0, 2, (16, 2))
    images = np.zeros((16, SIDE, SIDE, 3), np.uint8)
    for image, (x, y) in zip(images, at, strict=True):
        image[8 * y : 8 * y + 8, 8 * x : 8 * x + 8] = 255
    targets = ((at + 0.5) / 2).astype(np.float32)[:, None]
    if model is RESNET:
        model = dataclasses.replace(RESNET, stage_sizes=(1,))
    entry = Byproduct(weight=3.0, head=Head.DENSE, hidden=8, heat_sigma=0.1)
    config = experiment(model, byproduct=several(entry))
    batch = batch_of(16)._replace(images=images, targets=targets, valid=np.ones((16, 1), bool))
    states, _ = steps(config, batch, 40)
    program = program_of(config)
    found = [program.eval_step(state.params, state.batch_stats, batch)["click_distance"] for state in states[::40]]
    before, after = (float(mean.total / mean.count) for mean in found)
    assert before > 0.3 and after < 0.15, (before, after)


def test_augmentation_moves_what_a_dense_head_learns() -> None:
    entry = dataclasses.replace(CLICK, head=Head.DENSE, target=Target.CLICK_LAST)
    mixing = AugmentationConfig(mixup=0.8, cutmix=1.0, erasing=0.5)
    config = experiment(VIT, byproduct=several(entry, dataclasses.replace(BOX, head=Head.DENSE)), augmentation=mixing)
    states, means = steps(config, batch_of(16)._replace(more=(column("box"),)), 2)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(states[-1].params))
    assert float(means["byproduct_loss/click_last"].total) > 0
