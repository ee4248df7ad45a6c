"""Batches from a prepared split, by Grain.

Training reads an endless list whose position is a function of the step: element i is example `shuffle(i mod n)` of
epoch i div n, augmented by a generator seeded with i. Where every image is repeated r times it is example
`shuffle((i mod n) div r)`: r crops in a row of the first n / r images of each epoch's order. Host p of h takes the
elements p, p + h, ... of it, so the same seed gives the same global batches on any number of hosts, and a resumed run
continues by slicing.

Evaluation reads every record once, in order, padded to whole batches; `mask` tells the padding.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import grain
import numpy as np
from jaxtyping import Bool, Float, UInt8

from luab_jax.byproducts.columns import ByproductColumns
from luab_jax.byproducts.geometry import Affine
from luab_jax.byproducts.kinds import DEFAULT_SETTINGS, TargetSettings, TargetValues
from luab_jax.byproducts.responses import SampleWeight, log_response, sample_weight
from luab_jax.byproducts.targets import Target, classes_outside, make_target, scored_target, target_shape
from luab_jax.data.batch import Batch
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.features import Example
from luab_jax.data.tfrecord import RandomAccessTFRecords
from luab_jax.data.transforms import (
    ANY_SIZE,
    EncodedImage,
    Preprocessing,
    ResizeFilter,
    Stored,
    crop_and_resize,
    decode,
    evaluation_input,
    sample_crop,
)
from luab_jax.errors import DataError

_MAX_CHUNK = 32
"""Training examples that a thread makes and stacks before it hands them over: one by one, waking the other side for
each costs a tenth of the time of making it."""


class TrainExample(NamedTuple):
    """One augmented image; the rows of a `Batch`."""

    image: UInt8[np.ndarray, "h w 3"]
    label: int | Bool[np.ndarray, " c"]
    """One class, or which of the C classes the crop is said to show."""
    target: TargetValues
    index: int
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of one evaluation image, in fractions of the model's input."""

    file_name: str
    label: int
    labels: tuple[int, ...]
    group: str
    click: Float[np.ndarray, " 2"] | None
    """The final click, where it lies inside the input."""
    box: Float[np.ndarray, " 4"] | None
    """The class's box, clipped to the input."""


class EvalExample(NamedTuple):
    """One evaluation image and the truth about it; `None` images fill the last batch."""

    image: UInt8[np.ndarray, "h w 3"]
    truth: Truth | None
    index: int
    target: TargetValues
    """What the head's output is compared with; see `scored_target`."""


