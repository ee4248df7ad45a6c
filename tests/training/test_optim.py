"""Schedules at their corners, optimisers against their published update rules, and which parameters decay."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from luab_jax.config import OptimConfig, Optimizer, Schedule, WeightDecayMask
from luab_jax.errors import ConfigError
from luab_jax.models.config import ModelConfig
from luab_jax.models.functional import create_model, param_name
from luab_jax.training.optim import make_optimizer, make_schedule, weight_decay_mask

# --- schedules


@pytest.mark.parametrize("start", [0.0, 1e-6, 0.1])
def test_warm_up_is_linear_from_its_start_and_ends_at_the_peak(start: float) -> None:
    config = OptimConfig(learning_rate=0.4, warmup_learning_rate=start)
    schedule = make_schedule(config, total_steps=100, warmup_steps=10)
    expected = start + (0.4 - start) * np.arange(11) / 10
    np.testing.assert_allclose([schedule(step) for step in range(11)], expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("kind", Schedule)
@pytest.mark.parametrize("peak", [0.4, 1e-7])
def test_no_step_of_a_run_has_a_rate_of_zero_and_none_is_above_the_peak(kind: Schedule, peak: float) -> None:
    config = OptimConfig(learning_rate=peak, schedule=kind, warmup_epochs=2.0)
    schedule = make_schedule(config, total_steps=80, warmup_steps=20, steps_per_epoch=10.0)
    rates = np.array([schedule(step) for step in range(80)])
    assert rates.min() > 0 and rates.max() <= peak * (1 + 1e-6)


def timms_rate(epoch: int, *, peak: float, final: float, start: float, warmup: int, epochs: int) -> float:
    """timm's CosineLRScheduler for one cycle in epochs: `_get_lr` of timm/scheduler/cosine_lr.py."""
    if epoch < warmup:
        return start + epoch * (peak - start) / warmup
    return final + 0.5 * (peak - final) * (1 + math.cos(math.pi * epoch / epochs))


@pytest.mark.parametrize(("kind", "delay"), [(Schedule.TIMM, 0), (Schedule.DEIT, 1)])
def test_the_schedule_by_epochs_is_timms_to_the_step(kind: Schedule, delay: int) -> None:
    """DeiT's: batch 1024 of ImageNet, whose epochs are no whole number of steps."""
    config = OptimConfig(
        learning_rate=1e-3, final_learning_rate=1e-5, schedule=kind, warmup_epochs=5.0, warmup_learning_rate=1e-6
    )
    per_epoch = 1_281_167 / 1024
    schedule = jax.jit(
        make_schedule(config, total_steps=round(300 * per_epoch), warmup_steps=6256, steps_per_epoch=per_epoch)
    )
    for epoch in (0, 1, 2, 4, 5, 6, 150, 299):
        settings = {"peak": 1e-3, "final": 1e-5, "start": 1e-6, "warmup": 5, "epochs": 300}
        expected = timms_rate(max(0, epoch - delay), **settings)
        first, last = round(epoch * per_epoch), round((epoch + 1) * per_epoch) - 1
        for step in (first, (first + last) // 2, last):
            assert float(schedule(step)) == pytest.approx(expected, rel=1e-4), (epoch, step)


def test_a_schedule_by_epochs_that_would_end_in_its_warm_up_is_refused() -> None:
    config = OptimConfig(schedule=Schedule.DEIT)
    with pytest.raises(ConfigError, match=r"schedule=deit .* a run of 2 epochs would end in its warm-up of 1; set"):
        make_schedule(config, total_steps=20, warmup_steps=10, steps_per_epoch=10.0)


@pytest.mark.parametrize("warmup", [0, 10])
@pytest.mark.parametrize("final", [0.0, 0.02])
def test_from_the_peak_a_half_cosine_falls_to_the_final_rate(warmup: int, final: float) -> None:
    config = OptimConfig(learning_rate=0.4, final_learning_rate=final)
    schedule = make_schedule(config, total_steps=100, warmup_steps=warmup)
    for step in (warmup, warmup + 1, 50, 77, 99, 100):
        expected = final + (0.4 - final) * (1 + math.cos(math.pi * (step - warmup) / (100 - warmup))) / 2
        assert float(schedule(step)) == pytest.approx(expected, abs=1e-7)
    assert float(schedule(100)) == pytest.approx(final, abs=1e-7)
    assert float(schedule(10_000)) == pytest.approx(final, abs=1e-7)


@pytest.mark.parametrize(("total", "warmup"), [(1, 0), (1, 1), (2, 1)])
def test_the_shortest_runs_have_a_schedule(total: int, warmup: int) -> None:
    schedule = make_schedule(OptimConfig(learning_rate=0.4), total_steps=total, warmup_steps=warmup)
    rates = np.array([schedule(step) for step in range(total + 1)])
    assert np.isfinite(rates).all() and (rates >= 0).all() and rates.max() == pytest.approx(0.4)


# --- optimisers

RATE = 0.1
NUM_STEPS = 5


def gradients(step: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(step)
    return {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2)}


def starting_point() -> dict[str, np.ndarray]:
    return gradients(1000)


def rate_at(step: int) -> float:
    return RATE / (1 + step)


def run(config: OptimConfig) -> dict[str, np.ndarray]:
    """Five steps of the optimiser with a rate that falls."""

    @jax.jit
    def update(grads, state, params):
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    optimizer = make_optimizer(config, lambda step: RATE / (1 + step))
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), starting_point())
    state = optimizer.init(params)
    for step in range(NUM_STEPS):
        params, state = update(jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), gradients(step)), state, params)
    return jax.tree.map(np.asarray, params)


