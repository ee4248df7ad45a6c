"""Suites that are more than a prediction of every image: each a function of a `Predictor` and the opened parts.

The third argument keeps what is done, so that it is not done again after an interruption. With several hosts every host
does the same, but for the predictions, which they share; `generated_corruptions` shares the decoding too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8
from scipy import special

from luab_jax import sharding
from luab_jax.byproducts.records import Size
from luab_jax.corruptions.corrupt import corrupt, image_keys
from luab_jax.corruptions.frost_photos import packaged_photos
from luab_jax.corruptions.parameters import NAMES, SEVERITIES
from luab_jax.data import label_tables
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.features import Example
from luab_jax.data.pipeline import Truth, eval_batches, num_cores
from luab_jax.data.resampling import ResizeFilter, resize_by_pillow
from luab_jax.data.transforms import Preprocessing, Stored, decode
from luab_jax.errors import DataError
from luab_jax.evaluation.adversarial_backgrounds import NONE, NOT_FINITE, Images, find_vulnerable
from luab_jax.evaluation.answers import ARGMAX, Answers
from luab_jax.evaluation.columns import Columns, as_answers, joined, of_kept
from luab_jax.evaluation.finite import check_all, check_finite
from luab_jax.evaluation.object_removal import Edit, Removal, Skips, all_edits
from luab_jax.evaluation.predict import Predictor, progress
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.scores.context import context_violations
from luab_jax.evaluation.scores.corruptions import corruptions
from luab_jax.evaluation.scores.localisation import Located, right_thresholds, scores_of_thresholds
from luab_jax.evaluation.threads import in_threads
from luab_jax.evaluation.unfinished import Work
from luab_jax.models.maps import MAPS, localise

Scores = Mapping[str, Any]
Splits = Mapping[str, PreparedSplit]

_IMAGENET_C_SIDE = 224
_REMOVAL = Removal()
NOTHING_KEPT = Work()


def bgc_accuracy(predictor: Predictor, splits: Splits, work: Work = NOTHING_KEPT) -> Scores:
    """The share of foregrounds that no background fools: see `adversarial_backgrounds`.

    `n_without_mask` images are left out; of the `forward_passes_of_brute_force`, one for each pair, `forward_passes`
    were needed.
    """
    loaded = predictor.loaded
    foregrounds, truths = _inputs(predictor, splits["original"])
    masks = _foreground_masks(splits["original"], loaded.preprocessing.image_size)
    has_mask = np.asarray([mask is not None for mask in masks])
    if not has_mask.any():
        raise DataError(f"{splits['original'].directory}: no image has a foreground mask; is fg_mask in the source?")
    images = Images(
        foregrounds[has_mask],
        np.stack([mask for mask in masks if mask is not None]),
        np.asarray([truth.label for truth in truths], np.int32)[has_mask],
        _inputs(predictor, splits["only_bg_t"])[0],
    )
    names = [truth.file_name for truth, has in zip(truths, has_mask, strict=True) if has]
    superclass = np.full(loaded.num_classes, NONE, np.int32)
    for label, indices in enumerate(label_tables.IN9.values()):
        superclass[list(indices)] = label
    mean, std = (np.asarray(values, np.float32) for values in (loaded.preprocessing.mean, loaded.preprocessing.std))

    def classify(variables: tuple[Any, Any], pixels: Float[Array, "p h w 3"]) -> Int[Array, " p"]:
        outputs, _ = loaded.model.apply(*variables, (pixels - mean) / std, train=False, head=False)
        answer = jnp.asarray(superclass)[jnp.argmax(outputs.logits, axis=-1)]
        return jnp.where(jnp.isfinite(outputs.logits).all(axis=-1), answer, NOT_FINITE)

    def check(is_finite: Bool[np.ndarray, " p"], of_foregrounds: Int[np.ndarray, " p"]) -> None:
        check_all(loaded, is_finite, [names[i] for i in of_foregrounds])

    variables = (loaded.params, loaded.batch_stats)
    found = find_vulnerable(
        classify, variables, images, batch_size=predictor.batch_size, mesh=predictor.mesh, work=work, check=check
    )
    return {
        "bgc_accuracy": float(np.mean(~found.vulnerable)),
        "n": len(found.vulnerable),
        "n_without_mask": int(np.sum(~has_mask)),
        "forward_passes": found.num_predictions,
        "forward_passes_of_brute_force": len(images.foregrounds) * len(images.backgrounds),
        "intervals": {"bgc_accuracy": intervals.wilson(~found.vulnerable)},
        "interval_method": intervals.WILSON,
    }


def _inputs(predictor: Predictor, split: PreparedSplit) -> tuple[UInt8[np.ndarray, "n h w 3"], list[Truth]]:
    """All images of a set of the Backgrounds Challenge, and their classes of nine."""
    batches = eval_batches(
        split,
        preprocessing=predictor.loaded.preprocessing,
        stored=Stored(side=224),
        batch_size=predictor.batch_size,
        reading=predictor.reading,
    )
    pixels: list[np.ndarray] = []
    truths: list[Truth] = []
    for batch, of_batch in batches:
        pixels.append(batch.images[batch.mask])
        truths += of_batch
    return np.concatenate(pixels), truths


def _foreground_masks(split: PreparedSplit, side: int) -> list[Bool[np.ndarray, "h w"] | None]:
    masks: list[Bool[np.ndarray, "h w"] | None] = []
    for index in range(len(split.records)):
        example = Example(split.records[index])
        if not example.foreground_masks:
            masks.append(None)
            continue
        pixels = cv2.imdecode(np.frombuffer(example.foreground_masks[0], np.uint8), cv2.IMREAD_GRAYSCALE)
        if pixels is None:
            raise DataError(f"{example.file_name}: its foreground mask cannot be decoded; prepare the set again")
        masks.append(np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_NEAREST)) > 0)
    return masks


def context_dependence(
    predictor: Predictor, splits: Splits, work: Work = NOTHING_KEPT, removal: Removal = _REMOVAL
) -> Scores:
    """V_min and V_avg: see `object_removal` and `scores.context`; how classes were removed stands in the scores."""
    split = splits["val"]
    kept: list[Columns] = []
    waiting: list[Edit] = []
    waiting_skips: list[Skips] = []

    def predict() -> None:
        """Of all images that are done with."""
        logits = [predictor.logits(np.stack([edit.pixels for edit in some])) for some in _batches(waiting, predictor)]
        columns: Columns = {
            "image": np.asarray([edit.index for edit in waiting], np.int64),
            "removed": np.asarray([edit.removed for edit in waiting], np.int64),
            "logits": np.concatenate([np.zeros((0, predictor.loaded.num_classes), np.float32), *logits]),
            "skips": np.asarray(waiting_skips, np.int64),
        }
        check_finite(predictor.loaded, columns["logits"], [edit.file_name for edit in waiting])
        kept.append(columns)
        work.add(len(waiting_skips), columns)
        waiting.clear()
        waiting_skips.clear()

    kept += [step.columns for step in work.done()]
    done = sum(len(columns["skips"]) for columns in kept)
    with progress("object removal", len(split.records), done) as seen:
        threads = _num_threads(predictor)
        for edits, skips in all_edits(split, predictor.loaded.preprocessing, removal, threads=threads, start=done):
            waiting += edits
            waiting_skips.append(skips)
            seen.advance(1)
            if len(waiting) >= predictor.batch_size:
                predict()
        if waiting_skips:
            predict()
    columns = joined(kept)
    if not len(columns["image"]):
        raise DataError(f"{split.directory}: no image has two classes with masks that could be removed")
    # Double precision: the sigmoids of large logits are all 1 in single.
    scores = special.expit(columns["logits"].astype(np.float64))
    violations = context_violations(columns["image"], columns["removed"], scores)
    skipped = Skips(*columns["skips"].sum(axis=0).tolist())
    left_out = {f"n_{name}": count for name, count in skipped._asdict().items()}
    return {**violations, "n_edits": len(columns["image"]), **left_out, "removal": dataclasses.asdict(removal)}


def _batches(edits: Sequence[Edit], predictor: Predictor) -> Iterator[Sequence[Edit]]:
    for start in range(0, len(edits), predictor.batch_size):
        yield edits[start : start + predictor.batch_size]


def localisation(predictor: Predictor, splits: Splits, work: Work = NOTHING_KEPT) -> Scores:
    """MaxBoxAccV2 of the model's map of the true class (`map` says of which kind), on images squashed to the input."""
    split = splits["val"]
    num_images, threads = len(split.records), _num_threads(predictor)
    kept = [step.columns for step in work.done()]
    done = sum(int(columns["seen"].sum()) for columns in kept)
    with progress("localisation", num_images, done) as told:
        for num_seen, located in _located(predictor, split, done):
            right = right_thresholds(located, partial(in_threads, threads=threads))
            columns = {"seen": np.asarray([num_seen]), "right": right}
            kept.append(columns)
            work.add(num_seen, columns)
            told.advance(num_seen)
    right = joined(kept)["right"]
    return {
        **scores_of_thresholds(right),
        "n_without_box": num_images - len(right),
        "map": MAPS[predictor.loaded.model.family],
    }


