"""One training step: whole or in microbatches, with a moving average, on a mesh; what its program holds."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from luab_jax import optim, sharding
from luab_jax.byproducts.targets import Target
from luab_jax.config import ByproductConfig, Config, MeshConfig, OptimConfig, Optimizer
from luab_jax.data.batch import Batch
from luab_jax.data.transforms import Preprocessing
from luab_jax.models.config import Dtype, ModelConfig, Remat, Stem
from luab_jax.models.functional import Model, create_model
from luab_jax.step import TrainState, init_state, make_train_step

SIDE, CLASSES = 16, 5
VIT = ModelConfig(name="vit_ti", embed_dim=32, depth=2, num_heads=4, patch_size=4, compute_dtype=Dtype.FLOAT32)
RESNET = ModelConfig(name="resnet18", width=8, stage_sizes=(1, 1), stem=Stem.PATCH, compute_dtype=Dtype.FLOAT32)


def experiment(model: ModelConfig, **changes: Any) -> Config:
    config = Config(
        model=model,
        batch_size=16,
        byproduct=ByproductConfig(target=Target.CLICK_LAST, weight=3.0),
        optim=OptimConfig(name=Optimizer.SGD, learning_rate=0.1, momentum=0.0, weight_decay=0.0),
    )
    config.data.preprocessing = Preprocessing(image_size=SIDE, resize_side=SIDE)
    return dataclasses.replace(config, **changes)


def batch_of(size: int, *, seed: int = 0, weighted: bool = False) -> Batch:
    """Rows of which some have no target: with unequal numbers of targets in any two halves."""
    rng = np.random.default_rng(seed)
    valid = np.ones((size, 1), bool)
    valid[: size // 4] = False
    valid[1] = True
    return Batch(
        images=rng.integers(0, 256, (size, SIDE, SIDE, 3), np.uint8),
        labels=rng.integers(0, CLASSES, size, np.int32),
        targets=rng.random((size, 1, 2), np.float32),
        valid=valid,
        mask=np.ones(size, bool),
        index=np.arange(size, dtype=np.int32),
        weights=rng.integers(0, 4, size).astype(np.float32) if weighted else None,
    )


def build(config: Config) -> tuple[Model, optax.GradientTransformation, Any]:
    model = create_model(
        config.model, num_classes=CLASSES, image_size=SIDE, byproduct_shape=(1, 2), num_replicas=len(jax.devices())
    )
    schedule = optim.make_schedule(config.optim, total_steps=10, warmup_steps=0)
    optimizer = optim.make_optimizer(config.optim, schedule)
    return model, optimizer, jax.jit(make_train_step(config, model, optimizer, schedule))


def steps(config: Config, batch: Batch, count: int = 1) -> tuple[list[TrainState], Any]:
    """The states before and after every step, and the last means."""
    model, optimizer, step = build(config)
    init = jax.jit(lambda key: init_state(model, optimizer, key, ema=config.optim.ema_decay is not None))
    states = [init(jax.random.key(0))]
    means = None
    for _ in range(count):
        state, means = step(states[-1], batch, jax.random.key(1))
        states.append(state)
    return states, means


def assert_close(first: Any, second: Any, *, rtol: float = 1e-4, atol: float = 1e-6) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), first, second)


# Accumulation.


@pytest.mark.parametrize(("pieces", "weighted"), [(2, True), (4, False)])
def test_microbatches_give_the_step_of_the_whole_batch(pieces: int, weighted: bool) -> None:
    batch = batch_of(16, weighted=weighted)
    (_, whole), means = steps(experiment(VIT), batch)
    (_, accumulated), sums = steps(experiment(VIT, accumulation_steps=pieces), batch)
    assert_close(whole.params, accumulated.params)
    assert means.keys() == sums.keys()
    for name, mean in means.items():
        np.testing.assert_allclose(
            mean.total / mean.count, sums[name].total / sums[name].count, rtol=1e-4, err_msg=name
        )


def test_a_microbatch_without_targets_counts_nothing() -> None:
    """Its rows take part in the classification only; the denominator is the whole batch's."""
    batch = batch_of(16)
    one = np.zeros((16, 1), bool)
    one[3] = True
    batch = batch._replace(valid=one)
    (_, whole), _ = steps(experiment(VIT), batch)
    (_, accumulated), means = steps(experiment(VIT, accumulation_steps=4), batch)
    assert_close(whole.params, accumulated.params)
    assert means["byproduct_loss"].count == 1


def test_batch_statistics_are_updated_by_every_microbatch() -> None:
    batch = batch_of(16)
    batch = batch._replace(images=np.repeat(batch.images[:4], 4, axis=0))  # four equal microbatches
    (before, whole), _ = steps(experiment(RESNET), batch)
    (_, accumulated), _ = steps(experiment(RESNET, accumulation_steps=4), batch)
    old, new, last = (state.batch_stats["backbone"]["stem"]["norm"]["mean"] for state in (before, whole, accumulated))
    batch_mean = (new - 0.9 * old) / 0.1
    np.testing.assert_allclose(last, 0.9**4 * old + (1 - 0.9**4) * batch_mean, rtol=1e-4, atol=1e-5)


# The moving average.


