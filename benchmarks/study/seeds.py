"""Several seeds in one program or one after the other: `python -m benchmarks.study.seeds [--seeds=5] [--rounds=5]`.

The study trains the same shape many times. This times one training step of each of its models for several seeds, as so
many calls of the study's own step and as one call of the same step under `jax.vmap`, in turns. Drawn images.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.study import arms
from benchmarks.train_step import drawn_batch, program_of
from luab_jax.byproducts.targets import Target
from luab_jax.errors import ExitCode


class Step(NamedTuple):
    """Milliseconds a seed, the median of the rounds."""

    apart: float
    together: float


def time_step(model: str, *, seeds: int, rounds: int, batch_size: int) -> Step:
    config = arms.config(model, arms.CLICK, 0, weight=1.0, epochs=8.0, data="")
    config.batch_size, config.data.num_classes = batch_size, 40
    program = program_of(config, Target.CLICK_LAST, jax.devices()[:1])
    keys = [jax.random.key(seed) for seed in range(seeds)]
    batch = drawn_batch(program)

    # Of the step without its jit, whose options for the compiler a jit around it would refuse.
    step = jax.vmap(program.train_step.__wrapped__)
    together = jax.jit(step, donate_argnums=0, compiler_options=program.compiler_options)
    states = [program.init(key) for key in keys]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    batches, stacked_keys = jax.tree.map(lambda x: jnp.stack([x] * seeds), batch), jnp.stack(keys)
    seconds: dict[str, list[float]] = {"apart": [], "together": []}
    for _ in range(rounds + 1):  # the first compiles
        start = time.perf_counter()
        states = [program.train_step(state, batch, key)[0] for state, key in zip(states, keys, strict=True)]
        jax.block_until_ready(states)
        middle = time.perf_counter()
        stacked: Any = jax.block_until_ready(together(stacked, batches, stacked_keys)[0])
        seconds["apart"].append(middle - start)
        seconds["together"].append(time.perf_counter() - middle)
    return Step(*(1e3 * float(np.median(values[1:])) / seeds for values in seconds.values()))


def main(argv: list[str] | None = None) -> ExitCode:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch_size", type=int, default=64)
    asked = parser.parse_args(argv)
    device = jax.devices()[0].device_kind
    print(
        f"jax {jax.__version__}, {device}, {os.cpu_count()} cores; {asked.seeds} seeds, batches of {asked.batch_size}"
    )
    print(f"{'ms a step and seed':<20}{'one by one':>12}{'in one':>10}{'times as fast':>15}")
    for model in arms.MODELS:
        step = time_step(model, seeds=asked.seeds, rounds=asked.rounds, batch_size=asked.batch_size)
        print(f"{model:<20}{step.apart:12.1f}{step.together:10.1f}{step.apart / step.together:15.2f}", flush=True)
    return ExitCode.DONE


if __name__ == "__main__":
    raise SystemExit(main())
