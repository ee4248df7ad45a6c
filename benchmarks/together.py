"""Several checkpoints in one pass against one pass each: `python -m benchmarks.together`.

Networks of one architecture with weights of their own score one validation set. Apart, each decodes every image and
compiles its program; together, images are decoded once and the program is one. Both compile from nothing, keep answers
and write results, and the scores of both are compared.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

import luab_jax
from benchmarks import photos as measured
from benchmarks.evaluation import MODELS, load, prepare
from benchmarks.input_pipeline import machine
from luab_jax import api
from luab_jax.config import MeshConfig
from luab_jax.data.class_lists import ClassList
from luab_jax.data.pipeline import num_cores
from luab_jax.distributed import sharding

SUITES = "imagenet"


def drawn(name: str, classes: ClassList, seed: int) -> luab_jax.Model:
    """With weights by which the answers differ between seeds."""
    loaded = load(name, MODELS[name], classes)
    rng = np.random.default_rng(seed)
    noisy = jax.tree.map(lambda leaf: leaf + 0.01 * rng.standard_normal(leaf.shape).astype(np.float32), loaded.params)
    identity = loaded.identity | {"seed": seed, "workdir": f"{name}/{seed}"}
    mesh = sharding.make_mesh(MeshConfig())
    params = sharding.put(noisy, sharding.replicated(mesh))
    loaded = dataclasses.replace(loaded, params=params, identity=identity, config=MODELS[name])
    return luab_jax.Model(loaded, mesh)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=measured.PHOTOS, help="folder of <class>/<name>.JPEG")
    parser.add_argument("--images", type=int, default=384)
    parser.add_argument("--checkpoints", type=int, default=8)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS)[:1])
    arguments = parser.parse_args()
    print(machine(num_cores()))
    print(f"{arguments.checkpoints} checkpoints, {arguments.images} photos, batches of {arguments.batch_size}")
    print(f"{'':24}{'apart, s':>12}{'together, s':>14}{'x faster':>10}{'of these decoding alone, s':>28}")
    with tempfile.TemporaryDirectory() as folder:
        split, classes = prepare(measured.list_photos(arguments.photos), arguments.images, Path(folder))
        data = Path(folder) / "data"
        options = {"batch_size": arguments.batch_size, "examples": 0}
        for name in arguments.models:
            models = {str(seed): drawn(name, classes, seed) for seed in range(arguments.checkpoints)}
            with contextlib.redirect_stderr(io.StringIO()):
                start = time.perf_counter()
                one = next(iter(models.values()))
                reader = api.Predictor(one.loaded, one.mesh, arguments.batch_size, api.Reading())
                list(reader.batches(split, one.preprocessing))
                reading, start = time.perf_counter() - start, time.perf_counter()
                apart = {
                    seed: luab_jax.run_suites(model, data, SUITES, Path(folder) / f"{name} {seed}.json", **options)
                    for seed, model in models.items()
                }
                of_apart, start = time.perf_counter() - start, time.perf_counter()
                outs = {seed: Path(folder) / f"{name} {seed} together.json" for seed in models}
                together = luab_jax.run_suites_together(models, data, SUITES, outs, **options)
                of_together = time.perf_counter() - start
            for seed, results in apart.items():
                of_pass = together[seed]
                assert isinstance(of_pass, luab_jax.SuiteResults), of_pass
                assert results["imagenet"]["top1"] == of_pass["imagenet"]["top1"], seed
            ratio = of_apart / of_together
            print(f"{name:24}{of_apart:12.1f}{of_together:14.1f}{ratio:10.2f}{reading:28.1f}", flush=True)


if __name__ == "__main__":
    main()
