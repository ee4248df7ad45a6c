"""The demo's raw data set: drawn images, simulated clicks, in the raw layout of ImageNet-AB.

Nobody clicked on these images: every annotator is simulated, and its worker id says so. Each image
is a function of (seed, suite, index) alone, so workers may draw any of them in any order.

    train/<class id>/<name>.JPEG   train_xml/<class id>/<name>.xml      (likewise val/ and val_xml/)
    suites/<suite>/<group>/<class id>/<name>.JPEG     classes.txt     COMPLETE.json

    write_raw(Path("raw"), seed=0, correlation=0.75)
"""

import io
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from data_prep.demo.annotator import (
    NO_XML_SHARE,
    SECOND_SHOWING_SHARE,
    START_MS,
    Fields,
    annotation_xml,
    simulate_showing,
)
from data_prep.demo.drawing import SHAPES, TEXTURES, Array, Scene, corrupt, draw_scene
from luab_jax.errors import DataError, WriteError, reason_of
from luab_jax.io.atomic import atomic_file, write_errors, write_text

DRAWING_VERSION = 1  # raise it when a pixel or a coordinate changes: old folders are then refused
CLASS_IDS = tuple(f"demo_{label}_{shape}" for label, shape in enumerate(SHAPES))
JPEG_QUALITY = 95

Backgrounds = Literal["correlated", "same", "random"]


@dataclass(frozen=True, slots=True)
class Group:
    """What one folder of a suite sets; None is left to chance. Units as in draw_scene."""

    size: float | None = None
    angle: float | None = None
    centre: tuple[float, float] | None = None
    corruption: tuple[str, int] | None = None  # kind, severity


@dataclass(frozen=True, slots=True)
class Suite:
    """A set of evaluation images: `num_images` in each group, classes in equal numbers.

    Suites with the same stream show the same shapes in the same places, image by image; so do the
    groups of one suite. Their differences are therefore paired.
    """

    num_images: int
    stream: str
    backgrounds: Backgrounds
    groups: Mapping[str, Group] = field(default_factory=lambda: {"all": Group()})
    with_object: bool = True


_CORRUPTIONS = ("gaussian_noise", "blur", "contrast", "jpeg")
SUITES: dict[str, Suite] = {
    "mixed_same": Suite(1000, "mixed", "same"),
    "mixed_rand": Suite(1000, "mixed", "random"),
    # The label of an image without a shape is the class whose background it shows.
    "only_bg": Suite(1000, "mixed", "same", with_object=False),
    "size": Suite(160, "size", "random", {f"size={s:.2f}": Group(size=s) for s in (0.2, 0.3, 0.45, 0.6, 0.8)}),
    "position": Suite(
        96,
        "position",
        "random",
        {f"x={x:.2f},y={y:.2f}": Group(size=0.4, centre=(x, y)) for y in (0.25, 0.5, 0.75) for x in (0.25, 0.5, 0.75)},
    ),
    "rotation": Suite(
        112,
        "rotation",
        "random",
        {f"angle={a:03d}": Group(angle=float(a)) for a in (0, 20, 40, 60, 90, 180)},
    ),
    "corruptions": Suite(
        136,
        "val",
        "correlated",
        {
            f"{kind},severity={severity}": Group(corruption=(kind, severity))
            for kind in _CORRUPTIONS
            for severity in (1, 3, 5)
        },
    ),
}


def generator(seed: int, stream: str, index: int) -> np.random.Generator:
    """The random numbers of one image (or of one aspect of it)."""
    return np.random.default_rng([seed, zlib.crc32(stream.encode()), index])


def _background(rng: np.random.Generator, label: int, backgrounds: Backgrounds, correlation: float) -> int:
    """Texture index; "correlated" is the class's own with that probability, else another."""
    match backgrounds:
        case "same":
            return label
        case "random":
            return int(rng.integers(len(TEXTURES)))
        case "correlated":
            shift = int(rng.integers(1, len(TEXTURES)))
            return label if rng.random() < correlation else (label + shift) % len(TEXTURES)


def draw_split_scene(split: str, index: int, *, seed: int, correlation: float, side: int) -> Scene:
    """Image `index` of "train" or "val"; its label is index modulo the number of classes."""
    label = index % len(SHAPES)
    background_rng = generator(seed, f"{split}/background", index)
    background = _background(background_rng, label, "correlated", correlation)
    return draw_scene(generator(seed, split, index), label=label, background=background, side=side)


def draw_suite_scene(
    suite_name: str, group_name: str, index: int, *, seed: int, correlation: float, side: int
) -> Scene:
    """Image `index` of one group of a suite."""
    suite = SUITES[suite_name]
    group = suite.groups[group_name]
    if group.corruption is not None:
        scene = draw_split_scene("val", index, seed=seed, correlation=correlation, side=side)
        rng = generator(seed, f"{suite_name}/{group_name}", index)
        image = corrupt(rng, scene.image, *group.corruption)
        return Scene(image, scene.mask, scene.label, scene.background, scene.box)
    label = index % len(SHAPES)
    # Named by suite, not stream: mixed_same and mixed_rand share shapes, not backgrounds.
    background_rng = generator(seed, f"{suite_name}/background", index)
    return draw_scene(
        generator(seed, suite.stream, index),
        label=label,
        background=_background(background_rng, label, suite.backgrounds, correlation),
        side=side,
        centre=group.centre,
        size=group.size,
        angle=group.angle,
        with_object=suite.with_object,
    )


