"""Rows of training batches: records cropped, mirrored and resized, with labels and targets.

Threads and worker processes make them alike, so nothing here imports jax or Grain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int, UInt8

from luab_jax.byproducts.columns import ByproductColumns
from luab_jax.byproducts.geometry import Affine, Affines
from luab_jax.byproducts.kinds import TargetSettings
from luab_jax.byproducts.responses import Response, SampleWeight, log_response, sample_weight
from luab_jax.byproducts.targets import Target, classes_outside, make_targets, target_shape
from luab_jax.data.features import Example
from luab_jax.data.gpu_jpeg import GpuJpegs
from luab_jax.data.random_elements import ElementGenerators, sample_crops
from luab_jax.data.slots import Column
from luab_jax.data.transforms import EncodedImage, ResizeFilter, crop_and_resize_into


@runtime_checkable
class Records(Protocol):
    """Serialised records by number; picklable, and safe in threads and in processes."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Inception crop and flip, on pixels and byproducts alike."""

    image_size: int = 224
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Share of the image's area."""
    flip: bool = True
    filter: ResizeFilter = ResizeFilter.BICUBIC
    gpu: GpuJpegs | None = None
    """Decodes the JPEGs that it can; None leaves all to the CPU."""
    repeats: int = 1
    """Crops of an image that follow each other (repeated augmentation: Hoffer et al. 2020; DeiT's samplers.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSets:
    """Given for images with sets of labels; without it each has one."""

    num_classes: int
    follow_points: bool = False
    """A class whose icon the crop does not show loses its label; see `ByproductConfig.label_follows_point`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRows:
    """Makes rows of a `Batch`, for elements of the endless list."""

    records: Records
    augmentation: Augmentation
    target: Target
    seed: int
    """Of the random targets."""
    label_sets: LabelSets | None
    settings: TargetSettings
    weighting: SampleWeight
    target_weighting: SampleWeight = SampleWeight.NONE
    """Of the first target's loss."""
    more: tuple[tuple[Target, SampleWeight], ...] = ()
    """Targets after the first, each with that by which its loss is weighted."""
    generators: ElementGenerators

    @property
    def num_classes(self) -> int | None:
        return None if self.label_sets is None else self.label_sets.num_classes

    def columns(self) -> dict[str, Column]:
        """The columns of a `Batch`."""
        side = self.augmentation.image_size
        columns = {"images": Column((side, side, 3), np.dtype(np.uint8))}
        columns |= label_columns(self.target, self.num_classes, self.settings)
        for place, (target, _) in enumerate(self.more, 1):
            columns |= target_columns(target, self.num_classes, self.settings, place)
        return columns | {name: Column((), np.dtype(np.float32)) for name in self._weightings()}

    def _weightings(self) -> dict[str, Response]:
        """The columns of weights, and by what each weighs."""
        of_targets = (self.target_weighting, *(weighting for _, weighting in self.more))
        named = {"weights": self.weighting}
        named |= {f"target_weights{suffix(place)}": weighting for place, weighting in enumerate(of_targets)}
        return {name: by.response for name, by in named.items() if by.response is not None}

    def fill(self, places: Int[np.ndarray, "n 2"], rows: Mapping[str, np.ndarray], tell: Callable[[], None]) -> None:
        """Makes the elements (position in the endless list, record) of `places`; calls `tell` for each record and
        each image.

        Raises `DataError` naming the image that cannot be read.
        """
        rows["index"][:], rows["mask"][:] = places[:, 1], True
        examples: list[Example] = []
        for index in places[:, 1].tolist():
            examples.append(Example(self.records[index]))
            tell()  # a slow bucket is no hanging worker
        images = [EncodedImage(example.image, example.file_name) for example in examples]
        sizes = np.asarray([image.size for image in images])
        crops = sample_crops(self.generators, places[:, 0], sizes, self.augmentation.crop_scale)
        if not self.augmentation.flip:
            crops.flips[:] = False
        filter = self.augmentation.filter
        drawn = zip(rows["images"], images, crops.boxes, crops.flips.tolist(), self._decoded(images), strict=True)
        for row, image, box, flip, whole in drawn:
            crop_and_resize_into(row, image, box, filter, flip=flip, whole=whole)
            tell()
        self._fill_labels([example.byproducts() for example in examples], crops.views(sizes), rows)

    def _decoded(self, images: Sequence[EncodedImage]) -> Iterable[UInt8[np.ndarray, "h w 3"] | None]:
        """Whole images, where the GPU decodes them."""
        if self.augmentation.gpu is None:
            return [None] * len(images)
        return self.augmentation.gpu.whole([image.jpeg for image in images])

    def _fill_labels(
        self, byproducts: Sequence[ByproductColumns], views: Affines, rows: Mapping[str, np.ndarray]
    ) -> None:
        for place, target in enumerate((self.target, *(target for target, _ in self.more))):
            rows[f"targets{suffix(place)}"][:], rows[f"valid{suffix(place)}"][:] = make_targets(
                target, byproducts, views, seed=self.seed, num_classes=self.num_classes, settings=self.settings
            )
        rows["labels"][:] = [self._label(of_image, views[i]) for i, of_image in enumerate(byproducts)]
        for name, response in self._weightings().items():
            mean = self.settings.statistics.scales[response].mean
            rows[name][:] = [sample_weight(response, log_response(response, one), mean) for one in byproducts]

    def _label(self, byproducts: ByproductColumns, view: Affine) -> int | Bool[np.ndarray, " c"]:
        if self.label_sets is None:
            return byproducts.label
        label = multi_hot(byproducts.labels, self.label_sets.num_classes)
        if self.label_sets.follow_points:
            label &= ~classes_outside(self.target, byproducts, view, self.label_sets.num_classes)
        return label


def label_columns(target: Target, num_classes: int | None, settings: TargetSettings) -> dict[str, Column]:
    """All columns of a `Batch` but the images and weights."""
    return {
        "labels": Column((), np.dtype(np.int32)) if num_classes is None else Column((num_classes,), np.dtype(bool)),
        **target_columns(target, num_classes, settings),
        "mask": Column((), np.dtype(bool)),
        "index": Column((), np.dtype(np.int32)),
    }


def target_columns(
    target: Target, num_classes: int | None, settings: TargetSettings, place: int = 0
) -> dict[str, Column]:
    """Of the target in that place of the config's list, named as `Batch.of` wants it."""
    count, width = target_shape(target, num_classes, settings) or (0, 0)
    return {
        f"targets{suffix(place)}": Column((count, width), np.dtype(np.float32)),
        f"valid{suffix(place)}": Column((count,), np.dtype(bool)),
    }


def suffix(place: int) -> str:
    """Of the names of a target's columns: nothing for the first."""
    return f"_{place}" if place else ""


def multi_hot(labels: Sequence[int] | np.ndarray, num_classes: int) -> Bool[np.ndarray, " c"]:
    label = np.zeros(num_classes, bool)
    label[np.asarray(labels, np.int64)] = True
    return label
