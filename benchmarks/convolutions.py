"""A CPU's convolutions and whole ResNet steps: ours, XLA's convolution alone, and torch, in one run.

    python -m benchmarks.convolutions [--shapes_only] [--steps_only]

Needs torch (a CPU build) and timm beside the project's packages; float32, on all cores. The three take turns, and each
number is the least of its turns: on a machine that others use, the least is what the work itself takes.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from luab_jax.models import layers
from luab_jax.models.config import Dtype, ModelConfig
from luab_jax.models.convolution import convolve
from luab_jax.models.functional import create_model

try:
    import timm  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]
except ImportError as e:
    sys.exit(f"error: torch (a CPU build is enough) and timm are needed beside the project's packages: {e}")

_XLA = functools.partial(jax.lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC"))
_OURS = functools.partial(convolve, dimension_numbers=("NHWC", "HWIO", "NHWC"))
_TURNS = 5
_PATIENCE_S = 6.0


class Shape(NamedTuple):
    batch: int
    side: int
    inputs: int
    outputs: int
    kernel: int
    stride: int

    def __str__(self) -> str:
        kernel = f"{self.kernel}x{self.kernel}" + (f" / {self.stride}" if self.stride > 1 else "")
        return f"{kernel}, {self.inputs} to {self.outputs}, {self.batch} x {self.side}x{self.side}"


SHAPES = (
    Shape(64, 2, 512, 512, 3, 1),
    Shape(64, 4, 256, 512, 3, 2),
    Shape(64, 4, 256, 256, 3, 1),
    Shape(64, 8, 128, 128, 3, 1),
    Shape(64, 16, 64, 64, 3, 1),
    Shape(64, 16, 256, 64, 1, 1),
    Shape(64, 64, 3, 64, 7, 2),
    Shape(8, 7, 512, 512, 3, 1),
    Shape(8, 14, 256, 256, 3, 1),
    Shape(8, 28, 128, 128, 3, 1),
    Shape(8, 56, 64, 64, 3, 1),
    Shape(8, 56, 64, 256, 1, 1),
    Shape(8, 56, 256, 512, 1, 2),
    Shape(8, 224, 3, 64, 7, 2),
)
"""Those of ResNet-18 and -50 at 64 px and at 224 px."""
STEPS = (("resnet18", 64, 64), ("resnet50", 64, 32), ("resnet18", 224, 8), ("resnet50", 224, 4))
"""Model, pixels, images."""


def least_ms(runs: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """By name; the runs take turns, after one to warm up, until all turns or the patience are over."""
    for run in runs.values():
        run()
    least = dict.fromkeys(runs, float("inf"))
    began = time.perf_counter()
    for _ in range(_TURNS):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            least[name] = min(least[name], 1e3 * (time.perf_counter() - start))
        if time.perf_counter() - began > _PATIENCE_S * len(runs):
            break
    return least


def of_shape(shape: Shape) -> dict[str, float]:
    """Milliseconds of output and both gradients."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((shape.batch, shape.side, shape.side, shape.inputs), np.float32)
    kernel = rng.standard_normal((shape.kernel, shape.kernel, shape.inputs, shape.outputs), np.float32)
    pad = (shape.kernel - 1) // 2

    def ours(convolution: Callable[..., jax.Array]) -> Callable[[], Any]:
        def all_three(images: jax.Array, kernel: jax.Array) -> Any:
            window = ((shape.stride, shape.stride), ((pad, pad), (pad, pad)))
            outputs, transposed = jax.vjp(lambda x, k: convolution(x, k, *window), images, kernel)
            return outputs, transposed(outputs)

        compiled, arrays = jax.jit(all_three), (jnp.asarray(images), jnp.asarray(kernel))
        return lambda: jax.block_until_ready(compiled(*arrays))

    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).requires_grad_()
    k = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()).requires_grad_()

    def theirs() -> None:
        y = torch.nn.functional.conv2d(x, k, stride=shape.stride, padding=pad)
        torch.autograd.grad(y, (x, k), y.detach())

    return least_ms({"XLA": ours(_XLA), "ours": ours(_OURS), "torch": theirs})


def _steps(name: str, side: int, batch: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Ours: forward pass; forward, backward and plain gradient descent."""
    config = ModelConfig(name=name, compute_dtype=Dtype.FLOAT32)
    model = create_model(config, num_classes=1000, image_size=side, byproduct_shape=None)
    params, batch_stats = jax.jit(model.init)(jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (batch, side, side, 3))
    labels = jnp.arange(batch)

    def forward(params: Any, batch_stats: Any, images: jax.Array) -> jax.Array:
        return model.apply(params, batch_stats, images, train=False)[0].logits

    def loss(params: Any, batch_stats: Any, images: jax.Array) -> tuple[jax.Array, Any]:
        outputs, batch_stats = model.apply(params, batch_stats, images, train=True)
        return -jnp.mean(jax.nn.log_softmax(outputs.logits)[labels, labels]), batch_stats

    def train(params: Any, batch_stats: Any, images: jax.Array) -> Any:
        gradients, batch_stats = jax.grad(loss, has_aux=True)(params, batch_stats, images)
        return jax.tree.map(lambda p, g: p - 1e-3 * g, params, gradients), batch_stats

    inputs = (params, batch_stats, images)  # not held by the programs, which would fold them for seconds
    compiled = [jax.jit(function).lower(*inputs).compile() for function in (forward, train)]
    evaluate, learn = (lambda c=c: jax.block_until_ready(c(*inputs)) for c in compiled)
    return evaluate, learn


def of_step(name: str, side: int, batch: int) -> dict[str, dict[str, float]]:
    """Milliseconds by kind of step."""
    ours = _steps(name, side, batch)
    layers.convolve = jax.lax.conv_general_dilated
    try:
        xla = _steps(name, side, batch)
    finally:
        layers.convolve = convolve
    network = timm.create_model(name, num_classes=1000)
    images, labels = torch.randn(batch, 3, side, side), torch.arange(batch)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)

    def forward() -> None:
        network.eval()
        with torch.inference_mode():
            network(images)

    def train() -> None:
        network.train()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()

    kinds = (("forward", 0, forward), ("training", 1, train))
    return {kind: least_ms({"XLA": xla[i], "ours": ours[i], "torch": theirs}) for kind, i, theirs in kinds}


def _row(name: str, ms: dict[str, float]) -> None:
    cells = "".join(f"{ms[key]:>10.1f}" for key in ("XLA", "ours", "torch"))
    print(f"{name:44}{cells}{ms['ours'] / ms['torch']:>14.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes_only", action="store_true", help="no whole steps")
    parser.add_argument("--steps_only", action="store_true", help="only whole steps")
    arguments = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    print(f"{os.cpu_count()} cores, jax {jax.__version__}, torch {torch.__version__}, timm {timm.__version__}")
    print(f"{'ms':44}{'XLA':>10}{'ours':>10}{'torch':>10}{'ours / torch':>14}")
    for shape in () if arguments.steps_only else SHAPES:
        _row(str(shape), of_shape(shape))
    for name, side, batch in () if arguments.shapes_only else STEPS:
        for kind, ms in of_step(name, side, batch).items():
            _row(f"{name}, {batch} x {side} px, {kind}", ms)


if __name__ == "__main__":
    main()
