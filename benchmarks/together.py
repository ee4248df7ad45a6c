"""Several checkpoints in one pass against one pass each: `python -m benchmarks.together`.

Networks of one architecture with weights of their own. Apart, each decodes every image and compiles its programs;
together, images are decoded, tiled and corrupted once, and programs are compiled once. Both compile from nothing, keep
answers and write results, and the scores of both are compared. What corrupts images is compiled before: it is one
program for all calls of a process.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
from PIL import Image

import luab_jax
from benchmarks import photos as measured
from benchmarks.evaluation import MODELS, SIDE, load
from benchmarks.machine import machine
from data_prep.__main__ import main as data_prep
from luab_jax import api
from luab_jax.config import MeshConfig
from luab_jax.data.class_lists import ClassList, imagenet
from luab_jax.data.dataset import open_split
from luab_jax.data.label_tables import IMAGENET_O, IN9, PERTURBATIONS
from luab_jax.data.pipeline import num_cores
from luab_jax.distributed import sharding
from luab_jax.evaluation import runner
from luab_jax.evaluation.procedures import generated_corruptions_of
from luab_jax.evaluation.procedures.by_image import ByImage
from luab_jax.evaluation.suite import Procedure, Suite

CORRUPTED = generated_corruptions_of(("gaussian_noise", "zoom_blur", "fog", "jpeg_compression"), (1, 3, 5))
VIDEOS = ("gaussian_noise", "translate")
IMAGES_A_VIDEO = 16
SUITES = ("imagenet", "imagenet_o_knn", "imagenet_c_generated", "imagenet_p", "bgc_accuracy")


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


def prepare(photos: list[Path], num_images: int, root: Path) -> Path:
    """Each set of so many photos in turns; their classes are those that ImageNet-O has."""
    ids = imagenet().ids
    chosen = [photos[i % len(photos)] for i in range(num_images)]
    for kind in ("val", "imagenet-o", "train"):
        for i, photo in enumerate(chosen):
            copy = root / kind / ids[IMAGENET_O[i % 200]] / f"ILSVRC2012_val_{i + 1:08d}.JPEG"
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(photo.read_bytes())
    for i, photo in enumerate(chosen):
        square = Image.open(photo).convert("RGB").resize((SIDE, SIDE))
        mask = np.zeros((SIDE, SIDE), bool)
        mask[40:180, 40:180] = True
        for variant in ("original", "only_bg_t"):
            file = root / "bg_challenge" / variant / "val" / list(IN9)[i % 9] / f"fg_{i}.JPEG"
            file.parent.mkdir(parents=True, exist_ok=True)
            square.save(file)
        of_mask = root / "bg_challenge" / "fg_mask" / "val" / list(IN9)[i % 9] / f"fg_{i}.npy"
        of_mask.parent.mkdir(parents=True, exist_ok=True)
        np.save(of_mask, mask)
        if i % IMAGES_A_VIDEO == 0:
            for kind in VIDEOS:
                film(np.asarray(square), kind, root / "imagenet-p" / kind / ids[i] / f"ILSVRC2012_val_{i + 1:08d}.mp4")
    data = root / "data"
    for command in (
        ["suite", "imagenet", f"--source={root / 'val'}", f"--out={data}"],
        ["suite", "imagenet_o", f"--source={root / 'imagenet-o'}", f"--out={data}"],
        ["suite", "imagenet_p", f"--source={root / 'imagenet-p'}", f"--out={data}"],
        ["suite", "backgrounds_challenge", f"--source={root / 'bg_challenge'}", f"--out={data}"],
        ["imagenet_ab", f"--images={root / 'train'}", "--split=train", f"--out={data / 'imagenet_ab'}"],
    ):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as told:
            code = data_prep([*command, "--workers=1"])
        assert code == 0, told.getvalue()
    return data


def film(photo: np.ndarray, kind: str, path: Path) -> None:
    """The photo shifts one pixel per frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 1, (SIDE, SIDE))
    for i in range(PERTURBATIONS[kind]):
        writer.write(np.roll(photo, i, axis=1))
    writer.release()


