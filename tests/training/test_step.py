"""One training step: whole or in microbatches, with a moving average, on a mesh; what its program holds."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from luab_jax.augmentation.config import AugmentationConfig
from luab_jax.byproducts.kinds import TargetSettings
from luab_jax.byproducts.targets import Target
from luab_jax.config import ByproductConfig, Config, MeshConfig, OptimConfig, Optimizer
from luab_jax.data.batch import Batch
from luab_jax.data.transforms import Preprocessing
from luab_jax.models.config import Dtype, ModelConfig, Remat, Stem
from luab_jax.models.platform import by_platform_p
from luab_jax.training import ema
from luab_jax.training.program import Program, abstract_batch, lower_train_step, make_checked_mesh, make_program
from luab_jax.training.step import TrainState

SIDE, CLASSES = 16, 5
VIT = ModelConfig(name="vit_ti", embed_dim=16, depth=2, num_heads=2, patch_size=8, compute_dtype=Dtype.FLOAT32)
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


PROGRAMS: dict[tuple[str, int], Program] = {}
"""By config and devices: tests of one experiment compile it once."""


def program_of(config: Config, devices: int = 1) -> Program:
    if (repr(config), devices) not in PROGRAMS:
        mesh = make_checked_mesh(config, jax.devices()[:devices])
        PROGRAMS[repr(config), devices] = make_program(
            config, mesh, num_classes=CLASSES, num_examples=160, target_settings=TargetSettings()
        )
    return PROGRAMS[repr(config), devices]


FIRST_STATES: dict[str, TrainState] = {}
"""By model, heads and optimiser: experiments that differ elsewhere start from one and the same, drawn once."""


def first_state(program: Program) -> TrainState:
    drawn = repr((program.config.model, program.config.optim, program.model.heads))
    if drawn not in FIRST_STATES:
        FIRST_STATES[drawn] = jax.device_get(program.init(jax.random.key(0)))
    return jax.device_put(FIRST_STATES[drawn], jax.tree.map(lambda x: x.sharding, program.abstract_state))


def steps(config: Config, batch: Batch, count: int = 1) -> tuple[list[TrainState], Any]:
    """The states before and after every step on one device, and the last means."""
    program = program_of(config)
    state, means, root = first_state(program), None, jax.random.key(1)
    states = [jax.device_get(state)]
    for _ in range(count):
        state, means = program.train_step(state, batch, root)
        states.append(jax.device_get(state))
    return states, means


@functools.cache
def whole_step(name: str) -> tuple[list[TrainState], Any]:
    """One step of the plain experiment, which others are compared with."""
    return steps(experiment({"vit": VIT, "resnet": RESNET}[name]), batch_of(16))


def assert_close(first: Any, second: Any, *, rtol: float = 1e-4, atol: float = 1e-6) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), first, second)


# Accumulation.


@pytest.mark.parametrize(("pieces", "weighted"), [(2, True), (4, False)])
def test_microbatches_give_the_step_of_the_whole_batch(pieces: int, weighted: bool) -> None:
    batch = batch_of(16, weighted=weighted)
    (_, whole), means = steps(experiment(VIT), batch) if weighted else whole_step("vit")
    (_, accumulated), sums = steps(experiment(VIT, accumulation_steps=pieces), batch)
    assert_close(whole.params, accumulated.params)
    assert means.keys() == sums.keys()
    for name, mean in means.items():
        np.testing.assert_allclose(
            mean.total / mean.count, sums[name].total / sums[name].count, rtol=1e-4, err_msg=name
        )


def test_augmented_and_mixed_images_keep_their_partners_in_microbatches() -> None:
    """Pairs, rectangles and the weights of targets are drawn for the whole batch."""
    config = experiment(VIT, batch_size=32)  # large enough for the same pairs: see `pair_groups`
    config.augmentation = AugmentationConfig(mixup=0.8, erasing=0.5)
    (_, whole), means = steps(config, batch_of(32))
    (_, accumulated), sums = steps(dataclasses.replace(config, accumulation_steps=2), batch_of(32))
    assert_close(whole.params, accumulated.params)
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
    plain, _ = whole_step("resnet")
    averaging = experiment(RESNET)
    averaging.optim.ema_decay = 0.75
    averaged, _ = steps(averaging, batch_of(16))
    assert plain[-1].ema is None
    jax.tree.map(np.testing.assert_array_equal, plain[-1].params, averaged[-1].params)


def test_a_slow_average_of_a_constant_stays_the_constant() -> None:
    """decay · a + (1 - decay) · p in float32 would drift off, since the two factors do not add up to one."""
    model = {"params": jnp.full(3, 1.7), "batch_stats": {}}
    average = model
    update = jax.jit(lambda average: ema.update(average, **model, decay=0.99996))
    for _ in range(200):
        average = update(average)
    np.testing.assert_array_equal(average["params"], model["params"])


# Rematerialisation.


@pytest.mark.parametrize("remat", [Remat.DOTS, Remat.BLOCKS])
@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_what_is_computed_again_is_the_same(name: str, remat: Remat) -> None:
    model = {"vit": VIT, "resnet": RESNET}[name]
    plain = whole_step(name)[0][-1]
    (_, again), _ = steps(experiment(dataclasses.replace(model, remat=remat)), batch_of(16))
    assert_close(plain.params, again.params)
    assert_close(plain.batch_stats, again.batch_stats)


# The compiled program.


def memory(config: Config) -> Any:
    return lower_train_step(program_of(config)).compile().memory_analysis()


def kept_for_the_backward_pass(model: ModelConfig) -> int:
    """Bytes that the forward pass hands on before a compiler sees them, parameters and input among them."""
    program = program_of(experiment(model))

    def forward(params: Any, batch_stats: Any, images: Any, key: Any) -> Any:
        def run(params: Any) -> Any:
            return program.model.apply(params, batch_stats, images, train=True, key=key)[0].logits

        return jax.vjp(run, params)[1]

    state = program.abstract_state
    images = jax.ShapeDtypeStruct((64, SIDE, SIDE, 3), np.float32)
    kept = jax.eval_shape(forward, state.params, state.batch_stats, images, jax.eval_shape(lambda: jax.random.key(0)))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_rematerialisation_keeps_less(name: str) -> None:
    model = {"vit": dataclasses.replace(VIT, patch_size=2, depth=3), "resnet": RESNET}[name]
    sizes = {remat: kept_for_the_backward_pass(dataclasses.replace(model, remat=remat)) for remat in Remat}
    print(sizes)
    assert sizes[Remat.BLOCKS] < 0.8 * sizes[Remat.DOTS]
    assert sizes[Remat.DOTS] < 0.75 * sizes[Remat.NONE]


def test_microbatches_take_less_memory() -> None:
    sizes = [memory(experiment(VIT, batch_size=128, accumulation_steps=n)).temp_size_in_bytes for n in (1, 4)]
    assert sizes[1] < 0.6 * sizes[0]


@pytest.mark.parametrize("mesh", [MeshConfig(), MeshConfig(data=4, fsdp=2)], ids=["data", "4 x 2 fsdp"])
def test_the_new_state_takes_the_place_of_the_old(mesh: MeshConfig) -> None:
    """Every donated array is aliased, so that parameters, optimiser and average exist once."""
    config = experiment(dataclasses.replace(VIT, embed_dim=128))
    config.optim.ema_decay = 0.9
    config.optim.name = Optimizer.ADAMW
    config.mesh = mesh
    analysis = lower_train_step(program_of(config, 8)).compile().memory_analysis()
    metrics = 2048  # bytes, of the means and the addresses of all outputs
    assert analysis.alias_size_in_bytes > 100_000
    assert analysis.output_size_in_bytes - analysis.alias_size_in_bytes < metrics


def test_average_and_optimiser_are_split_like_the_parameters() -> None:
    config = experiment(dataclasses.replace(VIT, embed_dim=128))
    config.optim.ema_decay = 0.9
    config.optim.name = Optimizer.ADAMW
    config.mesh = MeshConfig(data=4, fsdp=2)
    split = jax.tree.map(lambda x: x.sharding, program_of(config, 8).abstract_state)
    adam = next(part for part in split.opt_state if isinstance(part, optax.ScaleByAdamState))
    assert split.params == split.ema["params"] == adam.mu == adam.nu
    assert any(not leaf.is_fully_replicated for leaf in jax.tree.leaves(split.params))


def adamw_with_average(mesh: MeshConfig) -> Config:
    config = experiment(dataclasses.replace(VIT, embed_dim=128))
    config.optim = dataclasses.replace(config.optim, name=Optimizer.ADAMW, ema_decay=0.9, clip_norm=1.0)
    config.mesh = mesh
    return config


@pytest.mark.parametrize("fsdp", [1, 2])
def test_optimiser_and_average_alone_are_split_over_all_devices(fsdp: int) -> None:
    whole, split = (
        program_of(adamw_with_average(MeshConfig(fsdp=fsdp, split_optimizer=on)), 8).abstract_state
        for on in (False, True)
    )
    assert split.ema is not None

    def share(tree: Any) -> float:
        """Of the tree's numbers, on each device."""
        leaves = jax.tree.leaves(tree)
        return sum(math.prod(x.sharding.shard_shape(x.shape)) for x in leaves) / sum(x.size for x in leaves)

    assert [x.sharding for x in jax.tree.leaves(split.params)] == [x.sharding for x in jax.tree.leaves(whole.params)]
    assert share(split.opt_state) < 0.2 and share(split.ema) < 0.2, "an eighth, and what is too small"


