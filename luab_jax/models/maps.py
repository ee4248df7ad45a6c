"""Where a model sees what it sees: a coarse map over the image, for localisation and for looking at.

A ResNet has class activation maps (Zhou et al. 2016). A ViT's patches do not add up to its logits; its map is the
attention rollout of Abnar and Zuidema 2020, which tells what was looked at, whatever the class.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from luab_jax.models.functional import BatchStats, Model, Params
from luab_jax.models.resnet import ResNet
from luab_jax.models.vit import Attention, ViT

MAPS = {"resnet": "class_activation_map", "vit": "attention_rollout"}
"""The kind of map of each family; its name stands beside every result made from it."""


def localise(
    model: Model, params: Params, batch_stats: BatchStats, images: Float[Array, "b h w 3"], labels: Int[Array, " b"]
) -> Float[Array, "b i j"]:
    """Normalised images to maps of the class `labels`, a cell for each position of the last features or each patch."""
    backbone = model.bind("backbone", params, batch_stats)
    if isinstance(backbone, ResNet):
        return _class_activation_map(backbone, params["classifier"]["kernel"], images, labels)
    return _attention_rollout(backbone, images)


def _class_activation_map(
    backbone: ResNet, kernel: Float[Array, "f c"], images: Float[Array, "b h w 3"], labels: Int[Array, " b"]
) -> Float[Array, "b i j"]:
    """Σ_f kernel[f, label] · features_f(i, j), whose mean over all positions and the class's bias make its logit."""
    features = backbone.stem(images, train=False)
    for block in backbone.blocks():
        features = block(features, train=False)
    return jnp.einsum("bijf,fb->bij", features.astype(jnp.float32), kernel[:, labels])


def _attention_rollout(backbone: ViT, images: Float[Array, "b h w 3"]) -> Float[Array, "b i j"]:
    """Products of (attention + identity) / 2 over the blocks, heads averaged: what reaches the pooled token."""
    tokens = backbone.embed(images)
    rollout = jnp.eye(tokens.shape[1])[None]
    for block in backbone.blocks:
        weights = attention_weights(block.attention, block.norm1(tokens)).mean(axis=1)
        rollout = (0.5 * weights + 0.5 * jnp.eye(tokens.shape[1])) @ rollout
        tokens = block(tokens, train=False)
    pooled = rollout[:, 0] if backbone.pool.value == "token" else rollout[:, 1:].mean(axis=1)
    side = round((tokens.shape[1] - 1) ** 0.5)
    return pooled[:, 1:].reshape(-1, side, side)


def attention_weights(attention: Attention, x: Float[Array, "b n c"]) -> Float[Array, "b heads n n"]:
    """Softmax of query · key / sqrt(channels), which the fused kernel of the forward pass does not hand out."""
    b, n, c = x.shape
    qkv = attention.qkv(x).reshape(b, n, 3, attention.num_heads, c // attention.num_heads)
    scores = jnp.einsum("bqhd,bkhd->bhqk", qkv[:, :, 0], qkv[:, :, 1], preferred_element_type=jnp.float32)
    return jax.nn.softmax(scores / jnp.sqrt(c / attention.num_heads), axis=-1)
