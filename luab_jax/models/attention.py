"""Attention by the fastest kernel that a device has."""

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
    return jax.nn.dot_product_attention(query, key, value, implementation="xla")


def _has_cuda() -> bool:
    return "cuda" in jax.extend.backend.get_backend().platform_version


def _cudnn_fits(query: Float[Array, "b n heads d"]) -> bool:
    """cuDNN's flash attention takes 16-bit types, and channels in eights (jax: `check_is_flash_attention`)."""
    channels = query.shape[-1]
    return (
        _has_cuda() and query.dtype in (jnp.bfloat16, jnp.float16) and channels % 8 == 0 and channels <= _CUDNN_CHANNELS
    )