def test_the_average_follows_parameters_and_batch_statistics() -> None:
    config = experiment(RESNET)
    config.optim.ema_decay = 0.75
    states, _ = steps(config, batch_of(16), count=3)
    expected: Any = {"params": states[0].params, "batch_stats": states[0].batch_stats}
    for state in states[1:]:
        new = {"params": state.params, "batch_stats": state.batch_stats}
        expected = jax.tree.map(lambda a, b: 0.75 * a + 0.25 * b, expected, new)
    assert_close(states[-1].ema, expected)


def test_an_average_changes_nothing_about_the_training() -> None:
    config = experiment(RESNET)
    plain, _ = steps(config, batch_of(16), count=2)
    averaging = experiment(RESNET)
    averaging.optim.ema_decay = 0.9
    averaged, _ = steps(averaging, batch_of(16), count=2)
    assert plain[-1].ema is None
    jax.tree.map(np.testing.assert_array_equal, plain[-1].params, averaged[-1].params)


def test_a_slow_average_of_a_constant_stays_the_constant() -> None:
    """decay · a + (1 - decay) · p in float32 would drift off, since the two factors do not add up to one."""
    from luab_jax import ema

    model = {"params": jnp.full(3, 1.7), "batch_stats": {}}
    average = model
    update = jax.jit(lambda average: ema.update(average, **model, decay=0.99996))
    for _ in range(200):
        average = update(average)
    np.testing.assert_array_equal(average["params"], model["params"])


# Rematerialisation.


@pytest.mark.parametrize("remat", [Remat.DOTS, Remat.BLOCKS])
@pytest.mark.parametrize("model", [VIT, RESNET], ids=["vit", "resnet"])
def test_what_is_computed_again_is_the_same(model: ModelConfig, remat: Remat) -> None:
    model = dataclasses.replace(model, drop_path=0.3, dropout=0.1)  # random: drawn alike both times
    (_, plain), _ = steps(experiment(model), batch_of(16))
    (_, again), _ = steps(experiment(dataclasses.replace(model, remat=remat)), batch_of(16))
    assert_close(plain.params, again.params)
    assert_close(plain.batch_stats, again.batch_stats)


# The compiled program.


def compiled(config: Config, mesh: MeshConfig | None = None) -> Any:
    mesh_ = sharding.make_mesh(mesh or MeshConfig())
    model, optimizer, _ = build(config)
    schedule = optim.make_schedule(config.optim, total_steps=10, warmup_steps=0)
    key = jax.eval_shape(lambda: jax.random.key(0))
    shapes = jax.eval_shape(lambda key: init_state(model, optimizer, key, ema=config.optim.ema_decay is not None), key)
    shardings, whole = sharding.state_shardings(mesh_, shapes), sharding.replicated(mesh_)
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch_of(config.batch_size))
    step = jax.jit(
        make_train_step(config, model, optimizer, schedule),
        donate_argnums=0,
        in_shardings=(shardings, sharding.batch_sharding(mesh_), whole),
        out_shardings=(shardings, whole),
    )
    return step.lower(shapes, batch, key).compile()


def test_rematerialisation_takes_less_memory() -> None:
    """By the compiler's account, for a network deep and a batch large enough that activations are most of it."""
    sizes = {}
    for remat in Remat:
        model = dataclasses.replace(VIT, patch_size=2, depth=4, remat=remat)  # 65 tokens: attention counts
        sizes[remat] = compiled(experiment(model, batch_size=64)).memory_analysis().temp_size_in_bytes
    assert sizes[Remat.BLOCKS] < sizes[Remat.DOTS] < sizes[Remat.NONE]
    assert sizes[Remat.BLOCKS] < 0.6 * sizes[Remat.NONE]


def test_microbatches_take_less_memory() -> None:
    sizes = [
        compiled(experiment(VIT, batch_size=128, accumulation_steps=n)).memory_analysis().temp_size_in_bytes
        for n in (1, 4)
    ]
    assert sizes[1] < 0.6 * sizes[0]


@pytest.mark.parametrize("mesh", [MeshConfig(), MeshConfig(data=4, fsdp=2)], ids=["data", "4 x 2 fsdp"])
def test_the_new_state_takes_the_place_of_the_old(mesh: MeshConfig) -> None:
    """Every donated array is aliased, so that parameters, optimiser and average exist once."""
    config = experiment(dataclasses.replace(VIT, embed_dim=128))
    config.optim.ema_decay = 0.9
    config.optim.name = Optimizer.ADAMW
    analysis = compiled(config, mesh).memory_analysis()
    metrics = 2048  # bytes, of the means and the addresses of all outputs
    assert analysis.alias_size_in_bytes > 100_000
    assert analysis.output_size_in_bytes - analysis.alias_size_in_bytes < metrics


def test_average_and_optimiser_are_split_like_the_parameters() -> None:
    config = experiment(dataclasses.replace(VIT, embed_dim=128))
    config.optim.ema_decay = 0.9
    config.optim.name = Optimizer.ADAMW
    model, optimizer, _ = build(config)
    key = jax.eval_shape(lambda: jax.random.key(0))
    shapes = jax.eval_shape(lambda key: init_state(model, optimizer, key, ema=True), key)
    split = sharding.state_shardings(sharding.make_mesh(MeshConfig(data=4, fsdp=2)), shapes)
    adam = next(part for part in split.opt_state if isinstance(part, optax.ScaleByAdamState))
    assert split.params == split.ema["params"] == adam.mu == adam.nu
    assert any(not leaf.is_fully_replicated for leaf in jax.tree.leaves(split.params))
