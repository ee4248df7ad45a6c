"""How fast preparation is beside TFDS's, in one run: `python -m benchmarks.prepare`.

Both put the same files with the same annotations into TFRecord shards, bytes of the images untouched, in one process
pinned to one core. TFDS's builder is as its documentation tells to write one: `_generate_examples` yields features,
with the annotation parsed by the same function.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from benchmarks import photos as measured
from benchmarks.machine import machine
from data_prep.annotations.imagenet_ab import read_annotation
from data_prep.problems import Problems
from luab_jax.byproducts.records import TimedPoint

_POINT = {"x": np.float32, "y": np.float32, "time_ms": np.int64}


class PhotosByTfds(tfds.core.GeneratorBasedBuilder):
    """Image, name, label, clicks and trace: fewer columns than this project's own records have."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, images: Path, annotations: Path | None, data_dir: Path):
        self._photos, self._annotations = measured.list_photos(images), annotations
        super().__init__(data_dir=str(data_dir))

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "file_name": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=list(measured.classes_of(self._photos).ids)),
        }
        if self._annotations:
            features |= {"clicks": tfds.features.Sequence(_POINT), "trace": tfds.features.Sequence(_POINT)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for photo in self._photos:
            example: dict[str, Any] = {"image": str(photo), "file_name": photo.name, "label": photo.parent.name}
            if self._annotations:
                stem = f"{photo.parent.name}/{photo.stem}"
                found = read_annotation((self._annotations / f"{stem}.xml").read_bytes(), stem, Problems())
                example["clicks"] = [point_row(p) for showing in found.showings for p in showing.clicks]
                example["trace"] = [point_row(p) for showing in found.showings for p in showing.trace]
            yield str(photo), example


def point_row(point: TimedPoint) -> dict[str, float | int]:
    return {"x": point.x, "y": point.y, "time_ms": point.time_ms or -1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=measured.PHOTOS, help="folder of <class>/<name>.JPEG")
    parser.add_argument("--copies", type=int, default=10, help="each photo is prepared so often, under other names")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ours_only", action="store_true", help="without TFDS, whose writer needs tensorflow")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    print(machine(1) + f", tensorflow-datasets {version('tensorflow-datasets')}")
    with tempfile.TemporaryDirectory() as folder:
        images, annotations = Path(folder, "images"), Path(folder, "annotations")
        copy_photos(arguments.photos, images, arguments.copies)
        photos = measured.list_photos(images)
        measured.write_annotations(photos, annotations)
        for of_photos, title in ((None, "images and labels alone"), (annotations, "with annotations")):
            names = [name for name in CONTESTANTS if name.startswith("ours") or not arguments.ours_only]
            seconds: dict[str, list[float]] = {name: [] for name in names}
            for name in names * arguments.rounds:
                out = Path(folder, "out")
                seconds[name].append(cpu_seconds(CONTESTANTS[name], images, of_photos, out))
                shutil.rmtree(out)
            print_table(title, seconds, len(photos))


def copy_photos(source: Path, target: Path, copies: int) -> None:
    for photo in measured.list_photos(source):
        (target / photo.parent.name).mkdir(parents=True, exist_ok=True)
        for k in range(copies):
            (target / photo.parent.name / f"{k}_{photo.name}").symlink_to(photo)


def by_ours(images: Path, annotations: Path | None, out: Path) -> None:
    measured.prepare(images, annotations, out)


def by_ours_undecoded(images: Path, annotations: Path | None, out: Path) -> None:
    """The same work as TFDS's builder does, which looks into no image."""
    measured.prepare(images, annotations, out, decode=False)


def by_tfds(images: Path, annotations: Path | None, out: Path) -> None:
    tfds.disable_progress_bar()
    PhotosByTfds(images, annotations, out).download_and_prepare()


CONTESTANTS = {
    "TFDS GeneratorBasedBuilder": by_tfds,
    "ours": by_ours,
    "ours, --no_decode_check": by_ours_undecoded,
}


def cpu_seconds(work: Callable[..., None], *arguments: Path | None) -> float:
    with contextlib.redirect_stdout(io.StringIO()):
        start = time.process_time()
        work(*arguments)
        return time.process_time() - start


def print_table(title: str, seconds: dict[str, list[float]], num_photos: int) -> None:
    rounds = len(next(iter(seconds.values())))
    print(f"\n{num_photos} photos, {title}; {rounds} rounds in turns, the least CPU time\n")
    print(f"{'':<28} {'ms/example':>11} {'examples/s/core':>16} {'ratio':>7}")
    reference = min(next(iter(seconds.values())))
    for name, of_rounds in seconds.items():
        least = min(of_rounds)
        print(f"{name:<28} {1e3 * least / num_photos:11.2f} {num_photos / least:16.0f} {reference / least:7.2f}")


if __name__ == "__main__":
    main()
