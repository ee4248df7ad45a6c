"""Vision Transformer in the layout of DeiT and timm's `vit_*_patch16_224`.

Dosovitskiy et al. 2020 (arXiv:2010.11929), Touvron et al. 2021 (arXiv:2012.12877): class token,
learned position embeddings (the token's included), pre-norm blocks, MLP of 4 times the width with
exact (erf) GELU, bias in qkv. Of DeiT III and DINOv2: layer scale, registers, SwiGLU, a class token without a position.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float, Int

from luab_jax.models import choices, gpu
from luab_jax.models.attention import attend, fills_lanes, takes_pairs
from luab_jax.models.choices import ByproductPool, Pool, Remat
from luab_jax.models.convolution import convolve
from luab_jax.models.families.vit.family import ViTFamily, ViTPreset
from luab_jax.models.layers import (
    DropPath,
    LayerNorm,
    LayerScale,
    Tap,
    drop_path_rates,
    gelu,
    rematerialised,
    standardised,
    torch_uniform,
)
from luab_jax.models.rows import for_own_rows

HEAD_STDDEV = 0.02
"""Standard deviation of the heads' initial weights: DeiT, timm."""

_MLP_RATIO = 4
_SWIGLU_RATIO = 2.66667 * 2
"""Of the two halves together (timm's `vit_giant_patch14_dinov2`)."""

# DeiT and timm draw `trunc_normal_(std=0.02)`, whose bounds are -2 and 2, absolute: 100 standard
# deviations away, so nothing is ever cut. jax.nn.initializers.truncated_normal would cut at 2
# deviations, which leaves 0.0176.
normal_init = jax.nn.initializers.normal(stddev=0.02)


