"""ConvNeXt in the layout of timm's `convnext_*` (Liu et al. 2022, arXiv:2201.03545).

Patches of 4x4 by a strided convolution, then stages of blocks: a depthwise 7x7 convolution, LayerNorm over channels,
and an MLP of 4 times the width with exact GELU, scaled by factors that begin near 0. Images and activations are NHWC.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from luab_jax.models import gpu
from luab_jax.models.choices import ByproductPool, Remat
from luab_jax.models.families.convnext.family import ConvNeXtFamily, ConvNeXtPreset
from luab_jax.models.layers import (
    DropPath,
    LayerNorm,
    LayerScale,
    Tap,
    drop_path_rates,
    gelu,
    rematerialised,
    set_convolution,
    standardised,
)

HEAD_STDDEV = 0.02
"""Standard deviation of the heads' initial weights: timm, and the paper's code."""

# As in a ViT: timm cuts this normal at 100 deviations, which is nowhere.
_normal = jax.nn.initializers.normal(stddev=0.02)


def _conv(inputs: int, outputs: int, side: int, *, dtype: jnp.dtype, rngs: nnx.Rngs, **options: Any) -> nnx.Conv:
    return nnx.Conv(inputs, outputs, (side, side), dtype=dtype, kernel_init=_normal, rngs=rngs, **options)


class Patches(nnx.Module):
    """4x4 pixels to a position, then LayerNorm: [B, H, W, 3] to [B, H/4, W/4, C]."""

    def __init__(self, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.conv = _conv(3, width, 4, strides=4, padding="VALID", dtype=dtype, rngs=rngs)
        self.norm = LayerNorm(width, dtype=dtype, rngs=rngs)

    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b i j c"]:
        if gpu.is_tuned_for() and images.shape[1] % 4 == images.shape[2] % 4 == 0:
            return self.norm(gpu.project_patches(self.conv, images))
        return self.norm(self.conv(images))


class Downsample(nnx.Module):
    """LayerNorm, then 2x2 positions to one."""

    def __init__(self, inputs: int, outputs: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.norm = LayerNorm(inputs, dtype=dtype, rngs=rngs)
        self.conv = _conv(inputs, outputs, 2, strides=2, padding="VALID", dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b i j d"]:
        return self.conv(self.norm(x))


class Block(nnx.Module):
    """x + layer_scale(fc2(gelu(fc1(norm(depthwise(x))))))."""

    def __init__(self, dim: int, *, layer_scale: float, path_rate: float, dtype: jnp.dtype, rngs: nnx.Rngs):
        around = ((3, 3), (3, 3))
        self.depthwise = _conv(dim, dim, 7, padding=around, feature_group_count=dim, dtype=dtype, rngs=rngs)
        self.norm = LayerNorm(dim, dtype=dtype, rngs=rngs)
        self.fc1 = nnx.Linear(dim, 4 * dim, dtype=dtype, kernel_init=_normal, rngs=rngs)
        self.fc2 = nnx.Linear(4 * dim, dim, dtype=dtype, kernel_init=_normal, rngs=rngs)
        self.layer_scale = LayerScale(dim, layer_scale, dtype=dtype)
        self.drop_path = DropPath(path_rate)

    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "b h w c"]:
        branch = self.layer_scale(self.fc2(gelu(self.fc1(self.norm(self.depthwise(x))))))
        return x + self.drop_path(branch, deterministic=not train, rngs=rngs)


class Stage(nnx.Module):
    """Blocks of one width, behind a `Downsample` but for the first stage."""

    def __init__(self, inputs: int, width: int, rates: list[float], *, layer_scale: float, dtype: jnp.dtype, rngs):
        if inputs != width:
            self.downsample = Downsample(inputs, width, dtype=dtype, rngs=rngs)
        else:
            self.downsample = nnx.data(None)
        self.blocks = nnx.List(
            [Block(width, layer_scale=layer_scale, path_rate=rate, dtype=dtype, rngs=rngs) for rate in rates]
        )


class ConvNeXt(nnx.Module):
    """Images [B, H, W, 3] to averaged and normalised features [B, F], F = `num_features`, in float32."""

    def __init__(
        self,
        preset: ConvNeXtPreset,
        *,
        dropout: float,
        drop_path: float,
        remat: Remat = Remat.NONE,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.remat = remat
        self.num_features = preset.num_features
        self.stem = Patches(preset.width, dtype=dtype, rngs=rngs)
        rates = drop_path_rates(drop_path, preset.num_blocks)
        stages, inputs = [], preset.width
        for index, num_blocks in enumerate(preset.stage_sizes):
            width = preset.width * 2**index
            own, rates = rates[:num_blocks], rates[num_blocks:]
            stages.append(Stage(inputs, width, own, layer_scale=preset.layer_scale, dtype=dtype, rngs=rngs))
            inputs = width
        self.stages = nnx.List(stages)
        self.norm = LayerNorm(self.num_features, dtype=jnp.float32, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)
        set_convolution(self, remat)

    def map_of(
        self, images: Float[Array, "b h w 3"], *, train: bool, rngs: nnx.Rngs | None = None, after: dict[int, Any]
    ) -> Float[Array, "b i j c"]:
        """What comes of the last block; `after` gets that of the blocks whose numbers, from 1, are its keys."""
        x, number = self.stem(images), 0
        run = rematerialised(self.remat)
        for stage in self.stages:
            x = x if stage.downsample is None else stage.downsample(x)
            for block in stage.blocks:
                x, number = run(block, x, rngs, train=train), number + 1
                if number in after:
                    after[number] = x
        return x

    def __call__(
        self,
        images: Float[Array, "b h w 3"],
        *,
        train: bool,
        rngs: nnx.Rngs | None = None,
        taps: tuple[Tap, ...] = (),
    ) -> tuple[Float[Array, "b f"], Float[Array, "b f"], list[Array]]:
        """The classifier's features, the byproduct head's, which are the same, and those of `taps`."""
        after: dict[int, Any] = {tap.block: None for tap in taps if tap.block is not None}
        x = self.map_of(images, train=train, rngs=rngs, after=after)
        found = [self._tapped(x if tap.block is None else after[tap.block], tap) for tap in taps]
        features = self.norm(jnp.mean(x, axis=(1, 2), dtype=jnp.float32))
        features = self.dropout(features, deterministic=not train, rngs=rngs)
        return features, features, found

    def _tapped(self, x: Float[Array, "b h w c"], tap: Tap) -> Float[Array, "b c"] | Float[Array, "b h w c"]:
        """Normalised by the final norm behind the last block, by their own mean and variance behind an earlier one."""
        norm = self.norm if tap.block is None else standardised
        return norm(x if tap.pool is ByproductPool.MAP else jnp.mean(x, axis=(1, 2), dtype=jnp.float32))


def build(
    config: Any, *, image_size: int, handed: ByproductPool, num_replicas: int, dtype: jnp.dtype
) -> Callable[[nnx.Rngs], ConvNeXt]:
    """See `families/README.md`."""
    del image_size, handed, num_replicas  # one pool, no positions, nothing normalised over the batch
    preset = ConvNeXtFamily().filled(config)
    return lambda rngs: ConvNeXt(
        preset, dropout=config.dropout, drop_path=config.drop_path, remat=config.remat, dtype=dtype, rngs=rngs
    )


def localise(
    backbone: ConvNeXt, kernel: Float[Array, "f c"], images: Float[Array, "b h w 3"], labels: Int[Array, " b"]
) -> Float[Array, "b i j"]:
    """A class activation map (Zhou et al. 2016) through the norm behind the mean.

    That norm divides by one number per image, so every position's part in a logit is linear: the mean of the map and a
    constant of the class make its logit.
    """
    x = backbone.map_of(images, train=False, after={}).astype(jnp.float32)
    pooled = jnp.mean(x, axis=(1, 2))
    deviation = jnp.sqrt(jnp.var(pooled, axis=-1) + backbone.norm.epsilon)[:, None, None, None]
    assert backbone.norm.scale is not None
    parts = (x - jnp.mean(x, axis=-1, keepdims=True)) / deviation * backbone.norm.scale[...]
    return jnp.einsum("bijf,fb->bij", parts, kernel[:, labels])
