"""BGC-acc of the Backgrounds Challenge and of one's own: images and masks are decoded once for all models.

On a device the images are held once, too, and models of one architecture share the program that composes and predicts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int, UInt8

from luab_jax.checkpoints.loaded import LoadedModel
from luab_jax.data import label_tables
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.decoding import decode_mask
from luab_jax.data.features import Example
from luab_jax.data.pipeline import Truth, eval_batches
from luab_jax.data.transforms import ANY_SIZE, Preprocessing, Stored, mask_input
from luab_jax.distributed import sharding
from luab_jax.errors import DataError
from luab_jax.evaluation.accumulator import Evaluated
from luab_jax.evaluation.finite import check_all
from luab_jax.evaluation.predictor import BatchPredictor, Predictor
from luab_jax.evaluation.procedures.adversarial_backgrounds import (
    NONE,
    NOT_FINITE,
    Images,
    Search,
    composed,
    groups,
)
from luab_jax.evaluation.procedures.by_image import ByImage, Items, Scores, Splits, threads_of
from luab_jax.evaluation.programs import products
from luab_jax.evaluation.resume import Work
from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.shared_decoding import on_all_hosts, whole_batches
from luab_jax.models.inputs import normalise

SQUARES = Stored(side=224)
"""Of the Backgrounds Challenge."""
ClassesOf = Callable[[int], Int[np.ndarray, " c"]]
"""From a model's number of outputs to the class in the challenge of each."""


class _Challenge:
    """The images of a challenge as models see them."""

    def __init__(self, predictor: BatchPredictor[Any], splits: Splits, stored: Stored):
        """Raises `DataError`."""
        original = splits["original"]
        foregrounds, truths = _inputs(predictor, original, stored)
        masks = _foreground_masks(original, predictor.preprocessing_for(stored), stored, threads_of(predictor))
        has_mask = np.asarray([mask is not None for mask in masks])
        if not has_mask.any():
            raise DataError(f"{original.directory}: no image has a foreground mask; is fg_mask in the source?")
        self.images = Images(
            foregrounds[has_mask],
            np.stack([mask for mask in masks if mask is not None]),
            np.asarray([truth.label for truth in truths], np.int32)[has_mask],
            _inputs(predictor, splits["only_bg_t"], stored)[0],
        )
        self.names = [truth.file_name for truth, has in zip(truths, has_mask, strict=True) if has]
        self.num_without_mask = int(np.sum(~has_mask))
        self._placed: dict[Mesh, Any] = {}

    def on_devices(self, mesh: Mesh) -> tuple[Array, Array, Array]:
        """Foregrounds, masks and backgrounds, whole on every device, once for all models."""
        if mesh not in self._placed:
            images = (self.images.foregrounds, self.images.masks, self.images.backgrounds)
            self._placed[mesh] = sharding.put(images, sharding.replicated(mesh))
        return self._placed[mesh]


class _Reader:
    """One model's search."""

    done = 0
    """Of what it has kept, the search finds its way again by itself."""

    def __init__(self, challenge: _Challenge, classes_of: ClassesOf, predictor: BatchPredictor[Any], work: Work):
        self._challenge = challenge
        answer = _on_devices if isinstance(predictor, Predictor) else _on_host
        self._search = Search(  # which holds nothing of this reader: a cycle would keep the images in memory
            partial(answer, predictor, challenge, classes_of(predictor.loaded.num_classes)),
            challenge.images,
            batch_size=predictor.batch_size,
            work=work,
            check=partial(_check_finite, predictor.loaded, challenge.names),
        )

    def take(self, item: Int[np.ndarray, " g"]) -> None:
        self._search.take(item)

    def scores(self) -> Scores:
        found, images, names = self._search.outcome(), self._challenge.images, self._challenge.names
        return {
            "bgc_accuracy": intervals.share(~found.vulnerable, images=names),
            "n": len(names),
            "n_without_mask": self._challenge.num_without_mask,
            "forward_passes": found.num_predictions,
            "forward_passes_of_brute_force": len(images.foregrounds) * len(images.backgrounds),
        }