def _linear(inputs: int, outputs: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(inputs, outputs, dtype=dtype, kernel_init=normal_init, rngs=rngs)


class Attention(nnx.Module):
    """Multi-head self-attention; `qkv`'s columns go by (q, k, v), head, channel, as in timm.

    tokens: of those that come, at most so many are attended to, the first ones.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        kernel: choices.Attention,
        tokens: int | None = None,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.num_heads = num_heads
        self.kernel = kernel
        self.tokens = tokens
        self.qkv = _linear(dim, 3 * dim, dtype=dtype, rngs=rngs)
        self.out = _linear(dim, dim, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        b, n, c = x.shape
        heads = (self.num_heads, c // self.num_heads)
        # One product each: to take heads apart behind a single product costs a TPU a fifth of ViT-Ti's step in copies.
        assert self.qkv.bias is not None
        kernels = jnp.split(self.qkv.kernel[...].astype(x.dtype), 3, axis=1)
        biases = jnp.split(self.qkv.bias[...].astype(x.dtype), 3)
        if gpu.is_tuned_for():  # cuBLAS adds a bias to rows, not to heads
            rows = (x @ kernel + bias for kernel, bias in zip(kernels, biases, strict=True))
            query, key, value = (row.reshape(b, n, *heads) for row in rows)
        else:
            query, key, value = (
                jnp.einsum("bnc,chd->bnhd", x, kernel.reshape(c, *heads)) + bias.reshape(heads)
                for kernel, bias in zip(kernels, biases, strict=True)
            )
        tokens = None if self.tokens is None else min(self.tokens, n)
        return self.out(attend(query, key, value, kernel=self.kernel, tokens=tokens).reshape(b, n, c))


class Mlp(nnx.Module):
    """Two layers with an exact GELU between; jax's default is the tanh approximation."""

    def __init__(self, dim: int, *, dropout: float, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.fc1 = _linear(dim, _MLP_RATIO * dim, dtype=dtype, rngs=rngs)
        self.fc2 = _linear(_MLP_RATIO * dim, dim, dtype=dtype, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

    def __call__(self, x: Float[Array, "b n c"], *, train: bool, rngs: nnx.Rngs | None) -> Float[Array, "b n c"]:
        x = gelu(self.fc1(x))
        return self.fc2(self.dropout(x, deterministic=not train, rngs=rngs))


class SwiGlu(nnx.Module):
    """silu(a) · b, of the halves a and b of the first layer's output (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, dim: int, *, dropout: float, dtype: jnp.dtype, rngs: nnx.Rngs):
        half = int(dim * _SWIGLU_RATIO) // 2
        self.fc1 = _linear(dim, 2 * half, dtype=dtype, rngs=rngs)
        self.fc2 = _linear(half, dim, dtype=dtype, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

    def __call__(self, x: Float[Array, "b n c"], *, train: bool, rngs: nnx.Rngs | None) -> Float[Array, "b n c"]:
        gate, value = jnp.split(self.fc1(x), 2, axis=-1)
        x = (nnx.silu(gate.astype(jnp.float32)) * value).astype(gate.dtype)
        return self.fc2(self.dropout(x, deterministic=not train, rngs=rngs))


class Block(nnx.Module):
    """x + attention(norm1(x)), then x + mlp(norm2(x)); each branch by factors of its channels where there are some."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        dropout: float,
        path_rate: float,
        attention: choices.Attention = choices.Attention.AUTO,
        tokens: int | None = None,
        mlp: choices.Mlp = choices.Mlp.GELU,
        layer_scale: float | None = None,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.norm1 = LayerNorm(dim, dtype=dtype, rngs=rngs)
        self.attention = Attention(dim, num_heads, kernel=attention, tokens=tokens, dtype=dtype, rngs=rngs)
        self.norm2 = LayerNorm(dim, dtype=dtype, rngs=rngs)
        kind = Mlp if mlp is choices.Mlp.GELU else SwiGlu
        self.mlp = kind(dim, dropout=dropout, dtype=dtype, rngs=rngs)
        self.layer_scale1 = nnx.data(None) if layer_scale is None else LayerScale(dim, layer_scale, dtype=dtype)
        self.layer_scale2 = nnx.data(None) if layer_scale is None else LayerScale(dim, layer_scale, dtype=dtype)
        self.dropout = nnx.Dropout(dropout)
        self.drop_path = DropPath(path_rate)

    def __call__(self, x: Float[Array, "b n c"], *, train: bool, rngs: nnx.Rngs | None = None) -> Float[Array, "b n c"]:
        def drop(branch, scale):
            branch = self.dropout(branch, deterministic=not train, rngs=rngs)
            branch = branch if scale is None else scale(branch)
            return self.drop_path(branch, deterministic=not train, rngs=rngs)

        x = x + drop(self.attention(self.norm1(x)), self.layer_scale1)
        return _row_by_row(x + drop(self.mlp(self.norm2(x), train=train, rngs=rngs), self.layer_scale2))


class ViT(nnx.Module):
    """Images [B, H, W, 3] to normalised features [B, F], F = `num_features`, in float32, for either head.

    Both heads' features go through one final norm; they are the same array where both pools are.
    """

    def __init__(
        self,
        preset: ViTPreset,
        *,
        image_size: int,
        pool: Pool,
        byproduct_pool: Pool,
        dropout: float,
        drop_path: float,
        patch_embed_init: choices.Init = choices.Init.NORMAL,
        attention: choices.Attention = choices.Attention.AUTO,
        remat: Remat = Remat.NONE,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        dim, patch_size = preset.embed_dim, preset.patch_size
        self.num_features = dim
        self.num_extra_tokens = preset.num_extra_tokens
        self.token_has_position = preset.token_has_position
        self.pool = pool
        self.byproduct_pool = byproduct_pool
        self.dtype = dtype
        self.remat = remat
        # DeiT's and timm's `_init_weights` look at linear layers only, so this convolution keeps torch's default.
        torch_default = torch_uniform(3 * patch_size**2)
        is_torchs = patch_embed_init is choices.Init.TORCH
        self.patch_embed = nnx.Conv(
            3,
            dim,
            (patch_size, patch_size),
            strides=patch_size,
            padding="VALID",
            dtype=dtype,
            conv_general_dilated=convolve,
            rngs=rngs,
            kernel_init=torch_default if is_torchs else normal_init,
            bias_init=torch_default if is_torchs else nnx.initializers.zeros_init(),
        )
        num_patches = (image_size // patch_size) ** 2
        num_tokens = preset.num_extra_tokens + num_patches
        num_positions = num_patches + preset.token_has_position
        self.class_token = nnx.Param(normal_init(rngs.params(), (1, 1, dim), jnp.float32))
        self.position_embed = nnx.Param(normal_init(rngs.params(), (1, num_positions, dim), jnp.float32))
        if preset.registers:
            self.registers = nnx.Param(normal_init(rngs.params(), (1, preset.registers, dim), jnp.float32))
        self.blocks = nnx.List(
            [
                Block(
                    dim,
                    preset.num_heads,
                    dropout=dropout,
                    path_rate=rate,
                    attention=attention,
                    tokens=num_tokens,
                    mlp=preset.mlp,
                    layer_scale=preset.layer_scale,
                    dtype=dtype,
                    rngs=rngs,
                )
                for rate in drop_path_rates(drop_path, preset.depth)
            ]
        )
        self.norm = LayerNorm(dim, dtype=jnp.float32, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)
        # Random numbers of dropout are drawn by token: there, one more would change those of all others.
        pairs = takes_pairs(attention, dtype, dim // preset.num_heads) and not dropout
        self.unattended = num_tokens % 2 if pairs else 0

    def embed(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b n c"]:
        """Patches in row-major order behind the class token and the registers, positions added."""
        x = gpu.project_patches(self.patch_embed, images) if gpu.is_tuned_for() else self.patch_embed(images)
        b, h, w, c = x.shape
        x = x.reshape(b, h * w, c)
        positions = self.position_embed[...].astype(self.dtype)
        tokens = [self.class_token] if self.num_extra_tokens == 1 else [self.class_token, self.registers]
        first = [jnp.broadcast_to(token[...].astype(self.dtype), (b, token.shape[1], c)) for token in tokens]
        if self.token_has_position and self.num_extra_tokens == 1:
            return _row_by_row(jnp.concatenate([*first, x], axis=1) + positions)
        if self.token_has_position:  # registers have none
            first[0], positions = first[0] + positions[:, :1], positions[:, 1:]
        return _row_by_row(jnp.concatenate([*first, x + positions], axis=1))

    def __call__(
        self,
        images: Float[Array, "b h w 3"],
        *,
        train: bool,
        rngs: nnx.Rngs | None = None,
        taps: tuple[Tap, ...] = (),
    ) -> tuple[Float[Array, "b f"], Float[Array, "b f"], list[Array]]:
        """The classifier's features, the byproduct head's, and those of `taps`."""
        x = self.dropout(self.embed(images), deterministic=not train, rngs=rngs)
        tokens = x.shape[1]
        if self.unattended:
            x = jnp.pad(x, ((0, 0), (0, self.unattended), (0, 0)))
        run = rematerialised(self.remat)
        after: dict[int, Array] = {}
        tapped = {tap.block for tap in taps}
        for number, block in enumerate(self.blocks, 1):
            x = run(block, x, rngs, train=train)
            if number in tapped:
                after[number] = x[:, :tokens]
        x = x[:, :tokens] if self.unattended else x
        found = [self._tapped(x if tap.block is None else after[tap.block], tap) for tap in taps]
        features = self.norm(self._pooled(x, self.pool))
        if self.byproduct_pool is self.pool:
            return features, features, found
        return features, self.norm(self._pooled(x, self.byproduct_pool)), found

    def _tapped(self, tokens: Float[Array, "b n c"], tap: Tap) -> Float[Array, "b c"] | Float[Array, "b i j c"]:
        """Normalised by the final norm behind the last block, by their own mean and variance behind an earlier one."""
        norm = self.norm if tap.block is None else standardised
        if tap.pool is ByproductPool.MAP:
            patches = tokens[:, self.num_extra_tokens :]
            side = round(patches.shape[1] ** 0.5)
            return norm(patches).reshape(tokens.shape[0], side, side, -1)
        return norm(self._pooled(tokens, self.pool if tap.pool is ByproductPool.CLASSIFIER else Pool(tap.pool.value)))

    def _pooled(self, tokens: Float[Array, "b n c"], pool: Pool) -> Float[Array, "b c"]:
        """Before the norm: it works on each token alone, so the class token's features are the same either way, and for
        the mean it is timm's order (its `fc_norm`).
        """
        if pool is Pool.TOKEN:
            return tokens[:, 0]
        return jnp.mean(tokens[:, self.num_extra_tokens :], axis=1, dtype=jnp.float32)


def _row_by_row(tokens: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
    """Tokens as they are, and so in memory.

    For the sake of the class token's concatenation a TPU's compiler may lay out all blocks' tokens by position first,
    and by turns where paths are dropped, and copy them for attention and back. XLA for GPUs does the same with ViT-Ti's
    tokens and puts the batch last.
    """
    if not (gpu.is_tuned_for() or fills_lanes(tokens.shape[-1])):
        return tokens
    # XLA divides this badly for tpu7x: every device fills an array of all rows, and these are added up (libtpu 0.0.42).
    return for_own_rows(lambda tokens: with_layout_constraint(tokens, Layout(major_to_minor=(0, 1, 2))), tokens)


def build(
    config: Any, *, image_size: int, handed: ByproductPool, num_replicas: int, dtype: jnp.dtype
) -> Callable[[nnx.Rngs], ViT]:
    """See `families/README.md`."""
    del num_replicas  # nothing is normalised over the batch
    preset = ViTFamily().filled(config)
    own = handed is not ByproductPool.CLASSIFIER
    return lambda rngs: ViT(
        preset,
        image_size=image_size,
        pool=config.pool,
        byproduct_pool=Pool(handed.value) if own else config.pool,
        dropout=config.dropout,
        drop_path=config.drop_path,
        patch_embed_init=config.patch_embed_init,
        attention=config.attention,
        remat=config.remat,
        dtype=dtype,
        rngs=rngs,
    )


def localise(
    backbone: ViT, kernel: Float[Array, "f c"], images: Float[Array, "b h w 3"], labels: Int[Array, " b"]
) -> Float[Array, "b i j"]:
    """Products of (attention + identity) / 2 over the blocks, heads averaged: what reaches the pooled tokens.

    A ViT's patches do not add up to its logits; the attention rollout of Abnar and Zuidema 2020 tells what was looked
    at, whatever the class.
    """
    del kernel, labels
    tokens = backbone.embed(images)
    rollout = jnp.eye(tokens.shape[1])[None]
    for block in backbone.blocks:
        weights = attention_weights(block.attention, block.norm1(tokens)).mean(axis=1)
        rollout = (0.5 * weights + 0.5 * jnp.eye(tokens.shape[1])) @ rollout
        tokens = block(tokens, train=False)
    extra = backbone.num_extra_tokens
    pooled = rollout[:, 0] if backbone.pool is Pool.TOKEN else rollout[:, extra:].mean(axis=1)
    side = round((tokens.shape[1] - extra) ** 0.5)
    return pooled[:, extra:].reshape(-1, side, side)


def attention_weights(attention: Attention, x: Float[Array, "b n c"]) -> Float[Array, "b heads n n"]:
    """Softmax of query · key / sqrt(channels), which the fused kernel of the forward pass does not hand out."""
    b, n, c = x.shape
    qkv = attention.qkv(x).reshape(b, n, 3, attention.num_heads, c // attention.num_heads)
    scores = jnp.einsum("bqhd,bkhd->bhqk", qkv[:, :, 0], qkv[:, :, 1], preferred_element_type=jnp.float32)
    return jax.nn.softmax(scores / jnp.sqrt(c / attention.num_heads), axis=-1)
