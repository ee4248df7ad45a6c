"""One compiled predict for all suites, and its way through a prepared split."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, UInt8

from luab_jax import sharding
from luab_jax.byproducts.targets import Target
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.pipeline import Reading, Truth, eval_batches
from luab_jax.data.transforms import ANY_SIZE, Preprocessing, Stored
from luab_jax.errors import DataError
from luab_jax.evaluation.loading import LoadedModel
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.suite import View
from luab_jax.models.inputs import normalise
from luab_jax.progress import Progress

Output = tuple[Array | np.ndarray, Array | np.ndarray | None]
"""Logits and byproduct of a batch; on the device, then fetched."""


class Rows(NamedTuple):
    """A batch of a split on its way: pixels of this host, truths of all."""

    images: UInt8[np.ndarray, "l h w 3"]
    """This host's share, padded."""
    mask: Bool[np.ndarray, " l"]
    own: list[Truth]
    """Of the rows of `images` that are no padding."""
    truths: list[Truth]
    """Of the whole batch, in the order of the records."""
    order: Int[np.ndarray, " n"]
    """Where the rows of `truths` stand in the outputs of the whole batch."""


class Predictor:
    """Compiles once per image size; views differ in arguments only, not in program.

    With several hosts each reads its share of a batch, all predict it together, and every host has all predictions.
    """

    def __init__(self, loaded: LoadedModel, mesh: Mesh, batch_size: int, reading: Reading):
        """`batch_size` is rounded up to a multiple of the devices."""
        self.batch_size = -(-batch_size // mesh.size) * mesh.size
        self.loaded = loaded
        self.mesh = mesh
        self.reading = reading
        self.rows = sharding.batch_sharding(mesh)
        self.whole = sharding.replicated(mesh)
        several_hosts = jax.process_count() > 1
        self.outputs = self.whole if several_hosts else self.rows
        """Where outputs go: with several hosts each needs all of them."""
        self._predict = jax.jit(
            _make_predict(loaded),
            in_shardings=(self.whole, self.whole, self.rows, self.whole, self.whole),
            out_shardings=self.outputs,
        )
        self._everywhere = jax.jit(lambda rows: rows, in_shardings=self.rows, out_shardings=self.outputs)

    @property
    def num_programs(self) -> int:
        """How many programs were compiled to predict; one, unless images of other sizes were given."""
        return self._predict._cache_size()  # pyright: ignore[reportAttributeAccessIssue]

    def __call__(
        self, split: PreparedSplit, views: Sequence[View], stored: Stored = ANY_SIZE
    ) -> dict[View, Predictions]:
        """A whole split at once."""
        batches = list(self.stream(split, views, stored))
        return {view: Predictions.concatenate([batch[view] for batch in batches]) for view in views}

    def stream(
        self, split: PreparedSplit, views: Sequence[View], stored: Stored = ANY_SIZE, start: int = 0
    ) -> Iterator[dict[View, Predictions]]:
        """Decodes every image from `start` on once and predicts it in each view, batch by batch.

        Raises `DataError` at a record that cannot be read, after all batches before.
        """
        title, num_images = f"{split.manifest.dataset} {split.manifest.split}", len(split.records)
        if not num_images:
            raise DataError(f"{split.directory}: the split {split.manifest.split!r} holds no record")
        running: _Running | None = None
        broken: DataError | None = None
        with progress(title, num_images, start) as seen:
            try:
                for rows in self.batches(split, self.loaded.preprocessing, stored, start):
                    images = jax.make_array_from_process_local_data(self.rows, rows.images)
                    outputs = {view: self.outputs_of(images, view) for view in views}
                    # Waiting for the batch before keeps one in flight, and the predictions off the device.
                    if running is not None:
                        yield running.fetch()
                    running = _Running(outputs, rows.order, rows.truths, self.loaded.target)
                    seen.advance(len(rows.truths))
            except DataError as e:
                broken = e
            if running is not None:
                yield running.fetch()
            if broken is not None:
                raise broken

    def batches(
        self, split: PreparedSplit, preprocessing: Preprocessing, stored: Stored = ANY_SIZE, start: int = 0
    ) -> Iterator[Rows]:
        """The records from `start` on. An error of one host is raised on all, for they go on together or not at all."""
        batches = eval_batches(
            split,
            preprocessing=preprocessing,
            stored=stored,
            batch_size=self.batch_size,
            start=start,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            reading=self.reading,
        )
        while True:
            try:
                batch, own = next(batches)
                found: list[tuple[int, Truth]] | str = list(zip(batch.index[batch.mask].tolist(), own, strict=True))
            except StopIteration:
                return
            except DataError as e:
                if jax.process_count() == 1:
                    raise
                batch, own, found = None, [], str(e)
            everyones = self._exchange(found)
            if errors := [of_host for of_host in everyones if isinstance(of_host, str)]:
                raise DataError(errors[0])
            assert batch is not None
            truths = [truth for _, truth in sorted((pair for of_host in everyones for pair in of_host), key=_index)]
            index = batch.index
            if jax.process_count() > 1:
                index = np.asarray(self._everywhere(jax.make_array_from_process_local_data(self.rows, index)))
            order = np.argsort(index, kind="stable")[-len(truths) :]  # padding is -1
            yield Rows(batch.images, batch.mask, own, truths, order)

    def _exchange(self, own: Any) -> list[Any]:
        """What every host has, in the order of hosts."""
        if jax.process_count() == 1:
            return [own]
        return [pickle.loads(message) for message in sharding.gather_bytes(pickle.dumps(own))]

    def outputs_of(self, images: Array, view: View) -> Output:
        """Of a whole batch on the devices, padding included."""
        hidden = occlusion(view, self.loaded.preprocessing.image_size)
        return self._predict(self.loaded.params, self.loaded.batch_stats, images, *hidden)

    def logits(self, images: UInt8[np.ndarray, "n h w 3"] | UInt8[Array, "n h w 3"]) -> Float[np.ndarray, "n c"]:
        """Of at most `batch_size` inputs, the same on every host, by the same program as everything else."""
        padded = np.zeros((self.batch_size, *images.shape[1:]), np.uint8)
        padded[: len(images)] = images
        logits, _ = self.outputs_of(sharding.put(padded, self.rows), View.PLAIN)
        return np.asarray(logits)[: len(images)]

    def logits_of(self, rows: Rows, images: UInt8[np.ndarray, "l h w 3"] | UInt8[Array, "l h w 3"]) -> np.ndarray:
        """Of a batch whose pixels this host has changed: `[n, c]`, in the order of `rows.truths`."""
        several_hosts = jax.process_count() > 1
        placed = (
            jax.make_array_from_process_local_data(self.rows, np.asarray(images))
            if several_hosts
            else jax.device_put(images, self.rows)
        )
        logits, _ = self.outputs_of(placed, View.PLAIN)
        return np.asarray(logits)[rows.order]


def _index(pair: tuple[int, Truth]) -> int:
    return pair[0]


def progress(title: str, total: int, done: int = 0) -> Progress:
    """Told by the first host alone."""
    return Progress(title, total, done=done, active=jax.process_index() == 0)


class _Running(NamedTuple):
    """A batch on the device."""

    outputs: dict[View, Output]
    order: np.ndarray
    truths: list[Truth]
    target: Target | None

    def fetch(self) -> dict[View, Predictions]:
        fetched = {view: jax.device_get(output) for view, output in self.outputs.items()}
        return {
            view: Predictions(
                np.asarray(logits)[self.order],
                None if byproduct is None else np.asarray(byproduct)[self.order],
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
