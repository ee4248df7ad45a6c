"""The training step with augmentation: off by default to the bit, the same on any devices, losses of mixed labels."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from luab_jax.augmentation.config import AugmentationConfig
from luab_jax.byproducts.kinds import TargetSettings
from luab_jax.byproducts.targets import Target, target_shape
from luab_jax.config import ByproductConfig, Config, DataConfig, MeshConfig, Task, config_hash, differences, to_dict
from luab_jax.data.batch import Batch
from luab_jax.data.transforms import Preprocessing
from luab_jax.distributed.sharding import batch_sharding, make_mesh, replicated
from luab_jax.errors import ConfigError
from luab_jax.metrics.means import Means, summarise
from luab_jax.models.config import Dtype, ModelConfig, Stem
from luab_jax.models.functional import Model, create_model
from luab_jax.training import step as step_lib
from luab_jax.training.step import TrainRows, TrainState, init_state, make_train_step, train_rows
from tests.augmentation.pictures import pictures

BATCH, SIDE, CLASSES, MAP = 16, 16, 3, 3
EVERYTHING = AugmentationConfig(
    colour_jitter=0.4, lighting=0.1, rand_augment_magnitude=9.0, erasing=0.5, mixup=0.8, cutmix=1.0, repeats=3
)
PASTED = AugmentationConfig(lighting=0.1, erasing=0.5, cutmix=1.0)
"""Compiled in a fraction of the time: of mixup and cutmix each draws from a Beta distribution, which is dear."""
MODEL = ModelConfig(name="resnet18", width=4, stage_sizes=(1, 1), stem=Stem.PATCH, compute_dtype=Dtype.FLOAT32)


def experiment(
    augmentation: AugmentationConfig, target: Target = Target.CLICK_LAST, task: Task = Task.SINGLE_LABEL
) -> Config:
    return Config(
        batch_size=BATCH,
        task=task,
        model=MODEL,
        augmentation=augmentation,
        data=DataConfig(preprocessing=Preprocessing(image_size=SIDE, resize_side=SIDE)),
        byproduct=ByproductConfig(target=target, weight=2.0, heat_map_side=MAP),
    )


def batch_of(config: Config, *, weighted: bool = False) -> Batch:
    """Images, labels and targets that fit the config; every fourth target is missing."""
    rng = np.random.default_rng(0)
    many = config.task is Task.MULTI_LABEL
    k, d = target_shape(config.byproduct.target, CLASSES if many else None, TargetSettings(heat_map_side=MAP)) or (0, 0)
    targets = rng.uniform(0, 1, (BATCH, k, d)).astype(np.float32)
    if config.byproduct.target is Target.BOX:
        targets = np.sort(targets.reshape(BATCH, k, 2, 2), axis=2).reshape(BATCH, k, 4)
    if config.byproduct.target is Target.TRACE_HEAT_MAP:
        targets /= targets.sum(-1, keepdims=True)
    if config.byproduct.target is Target.ANNOTATOR:
        targets = rng.integers(0, 4, targets.shape).astype(np.float32)
    labels = rng.integers(0, 2, (BATCH, CLASSES)).astype(bool) if many else np.arange(BATCH, dtype=np.int32) % CLASSES
    batch = Batch(
        images=pictures(BATCH, SIDE),
        labels=labels,
        targets=targets,
        valid=rng.uniform(size=(BATCH, k)) < 0.75,
        mask=np.ones(BATCH, bool),
        index=np.arange(BATCH, dtype=np.int32),
        weights=rng.uniform(0.2, 2, BATCH).astype(np.float32) if weighted else None,
    )
    return jax.tree.map(jnp.asarray, batch)


def prepared_step(config: Config, batch: Batch, devices: int = 1) -> tuple[Any, tuple[Any, ...]]:
    """The jitted step and its arguments, placed on so many devices."""
    many = config.task is Task.MULTI_LABEL
    shape = target_shape(config.byproduct.target, CLASSES if many else None, TargetSettings(heat_map_side=MAP))
    if config.byproduct.target is Target.ANNOTATOR:
        shape = (1, 4)
    model = create_model(config.model, num_classes=CLASSES, image_size=SIDE, byproduct_shape=shape)
    optimizer = optax.sgd(0.1)
    mesh = make_mesh(MeshConfig(data=devices), jax.devices()[:devices])
    whole = replicated(mesh)
    state = jax.device_put(first_state(model, optimizer, (repr(config.model), shape)), whole)
    rows = batch_sharding(mesh)
    step = jax.jit(make_train_step(config, model, optimizer, optax.constant_schedule(0.1), spread=rows))
    return step, (state, jax.device_put(batch, rows), jax.device_put(jax.random.key(1), whole))


FIRST_STATES: dict[Any, TrainState] = {}
"""By model and shape of its byproduct head: drawing them is compiled once."""


def first_state(model: Model, optimizer: optax.GradientTransformation, drawn: Any) -> TrainState:
    if drawn not in FIRST_STATES:
        init = jax.jit(functools.partial(init_state, model, optimizer))
        FIRST_STATES[drawn] = jax.device_get(init(jax.random.key(0)))
    return FIRST_STATES[drawn]


def one_step(config: Config, batch: Batch, devices: int = 1) -> tuple[TrainState, Means]:
    step, arguments = prepared_step(config, batch, devices)
    return step(*arguments)


# --- off


def test_augmentation_is_off_by_default_and_then_leaves_the_config_its_hash() -> None:
    config = Config()
    assert not config.augmentation.on_device and config.augmentation.crops_in_a_row == 1
    old = to_dict(config)
    del old["augmentation"]
    assert differences(old, config) == {}
    config.optim.warmup_learning_rate = 0.0
    assert config_hash(config) == "0fc7d5ad3abb"  # that of the release without augmentation
    assert config_hash(experiment(EVERYTHING)) != config_hash(experiment(AugmentationConfig()))


def test_one_flag_turns_everything_off_to_the_bit() -> None:
    off = dataclasses.replace(EVERYTHING, enabled=False)
    plain, disabled = experiment(AugmentationConfig()), experiment(off)
    batch = batch_of(plain)
    rows = train_rows(disabled, batch, jax.random.key(0))
    assert rows.plan is None and rows.partner_labels is None and off.crops_in_a_row == 1
    one, other = (prepared_step(config, batch) for config in (plain, disabled))
    assert one[0].lower(*one[1]).as_text() == other[0].lower(*other[1]).as_text()


# --- on


@pytest.mark.parametrize(
    ("target", "task"),
    [
        (Target.NONE, Task.SINGLE_LABEL),
        (Target.TRACE_HEAT_MAP, Task.SINGLE_LABEL),
        (Target.ANNOTATOR, Task.SINGLE_LABEL),
        (Target.COCO_FINAL, Task.MULTI_LABEL),
    ],
)
def test_targets_train_where_images_are_erased_and_mixed(target: Target, task: Task) -> None:
    """Those with a loss or a shape of their own; points are below."""
    config = experiment(PASTED, target, task)
    config.validate()
    batch = batch_of(config, weighted=task is Task.SINGLE_LABEL)
    state, means = one_step(config, batch)
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(state.params))
    scalars = summarise([means])
    assert scalars["loss"] > 0
    # The first label is not the only one, so the score has a name of its own.
    assert "top1" not in scalars and ("top1_of_larger_share" in scalars) == (task is Task.SINGLE_LABEL)
    if target is not Target.NONE:
        assert scalars["byproduct_loss"] > 0 and 0 < scalars["valid_targets"] <= 1
        total = scalars["classification_loss"] + 2.0 * scalars["byproduct_loss"]
        assert scalars["loss"] == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("on_device", [True, False])
def test_the_control_counts_with_the_weight_of_the_click(task: Task, on_device: bool) -> None:
    """So that `valid_targets` of both runs is the same number."""
    augmentation = dataclasses.replace(EVERYTHING, mix_draws=4, enabled=on_device)
    click = Target.CLICK_LAST if task is Task.SINGLE_LABEL else Target.COCO_FINAL
    of_click, of_control = (experiment(augmentation, target, task) for target in (click, Target.RANDOM))
    batch = batch_of(of_control)
    clicks = train_rows(of_click, batch._replace(targets=batch.targets[..., 2:]), jax.random.key(4))
    control = train_rows(of_control, batch, jax.random.key(4))
    np.testing.assert_array_equal(control.target_weights, clicks.target_weights)
    assert control.targets.shape == clicks.targets.shape
    assert 0 < float(control.target_weights.mean()) < 1
    own = control.targets[:, : batch.valid.shape[1]]
    np.testing.assert_array_equal(own, np.where(batch.valid[..., None], batch.targets[..., :2], 0))


def test_a_step_is_the_same_on_one_device_and_on_eight() -> None:
    config = experiment(dataclasses.replace(EVERYTHING, cutmix=0.0))
    batch = batch_of(config, weighted=True)
    plans = [
        jax.jit(functools.partial(train_rows, config))(
            jax.device_put(batch, batch_sharding(make_mesh(MeshConfig(data=n), jax.devices()[:n]))), jax.random.key(5)
        )
        for n in (1, 8)
    ]
    for one, other in zip(*(jax.tree.leaves(_without_keys(rows)) for rows in plans), strict=True):
        assert np.array_equal(one, other)
    alone, spread = (one_step(config, batch, devices)[1] for devices in (1, 8))
    for name, value in summarise([alone]).items():
        assert summarise([spread])[name] == pytest.approx(value, rel=1e-4), name


def test_microbatches_mix_the_same_pairs_and_divide_by_the_whole_batchs_targets() -> None:
    """On several devices too, where each loops over its own rows of a microbatch that RandAugment chose.

    With a model that has no statistics of the batch, the gradient is that of the whole. Repeated crops keep partners
    four rows apart, so that four microbatches leave the pairs as they are.
    """
    config = experiment(dataclasses.replace(PASTED, erasing=0.25, repeats=3, rand_augment_magnitude=9.0))
    config.model = dataclasses.replace(MODEL, name="vit_ti", width=None, stage_sizes=None, stem=Stem.IMAGENET)
    config.model = dataclasses.replace(config.model, embed_dim=8, depth=1, num_heads=1, patch_size=8)
    batch = batch_of(config, weighted=True)
    whole = one_step(config, batch)
    config.accumulation_steps = 4
    parts = one_step(config, batch, devices=2)
    for one, other in zip(jax.tree.leaves(whole[0].params), jax.tree.leaves(parts[0].params), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    for name, value in summarise([whole[1]]).items():
        assert summarise([parts[1]])[name] == pytest.approx(value, rel=1e-4), name


def _without_keys(rows: TrainRows) -> TrainRows:
    assert rows.plan is not None and rows.plan.erasing is not None
    keys = jax.random.key_data(rows.plan.erasing.keys)
    return rows._replace(plan=rows.plan._replace(erasing=rows.plan.erasing._replace(keys=keys)))


@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("pastes", [0.0, 1.0])
def test_the_loss_of_a_mixture_is_that_of_its_mixed_labels(task: Task, pastes: float) -> None:
    """Smoothed, and with the weights of both images: labels whose parts sum to one."""
    augmentation = AugmentationConfig(mixup=0.8, cutmix=1.0, mix_switch_probability=pastes)
    single = task is Task.SINGLE_LABEL
    config = experiment(augmentation, Target.NONE, task)
    config.label_smoothing = 0.1 if single else 0.0
    batch = batch_of(config, weighted=single)
    rows = train_rows(config, batch, jax.random.key(3))
    assert rows.plan is not None and rows.plan.mixing is not None and rows.partner_labels is not None
    share = float(rows.plan.mixing.share[0])
    logits = jnp.asarray(np.random.default_rng(1).normal(0, 2, (BATCH, CLASSES)), jnp.float32)
    ours = step_lib._mixed_loss(config, logits, rows)
    own, others = (
        jax.nn.one_hot(labels, CLASSES) * 0.9 + 0.1 / CLASSES if single else jnp.asarray(labels, jnp.float32)
        for labels in (rows.labels, rows.partner_labels)
    )
    if single:
        assert rows.weights is not None and rows.partner_weights is not None
        np.testing.assert_allclose((share * own + (1 - share) * others).sum(-1), 1, rtol=1e-5)
        weighted = share * rows.weights[:, None] * own + (1 - share) * rows.partner_weights[:, None] * others
        expected = optax.softmax_cross_entropy(logits, weighted)
    else:
        expected = optax.sigmoid_binary_cross_entropy(logits, share * own + (1 - share) * others).mean(-1)
    np.testing.assert_allclose(ours, expected, rtol=1e-4)


# --- what cannot be


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"colour_jitter": -0.1}, r"config.augmentation.colour_jitter=-0.1 must be a number of 0 or more"),
        ({"erasing": 1.5}, r"config.augmentation.erasing=1.5 is a probability"),
        ({"rand_augment_magnitude": 11.0}, r"rand_augment_magnitude=11.0 must be from 0 to 10"),
        ({"repeats": 0}, r"augmentation.repeats=0 must be 1 or more"),
        ({"mixup": float("nan")}, r"augmentation.mixup=nan must be"),
    ],
)
def test_a_field_out_of_range_is_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        experiment(AugmentationConfig(**fields)).validate()


def test_an_odd_batch_cannot_be_mixed() -> None:
    config = experiment(AugmentationConfig(mixup=0.2))
    config.batch_size = 17
    with pytest.raises(ConfigError, match=r"batch_size=17 must be even .* take 18"):
        config.validate()
    config.augmentation.enabled = False
    config.validate()
