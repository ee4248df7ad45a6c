"""Vision Transformer in the layout of DeiT and timm's `vit_*_patch16_224`.

Dosovitskiy et al. 2020 (arXiv:2010.11929), Touvron et al. 2021 (arXiv:2012.12877): class token,
learned position embeddings (the token's included), pre-norm blocks, MLP of 4 times the width with
exact (erf) GELU, bias in qkv.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float

from luab_jax.models import config
from luab_jax.models.attention import attend, fills_lanes
from luab_jax.models.config import Pool, Remat, ViTPreset
from luab_jax.models.layers import DropPath, LayerNorm, drop_path_rates, gelu, rematerialised

_MLP_RATIO = 4

# DeiT and timm draw `trunc_normal_(std=0.02)`, whose bounds are -2 and 2, absolute: 100 standard
# deviations away, so nothing is ever cut. jax.nn.initializers.truncated_normal would cut at 2
# deviations, which leaves 0.0176.
normal_init = jax.nn.initializers.normal(stddev=0.02)


def _linear(inputs: int, outputs: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(inputs, outputs, dtype=dtype, kernel_init=normal_init, rngs=rngs)


class Attention(nnx.Module):
    """Multi-head self-attention; `qkv`'s columns go by (q, k, v), head, channel, as in timm."""

    def __init__(self, dim: int, num_heads: int, *, kernel: config.Attention, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.num_heads = num_heads
        self.kernel = kernel
        self.qkv = _linear(dim, 3 * dim, dtype=dtype, rngs=rngs)
        self.out = _linear(dim, dim, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        b, n, c = x.shape
        heads = (self.num_heads, c // self.num_heads)
        # One product each: to take heads apart behind a single product costs a TPU a fifth of ViT-Ti's step in copies.
        assert self.qkv.bias is not None
        kernels = jnp.split(self.qkv.kernel[...].astype(x.dtype), 3, axis=1)
        biases = jnp.split(self.qkv.bias[...].astype(x.dtype), 3)
        query, key, value = (
            jnp.einsum("bnc,chd->bnhd", x, kernel.reshape(c, *heads)) + bias.reshape(heads)
            for kernel, bias in zip(kernels, biases, strict=True)
        )
        return self.out(attend(query, key, value, kernel=self.kernel).reshape(b, n, c))


class Mlp(nnx.Module):
    """Two layers with an exact GELU between; jax's default is the tanh approximation."""

    def __init__(self, dim: int, *, dropout: float, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.fc1 = _linear(dim, _MLP_RATIO * dim, dtype=dtype, rngs=rngs)
        self.fc2 = _linear(_MLP_RATIO * dim, dim, dtype=dtype, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

    def __call__(self, x: Float[Array, "b n c"], *, train: bool, rngs: nnx.Rngs | None) -> Float[Array, "b n c"]:
        x = gelu(self.fc1(x))
        return self.fc2(self.dropout(x, deterministic=not train, rngs=rngs))


class Block(nnx.Module):
    """x + attention(norm1(x)), then x + mlp(norm2(x))."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        dropout: float,
        path_rate: float,
        attention: config.Attention = config.Attention.AUTO,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.norm1 = LayerNorm(dim, dtype=dtype, rngs=rngs)
        self.attention = Attention(dim, num_heads, kernel=attention, dtype=dtype, rngs=rngs)
        self.norm2 = LayerNorm(dim, dtype=dtype, rngs=rngs)
        self.mlp = Mlp(dim, dropout=dropout, dtype=dtype, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)
        self.drop_path = DropPath(path_rate)

    def __call__(self, x: Float[Array, "b n c"], *, train: bool, rngs: nnx.Rngs | None = None) -> Float[Array, "b n c"]:
        def drop(branch):
            branch = self.dropout(branch, deterministic=not train, rngs=rngs)
            return self.drop_path(branch, deterministic=not train, rngs=rngs)

        x = x + drop(self.attention(self.norm1(x)))
        return _row_by_row(x + drop(self.mlp(self.norm2(x), train=train, rngs=rngs)))


class ViT(nnx.Module):
    """Images [B, H, W, 3] to normalised features [B, F], F = `num_features`, in float32, for either head.

    Both heads' features go through one final norm; they are the same array where both pools are.
    """

    def __init__(
        self,
        preset: ViTPreset,
        *,
        image_size: int,
        patch_size: int,
        pool: Pool,
        byproduct_pool: Pool,
        dropout: float,
        drop_path: float,
        attention: config.Attention = config.Attention.AUTO,
        remat: Remat = Remat.NONE,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        dim = preset.embed_dim
        self.num_features = dim
        self.pool = pool
        self.byproduct_pool = byproduct_pool
        self.dtype = dtype
        self.remat = remat
        self.patch_embed = nnx.Conv(
            3,
            dim,
            (patch_size, patch_size),
            strides=patch_size,
            padding="VALID",
            dtype=dtype,
            kernel_init=normal_init,
            rngs=rngs,
        )
        num_tokens = 1 + (image_size // patch_size) ** 2
        self.class_token = nnx.Param(normal_init(rngs.params(), (1, 1, dim), jnp.float32))
        self.position_embed = nnx.Param(normal_init(rngs.params(), (1, num_tokens, dim), jnp.float32))
        self.blocks = nnx.List(
            [
                Block(
                    dim,
                    preset.num_heads,
                    dropout=dropout,
                    path_rate=rate,
                    attention=attention,
                    dtype=dtype,
                    rngs=rngs,
                )
                for rate in drop_path_rates(drop_path, preset.depth)
            ]
        )
        self.norm = LayerNorm(dim, dtype=jnp.float32, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

    def embed(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b n c"]:
        """Patches in row-major order behind the class token, positions added."""
        x = self.patch_embed(images)
        b, h, w, c = x.shape
        token = jnp.broadcast_to(self.class_token[...].astype(self.dtype), (b, 1, c))
        x = jnp.concatenate([token, x.reshape(b, h * w, c)], axis=1)
        return _row_by_row(x + self.position_embed[...].astype(self.dtype))

    def __call__(
        self, images: Float[Array, "b h w 3"], *, train: bool, rngs: nnx.Rngs | None = None
    ) -> tuple[Float[Array, "b f"], Float[Array, "b f"]]:
        x = self.dropout(self.embed(images), deterministic=not train, rngs=rngs)
        run = rematerialised(self.remat)
        for block in self.blocks:
            x = run(block, x, rngs, train=train)
        features = self.norm(_pooled(x, self.pool))
        if self.byproduct_pool is self.pool:
            return features, features
        return features, self.norm(_pooled(x, self.byproduct_pool))


def _row_by_row(tokens: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
    """Tokens as they are, and so in memory.

    For the sake of the class token's concatenation a TPU's compiler may lay out all blocks' tokens by position first,
    and by turns where paths are dropped, and copy them for attention and back.
    """
    if not fills_lanes(tokens.shape[-1]):
        return tokens
    return with_layout_constraint(tokens, Layout(major_to_minor=(0, 1, 2)))


def _pooled(tokens: Float[Array, "b n c"], pool: Pool) -> Float[Array, "b c"]:
    """Before the norm: it works on each token alone, so the class token's features are the same either way, and for
    the mean it is timm's order (its `fc_norm`).
    """
    if pool is Pool.TOKEN:
        return tokens[:, 0]
    return jnp.mean(tokens[:, 1:], axis=1, dtype=jnp.float32)
