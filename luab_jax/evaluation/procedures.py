"""Suites that are more than a prediction of every image: each a function of a `Predictor` and the opened parts."""

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

from luab_jax import sharding
from luab_jax.byproducts.records import Size
from luab_jax.corruptions.corrupt import corrupt, image_keys
from luab_jax.corruptions.frost_photos import packaged_photos
from luab_jax.corruptions.parameters import NAMES, SEVERITIES
from luab_jax.data import label_tables
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.features import Example
from luab_jax.data.pipeline import eval_batches, num_cores
from luab_jax.data.resampling import ResizeFilter, resize_by_pillow
from luab_jax.data.transforms import Preprocessing, Stored, decode
from luab_jax.errors import DataError
from luab_jax.evaluation.adversarial_backgrounds import Images, find_vulnerable
from luab_jax.evaluation.answers import ARGMAX, Answers
from luab_jax.evaluation.object_removal import Edit, Removal, Skips, all_edits
from luab_jax.evaluation.predict import Predictor
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.scores.context import context_violations
from luab_jax.evaluation.scores.corruptions import corruptions
from luab_jax.evaluation.scores.localisation import Located, max_box_acc_v2
from luab_jax.evaluation.threads import in_threads
from luab_jax.models.maps import MAPS, localise
from luab_jax.progress import Progress

Scores = Mapping[str, Any]
Splits = Mapping[str, PreparedSplit]

_IMAGENET_C_SIDE = 224
_REMOVAL = Removal()


def bgc_accuracy(predictor: Predictor, splits: Splits) -> Scores:
    """The share of foregrounds that no background fools: see `adversarial_backgrounds`.

    `n_without_mask` images are left out; `n_predictions` of `n_pairs` were needed.
    """
    loaded = predictor.loaded
    foregrounds, labels = _inputs(predictor, splits["original"])
    masks = _foreground_masks(splits["original"], loaded.preprocessing.image_size)
    has_mask = np.asarray([mask is not None for mask in masks])
    if not has_mask.any():
        raise DataError(f"{splits['original'].directory}: no image has a foreground mask; is fg_mask in the source?")
    images = Images(
        foregrounds[has_mask],
        np.stack([mask for mask in masks if mask is not None]),
        labels[has_mask],
        _inputs(predictor, splits["only_bg_t"])[0],
    )
    superclass = np.full(loaded.num_classes, -1, np.int32)
    for label, indices in enumerate(label_tables.IN9.values()):
        superclass[list(indices)] = label
    mean, std = (np.asarray(values, np.float32) for values in (loaded.preprocessing.mean, loaded.preprocessing.std))

    def classify(variables: tuple[Any, Any], pixels: Float[Array, "p h w 3"]) -> Int[Array, " p"]:
        outputs, _ = loaded.model.apply(*variables, (pixels - mean) / std, train=False, head=False)
        return jnp.asarray(superclass)[jnp.argmax(outputs.logits, axis=-1)]

    variables = (loaded.params, loaded.batch_stats)
    found = find_vulnerable(classify, variables, images, batch_size=predictor.batch_size, mesh=predictor.mesh)
    return {
        "bgc_accuracy": float(np.mean(~found.vulnerable)),
        "n": len(found.vulnerable),
        "n_without_mask": int(np.sum(~has_mask)),
        "n_predictions": found.num_predictions,
        "n_pairs": len(images.foregrounds) * len(images.backgrounds),
        "intervals": {"bgc_accuracy": intervals.wilson(~found.vulnerable)},
        "interval_method": intervals.WILSON,
    }


def _inputs(predictor: Predictor, split: PreparedSplit) -> tuple[UInt8[np.ndarray, "n h w 3"], Int[np.ndarray, " n"]]:
    """All images of a set of the Backgrounds Challenge, and their classes of nine."""
    batches = eval_batches(
        split,
        preprocessing=predictor.loaded.preprocessing,
        stored=Stored(side=224),
        batch_size=predictor.batch_size,
        reading=predictor.reading,
    )
    pixels, labels = [], []
    for batch, truths in batches:
        pixels.append(batch.images[batch.mask])
        labels += [truth.label for truth in truths]
    return np.concatenate(pixels), np.asarray(labels, np.int32)


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


