"""A backgrounds challenge out of any prepared split with boxes or masks: foregrounds and backgrounds exchanged.

The sets are those of ImageNet-9 (Xiao et al. 2021, "Noise or Signal", table 1; MadryLab/backgrounds_challenge):

    original     as it came                            only_bg_b    the object's rectangle black
    mixed_same   on a background of its own class      only_bg_t    the same rectangle tiled with background
    mixed_rand   on one of a random class              no_fg        the object's own pixels black
    mixed_next   on one of the next class              only_fg      all but the object's own pixels black

Backgrounds are those of `only_bg_t`, resized to cover the image that they go behind. Every image keeps its size, so
that a model sees all sets as it sees the split that they are made of. Which background an image gets follows from its
name and the seed. Images with a set of labels have the class of their largest box as object, and keep as their set all
that may be seen beside it.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from data_prep.images import BadImage
from data_prep.own_suites import composites
from data_prep.own_suites.encoding import encode_image, encode_mask
from data_prep.own_suites.foregrounds import By, Foreground, Rectangle, foreground, kinds, main_label
from data_prep.own_suites.outcomes import made
from data_prep.own_suites.splits import SplitSource
from data_prep.problems import Reason
from data_prep.writing.shards import Outcome
from luab_jax.byproducts.records import Box, ImageRecord, Size
from luab_jax.data.dataset import Skipped
from luab_jax.data.decoding import decode
from luab_jax.data.features import Example
from luab_jax.errors import DataError
from luab_jax.io.console import Progress
from luab_jax.io.threads import in_threads

VERSION = 1
"""Raised when the same split gives other images."""
DATASET = "own_backgrounds"
MIXED = ("mixed_same", "mixed_rand", "mixed_next")
SETS = ("original", *MIXED, "no_fg", "only_bg_b", "only_bg_t", "only_fg")
WITH_OBJECT = ("original", *MIXED, "only_fg")
_THREADS = 8


class Photo(NamedTuple):
    """An image whose object can be cut out."""

    index: int
    """Of its record."""
    file_name: str
    label: int
    """Of the object."""
    others: tuple[int, ...] | None
    """What else its set of labels holds; None where images have one label."""

    @property
    def name_in_folder(self) -> str:
        """Versions of an image are told to be of one image by its folder and name, so a name alone gets a folder."""
        return self.file_name if "/" in self.file_name else f"images/{self.file_name}"


@dataclass(slots=True)
class Found:
    """What a split has."""

    photos: list[Photo]
    by: By
    problems: list[Skipped] = field(default_factory=list)


class Composite(NamedTuple):
    """One image to be made."""

    file_name: str
    index: int
    label: int
    labels: tuple[int, ...]
    """All that is to be seen on it, where images have sets of labels."""
    background: int = -1
    """The record that the background is of, where it is another."""
    group: str = ""
    """The class of that background."""


class _Object(NamedTuple):
    photo: Photo
    kinds: frozenset[By]


def find_photos(source: SplitSource, by: By | None, max_area: float, *, otherwise: str = "leave out --by") -> Found:
    """The images with an object by masks or boxes; by None, masks if half of those that have either have masks.

    Left out, and listed, is an image without one, and one whose object's rectangle covers more than `max_area`.
    Raises `DataError` for a split without any; `otherwise` is what to do where its objects are known by the other.
    """
    objects = list(_objects(source))
    counts = Counter(kind for of_image in objects for kind in of_image.kinds)
    with_any = sum(bool(of_image.kinds) for of_image in objects)
    if by is None:
        by = By.MASKS if 2 * counts[By.MASKS] >= with_any else By.BOXES
    if not with_any or not counts[by]:
        raise DataError(_without_objects(source, len(objects), counts, by if with_any else None, otherwise))
    found = Found([], by)
    with Progress("cut objects out", len(objects)) as progress:
        for of_image in objects:
            problem = _problem(source, of_image, by, max_area)
            progress.advance(1)
            if problem is None:
                found.photos.append(of_image.photo)
                continue
            found.problems.append(Skipped(file=of_image.photo.file_name, reason=problem.reason, detail=problem.detail))
    if not found.photos:
        first = found.problems[0]
        raise DataError(
            f"--from={source.directory}: of none of the {len(objects):,} images of split {source.split!r} can the"
            f" object be cut out; the first: {first.file}: {first.reason} ({first.detail})"
        )
    found.photos.sort(key=lambda photo: photo.file_name)
    return found


def _without_objects(source: SplitSource, num_images: int, counts: Counter[By], by: By | None, otherwise: str) -> str:
    what, hint = "boxes or masks", "prepare it with boxes or masks"
    if by is not None:
        other = By.BOXES if by is By.MASKS else By.MASKS
        what, hint = by, f"{counts[other]:,} have {other}: {otherwise}"
    split = f"--from={source.directory}: none of the {num_images:,} images of split {source.split!r}"
    return f"{split} has {what} of its object; {hint}"


def labelled(source: SplitSource) -> tuple[list[Photo], list[Skipped]]:
    """All images with a label or a set of labels, in the order of their names, and those without, which are left out.

    Raises `DataError` if none has any.
    """
    photos = sorted((of_image.photo for of_image in _objects(source)), key=lambda photo: photo.file_name)
    found = [photo for photo in photos if photo.label >= 0 or photo.others]
    if not found:
        raise DataError(f"--from={source.directory}: no image of split {source.split!r} has a label")
    without = set(photos) - set(found)
    return found, [Skipped(file=p.file_name, reason=Reason.NO_LABEL) for p in photos if p in without]


def has_objects(source: SplitSource) -> bool:
    """Whether any image has a box or a mask of its object."""
    return any(of_image.kinds for of_image in _objects(source))


def sizes_of(source: SplitSource) -> set[Size]:
    """Of all images."""
    split = source.opened()
    return set(in_threads(lambda i: Example(split.records[i]).size, range(len(split.records)), _THREADS))


def _objects(source: SplitSource) -> Iterator[_Object]:
    split = source.opened()

    def look(index: int) -> _Object:
        example = Example(split.records[index])
        label = main_label(example)
        of_set = example.label < 0
        others = tuple(int(other) for other in example.labels.tolist() if other != label) if of_set else None
        return _Object(Photo(index, example.file_name, label, others), kinds(example, label))

    with Progress("find objects", len(split.records)) as progress:
        for of_image in in_threads(look, range(len(split.records)), _THREADS):
            progress.advance(1)
            yield of_image


def _problem(source: SplitSource, of_image: _Object, by: By, max_area: float) -> BadImage | None:
    photo = of_image.photo
    if by not in of_image.kinds:
        return BadImage(Reason.NO_OBJECT, f"has no {by} of its object")
    try:
        found = foreground(source.example(photo.index), photo.label, by)
    except BadImage as e:
        return e
    share = found.rectangle.area / found.pixels.size
    if share > max_area:
        return BadImage(Reason.OBJECT_TOO_LARGE, f"its rectangle covers {share:.0%} of the image")
    return None


def at_most(photos: Sequence[Photo], per_class: int, seed: int) -> list[Photo]:
    """So many of each class, those whose names have the smallest hashes: more images change little of the choice."""
    of_class: dict[int, list[Photo]] = defaultdict(list)
    for photo in photos:
        of_class[photo.label].append(photo)
    kept = [p for own in of_class.values() for p in sorted(own, key=lambda p: _hash(seed, p.file_name))[:per_class]]
    return sorted(kept, key=lambda photo: photo.file_name)


def _hash(seed: int, *texts: str) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join((str(seed), *texts)).encode(), digest_size=8).digest(), "little")


def without_partner(photos: Sequence[Photo]) -> list[Photo]:
    """Those whose class has no other image; in no mixed set, so that all of these have the same foregrounds."""
    counts = Counter(photo.label for photo in photos)
    return [photo for photo in photos if counts[photo.label] < 2]


def list_composites(name: str, photos: Sequence[Photo], seed: int, class_ids: Sequence[str]) -> list[Composite]:
    """The images of one set, in the order of their names."""
    if name not in MIXED:
        return [_alone(name, photo) for photo in photos]
    of_class: dict[int, list[Photo]] = defaultdict(list)
    for photo in photos:
        of_class[photo.label].append(photo)
    lone = {photo.index for photo in without_partner(photos)}
    return [
        _mixed(photo, _partner(name, photo, of_class, seed), class_ids) for photo in photos if photo.index not in lone
    ]


def _alone(name: str, photo: Photo) -> Composite:
    others = photo.others
    if others is None:
        return Composite(photo.file_name, photo.index, photo.label, ())
    own = (photo.label,) if name in WITH_OBJECT else ()
    labels = own if name == "only_fg" else tuple(sorted({*own, *others}))
    return Composite(photo.file_name, photo.index, photo.label, labels)


def _mixed(photo: Photo, background: Photo, class_ids: Sequence[str]) -> Composite:
    group = f"background={class_ids[background.label]}"
    labels = labels_on(photo, background)
    return Composite(photo.file_name, photo.index, photo.label, labels, background.index, group)


def labels_on(photo: Photo, background: Photo) -> tuple[int, ...]:
    """The classes to be seen where an object lies on the background of another, whose own object is gone; none where
    images have one label."""
    return () if photo.others is None else tuple(sorted({photo.label, *(background.others or ())}))


def _partner(name: str, photo: Photo, of_class: dict[int, list[Photo]], seed: int) -> Photo:
    """Whose background an image gets; never its own. Random classes are all, its own among them, each as likely."""
    rng = np.random.default_rng(_hash(seed, name, photo.file_name))
    labels = sorted(of_class)
    place = labels.index(photo.label)
    match name:
        case "mixed_same":
            label = photo.label
        case "mixed_next":
            label = labels[(place + 1) % len(labels)]
        case _:
            label = labels[int(rng.integers(len(labels)))]
    candidates = [other for other in of_class[label] if other.index != photo.index]
    return candidates[int(rng.integers(len(candidates)))]


def partners(photos: Sequence[Photo], seed: int) -> list[Photo]:
    """For every image another one of any class, whose background it may get."""
    found = []
    for place, photo in enumerate(photos):
        other = int(np.random.default_rng(_hash(seed, "any", photo.file_name)).integers(len(photos) - 1))
        found.append(photos[other + (other >= place)])
    return found


def check_classes(photos: Sequence[Photo], place: str) -> None:
    """Raises `DataError` where backgrounds cannot be exchanged."""
    labels = {photo.label for photo in photos}
    if len(labels) < 2:
        raise DataError(
            f"--from={place}: only one class has objects that can be cut out, so backgrounds cannot be exchanged"
            " between classes; --sets=original,only_bg_b,only_bg_t,only_fg needs one class"
        )
    if len(without_partner(photos)) == len(photos):
        raise DataError(
            f"--from={place}: every class has a single image whose object can be cut out, so none can take the"
            " background of another of its class; --sets=original,only_bg_b,only_bg_t,only_fg needs no second image"
        )


@dataclass(frozen=True, slots=True)
class Compose:
    """Makes one image of a set; picklable, for workers."""

    source: SplitSource
    name: str
    by: By
    quality: int | None
    """Of a JPEG; PNG, which loses nothing, if None."""

    def __call__(self, item: Composite) -> Outcome:
        return made(self._made, item)

    def _made(self, item: Composite) -> Outcome:
        example = self.source.example(item.index)
        own = foreground(example, item.label, self.by)
        encoded = (
            example.image if self.name == "original" else encode_image(self._pixels(example, own, item), self.quality)
        )
        height, width = own.pixels.shape
        has_object = self.name in WITH_OBJECT
        record = ImageRecord(
            file_name=item.file_name,
            image=encoded,
            height=height,
            width=width,
            label=item.label,
            labels=item.labels,
            group=item.group,
            boxes=(_box(own.rectangle, width, height, item.label),) if has_object else (),
            foreground_masks=(encode_mask(own.pixels),) if has_object else (),
        )
        return Outcome(record, Counter(images_found=1, images=1), ())

    def _pixels(self, example: Example, own: Foreground, item: Composite) -> np.ndarray:
        image = np.asarray(decode(example.image, item.file_name))
        match self.name:
            case "only_bg_b":
                black = np.zeros(own.pixels.shape, bool)
                black[own.rectangle.slices] = True
                return composites.blacked(image, black)
            case "only_bg_t":
                return composites.tiled(image, own.rectangle)
            case "no_fg":
                return composites.blacked(image, own.pixels)
            case "only_fg":
                return composites.blacked(image, ~own.pixels)
        return composites.pasted(image, own.pixels, self._background(item.background))

    def _background(self, index: int) -> np.ndarray:
        example = self.source.example(index)
        image = np.asarray(decode(example.image, example.file_name))
        return composites.tiled(image, foreground(example, main_label(example), self.by).rectangle)


def _box(rectangle: Rectangle, width: int, height: int, label: int) -> Box:
    left, top, right, bottom = rectangle
    return Box(x_min=left / width, y_min=top / height, x_max=right / width, y_max=bottom / height, label=label)