def suite_of(name: str) -> Suite:
    """Of the corruptions a few; compiling all takes minutes."""
    (suite,) = runner.choose_suites(name)
    return dataclasses.replace(suite, method=Procedure(CORRUPTED)) if name == "imagenet_c_generated" else suite


def images_of(suite: Suite, data: Path, model: luab_jax.Model, batch_size: int) -> Iterator[Any]:
    """What a pass makes before any model sees it."""
    predictor = api.Predictor(model.loaded, model.mesh, batch_size, api.Reading())
    found = {name: runner.find_part(data, part) for name, part in suite.parts.items()}
    splits = {name: open_split(at, suite.parts[name].split) for name, at in found.items() if at is not None}
    run = suite.method.run if isinstance(suite.method, Procedure) else None
    if isinstance(run, ByImage):
        return run.begin(predictor, splits).after(0)
    return predictor.batches(splits["val"], model.loaded.preprocessing)


def seconds_of_images(suite: Suite, data: Path, model: luab_jax.Model, batch_size: int) -> float:
    start = time.perf_counter()
    for item in images_of(suite, data, model, batch_size):
        jax.block_until_ready(getattr(item, "pixels", None))
    return time.perf_counter() - start


def compare(
    suite: Suite, data: Path, models: dict[str, luab_jax.Model], batch_size: int, folder: Path
) -> tuple[float, float, float]:
    """Seconds apart, together, and of decoding and corrupting alone; raises where scores differ."""
    options: dict[str, Any] = {"batch_size": batch_size, "examples": 0}
    first = next(iter(models.values()))
    with contextlib.redirect_stderr(io.StringIO()):
        seconds_of_images(suite, data, first, batch_size)  # compiles what corrupts
        alone = seconds_of_images(suite, data, first, batch_size)
        start = time.perf_counter()
        apart = {
            seed: luab_jax.run_suites(model, data, [suite], folder / f"{seed}.json", **options)
            for seed, model in models.items()
        }
        of_apart, start = time.perf_counter() - start, time.perf_counter()
        outs = {seed: folder / f"{seed} together.json" for seed in models}
        together = luab_jax.run_suites_together(models, data, [suite], outs, **options)
        of_together = time.perf_counter() - start
    for seed, results in apart.items():
        of_pass = together[seed]
        assert isinstance(of_pass, luab_jax.SuiteResults), of_pass
        assert results[suite.name].scores == of_pass[suite.name].scores, seed
    return of_apart, of_together, alone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=measured.PHOTOS, help="folder of <class>/<name>.JPEG")
    parser.add_argument("--images", type=int, default=384, help="of every set; a video for every 16")
    parser.add_argument("--checkpoints", type=int, default=8)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS)[:1])
    parser.add_argument("--suites", nargs="+", choices=SUITES, default=SUITES)
    arguments = parser.parse_args()
    print(machine(num_cores()))
    print(f"{arguments.checkpoints} checkpoints, {arguments.images} photos, batches of {arguments.batch_size}")
    with tempfile.TemporaryDirectory() as folder:
        data = prepare(measured.list_photos(arguments.photos), arguments.images, Path(folder))
        for name in arguments.models:
            print(f"{name:24}{'apart, s':>12}{'together, s':>14}{'x faster':>10}{'images alone, s':>17}")
            models = {str(seed): drawn(name, imagenet(), seed) for seed in range(arguments.checkpoints)}
            for suite in map(suite_of, arguments.suites):
                out = Path(folder) / name / suite.name
                apart, together, alone = compare(suite, data, models, arguments.batch_size, out)
                print(f"{suite.name:24}{apart:12.1f}{together:14.1f}{apart / together:10.2f}{alone:17.1f}", flush=True)


if __name__ == "__main__":
    main()