@dataclasses.dataclass(frozen=True, slots=True)
class _Squashed:
    file_name: str
    pixels: UInt8[np.ndarray, "h w 3"]
    label: int
    boxes: Float[np.ndarray, "n 4"]


def _squash(split: PreparedSplit, side: int, index: int) -> _Squashed:
    """An image as wsolevaluation's data_loaders.py takes it, whatever its aspect ratio, with the boxes of its class."""
    example = Example(split.records[index])
    byproducts = example.byproducts()
    of_class = byproducts.boxes[np.isin(byproducts.box_labels, (example.label, -1))]
    pixels = np.zeros((side, side, 3), np.uint8)
    if len(of_class) and example.label >= 0:
        image = decode(example.image, example.file_name)
        pixels = np.asarray(resize_by_pillow(image, Size(side, side), ResizeFilter.BILINEAR))
    return _Squashed(example.file_name, pixels, example.label, of_class)


def _located(predictor: Predictor, split: PreparedSplit, start: int) -> Iterator[tuple[int, list[Located]]]:
    """The records from `start` on, some at a time: how many, and the maps of those that have a box of their class."""
    loaded, side = predictor.loaded, predictor.loaded.preprocessing.image_size
    mean, std = (np.asarray(values, np.float32) for values in (loaded.preprocessing.mean, loaded.preprocessing.std))
    whole, rows = predictor.whole, predictor.rows

    @partial(jax.jit, in_shardings=(whole, whole, rows, rows), out_shardings=predictor.outputs)
    def maps_of(params: Any, batch_stats: Any, images: Array, labels: Array) -> Array:
        return localise(loaded.model, params, batch_stats, (images.astype(jnp.float32) / 255.0 - mean) / std, labels)

    def located(batch: Sequence[_Squashed]) -> Iterator[Located]:
        images = np.zeros((predictor.batch_size, side, side, 3), np.uint8)
        labels = np.zeros(predictor.batch_size, np.int32)
        for row, image in enumerate(batch):
            images[row], labels[row] = image.pixels, image.label
        placed = sharding.put((images, labels), rows)
        maps = np.asarray(maps_of(loaded.params, loaded.batch_stats, *placed), np.float32)
        check_finite(loaded, maps[: len(batch)], [image.file_name for image in batch])
        for image, scores in zip(batch, maps, strict=False):
            resized = np.asarray(cv2.resize(scores, (side, side), interpolation=cv2.INTER_CUBIC))
            yield Located(image.file_name, resized, image.boxes.astype(np.float32))

    batch: list[_Squashed] = []
    seen = 0
    for image in in_threads(partial(_squash, split, side), range(start, len(split.records)), _num_threads(predictor)):
        seen += 1
        if len(image.boxes) and image.label >= 0:
            batch.append(image)
        if len(batch) == predictor.batch_size:
            yield seen, list(located(batch))
            batch, seen = [], 0
    if seen:
        yield seen, list(located(batch)) if batch else []