def accuracy_on(stored: Stored, classes_of: ClassesOf) -> ByImage:
    """Of a challenge whose images are stored so."""

    def begin(predictor: BatchPredictor[Any], splits: Splits) -> Items:
        challenge = _Challenge(predictor, splits, stored)
        num_foregrounds = len(challenge.names)
        reader = partial(_Reader, challenge, classes_of)
        return Items(
            num_foregrounds,
            lambda start: groups(num_foregrounds, start),
            reader,
            done_by=len,
            unit="foregrounds",
            unit_of_work="composites",
        )

    return ByImage("adversarial backgrounds", begin, lambda predictor: predictor.pixels_of(stored))


def _of_nine(num_classes: int) -> Int[np.ndarray, " c"]:
    superclass = np.full(num_classes, NONE, np.int32)
    for label, indices in enumerate(label_tables.IN9.values()):
        superclass[list(indices)] = label
    return superclass


bgc_accuracy = accuracy_on(SQUARES, _of_nine)
"""The share of foregrounds that no background fools: see `adversarial_backgrounds`.

`n_without_mask` images are left out; of the `forward_passes_of_brute_force`, one for each pair, `forward_passes` were
needed."""

own_bgc_accuracy = accuracy_on(ANY_SIZE, lambda num_classes: np.arange(num_classes, dtype=np.int32))
"""The same of a challenge that `data_prep backgrounds` made, among the model's own classes.

Images are pasted as the model sees them, after resizing and crop."""


def _check_finite(
    loaded: Evaluated, names: Sequence[str], is_finite: Bool[np.ndarray, " p"], of_foregrounds: Int[np.ndarray, " p"]
) -> None:
    check_all(loaded, is_finite, [names[int(i)] for i in of_foregrounds])


def _on_host(
    predictor: BatchPredictor[Any],
    challenge: _Challenge,
    class_of: Int[np.ndarray, " c"],
    pairs: Int[np.ndarray, "p 2"],
) -> Int[np.ndarray, " p"]:
    """For a function, whose images are composed as bytes: each pixel is the foreground's or the background's."""
    images = challenge.images
    masks = images.masks[pairs[:, 0]][..., None]
    logits = predictor.logits(np.where(masks, images.foregrounds[pairs[:, 0]], images.backgrounds[pairs[:, 1]]))
    return np.where(np.isfinite(logits).all(axis=-1), class_of[logits.argmax(axis=-1)], NOT_FINITE)


def _on_devices(
    predictor: Predictor, challenge: _Challenge, class_of: Int[np.ndarray, " c"], pairs: Int[np.ndarray, "p 2"]
) -> Int[np.ndarray, " p"]:
    """Composed there."""
    images = challenge.on_devices(predictor.mesh)
    foreground, background = sharding.put(tuple(predictor.padded(pairs.astype(np.int32)).T), predictor.rows)
    given = (class_of, *images, foreground, background)
    shardings = (*[predictor.whole] * 4, predictor.rows, predictor.rows)
    what = f"the prediction of {predictor.batch_size:,} composites of {images[0].shape[1]} px"
    return np.asarray(predictor.run("composites", _make_answer, given, shardings, what))[: len(pairs)]


def _make_answer(loaded: LoadedModel) -> Callable[..., Array]:
    """What each pair's composite is taken for."""

    def answer(
        params: dict[str, Any],
        batch_stats: dict[str, Any],
        class_of: Int[Array, " c"],
        foregrounds: UInt8[Array, "f h w 3"],
        masks: Bool[Array, "f h w"],
        backgrounds: UInt8[Array, "b h w 3"],
        foreground: Int[Array, " p"],
        background: Int[Array, " p"],
    ) -> Int[Array, " p"]:
        pixels = composed(foregrounds, masks, backgrounds, foreground, background)
        normalised = normalise(pixels, loaded.preprocessing.mean, loaded.preprocessing.std)
        with products(loaded):
            logits = loaded.model.apply(params, batch_stats, normalised, train=False, head=False)[0].logits
        return jnp.where(jnp.isfinite(logits).all(axis=-1), class_of[jnp.argmax(logits, axis=-1)], NOT_FINITE)

    return answer


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
