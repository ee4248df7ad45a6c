"""Step 1: the machine, its versions, its ceilings in bf16 products and memory bandwidth; whether attention is right.

python -m benchmarks.gpu.environment --out=DIR
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.gpu.jax_results import installed, jax_results
from benchmarks.gpu.record import Results, parser
from luab_jax.data import region_jpeg
from luab_jax.models.attention import attend, takes_pairs
from luab_jax.models.config import Attention

PACKAGES = (
    *(
        "jax",
        "jaxlib",
        "jax-cuda13-plugin",
        "flax",
        "optax",
        "orbax-checkpoint",
        "grain",
        "numpy",
        "pillow",
        "protobuf",
    ),
    *("opencv-python-headless", "nvidia-nvimgcodec-cu12", "nvidia-nvjpeg-cu12", "cykooz-resizer", "array-record"),
    *("torch", "torchvision", "timm", "triton", "nvidia-cudnn-cu13", "nvidia-cublas", "tensorflow-datasets"),
)
_QUERY = "name,driver_version,memory.total,memory.used,clocks.sm,clocks.max.sm,power.limit,ecc.mode.current"


def smi() -> str:
    """What nvidia-smi says of the card; it is only asked."""
    if shutil.which("nvidia-smi") is None:
        return "no nvidia-smi"
    command = ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv"]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout.strip()


def seconds_of(run: Callable[[], Any], repeats: int) -> float:
    """Of one call, the least of five rounds, after a warm-up."""
    jax.block_until_ready(run())
    rounds = []
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready([run() for _ in range(repeats)][-1])
        rounds.append((time.perf_counter() - start) / repeats)
    return min(rounds)


def product_flops(side: int, repeats: int) -> float:
    """bf16 operations per second of one large product of random matrices."""
    a, b = (jax.random.normal(jax.random.key(i), (side, side), jnp.bfloat16) for i in range(2))
    product = jax.jit(lambda a, b: a @ b)
    return 2 * side**3 / seconds_of(lambda: product(a, b), repeats)


def copy_bytes(size: int, repeats: int) -> float:
    """Bytes read and written per second by a pass over an array."""
    x = jnp.ones(size // 4, jnp.float32)
    negate = jax.jit(lambda x: -x)
    return 2 * size / seconds_of(lambda: negate(x), repeats)


def attention_errors(tokens: int) -> dict[str, float]:
    """Of attention as training picks it here, in bf16, from the formula in float32: output and gradients, relative.

    `behind` is the largest gradient of what follows the tokens to make their number even: 0, or something is wrong.
    """
    n = tokens + tokens % 2 if takes_pairs(Attention.AUTO, jnp.dtype(jnp.bfloat16), 64) else tokens
    keys = jax.random.split(jax.random.key(0), 4)
    rows = [jax.random.normal(key, (4, n, 3, 64), jnp.bfloat16) for key in keys]
    weight = rows.pop() * (jnp.arange(n) < tokens)[:, None, None]

    def ours(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        return attend(query, key, value, kernel=Attention.AUTO, tokens=tokens)

    def formula(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        query, key, value = (x.astype(jnp.float32) for x in (query, key, value))
        logits = jnp.einsum("bqhd,bkhd->bhqk", query, key[:, :tokens], precision="highest") / 8
        return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(logits), value[:, :tokens], precision="highest")

    def with_gradients(attention: Callable[..., jax.Array]) -> tuple[jax.Array, ...]:
        def loss(*rows: jax.Array) -> tuple[jax.Array, jax.Array]:
            output = attention(*rows)
            return jnp.sum(output.astype(jnp.float32) * weight), output

        gradients, output = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(*rows)
        return output, *gradients

    found, expected = with_gradients(ours), with_gradients(formula)
    errors = {
        name: float(jnp.linalg.norm((a.astype(jnp.float32) - b)[:, :tokens].ravel()) / jnp.linalg.norm(b.ravel()))
        for name, a, b in zip(("output", "d_query", "d_key", "d_value"), found, expected, strict=True)
    }
    behind = [jnp.abs(gradient[:, tokens:]).max(initial=0.0) for gradient in found[1:]]
    return errors | {"behind": float(jnp.stack(behind).max())}


def measure(results: Results, *, rehearse: bool) -> None:
    backend = jax.devices()[0].client.platform_version
    results.add(
        "machine",
        python=platform.python_version(),
        cores=len(os.sched_getaffinity(0)),
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        devices=[device.device_kind for device in jax.devices()],
        backend=backend,
        card=smi(),
        packages=installed(PACKAGES),
        crop_decoder=region_jpeg.is_available(),
        xla_flags=os.environ.get("XLA_FLAGS", ""),
    )
    try:
        results.add("attention of 197 tokens, relative errors", **attention_errors(197))
    except Exception as e:  # a kernel that cannot run is a finding, not the end
        results.failed("attention of 197 tokens", e)
    results.add("bf16 product", tflops=product_flops(256 if rehearse else 8192, 2 if rehearse else 10) / 1e12)
    results.add("memory", gb_per_s=copy_bytes(2**20 if rehearse else 2**32, 2 if rehearse else 10) / 1e9)


def main() -> None:
    arguments = parser(__doc__).parse_args()
    measure(jax_results(arguments.out, "environment"), rehearse=arguments.rehearse)


if __name__ == "__main__":
    main()
