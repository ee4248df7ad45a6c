"""What the memory of an evaluation does over hundreds of batches: `python -m tools.evaluation_memory --batches=500`.

A real evaluation of tiny drawn data, in this process, as `luab_jax.evaluate` would do it. The table and the slope are
those of `tools.memory`, by batch. An evaluation keeps a few numbers of every image, so a slope of some KB per batch is
meant; images, logits and device arrays of the batches before must not be kept.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from data_prep.argument_types import positive
from tools.memory import Curve, trimmed_mb

BATCH_SIZE = 8


def run(batches: int, every: int, suites: str) -> Curve:
    """Evaluates one split of so many batches."""
    from luab_jax.checkpoints.load import load
    from luab_jax.config import MeshConfig
    from luab_jax.data.pipeline import Reading
    from luab_jax.distributed import sharding
    from luab_jax.evaluation import resume, runner
    from luab_jax.evaluation.predictor import Predictor
    from luab_jax.evaluation.results import Results
    from luab_jax.training.loop import train
    from tests import tiny

    curve = Curve(every, trace=False)
    add, seen = resume.Work.add, 0

    def watched(work: resume.Work, count: int, columns: Any) -> None:
        nonlocal seen
        add(work, count, columns)
        seen += 1
        curve.take(seen)

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = tiny.prepare_data(folder / "data", num_val=BATCH_SIZE * batches)
        config = tiny.experiment(data, total_steps=2)
        config.data.eval_split = "train"  # the other one is large
        train(config, folder / "run")
        mesh = sharding.make_mesh(MeshConfig())
        loaded = load(folder / "run", "latest", mesh)
        predictor = Predictor(loaded, mesh, BATCH_SIZE, Reading(num_threads=2))
        results = Results(folder / "results.json", loaded)
        resume.Work.add = watched  # pyright: ignore[reportAttributeAccessIssue]
        start = time.monotonic()
        runner.evaluate(loaded, predictor, data, runner.choose_suites(suites), results)
        print(f"{seen:,} batches of {suites} in {time.monotonic() - start:.0f} s")
    return curve


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--batches", type=positive, default=500)
    parser.add_argument("--every", type=positive, default=50)
    parser.add_argument("--suites", default="imagenet")
    options = parser.parse_args()
    curve = run(options.batches, options.every, options.suites)
    print(f"second half: {curve.slope_kb():+.2f} KB per batch; trimmed at the end: {trimmed_mb():.1f} MB")


if __name__ == "__main__":
    main()
