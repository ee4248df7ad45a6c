"""What the memory of a training does over thousands of steps: `python -m tools.memory --steps=5000`.

A real run on tiny drawn data, in this process, as `luab_jax.main` would do it. After every `--every` steps it prints
the resident memory, what Python's and numpy's objects hold (`--trace`, which is slow), how many objects and device
arrays there are, and at the end what the C library gives back when it is asked to. A leak grows all the way; an
allocator that has not found its size yet, and caches that fill, grow less and less.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np

from data_prep.argument_types import positive
from luab_jax.io.memory import release_freed

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE / 1e6


def trimmed_mb() -> float:
    """After glibc has handed back what it keeps for later."""
    gc.collect()
    release_freed()
    return resident_mb()


class Curve:
    """Memory by step, printed as it is taken."""

    def __init__(self, every: int, *, trace: bool):
        self.every, self.trace = every, trace
        self.points: list[tuple[int, float]] = []
        print("step      resident MB" + ("  traced MB" if trace else "") + "  objects    arrays", flush=True)

    def take(self, step: int) -> None:
        import jax

        if step % self.every:
            return
        gc.collect()
        self.points.append((step, resident_mb()))
        traced = f"{tracemalloc.get_traced_memory()[0] / 1e6:11.2f}" if self.trace else ""
        line = f"{step:8,}  {self.points[-1][1]:11.1f}{traced}  {len(gc.get_objects()):8,}  {len(jax.live_arrays()):6,}"
        print(line, flush=True)

    def slope_kb(self) -> float:
        """KB per step over the second half, by least squares."""
        half = self.points[len(self.points) // 2 :]
        steps, megabytes = np.asarray(half).T
        return float(np.polyfit(steps, megabytes, 1)[0]) * 1e3 if len(half) > 1 else float("nan")


def run(steps: int, every: int, evaluations: int, saves: int, *, trace: bool) -> Curve:
    """Trains `steps` steps with so many evaluations and saves."""
    from luab_jax.config import CheckpointConfig, EvalConfig, LogConfig
    from luab_jax.distributed.stop import StopSignal
    from luab_jax.training import loop
    from luab_jax.training.loop import train
    from tests import tiny

    curve = Curve(every, trace=trace)

    class Watched(StopSignal):
        def at_step(self, step: int) -> bool:
            curve.take(step)
            return super().at_step(step)

    loop.StopSignal = Watched
    with tempfile.TemporaryDirectory() as folder:
        root = tiny.prepare_data(Path(folder) / "data")
        epochs = steps * 8 / 32
        config = tiny.experiment(
            root,
            total_steps=steps,
            eval=EvalConfig(every_epochs=epochs / max(evaluations, 1)),
            checkpoint=CheckpointConfig(every_epochs=epochs / max(saves, 1)),
            log=LogConfig(every_steps=50, tensorboard=False),
        )
        if trace:
            tracemalloc.start(8)
        start = time.monotonic()
        with Path(os.devnull).open("w") as nothing, contextlib.redirect_stderr(nothing):
            train(config, Path(folder) / "run")
        done = curve.points[-1][0] if curve.points else 0
        print(
            f"{done:,} of {steps:,} steps in {time.monotonic() - start:.0f} s, {evaluations} evaluations, {saves} saves"
        )
    return curve


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory of a training, step by step.")
    parser.add_argument("--steps", type=positive, default=5000)
    parser.add_argument("--every", type=positive, default=250)
    parser.add_argument("--evaluations", type=int, default=10)
    parser.add_argument("--saves", type=int, default=10)
    parser.add_argument("--trace", action="store_true", help="where Python's objects were made, slowly")
    options = parser.parse_args()
    curve = run(options.steps, options.every, options.evaluations, options.saves, trace=options.trace)
    print(f"second half: {curve.slope_kb():+.2f} KB per step; trimmed at the end: {trimmed_mb():.1f} MB")
    if options.trace:
        for statistic in tracemalloc.take_snapshot().statistics("lineno")[:12]:
            print(f"  {statistic}")


if __name__ == "__main__":
    main()