def test_a_split_optimiser_takes_the_same_steps() -> None:
    """Sums over the batch are added up in another order; AdamW divides by their size, however small."""
    ends = []
    for split in (False, True):
        program = program_of(adamw_with_average(MeshConfig(split_optimizer=split)), 8)
        state = program.init(jax.random.key(0))
        for _ in range(3):
            state, means = program.train_step(state, batch_of(16), jax.random.key(1))
        average = program.average(state.ema)
        assert average["params"] is not None and all(x.is_fully_replicated for x in jax.tree.leaves(average))
        ends.append(jax.device_get((state.params, average, means)))
    differences = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), *ends)
    assert max(jax.tree.leaves(differences)) < 1e-4


def test_each_device_lays_out_the_tokens_of_its_own_rows() -> None:
    program = program_of(experiment(dataclasses.replace(VIT, embed_dim=128), batch_size=16), 8)
    text = lower_train_step(program).as_text()
    assert set(re.findall(r"@LayoutConstraint\(.*: \(tensor<(\d+)x", text)) == {"2"}


# Types.


def products(jaxpr: Any) -> Iterator[tuple[str, tuple[str, ...], tuple[int, ...]]]:
    """Name, types of the operands and shape of the result of every matrix product and convolution, however nested."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            types = tuple(str(operand.aval.dtype) for operand in equation.invars)
            yield equation.primitive.name, types, equation.outvars[0].aval.shape
        if equation.primitive is by_platform_p:  # what every device but a CPU computes
            yield from products(jax.make_jaxpr(equation.params["elsewhere"])(*(each.aval for each in equation.invars)))
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from products(inner)


def traced_step(config: Config) -> Any:
    program = program_of(config)
    key = jax.eval_shape(lambda: jax.random.key(0))
    return program.train_step.trace(program.abstract_state, abstract_batch(program), key).jaxpr


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_every_product_of_a_step_multiplies_in_bfloat16(name: str) -> None:
    """Forward and backward, but where a float32 gradient comes in: of logits and byproducts, for both heads. A TPU
    multiplies these in bfloat16 too, by jax's default precision."""
    wide = dataclasses.replace(VIT, embed_dim=128)  # as ViT-S and ViT-B: see `attention.fills_lanes`
    model = dataclasses.replace({"vit": wide, "resnet": RESNET}[name], compute_dtype=Dtype.BFLOAT16)
    found = list(products(traced_step(experiment(model))))
    for product, types, shape in found:
        print(product, *types, shape)
    others = [(types, shape) for _, types, shape in found if set(types) != {"bfloat16"}]
    assert len(found) > 20
    features = 128 if name == "vit" else 16
    of_heads = [(CLASSES, features), (2, features), (16, features), (16, features)]
    assert sorted(shape for _, shape in others) == sorted(of_heads)
    assert all(types == ("float32", "bfloat16") for types, _ in others)
