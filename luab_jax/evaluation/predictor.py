"""One compiled predict for all suites, and its way through a prepared split."""

from __future__ import annotations

import dataclasses
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Shaped, UInt8

from luab_jax.checkpoints.loaded import LoadedModel
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.pipeline import Reading, Truth, eval_batches
from luab_jax.data.transforms import ANY_SIZE, Preprocessing, Stored
from luab_jax.data.watermark import Font, laid_on, opacity
from luab_jax.distributed import sharding
from luab_jax.errors import DataError, UserError
from luab_jax.evaluation.accumulator import Evaluated
from luab_jax.evaluation.predict_together import Asked, predict_together
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.programs import (
    Output,
    Programs,
    architecture_of,
    make_features,
    make_maps,
    make_predict,
    occlusion,
)
from luab_jax.evaluation.suite import Need, View
from luab_jax.io.console import compiling
from luab_jax.models.maps import MAPS
from luab_jax.models.rows import spread_over

EvaluatedT = TypeVar("EvaluatedT", bound=Evaluated)


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


class BatchPredictor(ABC, Generic[EvaluatedT]):
    """Goes through a prepared split, whatever it is that predicts a batch."""

    loaded: EvaluatedT
    batch_size: int
    reading: Reading
    further_heads: tuple[str, ...] = ()
    """Names of the byproduct heads after the first."""
    font: Font | None = None
    """Of the watermark in `View.WATERMARK`."""

    @property
    @abstractmethod
    def gives(self) -> frozenset[Need]:
        """What suites may ask for."""

    @property
    @abstractmethod
    def map_kind(self) -> str:
        """What `maps` are, beside every result made from them; empty where there are none."""

    @property
    def maps_at_once(self) -> int:
        """Images whose maps are made before work is kept and progress is shown."""
        return self.batch_size

    @abstractmethod
    def maps(self, images: UInt8[np.ndarray, "n h w 3"], labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n i j"]:
        """Where the classes `labels` are seen on at most `batch_size` inputs, larger where more; the same on every
        host. Only of a predictor that gives them."""

    def features(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n f"]:
        """What the classifier reads of at most `batch_size` inputs, the same on every host. Only of a predictor that
        gives them."""
        raise NotImplementedError

    @abstractmethod
    def place(self, images: UInt8[np.ndarray, "l h w 3"] | UInt8[Array, "l h w 3"]) -> Any:
        """This host's rows of a batch, as `outputs_of` takes them."""

    @abstractmethod
    def outputs_of(self, images: Any, view: View) -> Output:
        """Of a whole batch of `batch_size` images, padding included."""

    def index_of_all(self, index: Int[np.ndarray, " l"]) -> Int[np.ndarray, " b"]:
        """Of the rows of all hosts, from those of this one."""
        return index

    def logits(self, images: UInt8[np.ndarray, "n h w 3"] | UInt8[Array, "n h w 3"]) -> Float[np.ndarray, "n c"]:
        """Of at most `batch_size` inputs, the same on every host, by the same program as everything else."""
        logits, _ = self.outputs_of(self.place_whole(self.padded(np.asarray(images))), View.PLAIN)
        return np.asarray(logits)[: len(images)]

    def mark(self, side: int) -> UInt8[np.ndarray, "side side 1"]:
        """How opaque the watermark is on an input of that size."""
        assert self.font is not None, "suites that lack `Need.FONT` are not run"
        return opacity(self.font, side)

    def place_whole(self, images: UInt8[np.ndarray, "b h w 3"]) -> Any:
        """A whole batch, the same on every host, as `outputs_of` takes it."""
        return images

    def padded(self, rows: Shaped[np.ndarray, "n ..."]) -> Shaped[np.ndarray, "b ..."]:
        """To `batch_size` rows, by zeros."""
        padded = np.zeros((self.batch_size, *rows.shape[1:]), rows.dtype)
        padded[: len(rows)] = rows
        return padded

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
        for _, seen in predict_together(split, [Asked(self, views, start)], stored):
            if isinstance(seen, UserError):
                raise seen
            yield seen

    def sees_as(self, other: BatchPredictor[Any], stored: Stored) -> bool:
        """Whether both are fed the same pixels of files stored so, in batches of the same size."""
        return self.pixels_of(stored) == other.pixels_of(stored) and self.batch_size == other.batch_size

    def pixels_of(self, stored: Stored) -> Hashable:
        """What decides the pixels that it is fed of files stored so."""
        preprocessing = self.preprocessing_for(stored)
        return preprocessing.image_size, preprocessing.resize_side, preprocessing.filter

    def preprocessing_for(self, stored: Stored) -> Preprocessing:
        """The checkpoint's, at the side that files of a suite are fed at."""
        return dataclasses.replace(self.loaded.preprocessing, image_size=self.loaded.side_for(stored))

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
            index = self.index_of_all(batch.index)
            order = np.argsort(index, kind="stable")[-len(truths) :]  # padding is -1
            yield Rows(batch.images, batch.mask, own, truths, order)

    def _exchange(self, own: Any) -> list[Any]:
        """What every host has, in the order of hosts."""
        if jax.process_count() == 1:
            return [own]
        return [pickle.loads(message) for message in sharding.gather_bytes(pickle.dumps(own))]


class Predictor(BatchPredictor[LoadedModel]):
    """A network, compiled once per image size; views differ in arguments only, not in program.

    With several hosts each reads its share of a batch, all predict it together, and every host has all predictions.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        mesh: Mesh,
        batch_size: int,
        reading: Reading,
        programs: Programs | None = None,
        font: Font | None = None,
    ):
        """`batch_size` is rounded up to a multiple of the devices; `programs` are shared with other predictors on the
        same mesh."""
        self.font = font
        self.batch_size = -(-batch_size // mesh.size) * mesh.size
        self.loaded = loaded
        self.further_heads = tuple(spec.name for spec in loaded.model.heads[1:])
        self.mesh = mesh
        self.reading = reading
        self.rows = sharding.batch_sharding(mesh)
        self.whole = sharding.replicated(mesh)
        several_hosts = jax.process_count() > 1
        self.outputs = self.whole if several_hosts else self.rows
        """Where outputs go: with several hosts each needs all of them."""
        self._programs = Programs() if programs is None else programs
        self._architecture = architecture_of(loaded)
        self._shapes: set[tuple[int, ...]] = set()
        """Of the batches that were predicted."""
        self._everywhere = jax.jit(lambda rows: rows, in_shardings=self.rows, out_shardings=self.outputs)
        self._laid_on = jax.jit(laid_on, in_shardings=(self.rows, self.whole), out_shardings=self.rows)

    @property
    def gives(self) -> frozenset[Need]:
        head = {Need.BYPRODUCT_HEAD} if self.loaded.has_byproduct_head else set()
        font = {Need.FONT} if self.font is not None else set()
        return frozenset({Need.LOGITS, Need.MAP, Need.GRADIENT, Need.FEATURES} | head | font)

    @property
    def map_kind(self) -> str:
        return MAPS[self.loaded.model.family]

    @property
    def num_programs(self) -> int:
        """How many programs predict; one, unless images of other sizes were given."""
        return len(self._shapes)

    def place(self, images: UInt8[np.ndarray, "l h w 3"] | UInt8[Array, "l h w 3"]) -> Array:
        """On the devices of all hosts."""
        if jax.process_count() == 1:
            return jax.device_put(images, self.rows)
        return jax.make_array_from_process_local_data(self.rows, np.asarray(images))

    def index_of_all(self, index: Int[np.ndarray, " l"]) -> Int[np.ndarray, " b"]:
        """Exchanged between the hosts."""
        if jax.process_count() == 1:
            return index
        return np.asarray(self._everywhere(jax.make_array_from_process_local_data(self.rows, index)))

    def outputs_of(self, images: Array, view: View) -> Output:
        """Of a whole batch on the devices, padding included."""
        if view is View.WATERMARK:
            images = self._laid_on(images, self.mark(images.shape[1]))
        self._shapes.add(images.shape)
        what = f"the prediction of {len(images):,} images of {images.shape[1]} px"
        given = (images, *occlusion(view, images.shape[1]))
        return self.run("predict", make_predict, given, (self.rows, self.whole, self.whole), what)

    def run(
        self,
        name: str,
        make: Callable[[LoadedModel], Callable[..., Any]],
        given: Sequence[Any],
        shardings: Sequence[Any],
        what: str,
    ) -> Any:
        """A function of the parameters, the statistics and `given`, compiled once for each architecture.

        name: Identifies `make` in the cache of programs.
        what: Description for the log line.
        """
        arguments = (self.loaded.params, self.loaded.batch_stats, *given)
        key = (name, self._architecture, *map(np.shape, given))
        if key not in self._programs:
            function = jax.jit(
                make(self.loaded),
                in_shardings=(self.whole, self.whole, *shardings),
                out_shardings=self.outputs,
            )
            with compiling(what, active=jax.process_index() == 0), spread_over(self.rows):
                self._programs[key] = function.lower(*arguments).compile()
        return self._programs[key](*arguments)

    def place_whole(self, images: UInt8[np.ndarray, "b h w 3"]) -> Array:
        return sharding.put(images, self.rows)

    def features(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n f"]:
        placed, what = self.place_whole(self.padded(images)), f"the features of {images.shape[1]} px"
        return np.asarray(self.run("features", make_features, [placed], [self.rows], what), np.float32)[: len(images)]

    def maps(self, images: UInt8[np.ndarray, "n h w 3"], labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n i j"]:
        """Of a class activation map or attention rollout, see `models.maps`."""
        placed = sharding.put((self.padded(images), self.padded(labels.astype(np.int32))), self.rows)
        found = self.run("maps", make_maps, placed, (self.rows, self.rows), f"the maps of {images.shape[1]} px")
        return np.asarray(found, np.float32)[: len(images)]


def _index(pair: tuple[int, Truth]) -> int:
    return pair[0]