def _write_image(folder: Path, class_id: str, name: str, image: Array) -> None:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    _write(folder / class_id / f"{name}.JPEG", buffer.getvalue())


def _write(path: Path, content: bytes) -> None:
    """Thousands of small files, of which each can be drawn again; what says that all are there is synced."""
    with atomic_file(path, sync=False) as temporary:
        temporary.write_bytes(content)


def _make_class_folders(folder: Path) -> None:
    for class_id in CLASS_IDS:
        (folder / class_id).mkdir(parents=True, exist_ok=True)


def _write_split(out_dir: Path, split: str, num_images: int, **drawing: Any) -> None:
    """Images and xml of "train" or "val"; every val image has a click, not every train image."""
    is_val = split == "val"
    _make_class_folders(out_dir / split)
    _make_class_folders(out_dir / f"{split}_xml")
    for index in range(num_images):
        scene = draw_split_scene(split, index, **drawing)
        class_id = CLASS_IDS[scene.label]
        name = f"{class_id}_{split}_{index:05d}"
        _write_image(out_dir / split, class_id, name, scene.image)
        rng = generator(drawing["seed"], f"{split}/showing", index)
        if rng.random() < NO_XML_SHARE and not is_val:
            continue
        showings = [
            simulate_showing(
                rng,
                scene,
                image_id=f"{class_id}/{name}",
                start_ms=START_MS + (2 * index + repeat) * 10_000,
                always_selected=is_val,
            )
            for repeat in range(1 + int(rng.random() < SECOND_SHOWING_SHARE))
        ]
        text = annotation_xml(scene, class_id, name, showings)
        _write(out_dir / f"{split}_xml" / class_id / f"{name}.xml", text.encode())


def _write_suite(out_dir: Path, suite_name: str, num_val: int, **drawing: Any) -> None:
    suite = SUITES[suite_name]
    # A corruption changes images of val, so it cannot have more than there are; of a small data set all sets are small.
    num_images = min(suite.num_images, num_val)
    for group_name in suite.groups:
        folder = out_dir / "suites" / suite_name / group_name
        _make_class_folders(folder)
        for index in range(num_images):
            scene = draw_suite_scene(suite_name, group_name, index, **drawing)
            class_id = CLASS_IDS[scene.label]
            _write_image(folder, class_id, f"{class_id}_{suite_name}_{index:05d}", scene.image)


def _read_parameters(path: Path) -> Fields:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise DataError(f"{path}: cannot be read ({reason_of(e)}); delete {path.parent} to draw the data again") from e
    if not isinstance(found, dict):
        raise DataError(f"{path}: holds no parameters; delete {path.parent} to draw the data again")
    return found


def _is_complete(out_dir: Path, parameters: Fields) -> bool:
    """Whether out_dir already holds this data set; raises when it holds anything else."""
    for name in ("COMPLETE.json", "STARTED.json"):
        if (out_dir / name).exists():
            found = _read_parameters(out_dir / name)
            keys = sorted(found.keys() | parameters.keys())
            differing = [
                f"{key}: {found.get(key)!r} there, {parameters.get(key)!r} asked"
                for key in keys
                if found.get(key) != parameters.get(key)
            ]
            if differing:
                listed = "; ".join(differing)
                raise DataError(f"{out_dir} holds another demo data set ({listed}); choose another folder")
            return name == "COMPLETE.json"
    if out_dir.exists() and any(out_dir.iterdir()):
        raise DataError(f"{out_dir} is not empty and holds no demo data set; choose another folder")
    return False


def write_raw(
    out_dir: Path,
    *,
    seed: int,
    correlation: float,
    num_train: int = 4000,
    num_val: int = 1000,
    side: int = 48,
) -> None:
    """Writes the raw data set; a finished one with the same parameters is kept as it is.

    Files are a function of the parameters, so an interrupted run is finished by running it again.
    correlation: share of train and val images whose background is their class's own.
    Raises `DataError` for a folder that holds something else or cannot be written.
    """
    if seed < 0:
        raise DataError(f"--seed={seed}: expected 0 or more")
    parameters = {
        "drawing_version": DRAWING_VERSION,
        "seed": seed,
        "correlation": correlation,
        "num_train": num_train,
        "num_val": num_val,
        "side": side,
    }
    try:
        if not _is_complete(out_dir, parameters):
            with write_errors(out_dir):
                _write_all(out_dir, parameters)
    except WriteError as e:
        raise WriteError(f"{e}. What is drawn is kept: run the same command again") from e


def _write_all(out_dir: Path, parameters: Fields) -> None:
    out_dir.mkdir(parents=True, exist_ok=True)
    started = out_dir / "STARTED.json"
    write_text(started, json.dumps(parameters, indent=2) + "\n")
    rows = zip(CLASS_IDS, SHAPES, strict=True)
    write_text(out_dir / "classes.txt", "".join(f"{key}\t{name}\n" for key, name in rows))
    drawing = {name: parameters[name] for name in ("seed", "correlation", "side")}
    for split in ("train", "val"):
        _write_split(out_dir, split, parameters[f"num_{split}"], **drawing)
    for suite_name in SUITES:
        _write_suite(out_dir, suite_name, parameters["num_val"], **drawing)
    os.sync()  # of the images, in one go
    started.rename(out_dir / "COMPLETE.json")