def generated_corruptions(
    predictor: Predictor,
    splits: Splits,
    work: Work = NOTHING_KEPT,
    kinds: Sequence[str] = NAMES,
    severities: Sequence[int] = SEVERITIES,
) -> Scores:
    """ImageNet-C computed on the device from the validation images, decoded once for all kinds and severities.

    As the authors made their files, but for the JPEG that they stored in between; see `luab_jax/corruptions`.
    """
    split, loaded = splits["val"], predictor.loaded
    if loaded.preprocessing.image_size != _IMAGENET_C_SIDE:
        raise DataError(
            f"corruptions are made at {_IMAGENET_C_SIDE} pixels, the checkpoint's input has"
            f" {loaded.preprocessing.image_size}; `python -m data_prep suite imagenet_c --generate` stores them instead"
        )
    photos = packaged_photos() if "frost" in kinds else None
    preprocessing = Preprocessing(image_size=_IMAGENET_C_SIDE, resize_side=256, filter=ResizeFilter.BILINEAR)
    kept = [(step.stop - step.start, step.columns) for step in work.done()]
    done = sum(count for count, _ in kept)
    answers = [as_answers(columns) for _, columns in kept]
    with progress("imagenet_c, generated", len(split.records), done) as told:
        for rows in predictor.batches(split, preprocessing, start=done):
            # Padding has keys too, so that every batch runs the same program.
            names = [""] * len(rows.images)
            for row, truth in zip(np.flatnonzero(rows.mask), rows.own, strict=True):
                names[row] = truth.file_name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
            of_batch: list[Answers] = []
            for kind in kinds:
                for severity in severities:
                    keys = image_keys(names, kind, severity)
                    seen = corrupt(rows.images, keys, name=kind, severity=severity, photos=photos)
                    group = f"{kind},severity={severity}"
                    of_group = [dataclasses.replace(truth, group=group) for truth in rows.truths]
                    logits = predictor.logits_of(rows, seen)
                    check_finite(loaded, logits, [truth.file_name for truth in rows.truths])
                    of_batch.append(ARGMAX(Predictions(logits, None, of_group)))
            answers += of_batch
            work.add(len(rows.truths), of_kept(Answers.concatenate(of_batch)))
            told.advance(len(rows.truths))
    return {**corruptions({"test": Answers.concatenate(answers)}), "generated": "on the device"}


def _num_threads(predictor: Predictor) -> int:
    return predictor.reading.num_threads or num_cores()
