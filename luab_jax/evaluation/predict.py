"""One compiled predict for all suites, and its way through a prepared split."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, UInt8

from luab_jax import sharding
from luab_jax.byproducts.targets import Target
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.pipeline import Reading, Truth, eval_batches
from luab_jax.data.transforms import ANY_SIZE, Stored
from luab_jax.errors import DataError
from luab_jax.evaluation.loading import LoadedModel
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.suite import View
from luab_jax.models.inputs import normalise
from luab_jax.progress import Progress

Output = tuple[Array | np.ndarray, Array | np.ndarray | None]
"""Logits and byproduct of a batch; on the device, then fetched."""


class Predictor:
    """Compiles once per image size; views differ in arguments only, not in program."""

    def __init__(self, loaded: LoadedModel, mesh: Mesh, batch_size: int, reading: Reading):
        """`batch_size` is rounded up to a multiple of the devices."""
        self.batch_size = -(-batch_size // mesh.size) * mesh.size
        self.loaded = loaded
        self.mesh = mesh
        self.reading = reading
        self._sharding = sharding.batch_sharding(mesh)
        whole = sharding.replicated(mesh)
        self._predict = jax.jit(
            _make_predict(loaded),
            in_shardings=(whole, whole, self._sharding, whole, whole),
            out_shardings=self._sharding,
        )

    def __call__(
        self, split: PreparedSplit, views: Sequence[View], stored: Stored = ANY_SIZE
    ) -> dict[View, Predictions]:
        """A whole split at once."""
        batches = list(self.stream(split, views, stored))
        return {view: Predictions.concatenate([batch[view] for batch in batches]) for view in views}

    def stream(
        self, split: PreparedSplit, views: Sequence[View], stored: Stored = ANY_SIZE
    ) -> Iterator[dict[View, Predictions]]:
        """Decodes every image once and predicts it in each view, batch by batch; at least one batch."""
        batches = eval_batches(
            split,
            preprocessing=self.loaded.preprocessing,
            stored=stored,
            batch_size=self.batch_size,
            reading=self.reading,
        )
        side = self.loaded.preprocessing.image_size
        num_images = len(split.records)
        if not num_images:
            raise DataError(f"{split.directory}: the split {split.manifest.split!r} holds no record")
        running: _Running | None = None
        with Progress(f"{split.manifest.dataset} {split.manifest.split}", num_images) as progress:
            for batch, truths in batches:
                images = jax.device_put(batch.images, self._sharding)
                outputs = {
                    view: self._predict(self.loaded.params, self.loaded.batch_stats, images, *occlusion(view, side))
                    for view in views
                }
                # Waiting for the batch before keeps one in flight, and the predictions off the device.
                if running is not None:
                    yield running.fetch()
                running = _Running(outputs, batch.mask, truths, self.loaded.target)
                progress.advance(len(truths))
            if running is not None:
                yield running.fetch()

    def logits(self, images: UInt8[np.ndarray, "n h w 3"] | UInt8[Array, "n h w 3"]) -> Float[np.ndarray, "n c"]:
        """Of at most `batch_size` inputs, by the same program as everything else."""
        padded = jnp.zeros((self.batch_size, *images.shape[1:]), jnp.uint8).at[: len(images)].set(images)
        seen = jax.device_put(padded, self._sharding)
        plain = occlusion(View.PLAIN, self.loaded.preprocessing.image_size)
        logits, _ = self._predict(self.loaded.params, self.loaded.batch_stats, seen, *plain)
        return np.asarray(logits)[: len(images)]


class _Running(NamedTuple):
    """A batch on the device."""

    outputs: dict[View, Output]
    mask: np.ndarray
    truths: list[Truth]
    target: Target | None

    def fetch(self) -> dict[View, Predictions]:
        fetched = {view: jax.device_get(output) for view, output in self.outputs.items()}
        return {
            view: Predictions(
                np.asarray(logits)[self.mask],
                None if byproduct is None else np.asarray(byproduct)[self.mask],
                self.truths,
                self.target,
            )
            for view, (logits, byproduct) in fetched.items()
        }


def occlusion(view: View, side: int) -> tuple[Bool[np.ndarray, "h w"], np.bool_]:
    """The hidden pixels of a view, and whether they are black rather than the mean colour.

    The centre square has half the side: rows and columns 56 to 167 of 224.
    """
    hidden = np.zeros((side, side), bool)
    if view is not View.PLAIN:
        hole = side // 2
        start = (side - hole) // 2
        hidden[start : start + hole, start : start + hole] = True
    return hidden, np.bool_(view is View.CENTRE_BLACK)


def _make_predict(loaded: LoadedModel) -> Callable[..., tuple[Array, Array | None]]:
    preprocessing = loaded.preprocessing

    def predict(
        params: dict[str, Any],
        batch_stats: dict[str, Any],
        images: UInt8[Array, "b h w 3"],
        hidden: Bool[Array, "h w"],
        black: Bool[Array, ""],
    ) -> tuple[Float[Array, "b c"], Float[Array, "b k d"] | None]:
        normalised = normalise(images, preprocessing.mean, preprocessing.std)
        pixel = normalise(jnp.zeros((1, 1, 1, 3), jnp.uint8), preprocessing.mean, preprocessing.std)
        fill = jnp.where(black, pixel, 0.0)
        seen = jnp.where(hidden[None, :, :, None], fill, normalised)
        outputs, _ = loaded.model.apply(params, batch_stats, seen, train=False)
        return outputs.logits, outputs.byproduct

    return predict
