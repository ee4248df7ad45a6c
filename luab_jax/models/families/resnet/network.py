"""ResNet in the v1.5 layout of torchvision and timm: a bottleneck strides in its 3x3.

He et al. 2015 (arXiv:1512.03385); v1.5 and the zero scale at the end of each branch: Goyal et al.
2017 (arXiv:1706.02677), torchvision's `zero_init_residual`. Images and activations are NHWC. Every
padding is explicit, because 'SAME' pads a strided window on the right only, where torch pads both
sides.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from luab_jax.models import gpu
from luab_jax.models.choices import BatchNorm as Statistics
from luab_jax.models.choices import ByproductPool, Remat, Stem
from luab_jax.models.families.resnet.family import ResNetFamily, ResNetPreset
from luab_jax.models.layers import (
    BatchNorm,
    DropPath,
    Tap,
    drop_path_rates,
    relu,
    rematerialised,
    set_convolution,
    set_statistics,
)

HEAD_STDDEV = 0.01
"""Standard deviation of the heads' initial weights: Goyal et al. 2017 (section 5.1)."""

# He et al. 2015 (arXiv:1502.01852), as in torchvision: variance 2 / (out channels * kernel area).
_he_fan_out = jax.nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def _conv(inputs: int, outputs: int, kernel: int, stride: int, padding: int, *, dtype: jnp.dtype, rngs) -> nnx.Conv:
    return nnx.Conv(
        inputs,
        outputs,
        (kernel, kernel),
        strides=stride,
        padding=((padding, padding), (padding, padding)),
        use_bias=False,
        dtype=dtype,
        kernel_init=_he_fan_out,
        rngs=rngs,
    )


