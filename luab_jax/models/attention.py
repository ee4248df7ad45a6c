"""Attention by the fastest kernel that a device has."""

import functools
from typing import Any

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
    """softmax(query key^T / sqrt(d)) value for every head; the softmax in float32. Has no forward-mode derivative."""
    if kernel is Attention.AUTO:
        kernel = Attention.CUDNN if _cudnn_fits(query) else Attention.XLA
    if kernel is Attention.CUDNN:
        return jax.nn.dot_product_attention(query, key, value, implementation="cudnn")
    return _xla_attention(query, key, value)


def _has_cuda() -> bool:
    return "cuda" in jax.extend.backend.get_backend().platform_version


def _cudnn_fits(query: Float[Array, "b n heads d"]) -> bool:
    """cuDNN's flash attention takes 16-bit types, and channels in eights (jax: `check_is_flash_attention`)."""
    channels = query.shape[-1]
    return (
        _has_cuda() and query.dtype in (jnp.bfloat16, jnp.float16) and channels % 8 == 0 and channels <= _CUDNN_CHANNELS
    )


@jax.custom_vjp
def _xla_attention(query: Array, key: Array, value: Array) -> Array:
    """As jax.nn.dot_product_attention's, but it keeps its weights for the backward pass once, in the type of `value`.

    Jax's keeps them in float32 as well: for ViT-S and 64 images 0.7 GB more, read and written in every step.
    """
    return _forward(query, key, value)[0]


def _forward(query: Array, key: Array, value: Array) -> tuple[Array, tuple[Array, ...]]:
    query = query * query.shape[-1] ** -0.5  # before the product, as in timm: fewer numbers to scale
    weights = jax.nn.softmax(_product("bqhd,bkhd->bhqk", query, key)).astype(value.dtype)
    return _product("bhqk,bkhd->bqhd", weights, value).astype(value.dtype), (query, key, value, weights)


def _backward(kept: tuple[Array, ...], output: Array) -> tuple[Array, ...]:
    """Every product multiplies in the type of the operands; what lies between is float32."""
    query, key, value, weights = kept
    of_value = _product("bhqk,bqhd->bkhd", weights, output)
    of_weights = _product("bqhd,bkhd->bhqk", output, value)
    probabilities = weights.astype(jnp.float32)
    mean = jnp.sum(probabilities * of_weights, axis=-1, keepdims=True)
    of_logits = (probabilities * (of_weights - mean)).astype(query.dtype)
    of_query = _product("bhqk,bkhd->bqhd", of_logits, key) * query.shape[-1] ** -0.5
    of_key = _product("bhqk,bqhd->bkhd", of_logits, query)
    return of_query.astype(query.dtype), of_key.astype(key.dtype), of_value.astype(value.dtype)


_xla_attention.defvjp(_forward, _backward)

_product: Any = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
