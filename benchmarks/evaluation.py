"""Which bounds an evaluation, decoding or the model: `python -m benchmarks.evaluation`.

images/s of reading alone (records to uint8 batches), of the compiled predict alone (one batch that lies on the device,
again and again) and of `runner.evaluate` (both at a time, answers kept, scores, results.json), in turns; the best of
each. Weights are constants, as time does not depend on them. Where reading and the model share the cores of one
processor, the best that can be had is one after the other: 1 / (1/reading + 1/predict), in the column `in turns`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from benchmarks import photos as measured
from benchmarks.machine import machine
from data_prep.commands import Job, prepare_folders
from data_prep.datasets.listing import Inputs
from data_prep.sources.tree import Folder
from luab_jax.checkpoints.load import LoadedModel
from luab_jax.config import MeshConfig
from luab_jax.data.class_lists import ClassList
from luab_jax.data.dataset import PreparedSplit, open_split
from luab_jax.data.pipeline import Reading, num_cores
from luab_jax.data.transforms import Preprocessing
from luab_jax.distributed import sharding
from luab_jax.evaluation import runner
from luab_jax.evaluation.predictor import Predictor
from luab_jax.evaluation.results import Results
from luab_jax.evaluation.suite import View
from luab_jax.models.config import Dtype, ModelConfig, Stem
from luab_jax.models.functional import create_model

SIDE = 224
MODELS = {
    "two blocks of width 4": ModelConfig(
        name="resnet18", width=4, stage_sizes=(1, 1), stem=Stem.PATCH, compute_dtype=Dtype.FLOAT32
    ),
    "resnet18": ModelConfig(name="resnet18", compute_dtype=Dtype.FLOAT32),
    "vit_ti": ModelConfig(name="vit_ti", compute_dtype=Dtype.FLOAT32),
}


def prepare(photos: list[Path], num_images: int, folder: Path) -> tuple[PreparedSplit, ClassList]:
    """The photos in turns, each under several names, as a validation set."""
    for i in range(num_images):
        photo = photos[i % len(photos)]
        copy = folder / "raw" / photo.parent.name / f"{i}.JPEG"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, copy)
    classes = measured.classes_of(photos[:num_images])
    job = Job(out=folder / "data", split="val", dataset="photos", classes=classes, num_shards=1, workers=1)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        prepare_folders(Inputs(images=Folder(folder / "raw"), byproducts=None), job)
    return open_split(folder / "data", "val"), classes


def load(name: str, config: ModelConfig, classes: ClassList) -> LoadedModel:
    model = create_model(config, num_classes=len(classes), image_size=SIDE, byproduct_shape=None)
    constants = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.01, np.float32), model.abstract())
    params, batch_stats = jax.device_put(constants, sharding.replicated(sharding.make_mesh(MeshConfig())))
    of_data = {"dataset": "photos", "class_list_hash": classes.hash}
    of_run = {"workdir": "none", "step": 0, "chosen": "latest", "seed": 0, "experiment": {}}
    identity = {"model": name, "target": "none", "weight": 0.0, **of_data, **of_run}
    return LoadedModel(name, identity, model, params, batch_stats, Preprocessing(), classes.hash)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(loaded: LoadedModel, split: PreparedSplit, batch_size: int, rounds: int, folder: Path) -> list[float]:
    """images/s of reading, predict, and the whole."""
    predictor = Predictor(loaded, sharding.make_mesh(MeshConfig()), batch_size, Reading())
    num_images, num_batches = len(split.records), -(-len(split.records) // predictor.batch_size)
    pixels = np.zeros((predictor.batch_size, SIDE, SIDE, 3), np.uint8)
    images = jax.device_put(pixels, predictor.rows)
    jax.block_until_ready(predictor.outputs_of(images, View.PLAIN))
    suites = runner.choose_suites("imagenet")

    def predict() -> None:
        jax.block_until_ready([predictor.outputs_of(images, View.PLAIN) for _ in range(num_batches)])

    def evaluate(out: Path) -> None:
        with contextlib.redirect_stderr(io.StringIO()):
            missing = runner.evaluate(loaded, predictor, folder / "data", suites, Results(out, loaded))
        assert not missing, missing

    times: list[list[float]] = [[], [], []]
    for i in range(rounds):
        with contextlib.redirect_stderr(io.StringIO()):
            reading = seconds(lambda: list(predictor.batches(split, loaded.preprocessing)))
        times[0].append(reading / num_images)
        times[1].append(seconds(predict) / (num_batches * predictor.batch_size))
        out = folder / f"{loaded.name}_{i}.json"
        times[2].append(seconds(lambda out=out: evaluate(out)) / num_images)
    return [1 / min(of_kind) for of_kind in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=measured.PHOTOS, help="folder of <class>/<name>.JPEG")
    parser.add_argument("--images", type=int, default=384)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    arguments = parser.parse_args()
    device = jax.devices()[0]
    photos = measured.list_photos(arguments.photos)
    print(machine(num_cores()))
    print(f"jax {jax.__version__}, model on {len(jax.devices())} x {device.device_kind}")
    print(f"{arguments.images} photos to {SIDE} px, batches of {arguments.batch_size}, best of {arguments.rounds}\n")
    print(f"{'images/s':<24}{'reading':>10}{'predict':>10}{'whole':>10}{'in turns':>10}  bounded by")
    with tempfile.TemporaryDirectory() as folder:
        split, classes = prepare(photos, arguments.images, Path(folder))
        for name in arguments.models:
            loaded = load(name, MODELS[name], classes)
            reading, predict, whole = measure(loaded, split, arguments.batch_size, arguments.rounds, Path(folder))
            in_turns = 1 / (1 / reading + 1 / predict)
            bound = "reading" if reading < predict else "the model"
            print(f"{name:<24}{reading:>10.1f}{predict:>10.1f}{whole:>10.1f}{in_turns:>10.1f}  {bound}", flush=True)


if __name__ == "__main__":
    main()