class _ConvNorm(nnx.Module):
    """A convolution and its BatchNorm, no activation."""

    def __init__(self, inputs, outputs, kernel, stride, padding, *, dtype: jnp.dtype, rngs):
        self.conv = _conv(inputs, outputs, kernel, stride, padding, dtype=dtype, rngs=rngs)
        self.norm = BatchNorm(outputs, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b i j d"]:
        return self.norm(self.conv(x), use_running_average=not train)


class StemLayers(_ConvNorm):
    """Images [B, H, W, 3] to the first stage's input [B, H/4, W/4, width]; SMALL keeps H and W."""

    def __init__(self, kind: Stem, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        kernel, stride, padding = {
            Stem.IMAGENET: (7, 2, 3),
            Stem.SMALL: (3, 1, 1),
            Stem.PATCH: (4, 4, 0),
        }[kind]
        super().__init__(3, width, kernel, stride, padding, dtype=dtype, rngs=rngs)
        self.pool = kind is Stem.IMAGENET

    def __call__(self, x: Float[Array, "b h w 3"], *, train: bool) -> Float[Array, "b i j c"]:
        if not self.pool:
            return relu(super().__call__(x, train=train))
        if gpu.is_tuned_for() and x.shape[1] % 2 == x.shape[2] % 2 == 0:
            x = self.norm(gpu.convolve_by_twos(self.conv, x), use_running_average=not train)
            return gpu.max_pool(relu(x))
        x = relu(super().__call__(x, train=train))
        return nnx.max_pool(x, (3, 3), strides=(2, 2), padding=[(1, 1), (1, 1)])  # pyright: ignore[reportArgumentType]


class _Block(nnx.Module):
    """relu(shortcut(x) + branch(x)); the subclass says what the branch is.

    The shortcut is a 1x1 convolution with BatchNorm where the shape changes, else the identity.
    """

    def __init__(self, inputs, outputs, stride, *, path_rate: float, dtype: jnp.dtype, rngs):
        self.drop_path = DropPath(path_rate)
        if stride != 1 or inputs != outputs:
            self.shortcut = _ConvNorm(inputs, outputs, 1, stride, 0, dtype=dtype, rngs=rngs)
        else:
            self.shortcut = nnx.data(None)

    def branch(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b i j d"]:
        raise NotImplementedError

    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "b i j d"]:
        branch = self.drop_path(self.branch(x, train=train), deterministic=not train, rngs=rngs)
        if self.shortcut is not None:
            x = self.shortcut(x, train=train)
        return relu(x + branch)


class BasicBlock(_Block):
    """Two 3x3 convolutions, the stride in the first."""

    expansion = 1

    def __init__(self, inputs, width, stride, *, path_rate: float, last_scale, dtype: jnp.dtype, rngs):
        super().__init__(inputs, width, stride, path_rate=path_rate, dtype=dtype, rngs=rngs)
        self.conv1 = _conv(inputs, width, 3, stride, 1, dtype=dtype, rngs=rngs)
        self.norm1 = BatchNorm(width, dtype=dtype, rngs=rngs)
        self.conv2 = _conv(width, width, 3, 1, 1, dtype=dtype, rngs=rngs)
        self.norm2 = BatchNorm(width, dtype=dtype, scale_init=last_scale, rngs=rngs)

    def branch(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b i j d"]:
        x = relu(self.norm1(self.conv1(x), use_running_average=not train))
        return self.norm2(self.conv2(x), use_running_average=not train)


class Bottleneck(_Block):
    """1x1 down to `width`, 3x3 with the stride, 1x1 up to 4 * `width`."""

    expansion = 4

    def __init__(self, inputs, width, stride, *, path_rate: float, last_scale, dtype: jnp.dtype, rngs):
        outputs = self.expansion * width
        super().__init__(inputs, outputs, stride, path_rate=path_rate, dtype=dtype, rngs=rngs)
        self.conv1 = _conv(inputs, width, 1, 1, 0, dtype=dtype, rngs=rngs)
        self.norm1 = BatchNorm(width, dtype=dtype, rngs=rngs)
        self.conv2 = _conv(width, width, 3, stride, 1, dtype=dtype, rngs=rngs)
        self.norm2 = BatchNorm(width, dtype=dtype, rngs=rngs)
        self.conv3 = _conv(width, outputs, 1, 1, 0, dtype=dtype, rngs=rngs)
        self.norm3 = BatchNorm(outputs, dtype=dtype, scale_init=last_scale, rngs=rngs)

    def branch(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b i j d"]:
        x = relu(self.norm1(self.conv1(x), use_running_average=not train))
        x = relu(self.norm2(self.conv2(x), use_running_average=not train))
        return self.norm3(self.conv3(x), use_running_average=not train)


class ResNet(nnx.Module):
    """Images [B, H, W, 3] to globally averaged features [B, F], F = `num_features`, in float32, for either head.

    Stages are attributes `stage1`, `stage2`, … (timm's layer1, layer2, …), each a list of blocks.
    """

    def __init__(
        self,
        preset: ResNetPreset,
        stem: Stem,
        *,
        dropout: float,
        drop_path: float,
        zero_init_residual: bool,
        num_replicas: int = 1,
        unbiased_variance: bool = False,
        remat: Remat = Remat.NONE,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.remat = remat
        last_scale = nnx.initializers.zeros_init() if zero_init_residual else nnx.initializers.ones_init()
        block = Bottleneck if preset.bottleneck else BasicBlock
        self.stem = StemLayers(stem, preset.width, dtype=dtype, rngs=rngs)
        self.num_stages = len(preset.stage_sizes)
        rates = iter(drop_path_rates(drop_path, sum(preset.stage_sizes)))
        inputs = preset.width
        for stage_index, num_blocks in enumerate(preset.stage_sizes):
            width = preset.width * 2**stage_index
            blocks = []
            for block_index in range(num_blocks):
                stride = 2 if stage_index > 0 and block_index == 0 else 1
                blocks.append(
                    block(inputs, width, stride, path_rate=next(rates), last_scale=last_scale, dtype=dtype, rngs=rngs)
                )
                inputs = block.expansion * width
            setattr(self, f"stage{stage_index + 1}", nnx.List(blocks))
        self.num_features = inputs
        self.dropout = nnx.Dropout(dropout)
        set_statistics(self, num_replicas, unbiased=unbiased_variance)
        set_convolution(self, remat)

    def blocks(self) -> list[_Block]:
        """All residual blocks in the order in which they run."""
        return [b for i in range(self.num_stages) for b in getattr(self, f"stage{i + 1}")]

    def __call__(
        self,
        images: Float[Array, "b h w 3"],
        *,
        train: bool,
        rngs: nnx.Rngs | None = None,
        taps: tuple[Tap, ...] = (),
    ) -> tuple[Float[Array, "b f"], Float[Array, "b f"], list[Array]]:
        """The classifier's features, the byproduct head's, which are the same, and those of `taps`."""
        x = self.stem(images, train=train)
        run = rematerialised(self.remat)
        after: dict[int, Array] = {}
        tapped = {tap.block for tap in taps}
        for number, block in enumerate(self.blocks(), 1):
            x = run(block, x, rngs, train=train)
            if number in tapped:
                after[number] = x
        found = [_tapped(x if tap.block is None else after[tap.block], tap) for tap in taps]
        features = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
        features = self.dropout(features, deterministic=not train, rngs=rngs)
        return features, features, found


def _tapped(x: Float[Array, "b h w c"], tap: Tap) -> Float[Array, "b c"] | Float[Array, "b h w c"]:
    if tap.pool is ByproductPool.MAP:
        return x.astype(jnp.float32)
    return jnp.mean(x, axis=(1, 2), dtype=jnp.float32)


def build(
    config: Any, *, image_size: int, handed: ByproductPool, num_replicas: int, dtype: jnp.dtype
) -> Callable[[nnx.Rngs], ResNet]:
    """See `families/README.md`."""
    del image_size, handed  # one pool, for images of any size
    preset = ResNetFamily().filled(config)
    return lambda rngs: ResNet(
        preset,
        config.stem,
        dropout=config.dropout,
        drop_path=config.drop_path,
        zero_init_residual=config.zero_init_residual,
        num_replicas=1 if config.batch_norm is Statistics.GLOBAL else num_replicas,
        unbiased_variance=config.batch_norm_unbiased,
        remat=config.remat,
        dtype=dtype,
        rngs=rngs,
    )


def localise(
    backbone: ResNet, kernel: Float[Array, "f c"], images: Float[Array, "b h w 3"], labels: Int[Array, " b"]
) -> Float[Array, "b i j"]:
    """Σ_f kernel[f, label] · features_f(i, j), whose mean over all positions and the class's bias make its logit.

    A class activation map (Zhou et al. 2016).
    """
    features = backbone.stem(images, train=False)
    for block in backbone.blocks():
        features = block(features, train=False)
    return jnp.einsum("bijf,fb->bij", features.astype(jnp.float32), kernel[:, labels])