def context_dependence(predictor: Predictor, splits: Splits, removal: Removal = _REMOVAL) -> Scores:
    """V_min and V_avg: see `object_removal` and `scores.context`; how classes were removed stands in the scores."""
    split, skips = splits["val"], Skips()
    images: list[int] = []
    removed: list[int] = []
    scores: list[np.ndarray] = []
    waiting: list[Edit] = []

    def predict() -> None:
        scores.append(predictor.logits(np.stack([edit.pixels for edit in waiting])))
        images.extend(edit.index for edit in waiting)
        removed.extend(edit.removed for edit in waiting)
        waiting.clear()

    with Progress("object removal", len(split.records)) as progress:

        def seen(of_image: Skips) -> None:
            nonlocal skips
            skips = skips.plus(of_image)
            progress.advance(1)

        threads = _num_threads(predictor)
        for edit in all_edits(split, predictor.loaded.preprocessing, removal, threads=threads, seen=seen):
            waiting.append(edit)
            if len(waiting) == predictor.batch_size:
                predict()
        if waiting:
            predict()
    if not scores:
        raise DataError(f"{split.directory}: no image has two classes with masks that could be removed")
    violations = context_violations(np.asarray(images), np.asarray(removed), np.concatenate(scores))
    left_out = {f"n_{name}": count for name, count in skips._asdict().items()}
    return {**violations, "n_edits": len(images), **left_out, "removal": dataclasses.asdict(removal)}


def localisation(predictor: Predictor, splits: Splits) -> Scores:
    """MaxBoxAccV2 of the model's map of the true class (`map` says of which kind), on images squashed to the input."""
    split = splits["val"]
    num_boxed = 0

    def counted(images: Iterator[Located]) -> Iterator[Located]:
        nonlocal num_boxed
        for image in images:
            num_boxed += 1
            yield image

    with Progress("localisation", len(split.records)) as progress:
        scores = max_box_acc_v2(
            counted(_located(predictor, split, progress)), partial(in_threads, threads=_num_threads(predictor))
        )
    return {
        **scores,
        "n_without_box": len(split.records) - num_boxed,
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


def _located(predictor: Predictor, split: PreparedSplit, progress: Progress) -> Iterator[Located]:
    """The map of every image that has a box of its class."""
    loaded, side = predictor.loaded, predictor.loaded.preprocessing.image_size
    mean, std = (np.asarray(values, np.float32) for values in (loaded.preprocessing.mean, loaded.preprocessing.std))
    whole, rows = sharding.replicated(predictor.mesh), sharding.batch_sharding(predictor.mesh)

    @partial(jax.jit, in_shardings=(whole, whole, rows, rows), out_shardings=rows)
    def maps_of(params: Any, batch_stats: Any, images: Array, labels: Array) -> Array:
        return localise(loaded.model, params, batch_stats, (images.astype(jnp.float32) / 255.0 - mean) / std, labels)

    def located(batch: Sequence[_Squashed]) -> Iterator[Located]:
        images = np.zeros((predictor.batch_size, side, side, 3), np.uint8)
        labels = np.zeros(predictor.batch_size, np.int32)
        for row, image in enumerate(batch):
            images[row], labels[row] = image.pixels, image.label
        maps = np.asarray(maps_of(loaded.params, loaded.batch_stats, images, labels), np.float32)
        for image, scores in zip(batch, maps, strict=False):
            resized = np.asarray(cv2.resize(scores, (side, side), interpolation=cv2.INTER_CUBIC))
            yield Located(image.file_name, resized, image.boxes.astype(np.float32))

    batch: list[_Squashed] = []
    for image in in_threads(partial(_squash, split, side), range(len(split.records)), _num_threads(predictor)):
        progress.advance(1)
        if len(image.boxes) and image.label >= 0:
            batch.append(image)
        if len(batch) == predictor.batch_size:
            yield from located(batch)
            batch = []
    if batch:
        yield from located(batch)


def generated_corruptions(
    predictor: Predictor, splits: Splits, kinds: Sequence[str] = NAMES, severities: Sequence[int] = SEVERITIES
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
    batches = eval_batches(
        split,
        preprocessing=Preprocessing(image_size=_IMAGENET_C_SIDE, resize_side=256, filter=ResizeFilter.BILINEAR),
        batch_size=predictor.batch_size,
        reading=predictor.reading,
    )
    answers: list[Answers] = []
    with Progress("imagenet_c, generated", len(split.records)) as progress:
        for batch, truths in batches:
            names = [truth.file_name.rsplit("/", 1)[-1].rsplit(".", 1)[0] for truth in truths]
            # Padding has keys too, so that every batch runs the same program.
            names += [""] * (len(batch.images) - len(names))
            for kind in kinds:
                for severity in severities:
                    keys = image_keys(names, kind, severity)
                    seen = corrupt(batch.images, keys, name=kind, severity=severity, photos=photos)
                    logits = predictor.logits(seen)[batch.mask]
                    group = f"{kind},severity={severity}"
                    of_group = [dataclasses.replace(truth, group=group) for truth in truths]
                    answers.append(ARGMAX(Predictions(logits, None, of_group)))
            progress.advance(len(truths))
    return {**corruptions({"test": Answers.concatenate(answers)}), "generated": "on the device"}


def _num_threads(predictor: Predictor) -> int:
    return predictor.reading.num_threads or num_cores()
