"""Attention by the fastest kernel that a device has."""

from typing import NamedTuple

import jax
import jax.extend
import jax.numpy as jnp
from jaxtyping import Array, Float

from luab_jax.models.config import Attention

_CUDNN_CHANNELS = 128
"""Of a head, at most: cuDNN's limit before Hopper."""


def check_attention(kernel: Attention) -> None:
    """Raises ValueError if the default device cannot run the kernel."""
    if kernel is Attention.CUDNN and not _has_cuda():
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
) -> Float[Array, "b n heads d"]:
    """softmax(query key^T / sqrt(d)) value for every head; the softmax in float32."""
    if kernel is Attention.AUTO:
        kernel = Attention.CUDNN if _cudnn_fits(query) else Attention.XLA
    if kernel is Attention.CUDNN:
        return jax.nn.dot_product_attention(query, key, value, implementation="cudnn")
    if fills_lanes(query.shape[-2] * query.shape[-1]):
        return _attend_by_products(query, key, value)
    return jax.nn.dot_product_attention(query, key, value, implementation="xla")


def fills_lanes(channels: int) -> bool:
    """Whether a TPU's rows of 128 numbers hold so many without rest.

    Of the steps compiled for v5e those of ViT-S and ViT-B were faster and smaller with `_attend_by_products` and tokens
    row by row; that of ViT-Ti, whose 192 channels leave a quarter of such rows empty, as the compiler would have it.
    """
    return channels % 128 == 0


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


def _has_cuda() -> bool:
    return "cuda" in jax.extend.backend.get_backend().platform_version


def _cudnn_fits(query: Float[Array, "b n heads d"]) -> bool:
    """cuDNN's flash attention takes 16-bit types, and channels in eights (jax: `check_is_flash_attention`)."""
    channels = query.shape[-1]
    return (
        _has_cuda() and query.dtype in (jnp.bfloat16, jnp.float16) and channels % 8 == 0 and channels <= _CUDNN_CHANNELS
    )
