"""An evaluation leaves example images beside its results: see `examples`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import jax
import numpy as np
from etils import epath
from jaxtyping import Float, Int, UInt8
from scipy import special

from luab_jax.byproducts.targets import Target, make_target, predicts_point
from luab_jax.data.class_lists import readable_names
from luab_jax.data.dataset import PreparedSplit, open_split
from luab_jax.data.features import Example
from luab_jax.data.transforms import input_of_file
from luab_jax.distributed import sharding
from luab_jax.errors import DataError, ShardError, StorageError, UserError, WorkerLostError
from luab_jax.evaluation.accumulator import Evaluated
from luab_jax.evaluation.label_spaces import OF_THE_MODEL
from luab_jax.evaluation.predictor import BatchPredictor
from luab_jax.evaluation.runner import find_part
from luab_jax.evaluation.suite import Need, Suite, View
from luab_jax.evaluation.suites import SUITES
from luab_jax.io.console import say
from luab_jax.io.storage import Place
from luab_jax.results.example_images import (
    ExampleImage,
    Examples,
    Numbers,
    examples_path,
    read_examples,
    write_examples,
)

_NUM_ANSWERS = 3
_JPEG_QUALITY = 88
_MAX_LOSSLESS_SIDE = 96
"""Pixels; smaller inputs are enlarged on the page, where JPEG would show."""
_OF_SUITE = {"imagenet": "byproduct", "coco": "coco"}
"""The suite that must be asked for, and the one whose data is taken: the same images, with clicks or boxes if any has
them."""


def keep_examples(
    predictor: object, data: epath.PathLike, suites: Sequence[Suite], results: epath.PathLike, count: int
) -> str | None:
    """Writes `count` examples beside the results, if they are not there yet; why not, if they cannot be made."""
    asked = [suite.name for suite in suites if suite.name in _OF_SUITE]
    if not count or not asked:
        return None
    if not isinstance(predictor, BatchPredictor):
        return "they need the model, and only predictions were kept"
    name = "coco" if predictor.loaded.label_sets else "imagenet"
    if name not in asked:
        return None
    suite = next(suite for suite in SUITES if suite.name == _OF_SUITE[name])
    directory = find_part(data, suite.parts["val"])
    if directory is None:
        return "no data for val"
    path = examples_path(results)
    try:
        split = open_split(directory, "val")
        if OF_THE_MODEL.check(split, predictor.loaded) is not None:
            return "the images are of all of ImageNet's classes, the checkpoint knows some of them"
        # Predicting takes all hosts, and the first alone wrote the file: what it finds goes for all.
        if sharding.gather(str(_is_there(path, predictor, split, count)))[0] == str(True):
            say("examples: already beside the results", active=jax.process_index() == 0)
            return None
        examples = make_examples(predictor, split, count)
        return _written(path, examples)
    except DataError as e:
        if isinstance(e, ShardError) and jax.process_count() > 1:
            raise  # the others may have read it, and wait for this host
        return str(e)
    except (StorageError, WorkerLostError):  # of the data
        raise
    except UserError as e:  # of the model
        return str(e)


def _written(path: Place, examples: Examples) -> str | None:
    """By the first host, which alone is asked why not."""
    if jax.process_index() == 0:
        try:
            write_examples(path, examples)
        except StorageError as e:
            return str(e)
    return None


def _is_there(path: Place, predictor: BatchPredictor[Any], split: PreparedSplit, count: int) -> bool:
    try:
        there = read_examples(path)
    except UserError:
        return False
    return (
        there.checkpoint == json.loads(json.dumps(predictor.loaded.identity))
        and there.fingerprint == split.manifest.fingerprint
        and there.num_asked == count
    )


def choose(num_records: int, count: int) -> list[int]:
    """The same for everybody who has the same records; of fewer those that are first among more."""
    return np.random.default_rng(0).permutation(num_records)[:count].tolist()


def make_examples(predictor: BatchPredictor[Any], split: PreparedSplit, count: int) -> Examples:
    """Raises `DataError` for images that cannot be read, or if none has a label."""
    rows = choose(len(split.records), count)
    if not rows:
        raise DataError(f"{split.directory}: the split {split.manifest.split!r} holds no record")
    few = dataclasses.replace(split, records=split.records.take(rows))
    predictions = predictor(few, [View.PLAIN])[View.PLAIN]
    seen = [_seen(predictor.loaded, few, row) for row in range(len(rows))]
    shown = np.asarray([min(of_image.labels, default=0) for of_image in seen], np.int32)
    maps = _maps(predictor, np.stack([of_image.pixels for of_image in seen]), shown)
    points = _points(predictions.target, predictions.byproduct, shown)
    for name, values in predictions.more.items():
        points = _points(Target(name), values, shown) if points is None else points
    names = readable_names(split.manifest.classes)
    label_sets = predictor.loaded.label_sets
    images = [
        ExampleImage(
            file_name=of_image.file_name,
            picture=encode(of_image.pixels),
            labels=tuple(names[label] for label in of_image.labels),
            shown=names[int(shown[row])],
            right=_is_right(predictions.logits[row], of_image.labels),
            answers=_answers(predictions.logits[row], names, int(shown[row]), label_sets=label_sets),
            map=None if maps is None else _scaled(maps[row]),
            click=of_image.click,
            box=of_image.box,
            point=None if points is None else _place(points[row]),
        )
        for row, of_image in enumerate(seen)
        if of_image.labels
    ]
    if not images:
        raise DataError(f"{split.directory}: none of the {len(rows)} images looked at has a label")
    return Examples(
        checkpoint=predictor.loaded.identity,
        dataset=split.manifest.dataset,
        fingerprint=split.manifest.fingerprint,
        num_images=len(split.records),
        num_asked=count,
        map="none" if maps is None else predictor.map_kind,
        images=tuple(images),
    )


class _Seen(NamedTuple):
    """One input, with what is known of it."""

    file_name: str
    pixels: UInt8[np.ndarray, "h w 3"]
    labels: tuple[int, ...]
    click: Numbers | None
    box: Numbers | None


def _seen(loaded: Evaluated, split: PreparedSplit, row: int) -> _Seen:
    """As the model gets it; of a set of labels the box is that of the first, and clicks are of no single class."""
    example = Example(split.records[row])
    pixels, view = input_of_file(example.image, example.file_name, loaded.preprocessing)
    labels = example.labels.tolist() if loaded.label_sets else [example.label]
    labels = tuple(sorted(label for label in labels if label >= 0))
    num_classes, of_class = (loaded.num_classes, min(labels, default=0)) if loaded.label_sets else (None, 0)

    def known(target: Target, of_class: int, num_classes: int | None) -> Numbers | None:
        found = make_target(target, example.byproducts(), view, seed=0, num_classes=num_classes)
        return _place(found.values[of_class]) if found.valid[of_class] else None

    click = None if loaded.label_sets else known(Target.CLICK_LAST, 0, None)
    return _Seen(example.file_name, pixels, labels, click, known(Target.BOX, of_class, num_classes))


def _maps(
    predictor: BatchPredictor[Any], images: UInt8[np.ndarray, "n h w 3"], labels: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "n i j"] | None:
    """None of a model that gives none, or only by a thousand predictions an image."""
    if Need.MAP not in predictor.gives or getattr(predictor, "rise", None) is not None:
        return None
    size = predictor.batch_size
    parts = [predictor.maps(images[i : i + size], labels[i : i + size]) for i in range(0, len(images), size)]
    return np.concatenate(parts)


def encode(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """RGB as PNG if it is small, as JPEG if not."""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    if len(pixels) <= _MAX_LOSSLESS_SIDE:
        return cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()


def _is_right(logits: Float[np.ndarray, " c"], labels: Sequence[int]) -> bool:
    """Whether a label scores above all that is none; ties and NaN are wrong, as in `answers`."""
    is_label = np.isin(np.arange(len(logits)), labels)
    best = logits[is_label].max()
    return bool(np.all(logits[~is_label] < best))


def _answers(
    logits: Float[np.ndarray, " c"], names: Sequence[str], shown: int, *, label_sets: bool
) -> tuple[tuple[str, float], ...]:
    """None of a model whose outputs are not finite."""
    if not np.isfinite(logits).all():
        return ()
    wide = logits.astype(np.float64)
    shares = special.expit(wide) if label_sets else special.softmax(wide)
    best = np.argsort(-shares, kind="stable")[:_NUM_ANSWERS].tolist()
    return tuple((names[label], round(float(shares[label]), 6)) for label in dict.fromkeys([*best, shown]))


def _points(
    target: Target | None, byproduct: Float[np.ndarray, "n k d"] | None, shown: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "n 2"] | None:
    """The head's point for the class that is shown, or the centre of its box; None of a head that predicts neither.

    The box of a trace begins where the pointer came in, so its centre is no point on the object.
    """
    if byproduct is None or (target is not None and target is not Target.BOX and not predicts_point(target)):
        return None
    row = shown if byproduct.shape[1] > 1 else np.zeros_like(shown)
    values = byproduct[np.arange(len(shown)), row]
    if values.shape[1] == 4:
        values = (values[:, :2] + values[:, 2:]) / 2
    return values if values.shape[1] == 2 else None


def _place(values: np.ndarray) -> Numbers | None:
    """Rounded to a ten-thousandth of the picture."""
    return tuple(round(float(value), 4) for value in values) if np.isfinite(values).all() else None


def _scaled(cells: Float[np.ndarray, "i j"]) -> tuple[Numbers, ...] | None:
    low, high = float(cells.min()), float(cells.max())
    if not high > low or not np.isfinite(cells).all():
        return None
    return tuple(tuple(round(float(v), 3) for v in row) for row in (cells - low) / (high - low))
