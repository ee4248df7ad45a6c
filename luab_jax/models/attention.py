"""Attention by the fastest kernel that a device has."""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from luab_jax.models import gpu
from luab_jax.models.choices import Attention

_CUDNN_CHANNELS = 128
"""Of a head, at most: cuDNN's limit before Hopper."""


def check_attention(kernel: Attention) -> None:
    """Raises ValueError if the default device cannot run the kernel."""
    if kernel is Attention.CUDNN and not gpu.has_cuda():
        raise ValueError(
            f"model.attention=cudnn needs an NVIDIA GPU, and jax runs on {jax.default_backend()};"
            " choose auto, which takes cuDNN where there is one, or xla."
        )


def attend(
    query: Float[Array, "b n heads d"],
    key: Float[Array, "b n heads d"],
    value: Float[Array, "b n heads d"],
    *,
    kernel: Attention,
    tokens: int | None = None,
) -> Float[Array, "b n heads d"]:
    """softmax(query key^T / sqrt(d)) value for every head; the softmax in float32.

    tokens: so many are attended to, the first ones (default: all); less than n only where `takes_pairs`.
    """
    if chosen(kernel, query.dtype, query.shape[-1]) is Attention.CUDNN:
        return attend_by_pairs(query, key, value, tokens=tokens, implementation="cudnn")
    assert tokens is None or tokens == query.shape[1]
    if fills_lanes(query.shape[-2] * query.shape[-1]):
        return _attend_by_products(query, key, value)
    return jax.nn.dot_product_attention(query, key, value, implementation="xla")


def fills_lanes(channels: int) -> bool:
    """Whether a TPU's rows of 128 numbers hold so many without rest.

    Of the steps compiled for v5e those of ViT-S and ViT-B were faster and smaller with `_attend_by_products` and tokens
    row by row; that of ViT-Ti, whose 192 channels leave a quarter of such rows empty, as the compiler would have it.
    """
    return channels % 128 == 0


def chosen(kernel: Attention, dtype: jnp.dtype, channels: int) -> Attention:
    """The kernel for heads of so many channels where the config leaves it open."""
    if kernel is Attention.AUTO:
        return Attention.CUDNN if _cudnn_fits(dtype, channels) else Attention.XLA
    return kernel


def takes_pairs(kernel: Attention, dtype: jnp.dtype, channels: int) -> bool:
    """Whether a network should run on an even number of tokens throughout; see `attend_by_pairs`."""
    return gpu.is_tuned_for() and chosen(kernel, dtype, channels) is Attention.CUDNN


def attend_by_pairs(
    query: Float[Array, "b n heads d"],
    key: Float[Array, "b n heads d"],
    value: Float[Array, "b n heads d"],
    *,
    tokens: int | None = None,
    implementation: Literal["cudnn", "xla"],
) -> Float[Array, "b n heads d"]:
    """`jax.nn.dot_product_attention` with an even number of tokens; an odd number gets one more that nobody attends to.

    jax checks every training step by the rule for a bias, which wants even numbers, whether or not there is a bias
    (`check_is_flash_attention`, jax 0.10 and 0.11), and refuses the 197 tokens of 224 px.

    tokens: of an even n, so many are attended to; what comes behind them gets an output of no meaning, and no gradient
    unless that output has one.
    """
    batch, n = query.shape[:2]
    if tokens is not None and tokens < n:
        lengths = jnp.full((batch,), tokens, jnp.int32)
        return jax.nn.dot_product_attention(
            query,
            _no_gradient_behind(key, tokens),  # pyright: ignore[reportArgumentType]
            _no_gradient_behind(value, tokens),  # pyright: ignore[reportArgumentType]
            key_value_seq_lengths=lengths,
            implementation=implementation,
        )
    tokens = n
    if tokens % 2 == 0:
        return jax.nn.dot_product_attention(query, key, value, implementation=implementation)
    query, key, value = (jnp.pad(rows, ((0, 0), (0, 1), (0, 0), (0, 0))) for rows in (query, key, value))
    lengths = jnp.full((batch,), tokens, jnp.int32)
    padded = jax.nn.dot_product_attention(
        query, key, value, query_seq_lengths=lengths, key_value_seq_lengths=lengths, implementation=implementation
    )
    return padded[:, :tokens]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _no_gradient_behind(rows: Float[Array, "b n heads d"], tokens: int) -> Float[Array, "b n heads d"]:
    """Rows as they are; cuDNN promises nothing about the gradients of keys and values behind the given lengths."""
    del tokens
    return rows


