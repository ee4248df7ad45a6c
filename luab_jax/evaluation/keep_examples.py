"""An evaluation leaves example images beside its results: see `examples`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from etils import epath
from jaxtyping import Float, Int, UInt8
from scipy import special

from luab_jax.byproducts.kinds import TargetKind
from luab_jax.byproducts.targets import Target, kind_of
from luab_jax.data.batch import Batch
from luab_jax.data.dataset import PreparedSplit, open_split
from luab_jax.data.pipeline import Truth, eval_batches
from luab_jax.errors import DataError, UserError
from luab_jax.evaluation.engine import find_part
from luab_jax.evaluation.examples import Example, Examples, Numbers, examples_path, read_examples, write_examples
from luab_jax.evaluation.label_spaces import OF_THE_MODEL
from luab_jax.evaluation.predict import Predictor
from luab_jax.evaluation.suite import Suite
from luab_jax.evaluation.suites import SUITES
from luab_jax.log import say
from luab_jax.models.maps import MAPS

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
    if not isinstance(predictor, Predictor):
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
        OF_THE_MODEL.check(split, predictor.loaded.class_list_hash, predictor.loaded.num_classes)
        if _is_there(path, predictor, split, count):
            say("examples: already beside the results")
            return None
        write_examples(path, make_examples(predictor, split, count))
    except DataError as e:
        return str(e)
    except OSError as e:
        return f"{path}: cannot be written ({e.strerror or e})"
    return None


def _is_there(path: epath.Path, predictor: Predictor, split: PreparedSplit, count: int) -> bool:
    try:
        there = read_examples(path)
    except UserError:
        return False
    return (
        there.checkpoint == json.loads(json.dumps(predictor.loaded.identity))
        and there.fingerprint == split.manifest.fingerprint
        and len(there.images) == min(count, len(split.records))
    )


def choose(num_records: int, count: int) -> list[int]:
    """The same for everybody who has the same records; of fewer those that are first among more."""
    return np.random.default_rng(0).permutation(num_records)[:count].tolist()


def make_examples(predictor: Predictor, split: PreparedSplit, count: int) -> Examples:
    """Raises `DataError` for images that cannot be read, or if none has a label."""
    rows = choose(len(split.records), count)
    few = dataclasses.replace(split, records=split.records.take(rows))
    loaded, names = predictor.loaded, split.manifest.classes.names
    batches = eval_batches(
        few,
        preprocessing=loaded.preprocessing,
        batch_size=predictor.batch_size,
        num_classes=loaded.num_classes if loaded.label_sets else None,
        target=Target.BOX,
        reading=predictor.reading,
    )
    images = tuple(image for batch, truths in batches for image in _of_batch(predictor, batch, truths, names))
    if not images:
        raise DataError(f"{split.directory}: none of the {len(rows)} images looked at has a label")
    return Examples(
        checkpoint=loaded.identity,
        dataset=split.manifest.dataset,
        fingerprint=split.manifest.fingerprint,
        num_images=len(split.records),
        map=MAPS[loaded.model.family],
        images=images,
    )


def _of_batch(predictor: Predictor, batch: Batch, truths: Sequence[Truth], names: Sequence[str]) -> Iterator[Example]:
    """Images without any label are left out."""
    images = batch.images[batch.mask]
    labels = [truth.labels if predictor.loaded.label_sets else (truth.label,) for truth in truths]
    labels = [tuple(label for label in of_image if label >= 0) for of_image in labels]
    shown = np.asarray([min(of_image, default=0) for of_image in labels], np.int32)
    logits, byproduct = predictor.outputs(images)
    points = _points(predictor.loaded.target, byproduct, shown)
    boxes, valid = batch.targets[batch.mask], batch.valid[batch.mask]
    maps = predictor.maps(images, shown)
    for row, truth in enumerate(truths):
        if not labels[row]:
            continue
        of_class = int(shown[row]) if predictor.loaded.label_sets else 0
        yield Example(
            file_name=truth.file_name,
            picture=encode(images[row]),
            labels=tuple(names[label] for label in labels[row]),
            shown=names[int(shown[row])],
            right=_is_right(logits[row], labels[row]),
            answers=_answers(logits[row], names, int(shown[row]), label_sets=predictor.loaded.label_sets),
            map=_scaled(maps[row]),
            click=None if truth.click is None or predictor.loaded.label_sets else _place(truth.click),
            box=_place(boxes[row, of_class]) if valid[row, of_class] else None,
            point=None if points is None else _place(points[row]),
        )


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
    if byproduct is None or (
        target is not None and target is not Target.BOX and kind_of(target) is not TargetKind.POINT
    ):
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