def clipped(grads: dict[str, np.ndarray], norm: float | None) -> dict[str, np.ndarray]:
    total = math.sqrt(sum((g**2).sum() for g in grads.values()))
    scale = 1.0 if norm is None or total < norm else norm / total
    return {name: g * scale for name, g in grads.items()}


def torch_sgd(config: OptimConfig, decays: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """The algorithm box of torch.optim.SGD: decay joins the gradient, then the momentum buffer, then Nesterov."""
    params = starting_point()
    buffer: dict[str, np.ndarray] = {}
    for step in range(NUM_STEPS):
        for name, gradient in clipped(gradients(step), config.clip_norm).items():
            g = gradient + config.weight_decay * params[name] * decays(name)
            buffer[name] = config.momentum * buffer[name] + g if name in buffer else g
            g = g + config.momentum * buffer[name] if config.nesterov else buffer[name]
            params[name] = params[name] - rate_at(step) * g
    return params


def adamw(config: OptimConfig, decays: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """Loshchilov & Hutter 2019, algorithm 2, as torch.optim.AdamW writes it down."""
    params = starting_point()
    m = {name: np.zeros_like(value) for name, value in params.items()}
    v = {name: np.zeros_like(value) for name, value in params.items()}
    for step in range(NUM_STEPS):
        for name, g in clipped(gradients(step), config.clip_norm).items():
            old = params[name]
            m[name] = config.beta1 * m[name] + (1 - config.beta1) * g
            v[name] = config.beta2 * v[name] + (1 - config.beta2) * g**2
            m_hat, v_hat = m[name] / (1 - config.beta1 ** (step + 1)), v[name] / (1 - config.beta2 ** (step + 1))
            moved = old - rate_at(step) * config.weight_decay * old * decays(name)
            params[name] = moved - rate_at(step) * m_hat / (np.sqrt(v_hat) + config.epsilon)
    return params


MASKS: dict[WeightDecayMask, Callable[[str], bool]] = {
    WeightDecayMask.ALL: lambda name: True,
    WeightDecayMask.MATRICES: lambda name: name == "kernel",
}


@pytest.mark.parametrize("mask", WeightDecayMask)
@pytest.mark.parametrize(
    ("nesterov", "momentum", "clip_norm"), [(True, 0.9, None), (False, 0.9, None), (True, 0.8, 1.0)]
)
def test_sgd_is_torchs(mask: WeightDecayMask, nesterov: bool, momentum: float, clip_norm: float | None) -> None:
    config = OptimConfig(
        name=Optimizer.SGD,
        weight_decay=0.3,
        weight_decay_mask=mask,
        momentum=momentum,
        nesterov=nesterov,
        clip_norm=clip_norm,
    )
    expected, actual = torch_sgd(config, MASKS[mask]), run(config)
    for name in expected:
        np.testing.assert_allclose(actual[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("mask", WeightDecayMask)
@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_adamw_is_the_published_one(mask: WeightDecayMask, clip_norm: float | None) -> None:
    config = OptimConfig(
        name=Optimizer.ADAMW, weight_decay=0.3, weight_decay_mask=mask, beta2=0.95, epsilon=1e-3, clip_norm=clip_norm
    )
    expected, actual = adamw(config, MASKS[mask]), run(config)
    for name in expected:
        np.testing.assert_allclose(actual[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


# --- which parameters decay

MODELS = {
    "resnet": ModelConfig(name="resnet50", width=4, stage_sizes=(1, 1)),
    "vit": ModelConfig(name="vit_ti", embed_dim=12, depth=2, patch_size=8),
}


def decaying(model: str, mask: WeightDecayMask) -> dict[str, bool]:
    params, _ = create_model(MODELS[model], num_classes=5, image_size=16, byproduct_shape=(1, 2)).abstract()
    leaves = jax.tree_util.tree_leaves_with_path(weight_decay_mask(params, mask))
    return {param_name(path): bool(decays) for path, decays in leaves}


@pytest.mark.parametrize("model", MODELS)
def test_matrices_means_the_kernels_and_nothing_else(model: str) -> None:
    decays = decaying(model, WeightDecayMask.MATRICES)
    assert {name for name, it_does in decays.items() if it_does} == {n for n in decays if n.endswith("/kernel")}
    for part in ("bias", "norm", "class_token", "position_embed"):
        assert not any(decays[name] for name in decays if part in name), part
    heads = {"classifier/kernel", "byproduct_head/linear/kernel"}
    assert all(decays[name] for name in heads)


def test_the_vits_tables_are_among_those_tested() -> None:
    assert {"backbone/class_token", "backbone/position_embed"} <= decaying("vit", WeightDecayMask.MATRICES).keys()


@pytest.mark.parametrize("model", MODELS)
def test_all_means_all(model: str) -> None:
    assert all(decaying(model, WeightDecayMask.ALL).values())
