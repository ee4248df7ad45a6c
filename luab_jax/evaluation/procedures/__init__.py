"""Suites that are more than a prediction of every image: each a function of a `Predictor` and the opened parts.

The third argument keeps what is done, so that it is not done again after an interruption. With several hosts they
share decoding, editing, scoring by thresholds and predictions, and every host has all results.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt8

from luab_jax.corruptions.corrupt import corrupt, image_keys
from luab_jax.corruptions.frost_photos import packaged_photos
from luab_jax.corruptions.parameters import NAMES, SEVERITIES
from luab_jax.data import label_tables
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.decoding import decode_mask
from luab_jax.data.features import Example
from luab_jax.data.pipeline import Truth, eval_batches
from luab_jax.data.resampling import ResizeFilter
from luab_jax.data.transforms import ANY_SIZE, Preprocessing, Stored, mask_input
from luab_jax.errors import DataError
from luab_jax.evaluation.answers import ARGMAX, Answers
from luab_jax.evaluation.columns import as_answers, of_kept
from luab_jax.evaluation.finite import check_all, check_finite
from luab_jax.evaluation.predict_together import progress
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.predictor import BatchPredictor, Predictor, products
from luab_jax.evaluation.procedures.adversarial_backgrounds import (
    NONE,
    NOT_FINITE,
    Check,
    Images,
    Outcome,
    find_vulnerable,
    search,
)
from luab_jax.evaluation.procedures.by_image import Scores, Splits, threads_of
from luab_jax.evaluation.procedures.context import context_dependence
from luab_jax.evaluation.procedures.location import localisation
from luab_jax.evaluation.resume import Work
from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.scores.corruptions import corruptions
from luab_jax.evaluation.shared_decoding import on_all_hosts, whole_batches
from luab_jax.models.inputs import normalise

__all__ = ["bgc_accuracy", "context_dependence", "generated_corruptions", "localisation", "own_bgc_accuracy"]

_IMAGENET_C_SIDE = 224
_STORED = Stored(side=224)
"""Of the Backgrounds Challenge, and of ImageNet-C."""
NOTHING_KEPT = Work()


def bgc_accuracy(predictor: BatchPredictor[Any], splits: Splits, work: Work = NOTHING_KEPT) -> Scores:
    """The share of foregrounds that no background fools: see `adversarial_backgrounds`.

    `n_without_mask` images are left out; of the `forward_passes_of_brute_force`, one for each pair, `forward_passes`
    were needed.
    """
    superclass = np.full(predictor.loaded.num_classes, NONE, np.int32)
    for label, indices in enumerate(label_tables.IN9.values()):
        superclass[list(indices)] = label
    return _bgc_accuracy(predictor, splits, work, _STORED, superclass)


def own_bgc_accuracy(predictor: BatchPredictor[Any], splits: Splits, work: Work = NOTHING_KEPT) -> Scores:
    """The same of a challenge that `data_prep backgrounds` made, among the model's own classes.

    Images are pasted as the model sees them, after resizing and crop.
    """
    return _bgc_accuracy(predictor, splits, work, ANY_SIZE, np.arange(predictor.loaded.num_classes, dtype=np.int32))


def _bgc_accuracy(
    predictor: BatchPredictor[Any], splits: Splits, work: Work, stored: Stored, class_of: Int[np.ndarray, " c"]
) -> Scores:
    """`class_of`: of every output of the model its class in the challenge."""
    loaded = predictor.loaded
    foregrounds, truths = _inputs(predictor, splits["original"], stored)
    masks = _foreground_masks(splits["original"], predictor.preprocessing_for(stored), stored, threads_of(predictor))
    has_mask = np.asarray([mask is not None for mask in masks])
    if not has_mask.any():
        raise DataError(f"{splits['original'].directory}: no image has a foreground mask; is fg_mask in the source?")
    images = Images(
        foregrounds[has_mask],
        np.stack([mask for mask in masks if mask is not None]),
        np.asarray([truth.label for truth in truths], np.int32)[has_mask],
        _inputs(predictor, splits["only_bg_t"], stored)[0],
    )
    names = [truth.file_name for truth, has in zip(truths, has_mask, strict=True) if has]

    def check(is_finite: Bool[np.ndarray, " p"], of_foregrounds: Int[np.ndarray, " p"]) -> None:
        check_all(loaded, is_finite, [names[i] for i in of_foregrounds])

    if isinstance(predictor, Predictor):
        found = _vulnerable(predictor, images, class_of, work, check)
    else:
        found = _vulnerable_on_host(predictor, images, class_of, work, check)
    return {
        "bgc_accuracy": intervals.share(~found.vulnerable, images=names),
        "n": len(found.vulnerable),
        "n_without_mask": int(np.sum(~has_mask)),
        "forward_passes": found.num_predictions,
        "forward_passes_of_brute_force": len(images.foregrounds) * len(images.backgrounds),
    }


def _vulnerable(
    predictor: Predictor, images: Images, class_of: Int[np.ndarray, " c"], work: Work, check: Check
) -> Outcome:
    """Composed on the device."""
    loaded = predictor.loaded

    def classify(variables: tuple[Any, Any], pixels: UInt8[Array, "p h w 3"]) -> Int[Array, " p"]:
        normalised = normalise(pixels, loaded.preprocessing.mean, loaded.preprocessing.std)
        with products(loaded):
            outputs, _ = loaded.model.apply(*variables, normalised, train=False, head=False)
        answer = jnp.asarray(class_of)[jnp.argmax(outputs.logits, axis=-1)]
        return jnp.where(jnp.isfinite(outputs.logits).all(axis=-1), answer, NOT_FINITE)

    variables = (loaded.params, loaded.batch_stats)
    return find_vulnerable(
        classify, variables, images, batch_size=predictor.batch_size, mesh=predictor.mesh, work=work, check=check
    )


def _vulnerable_on_host(
    predictor: BatchPredictor[Any], images: Images, class_of: Int[np.ndarray, " c"], work: Work, check: Check
) -> Outcome:
    """For a function, whose images are composed as bytes: each pixel is the foreground's or the background's."""

    def answer(pairs: Int[np.ndarray, "p 2"]) -> Int[np.ndarray, " p"]:
        masks = images.masks[pairs[:, 0]][..., None]
        pixels = np.where(masks, images.foregrounds[pairs[:, 0]], images.backgrounds[pairs[:, 1]])
        logits = predictor.logits(pixels)
        return np.where(np.isfinite(logits).all(axis=-1), class_of[logits.argmax(axis=-1)], NOT_FINITE)

    return search(answer, images, batch_size=predictor.batch_size, work=work, check=check)


def _inputs(
    predictor: BatchPredictor[Any], split: PreparedSplit, stored: Stored
) -> tuple[UInt8[np.ndarray, "n h w 3"], list[Truth]]:
    """All images of a set of the Backgrounds Challenge, and their classes of nine."""
    batches = eval_batches(
        split,
        preprocessing=predictor.preprocessing_for(stored),
        stored=stored,
        batch_size=predictor.batch_size,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        reading=predictor.reading,
    )
    pixels: list[np.ndarray] = []
    truths: list[Truth] = []
    for of_batch, of_rows in whole_batches(batches):
        pixels.append(of_batch)
        truths += of_rows
    return np.concatenate(pixels), truths


def _foreground_masks(
    split: PreparedSplit, preprocessing: Preprocessing, stored: Stored, threads: int
) -> list[Bool[np.ndarray, "h w"] | None]:
    """As the model sees them: stored squares by the nearest pixel, others as their images, at half of what is white."""
    side = preprocessing.image_size

    def mask_of(index: int) -> Bool[np.ndarray, "h w"] | None:
        example = Example(split.records[index])
        if not example.foreground_masks:
            return None
        try:
            pixels = decode_mask(example.foreground_masks[0]).astype(np.uint8)
        except DataError as e:
            raise DataError(
                f"{example.file_name}: its foreground mask cannot be decoded ({e}); prepare the set again"
            ) from e
        if stored.side is not None:
            return np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_NEAREST)) > 0
        return mask_input(pixels > 0, preprocessing)

    return list(on_all_hosts(mask_of, range(len(split.records)), threads))


def generated_corruptions(
    predictor: BatchPredictor[Any],
    splits: Splits,
    work: Work = NOTHING_KEPT,
    kinds: Sequence[str] = NAMES,
    severities: Sequence[int] = SEVERITIES,
) -> Scores:
    """ImageNet-C computed on the device from the validation images, decoded once for all kinds and severities.

    As the authors made their files, but for the JPEG that they stored in between; see `luab_jax/corruptions`.
    """
    split, loaded = splits["val"], predictor.loaded
    if loaded.side_for(_STORED) != _IMAGENET_C_SIDE:
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