def num_cores() -> int:
    """Cores that this process may use, which in a job is often fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def derived_seed(seed: int, purpose: str) -> int:
    """A 32-bit seed for one purpose, so that neighbouring run seeds share no stream.

    Grain shuffles epoch e with seed + e: with plain seeds, run 1 would begin with the second epoch of run 0.
    """
    return int.from_bytes(hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=4).digest(), "little")


class _Indexed:
    """Records with their position: a Grain source."""

    def __init__(self, records: RandomAccessTFRecords):
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> tuple[int, Example]:
        return index, Example(self._records[index])

    def __repr__(self) -> str:
        return repr(self._records)


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Inception crop and flip, on pixels and byproducts alike."""

    image_size: int = 224
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Share of the image's area."""
    flip: bool = True
    filter: ResizeFilter = ResizeFilter.BICUBIC
    repeats: int = 1
    """Crops of an image that follow each other (repeated augmentation: Hoffer et al. 2020; DeiT's samplers.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSets:
    """Given for images with sets of labels; without it each has one."""

    num_classes: int
    follow_points: bool = False
    """A class whose icon the crop does not show loses its label; see `ByproductConfig.label_follows_point`."""


class _Augment(grain.transforms.RandomMap):
    def __init__(
        self,
        augmentation: Augmentation,
        target: Target,
        seed: int,
        label_sets: LabelSets | None,
        settings: TargetSettings,
        weighting: SampleWeight,
    ):
        self._augmentation = augmentation
        self._target = target
        self._seed = seed
        self._label_sets = label_sets
        self._settings = settings
        self._weighting = weighting

    def random_map(self, element: tuple[int, Example], rng: np.random.Generator) -> TrainExample:
        index, example = element
        image = EncodedImage(example.image, example.file_name)
        box = sample_crop(rng, image.size, self._augmentation.crop_scale)
        flip = bool(rng.random() < 0.5) and self._augmentation.flip
        pixels, view = crop_and_resize(image, box, self._augmentation.image_size, self._augmentation.filter, flip=flip)
        byproducts = example.byproducts()
        num_classes = None if self._label_sets is None else self._label_sets.num_classes
        target = make_target(
            self._target, byproducts, view, seed=self._seed, num_classes=num_classes, settings=self._settings
        )
        return TrainExample(pixels, self._label(byproducts, view), target, index, self._weight(byproducts))

    def _weight(self, byproducts: ByproductColumns) -> float | None:
        response = self._weighting.response
        if response is None:
            return None
        mean = self._settings.statistics.scales[response].mean
        return sample_weight(response, log_response(response, byproducts), mean)

    def _label(self, byproducts: ByproductColumns, view: Affine) -> int | Bool[np.ndarray, " c"]:
        if self._label_sets is None:
            return byproducts.label
        label = _multi_hot(byproducts.labels, self._label_sets.num_classes)
        if self._label_sets.follow_points:
            label &= ~classes_outside(self._target, byproducts, view, self._label_sets.num_classes)
        return label


class _Repeated(grain.MapDataset):
    """Every image of an epoch several times in a row; an epoch stays as long, so it ends before all were seen.

    Grain repeats whole epochs only. A place in the list is still computed: hosts slice it and runs resume as without.
    """

    def __init__(self, epochs: grain.MapDataset, length: int, repeats: int):
        """epochs: an endless list with another order every `length` elements."""
        super().__init__(epochs)
        self._length = length
        self._repeats = repeats

    def __len__(self) -> int:
        return len(self._parent)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        epoch, place = divmod(index, self._length)
        return self._parent[epoch * self._length + place // self._repeats]


def _multi_hot(labels: Sequence[int] | np.ndarray, num_classes: int) -> Bool[np.ndarray, " c"]:
    label = np.zeros(num_classes, bool)
    label[np.asarray(labels, np.int64)] = True
    return label


class _Prepare(grain.transforms.Map):
    """An evaluation image with all that scores may ask of it."""

    def __init__(
        self,
        preprocessing: Preprocessing,
        stored: Stored,
        num_classes: int | None,
        target: Target,
        settings: TargetSettings,
    ):
        self._preprocessing = preprocessing
        self._stored = stored
        self._num_classes = num_classes
        self._target = scored_target(target, num_classes)
        self._settings = settings

    def map(self, element: tuple[int, Example | None]) -> EvalExample:
        index, example = element
        if example is None:
            side = self._preprocessing.image_size
            return EvalExample(np.zeros((side, side, 3), np.uint8), None, index, self._no_target())
        name = example.file_name
        image = decode(example.image, name)
        try:
            pixels, view = evaluation_input(image, self._preprocessing, self._stored)
        except DataError as e:
            raise DataError(f"{name}: {e}") from e
        target = make_target(
            self._target,
            example.byproducts(),
            view,
            seed=0,
            num_classes=self._num_classes,
            settings=self._settings,
        )
        return EvalExample(pixels, _truth(example, view), index, target)

    def _no_target(self) -> TargetValues:
        shape = target_shape(self._target, self._num_classes, self._settings)
        assert shape is not None, "the baseline is compared with clicks too"
        return TargetValues(np.zeros(shape, np.float32), np.zeros(shape[0], bool))


def _truth(example: Example, view: Affine) -> Truth:
    byproducts = example.byproducts()
    click = make_target(Target.CLICK_LAST, byproducts, view, seed=0)
    box = make_target(Target.BOX, byproducts, view, seed=0)
    return Truth(
        file_name=example.file_name,
        label=example.label,
        labels=tuple(example.labels.tolist()),
        group=example.group,
        click=click.values[0] if click.valid[0] else None,
        box=box.values[0] if box.valid[0] else None,
    )


class _Padded:
    """A source from `start` on, its length a multiple of the global batch; padding has index -1 and no example."""

    def __init__(self, source: _Indexed, start: int, multiple: int):
        self._source = source
        self._start = start
        self._length = -(-(len(source) - start) // multiple) * multiple

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[int, Example | None]:
        position = self._start + index
        return self._source[position] if position < len(self._source) else (-1, None)

    def __repr__(self) -> str:
        return f"{self._source!r} from {self._start}, padded to {self._length}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How hard the host works; has no influence on what the batches hold."""

    num_threads: int = 0
    """Decoding threads; 0 takes one per core. Decoding and resizing hold no interpreter lock."""
    prefetch_examples: int = 512
    """Decoded examples in waiting: 150 kB each at 224 px."""

    def options(self, examples: int = 1) -> grain.ReadOptions:
        """For elements of so many examples; every thread has one to work on."""
        threads = self.num_threads or num_cores()
        return grain.ReadOptions(
            num_threads=threads, prefetch_buffer_size=max(threads, self.prefetch_examples // examples)
        )


def train_batches(
    split: PreparedSplit,
    *,
    augmentation: Augmentation,
    target: Target,
    seed: int,
    label_sets: LabelSets | None = None,
    settings: TargetSettings = DEFAULT_SETTINGS,
    weighting: SampleWeight = SampleWeight.NONE,
    batch_size: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    reading: Reading,
) -> Iterator[Batch]:
    """Endless training batches of this host, from `start_step` on; `batch_size` is global."""
    local = _local_batch_size(batch_size, process_count)
    if not len(split.records):
        raise DataError(f"{split.directory}: the split {split.manifest.split!r} holds no record to train on")
    epochs = grain.MapDataset.source(_Indexed(split.records)).shuffle(seed=derived_seed(seed, "shuffle")).repeat()
    if augmentation.repeats > 1:
        epochs = _Repeated(epochs, len(split.records), augmentation.repeats)
    dataset = epochs.random_map(
        _Augment(augmentation, target, seed, label_sets, settings, weighting), seed=derived_seed(seed, "augment")
    )
    mine = dataset[process_index::process_count][start_step * local :]
    chunk = max(size for size in range(1, min(local, _MAX_CHUNK) + 1) if local % size == 0)
    chunks = iter(mine.batch(chunk, batch_fn=_stack_train).to_iter_dataset(reading.options(chunk)))
    while True:
        parts = [next(chunks) for _ in range(local // chunk)]
        yield parts[0] if len(parts) == 1 else _joined(parts)


def eval_batches(
    split: PreparedSplit,
    *,
    preprocessing: Preprocessing,
    stored: Stored = ANY_SIZE,
    batch_size: int,
    num_classes: int | None = None,
    target: Target = Target.NONE,
    settings: TargetSettings = DEFAULT_SETTINGS,
    start: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    reading: Reading,
) -> Iterator[tuple[Batch, list[Truth]]]:
    """Every record from `start` on once; the truths are those of the rows whose `mask` is True, in order.

    With `num_classes` the labels of the batches are sets. The targets are `scored_target(target)`: final clicks, or the
    final icons of each class, but for a head that predicts something else.
    """
    local = _local_batch_size(batch_size, process_count)
    dataset = grain.MapDataset.source(_Padded(_Indexed(split.records), start, batch_size)).map(
        _Prepare(preprocessing, stored, num_classes, target, settings)
    )
    examples = iter(dataset[process_index::process_count].to_iter_dataset(reading.options()))
    rows: list[EvalExample] = []
    for example in examples:
        rows.append(example)
        if len(rows) == local:
            yield _stack_eval(rows, num_classes), [row.truth for row in rows if row.truth is not None]
            rows = []


def _local_batch_size(batch_size: int, process_count: int) -> int:
    if batch_size % process_count:
        raise DataError(f"the batch of {batch_size} does not divide among {process_count} hosts")
    return batch_size // process_count


def _stack_train(rows: Sequence[TrainExample]) -> Batch:
    return Batch(
        images=np.stack([row.image for row in rows]),
        labels=_stack_labels([row.label for row in rows]),
        targets=np.stack([row.target.values for row in rows]),
        valid=np.stack([row.target.valid for row in rows]),
        mask=np.ones(len(rows), bool),
        index=np.asarray([row.index for row in rows], np.int32),
        weights=None if rows[0].weight is None else np.asarray([row.weight for row in rows], np.float32),
    )


def _joined(parts: Sequence[Batch]) -> Batch:
    """Rows of several batches; a column that is `None` is so in all."""
    columns = zip(*parts, strict=True)
    return Batch(*(None if column[0] is None else np.concatenate(column) for column in columns))


def _stack_labels(labels: Sequence[int | np.ndarray]) -> np.ndarray:
    """`[b]` int32 or `[b, c]` bool."""
    stacked = np.stack(labels)
    return stacked if stacked.ndim == 2 else stacked.astype(np.int32)


def _stack_eval(rows: list[EvalExample], num_classes: int | None) -> Batch:
    return Batch(
        images=np.stack([row.image for row in rows]),
        labels=_stack_labels([_eval_label(row.truth, num_classes) for row in rows]),
        targets=np.stack([row.target.values for row in rows]),
        valid=np.stack([row.target.valid for row in rows]),
        mask=np.asarray([row.truth is not None for row in rows]),
        index=np.asarray([row.index for row in rows], np.int32),
    )


def _eval_label(truth: Truth | None, num_classes: int | None) -> int | Bool[np.ndarray, " c"]:
    if num_classes is None:
        return -1 if truth is None else truth.label
    return _multi_hot(() if truth is None else truth.labels, num_classes)