def _rows_and_nothing(rows: Float[Array, "b n heads d"], tokens: int) -> tuple[Float[Array, "b n heads d"], None]:
    del tokens
    return rows, None


def _zeros_behind(tokens: int, _: None, gradient: Float[Array, "b n heads d"]) -> tuple[Float[Array, "b n heads d"]]:
    return (jax.lax.dynamic_update_slice(gradient, jnp.zeros_like(gradient[:, tokens:]), (0, tokens, 0, 0)),)


_no_gradient_behind.defvjp(_rows_and_nothing, _zeros_behind)


class _Kept(NamedTuple):
    """For the backward pass, all in the type of the inputs."""

    query: Float[Array, "b n heads d"]
    key: Float[Array, "b n heads d"]
    value: Float[Array, "b n heads d"]
    weights: Float[Array, "b heads n n"]
    output: Float[Array, "b n heads d"]


@jax.custom_vjp
def _attend_by_products(
    query: Float[Array, "b n heads d"], key: Float[Array, "b n heads d"], value: Float[Array, "b n heads d"]
) -> Float[Array, "b n heads d"]:
    """What `jax.nn.dot_product_attention(implementation="xla")` computes, with a backward pass of its own.

    jax's keeps the weights in float32 and multiplies float32 gradients of the logits by queries and keys. Here both are
    in the type of the inputs, as in FlashAttention (Dao et al. 2022, arXiv:2205.14135, algorithm 4); sums stay float32.
    """
    return _forward(query, key, value)[0]


def _forward(
    query: Float[Array, "b n heads d"], key: Float[Array, "b n heads d"], value: Float[Array, "b n heads d"]
) -> tuple[Float[Array, "b n heads d"], _Kept]:
    weights = jax.nn.softmax(_products(query, key) * _scale(query)).astype(query.dtype)
    output = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
    return output, _Kept(query, key, value, weights, output)


def _backward(
    kept: _Kept, d_output: Float[Array, "b n heads d"]
) -> tuple[Float[Array, "b n heads d"], Float[Array, "b n heads d"], Float[Array, "b n heads d"]]:
    """The slope of a softmax: weights · (d_weights - Σ weights · d_weights), whose sum is that of output · d_output."""
    query, key, value, weights, output = kept
    total = jnp.sum(d_output.astype(jnp.float32) * output.astype(jnp.float32), axis=-1)
    d_weights = _products(d_output, value)
    d_logits = weights.astype(jnp.float32) * (d_weights - jnp.swapaxes(total, 1, 2)[..., None]) * _scale(query)
    d_logits = d_logits.astype(query.dtype)
    return (
        jnp.einsum("bhqk,bkhd->bqhd", d_logits, key),
        jnp.einsum("bhqk,bqhd->bkhd", d_logits, query),
        jnp.einsum("bhqk,bqhd->bkhd", weights, d_output),
    )


_attend_by_products.defvjp(_forward, _backward)


def _products(rows: Float[Array, "b q heads d"], columns: Float[Array, "b k heads d"]) -> Float[Array, "b heads q k"]:
    return jnp.einsum("bqhd,bkhd->bhqk", rows, columns, preferred_element_type=jnp.float32)


def _scale(query: Float[Array, "b n heads d"]) -> float:
    return query.shape[-1] ** -0.5


def _cudnn_fits(dtype: jnp.dtype, channels: int) -> bool:
    """cuDNN's flash attention takes 16-bit types, and channels in eights (jax: `check_is_flash_attention`)."""
    return gpu.has_cuda() and dtype in (jnp.bfloat16, jnp.float16) and channels % 8 == 0 and channels <= _CUDNN_CHANNELS
