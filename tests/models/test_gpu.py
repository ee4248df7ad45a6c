"""What is done otherwise for a GPU gives the same numbers, from the same parameters; here on the CPU."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from luab_jax.models import attention, gpu
from luab_jax.models.config import Attention, Dtype, ModelConfig, Pool
from luab_jax.models.functional import create_model


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As on a GPU, but for cuDNN's kernel, in whose place jax's formula computes what cuDNN is asked for."""
    by_formula = attention.attend_by_pairs

    def attend_by_pairs(*rows: jax.Array, implementation: str, **options: int | None) -> jax.Array:
        assert implementation == "cudnn"
        return by_formula(*rows, implementation="xla", **options)

    monkeypatch.setattr(gpu, "has_cuda", lambda: True)
    monkeypatch.setattr(attention, "attend_by_pairs", attend_by_pairs)
    return monkeypatch


def _value_and_gradients(kernel: Attention, pool: Pool, dropout: float) -> tuple[jax.Array, dict]:
    """Of 5 tokens, an odd number."""
    config = ModelConfig(
        name="vit_ti", embed_dim=24, num_heads=3, depth=2, patch_size=8, compute_dtype=Dtype.FLOAT32, attention=kernel
    )
    config.drop_path, config.dropout, config.pool = 0.3, dropout, pool
    model = create_model(config, num_classes=3, image_size=16, byproduct_shape=(1, 2))
    params, _ = model.init(jax.random.key(0))
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), params)
    images = jax.random.normal(jax.random.key(1), (4, 16, 16, 3))

    def loss(params: dict) -> jax.Array:
        outputs, _ = model.apply(params, {}, images, train=True, key=jax.random.key(2))
        assert outputs.byproduct is not None
        return jnp.sum(jnp.sin(outputs.logits)) + jnp.sum(jnp.cos(outputs.byproduct))

    return jax.jit(jax.value_and_grad(loss))(params)


@pytest.mark.parametrize(("pool", "dropout"), [(Pool.TOKEN, 0.0), (Pool.MEAN, 0.0), (Pool.TOKEN, 0.2)])
def test_a_transformer_and_its_gradients_are_the_same(tuned: pytest.MonkeyPatch, pool: Pool, dropout: float) -> None:
    found = _value_and_gradients(Attention.CUDNN, pool, dropout)
    tuned.undo()
    expected = _value_and_gradients(Attention.XLA, pool, dropout)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * max(np.abs(b).max(), 1e-3))


def test_all_blocks_run_on_an_even_number_of_tokens(tuned: pytest.MonkeyPatch) -> None:
    seen = []
    attend = attention.attend_by_pairs

    def counting(*rows: jax.Array, **options: int | None) -> jax.Array:
        seen.append((rows[0].shape[1], options["tokens"]))
        return attend(*rows, **options)  # pyright: ignore[reportArgumentType]

    tuned.setattr(attention, "attend_by_pairs", counting)
    _value_and_gradients(Attention.CUDNN, Pool.TOKEN, 0.0)
    assert set(seen) == {(6, 5)}
    seen.clear()
    _value_and_gradients(Attention.CUDNN, Pool.TOKEN, 0.2)  # dropout draws by token
    assert set(seen) == {(5, 5)}


def test_tokens_behind_those_attended_to_get_no_gradient_whatever_the_kernel_leaves_there() -> None:
    """Also where the kernel's gradient there is not even a number."""

    @jax.custom_vjp
    def kernel(rows: jax.Array) -> jax.Array:
        return rows

    kernel.defvjp(lambda rows: (rows, None), lambda _, gradient: (gradient.at[:, 5:].set(jnp.nan),))

    def loss(rows: jax.Array) -> jax.Array:
        return jnp.sum(kernel(attention._no_gradient_behind(rows, 5))[:, :5])

    gradient = jax.grad(loss)(jnp.ones((2, 6, 3, 4)))
    assert (gradient[:, :5] == 1).all() and (gradient[:, 5:] == 0).all()


def test_patches_are_projected_as_by_the_convolution() -> None:
    conv = nnx.Conv(3, 5, (4, 4), strides=4, padding="VALID", rngs=nnx.Rngs(0))
    conv.bias = nnx.Param(jnp.arange(5.0))
    images = jax.random.normal(jax.random.key(0), (2, 8, 12, 3))
    np.testing.assert_allclose(gpu.project_patches(conv, images), conv(images), atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(8, 12), (10, 6)])
def test_the_stem_by_twos_is_the_stem(height: int, width: int) -> None:
    conv = nnx.Conv(3, 5, (7, 7), strides=2, padding=((3, 3), (3, 3)), use_bias=False, rngs=nnx.Rngs(0))
    images = jax.random.normal(jax.random.key(0), (2, height, width, 3))
    np.testing.assert_allclose(gpu.convolve_by_twos(conv, images), conv(images), atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(8, 12), (7, 6), (5, 9)])
def test_a_pool_and_its_gradient_are_those_of_flax_ties_too(height: int, width: int) -> None:
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.randint(keys[0], (2, height, width, 3), 0, 5).astype(jnp.bfloat16)  # few values: many ties

    def flax(x: jax.Array) -> jax.Array:
        return nnx.max_pool(x, (3, 3), strides=(2, 2), padding=[(1, 1), (1, 1)])  # pyright: ignore[reportArgumentType]

    (found, back), (expected, backward) = jax.vjp(gpu.max_pool, x), jax.vjp(flax, x)
    assert (found == expected).all() and found.dtype == expected.dtype
    gradient = jax.random.randint(keys[1], found.shape, -9, 9).astype(jnp.bfloat16)  # sums without rounding
    assert (back(gradient)[0] == backward(gradient)[0]).all()


def test_a_resnet_and_its_gradients_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def value_and_gradients() -> tuple[jax.Array, dict]:
        config = ModelConfig(name="resnet18", width=4, stage_sizes=(1, 1), compute_dtype=Dtype.FLOAT32)
        model = create_model(config, num_classes=3, image_size=16, byproduct_shape=None)
        params, stats = model.init(jax.random.key(0))
        images = jax.random.normal(jax.random.key(1), (4, 16, 16, 3))
        return jax.jit(
            jax.value_and_grad(lambda p: jnp.sum(jnp.sin(model.apply(p, stats, images, train=True)[0].logits)))
        )(params)

    expected = value_and_gradients()
    monkeypatch.setattr(gpu, "is_tuned_for", lambda: True)
    found = value_and_gradients()
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * max(np.abs(b).max(), 1e-3))


def test_an_absent_gpu_as_target_is_as_one_at_hand() -> None:
    def choices() -> tuple[bool, bool]:
        return gpu.is_tuned_for(), attention.takes_pairs(Attention.AUTO, jnp.dtype(jnp.bfloat16), 64)

    with gpu.as_target():
        attention.check_attention(Attention.CUDNN)
        assert choices() == (True, True)
    with pytest.raises(KeyboardInterrupt), gpu.as_target():
        raise KeyboardInterrupt
    assert choices() == (False, False)
    with pytest.raises(ValueError, match="needs an NVIDIA GPU"):
        attention.check_attention(Attention.CUDNN)


def test_the_compiler_is_asked_only_on_a_gpu_and_the_users_flags_win(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu.compiler_options() is None
    monkeypatch.setattr(gpu, "is_tuned_for", lambda: True)
    assert gpu.compiler_options() == {"xla_gpu_enable_triton_gemm": False}
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_enable_triton_gemm=true")
    assert gpu.compiler_options() is None
