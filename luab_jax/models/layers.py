"""What both families share: normalisation with float32 statistics, stochastic depth, rematerialisation."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from luab_jax.models import gpu
from luab_jax.models.choices import ByproductPool, Remat
from luab_jax.models.convolution import convolve
from luab_jax.models.platform import by_platform


class Tap(NamedTuple):
    """Features that a backbone hands out beside the classifier's."""

    pool: ByproductPool
    """`CLASSIFIER`: pooled as the classifier's are; `MAP`: `[B, I, J, C]`."""
    block: int | None
    """After which residual block, from 1; None: after the last, and normalised as the classifier's are."""


def standardised(x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
    """Mean 0 and variance 1 over the last axis, float32: tokens between pre-norm blocks grow with the depth."""
    return jax.nn.standardize(x.astype(jnp.float32), axis=-1, epsilon=1e-6)


@jax.custom_jvp
def relu(x: Float[Array, "*dims"]) -> Float[Array, "*dims"]:
    """max(x, 0), but NaN stays NaN on a CPU too; `jax.nn.relu` to the letter elsewhere, and its derivative everywhere.

    On a CPU (jax 0.10) max(NaN, 0) is 0 where XLA fuses it into a reduction, such as the mean over pixels. A network
    with spoilt weights would then have finite answers, and a score.
    """
    return by_platform(x, cpu=_keeps_nan, elsewhere=jax.nn.relu)


def _keeps_nan(x: Array) -> Array:
    return jnp.where(x < 0, 0, x)


@relu.defjvp
def _slope_of_relu(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (tangent,) = primals, tangents
    return relu(x), jax.lax.select(x > 0, tangent, jnp.zeros_like(tangent))


def keep_dtypes(arrays: Any, /, *, dtype: Any = None, inexact: bool = True) -> Any:
    """Leaves every array in its own type.

    Handed to a normalisation layer instead of its default, which casts scale, bias and the running
    statistics to the compute type: bfloat16 keeps only 8 bits of a running mean. Float32 statistics
    make the arithmetic float32, and only the result is cast.
    """
    del dtype, inexact
    return arrays


class BatchNorm(nnx.BatchNorm):
    """Statistics over the whole batch, or over each of `num_replicas` equal runs of rows apart.

    With `unbiased` the running variance is an unbiased estimate, as torch's is: the batch's times n / (n - 1), of n
    values per channel and run. Flax keeps the batch's own.

    Where every device holds one such run, no statistic leaves its device before the step ends: the running ones
    become the mean over replicas, which may travel with the gradients. Flax has only groups of devices under a named
    axis, which a jitted program over a mesh does not have.
    """

    num_replicas = 1
    unbiased = False

    def __init__(self, num_features: int, **options: Any):
        # Momentum: torch's default 0.1 is the weight of the new batch, 0.9 here is the weight of the past.
        super().__init__(
            num_features, momentum=0.9, epsilon=1e-5, promote_dtype=keep_dtypes, param_dtype=jnp.float32, **options
        )

    def __call__(self, x: Float[Array, "b *hw c"], use_running_average: bool | None = None, **options: Any) -> Array:
        if self.num_replicas == 1 or use_running_average:
            return self._of_all_rows(x, use_running_average, **options)
        if x.shape[0] % self.num_replicas:
            raise ValueError(f"a batch of {x.shape[0]} does not divide among {self.num_replicas} replicas.")
        rows = x.reshape(self.num_replicas, -1, *x.shape[1:]).astype(jnp.float32)
        axes = tuple(range(1, rows.ndim - 1))
        mean = jnp.mean(rows, axes, keepdims=True)
        var = jnp.maximum(0.0, jnp.mean(jnp.square(rows), axes, keepdims=True) - jnp.square(mean))
        count = rows.size // (self.num_replicas * rows.shape[-1])
        kept = var * _bessel(count) if self.unbiased else var
        for running, batch in ((self.mean, mean), (self.var, kept)):
            batch = jax.lax.stop_gradient(jnp.mean(batch.reshape(self.num_replicas, -1), axis=0))
            running[...] = self.momentum * running[...] + (1 - self.momentum) * batch
        assert self.scale is not None and self.bias is not None
        y = (rows - mean) * (jax.lax.rsqrt(var + self.epsilon) * self.scale[...]) + self.bias[...]
        return y.reshape(x.shape).astype(self.dtype or x.dtype)

    def _of_all_rows(self, x: Array, use_running_average: bool | None, **options: Any) -> Array:
        before = self.var[...]
        y = super().__call__(x, use_running_average, **options)
        if self.unbiased and not use_running_average:
            batch = (self.var[...] - self.momentum * before) / (1 - self.momentum)
            count = x.size // x.shape[-1]
            self.var[...] = self.var[...] + (1 - self.momentum) * (_bessel(count) - 1) * batch
        return y


def _bessel(count: int) -> float:
    """n / (n - 1); of a single value, whose variance is 0, anything will do."""
    return count / max(count - 1, 1)


def set_statistics(module: nnx.Module, num_replicas: int, *, unbiased: bool) -> None:
    """Of every BatchNorm in a module."""
    for _, child in nnx.iter_modules(module):
        if isinstance(child, BatchNorm):
            child.num_replicas, child.unbiased = num_replicas, unbiased


def set_convolution(module: nnx.Module, remat: Remat) -> None:
    """Of every convolution in a module: ours, but where some are computed again, XLA's.

    A policy of `jax.checkpoint` looks at primitives, and not into a function that has its own backward pass.
    """
    for _, child in nnx.iter_modules(module):
        if isinstance(child, nnx.Conv):
            child.conv_general_dilated = convolve if remat is Remat.NONE else jax.lax.conv_general_dilated


def torch_uniform(fan_in: int) -> jax.nn.initializers.Initializer:
    """U(±1 / sqrt(fan_in)): torch's default for the kernels and biases of linear and convolution layers.

    torch.nn.Linear.reset_parameters: kaiming_uniform_ with a = sqrt(5) for the kernel, that bound for the bias.
    """
    bound = fan_in**-0.5

    def draw(key: Array, shape: Any, dtype: Any = jnp.float32, out_sharding: Any = None) -> Array:
        return jax.random.uniform(key, shape, dtype, minval=-bound, maxval=bound)

    return draw


# Epsilon: timm's vit_* and DeiT use 1e-6, torch's default is 1e-5.
LayerNorm = functools.partial(nnx.LayerNorm, epsilon=1e-6, promote_dtype=keep_dtypes, param_dtype=jnp.float32)


class LayerScale(nnx.Module):
    """x by a factor for each channel, `gamma`, which begin alike (Touvron et al. 2021, arXiv:2103.17239)."""

    def __init__(self, dim: int, initial: float, *, dtype: jnp.dtype):
        self.gamma = nnx.Param(jnp.full((dim,), initial, jnp.float32))
        self.dtype = dtype

    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        return x * self.gamma[...].astype(self.dtype)


def gelu(x: Array) -> Array:
    """x Φ(x) with the exact (erf) Φ, in float32 inside.

    jax.nn.gelu(approximate=False) computes it by erfc, which a TPU has to build from exponentials and divisions, and
    for bfloat16 in bfloat16. Here the derivative is computed beside the value, and kept in the type of x. A GPU, whose
    memory is the slower part, keeps x and computes the derivative from it: one pass over memory less.
    """
    return jax.checkpoint(_gelu)(x) if gpu.is_tuned_for() else _gelu(x)


@jax.custom_jvp
def _gelu(x: Array) -> Array:
    return _gelu_and_slope(x)[0]


@_gelu.defjvp
def _gelu_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    value, slope = _gelu_and_slope(*primals)
    return value, slope * tangents[0]


def _gelu_and_slope(x: Array) -> tuple[Array, Array]:
    z = x.astype(jnp.float32)
    cdf = 0.5 * (1.0 + jax.lax.erf(z * math.sqrt(0.5)))
    density = jnp.exp(-0.5 * jnp.square(z)) / math.sqrt(2.0 * math.pi)
    return (z * cdf).astype(x.dtype), (cdf + z * density).astype(x.dtype)


class DropPath(nnx.Dropout):
    """Stochastic depth: drops whole examples' branches, scales the rest by 1 / (1 - rate).

    One factor per example, as in timm; nnx.Dropout, whose random numbers these are, selects every element.
    """

    def __call__(self, inputs: Array, *, deterministic: bool | None = None, rngs: Any = None) -> Array:
        if deterministic or self.rate == 0.0:
            return inputs
        factors = super().__call__(jnp.ones((len(inputs), *[1] * (inputs.ndim - 1))), deterministic=False, rngs=rngs)
        return inputs * factors.astype(inputs.dtype)


def drop_path_rates(last: float, num_blocks: int) -> list[float]:
    """Rates growing linearly from 0 at the first block to `last` (timm, DeiT)."""
    return [last * index / max(1, num_blocks - 1) for index in range(num_blocks)]


def _is_product(primitive: Any, *args: Any, **params: Any) -> bool:
    """A policy of `jax.checkpoint`: keep products with weights, convolutions too, which jax's own does not know."""
    dots = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    return primitive.name == "conv_general_dilated" or dots(primitive, *args, **params)


def rematerialised(remat: Remat) -> Callable[..., Array]:
    """(block, x, rngs, train=...) -> block(x), which keeps for the backward pass what `remat` says."""

    def run(block: Any, x: Array, rngs: nnx.Rngs | None, *, train: bool) -> Array:
        if not train or remat is Remat.NONE:
            return block(x, train=train, rngs=rngs)
        policy = _is_product if remat is Remat.DOTS else None
        return nnx.remat(lambda block, x, rngs: block(x, train=True, rngs=rngs), policy=policy)(block, x, rngs)

    return run
