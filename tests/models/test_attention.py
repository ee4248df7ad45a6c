"""Attention, GELU and stochastic depth against jax's and flax's own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from luab_jax.models import attention
from luab_jax.models.attention import attend, attend_by_pairs, check_attention
from luab_jax.models.config import Attention
from luab_jax.models.layers import DropPath, gelu


@pytest.mark.parametrize("channels", [16, 128])
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.bfloat16, 2e-2)])
def test_attention_and_its_gradient_are_those_of_jax(dtype: jnp.dtype, tolerance: float, channels: int) -> None:
    keys = jax.random.split(jax.random.key(0), 4)
    query, key, value, weight = (jax.random.normal(k, (2, 17, 3, channels)).astype(dtype) for k in keys)

    def ours(*qkv):
        return jnp.sum((attend(*qkv, kernel=Attention.AUTO) * weight).astype(jnp.float32))

    def reference(*qkv):
        return jnp.sum((jax.nn.dot_product_attention(*qkv, implementation="xla") * weight).astype(jnp.float32))

    found = jax.jit(jax.value_and_grad(ours, argnums=(0, 1, 2)))(query, key, value)
    expected = jax.jit(jax.value_and_grad(reference, argnums=(0, 1, 2)))(query, key, value)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize("tokens", [16, 17])
def test_a_token_that_makes_their_number_even_changes_nothing(tokens: int) -> None:
    keys = jax.random.split(jax.random.key(0), 4)
    query, key, value, weight = (jax.random.normal(k, (2, tokens, 3, 16)) for k in keys)

    def ours(*qkv):
        return jnp.sum(attend_by_pairs(*qkv, implementation="xla") * weight)

    def reference(*qkv):
        return jnp.sum(jax.nn.dot_product_attention(*qkv, implementation="xla") * weight)

    found = jax.value_and_grad(ours, argnums=(0, 1, 2))(query, key, value)
    expected = jax.value_and_grad(reference, argnums=(0, 1, 2))(query, key, value)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize("tokens", [196, 197])
def test_a_training_step_with_cudnn_is_lowered_for_a_gpu(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from jax._src.cudnn import fused_attention_stablehlo as cudnn

    monkeypatch.setattr(attention.gpu, "has_cuda", lambda: True)
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(cudnn, "check_compute_capability", lambda *_, **__: True)
    monkeypatch.setattr(cudnn, "is_cuda_compute_capability_equal", lambda capability, *_, **__: capability == "9.0")

    def loss(*qkv):
        return jnp.sum(attend(*qkv, kernel=Attention.AUTO).astype(jnp.float32))

    rows = jax.ShapeDtypeStruct((2, tokens, 3, 64), jnp.bfloat16)
    lowered = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).trace(rows, rows, rows).lower(lowering_platforms=("cuda",))
    assert lowered.as_text().count("__cudnn$fmha") == 2


def test_cudnn_is_refused_where_there_is_none() -> None:
    with pytest.raises(ValueError, match=r"model\.attention=cudnn needs an NVIDIA GPU, and jax runs on cpu"):
        check_attention(Attention.CUDNN)


def test_gelu_is_exact_and_so_is_its_slope() -> None:
    x = jnp.linspace(-9.0, 9.0, 1001)
    np.testing.assert_allclose(gelu(x), jax.nn.gelu(x, approximate=False), atol=1e-6)
    slopes = [jax.vmap(jax.grad(f))(x) for f in (gelu, lambda x: jax.nn.gelu(x, approximate=False))]
    np.testing.assert_allclose(*slopes, atol=1e-6)
    half = gelu(x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    exact = jax.nn.gelu(x.astype(jnp.bfloat16).astype(jnp.float32), approximate=False)
    np.testing.assert_allclose(half.astype(jnp.float32), exact, rtol=2**-8, atol=1e-6)


def test_a_dropped_path_is_dropped_for_a_whole_example() -> None:
    x = jnp.ones((200, 3, 4))
    kept = np.asarray(DropPath(0.25)(x, deterministic=False, rngs=nnx.Rngs(dropout=0)))
    assert set(np.unique(kept)) == {np.float32(0), np.float32(1 / 0.75)}
    assert (kept == kept[:, :1, :1]).all()
    assert 0.65 < (kept[:, 0, 0] > 0).mean() < 0.85
    assert DropPath(0.25)(x, deterministic=True) is x
