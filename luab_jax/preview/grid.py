"""A grid of training batches: each row an image with all that is known of it, then crops of it with the target Z.

The crops come out of `training_batches`, as those of a run do, and the step's augmentation makes of them what it would
make in a run. A split of just the chosen images, in batches of all of them, makes every epoch one batch, and so every
column; images are mixed with others of their column.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from luab_jax.augmentation.plan import Targets
from luab_jax.augmentation.render import render
from luab_jax.byproducts.geometry import identity
from luab_jax.byproducts.icons import IconRule, action_columns, class_points
from luab_jax.byproducts.kinds import TargetKind
from luab_jax.byproducts.records import ImageRecord, Size
from luab_jax.byproducts.responses import SampleWeight
from luab_jax.byproducts.targets import Target, kind_of, make_target
from luab_jax.config import Config, label_set_size
from luab_jax.config.byproduct import settings_of
from luab_jax.data.batch import Batch
from luab_jax.data.class_lists import readable_names
from luab_jax.data.dataset import PreparedSplit, open_split
from luab_jax.data.decoding import decode
from luab_jax.data.features import Example
from luab_jax.errors import ConfigError, DataError, option
from luab_jax.io import storage
from luab_jax.io.atomic import atomic_file
from luab_jax.training.batches import training_batches
from luab_jax.training.step import mixing_groups, train_rows

_SCALE = 2
"""Drawn at twice the size and shrunk, for smooth lines."""
_GAP, _TITLE, _CAPTION = 6, 26, 20
_PAGE, _INK, _SOFT = (255, 255, 255), (29, 29, 31), (120, 120, 126)
_CLICK, _PARTNERS_CLICK, _BOX = (255, 176, 0), (255, 90, 200), (0, 200, 235)
_EARLY, _LATE = np.asarray((90, 0, 170)), np.asarray((255, 190, 60))
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_PLACELESS = (TargetKind.NUMBER, TargetKind.CLASS)
_TRIED = 2000
"""Images that are looked at for the target."""


def draw_preview(config: Config, out: str, *, num_images: int, num_crops: int, cell: int) -> Size:
    """Writes the picture and returns its size. Raises `ConfigError` or `DataError`."""
    config.validate()
    path = storage.place(out)
    if path.suffix.lower() not in _FORMATS or not (storage.is_remote(out) or path.parent.is_dir()):
        raise ConfigError(
            f"{option('out', out)}: expected a file ending in {', '.join(_FORMATS)} in a folder that exists"
        )
    if not config.data.root:
        raise ConfigError(f"config.data.root is empty: {option('config.data.root')}=DIR names the prepared data")
    kinds = [kind_of(target) for target in config.byproduct.targets]
    if kinds and all(kind in _PLACELESS for kind in kinds):
        raise ConfigError(f"config.byproduct.target={config.byproduct.target.value} has no place that could be drawn")
    split = open_split(config.data.root, config.data.train_split)
    num_classes = len(split.manifest.classes)
    in_pairs = 2 if config.augmentation.mixes else 1
    rows = choose(config, split, -(-num_images // in_pairs) * in_pairs, label_set_size(config, num_classes))
    rows = rows[: len(rows) // in_pairs * in_pairs]
    if not rows:
        raise DataError(f"{split.directory}: a single image has the target, and nothing to be mixed with")
    few = dataclasses.replace(split, records=split.records.take(rows))
    once = dataclasses.replace(config.augmentation, repeats=1)
    same = dataclasses.replace(placed(config), batch_size=len(rows), accumulation_steps=1, augmentation=once)
    batches = itertools.islice(
        training_batches(same, few, num_classes=num_classes, settings=settings_of(same.byproduct)), num_crops
    )
    columns = _columns(same, batches)
    records = [Example(few.records[i]).record() for i in range(min(len(rows), num_images))]
    drawn = [target.value for target in same.byproduct.targets] or [Target.NONE.value]
    left_out = len(config.byproduct.targets) - len(same.byproduct.targets)
    title = f"training crops, target{'s' if len(drawn) > 1 else ''} {', '.join(drawn)}"
    grid = _Grid(len(records), num_crops, cell, title + (f" ({left_out} without a place)" if left_out else ""))
    for row, record in enumerate(records):
        grid.paste(row, 0, _whole(record, cell), _names(record, split))
        for column, cells in enumerate(columns, 1):
            crop = _crop(cells[row], same.byproduct.targets, readable_names(split.manifest.classes), cell)
            grid.paste(row, column, crop, _caption(cells[row]))
    grid.save(path)
    return grid.size


def choose(config: Config, split: PreparedSplit, count: int, num_classes: int | None) -> list[int]:
    """Images that have the first target with a place, in an order drawn by the seed."""
    target = placed(config).byproduct.target
    order = np.random.default_rng(config.seed).permutation(len(split.records))[:_TRIED].tolist()
    found = []
    for index in order:
        byproducts = Example(split.records[index]).byproducts()
        whole = make_target(target, byproducts, identity(), seed=config.seed, num_classes=num_classes)
        if target is Target.NONE or whole.valid.any():
            found.append(index)
        if len(found) == count:
            break
    if not found:
        raise DataError(
            f"{split.directory}: none of the {len(order):,} images looked at has the target {target.value};"
            " set config.byproduct.target=none to see crops alone"
        )
    return found


def placed(config: Config) -> Config:
    """The same with those of its byproducts that have a place and can be drawn, none of them weighted by responses."""
    entries = [
        dataclasses.replace(entry, target_sample_weight=SampleWeight.NONE)
        for entry in config.byproduct.entries
        if kind_of(entry.target) not in _PLACELESS
    ]
    byproduct = dataclasses.replace(config.byproduct.with_entries(entries), sample_weight=SampleWeight.NONE)
    return dataclasses.replace(config, byproduct=byproduct)


class _Shown(NamedTuple):
    """One image as the network sees it, with its targets."""

    pixels: UInt8[np.ndarray, "h w 3"]
    byproducts: list[tuple[Float[np.ndarray, "j d"], Float[np.ndarray, " j"]]]
    """Targets of each byproduct, and how much each target counts in the loss."""
    share: float
    """Of its own label; the rest is the partner's, whose targets are the second half."""


def augmented_on_device(config: Config) -> Callable[[Batch, jax.Array], tuple[Array, tuple[Targets, ...], Array]]:
    """What a step makes of a batch by its key: images of 0 to 255, targets of each byproduct, and λ of each image."""
    mean, std = config.data.preprocessing.mean, config.data.preprocessing.std

    @jax.jit
    def seen(batch: Batch, key: jax.Array) -> tuple[Array, tuple[Targets, ...], Array]:
        rows = train_rows(config, batch, key)
        images, share = rows.images, jnp.ones(len(rows.images))
        if rows.plan is not None:
            normalised = render(rows.plan, rows.images, mean, std, groups=mixing_groups(config))
            levels = 255.0 * (normalised * jnp.asarray(std) + jnp.asarray(mean))
            images = jnp.round(jnp.clip(levels, 0.0, 255.0)).astype(jnp.uint8)
            share = share if rows.plan.mixing is None else rows.plan.mixing.share
        return images, rows.of_byproducts, share

    return seen


def _columns(config: Config, batches: Iterable[Batch]) -> list[dict[int, _Shown]]:
    """The first batches of a run as its steps see them, by record."""
    seen = augmented_on_device(config)
    root = jax.random.fold_in(jax.random.key(config.seed), 1)
    columns = []
    for step, batch in enumerate(batches):
        images, byproducts, share = jax.device_get(seen(batch, jax.random.fold_in(root, step)))
        of_image = [[(of.values[row], of.weights[row]) for of in byproducts] for row in range(len(images))]
        shown = itertools.starmap(_Shown, zip(images, of_image, share.tolist(), strict=True))
        columns.append(dict(zip(batch.index.tolist(), shown, strict=True)))
    return columns


def _caption(shown: _Shown) -> str:
    mixed = [f"{shown.share:.0%} + {1 - shown.share:.0%}"] if shown.share < 1 else []
    is_seen = any(weights.any() or not weights.size for _, weights in shown.byproducts)
    return ", ".join(mixed + ([] if is_seen else ["unseen"]))


class _Grid:
    """Cells with a caption below each, under two titles."""

    def __init__(self, num_rows: int, num_crops: int, cell: int, title: str):
        self._cell = cell
        width = (num_crops + 1) * (cell + _GAP) + 3 * _GAP
        height = _TITLE + num_rows * (cell + _CAPTION) + _GAP
        self.size = Size(width, height)
        self._page = Image.new("RGB", self.size, _PAGE)
        self._text(_GAP, 5, "whole image", _INK, 14)
        self._text(cell + 4 * _GAP, 5, title, _INK, 14)

    def _text(self, x: int, y: int, text: str, colour: tuple[int, int, int], size: int) -> None:
        ImageDraw.Draw(self._page).text((x, y), text, colour, ImageFont.load_default(size))

    def paste(self, row: int, column: int, picture: Image.Image, caption: str) -> None:
        """Crops stand apart from the whole images."""
        x = _GAP + column * (self._cell + _GAP) + (2 * _GAP if column else 0)
        y = _TITLE + row * (self._cell + _CAPTION)
        self._page.paste(picture, (x + (self._cell - picture.width) // 2, y + (self._cell - picture.height) // 2))
        self._text(x, y + self._cell + 2, caption[: self._cell // 6], _SOFT, 12)

    def save(self, path: storage.Place) -> None:
        with atomic_file(path) as file, file.open("wb") as written:
            self._page.save(written, _FORMATS[path.suffix.lower()], quality=88)


class _Sketch:
    """A picture to draw on in fractions of it."""

    def __init__(self, image: Image.Image, size: Size):
        self._size = size
        self._image = image.resize((size.width * _SCALE, size.height * _SCALE), Image.Resampling.BICUBIC)
        self._draw = ImageDraw.Draw(self._image)

    def _at(self, point: tuple[float, float]) -> tuple[float, float]:
        return point[0] * self._image.width, point[1] * self._image.height

    def box(self, corners: tuple[float, float, float, float], colour: tuple[int, int, int]) -> None:
        (left, top), (right, bottom) = self._at(corners[:2]), self._at(corners[2:])
        rim = (left - _SCALE, top - _SCALE, right + _SCALE, bottom + _SCALE)
        self._draw.rectangle(rim, outline=(0, 0, 0), width=4 * _SCALE)
        self._draw.rectangle((left, top, right, bottom), outline=colour, width=2 * _SCALE)

    def trace(self, points: list[tuple[float, float]]) -> None:
        places = [self._at(point) for point in points]
        self._draw.line(places, fill=(255, 255, 255), width=4 * _SCALE, joint="curve")
        for number, (first, second) in enumerate(itertools.pairwise(places)):
            share = number / max(len(places) - 2, 1)
            colour = (_EARLY + (_LATE - _EARLY) * share).astype(int)
            self._draw.line([first, second], fill=tuple(colour.tolist()), width=2 * _SCALE)

    def point(self, point: tuple[float, float], colour: tuple[int, int, int], name: str = "") -> None:
        x, y = self._at(point)
        for radius, fill in ((6.5, (255, 255, 255)), (5.5, (0, 0, 0)), (4.0, colour)):
            reach = radius * _SCALE
            self._draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=fill)
        if name:
            font = ImageFont.load_default(11 * _SCALE)
            right = x > 0.6 * self._image.width
            place = (x - 9 * _SCALE if right else x + 9 * _SCALE, y)
            self._draw.text(
                place, name, (255, 255, 255), font, "rm" if right else "lm", stroke_width=_SCALE, stroke_fill=(0, 0, 0)
            )

    def heat(self, shares: Float[np.ndarray, " d"]) -> None:
        """A square grid of shares, row by row: the more, the more it is covered."""
        side = round(len(shares) ** 0.5)
        opacity = (200 * shares / shares.max()).reshape(side, side).astype(np.uint8)
        cover = Image.fromarray(opacity).resize(self._image.size, Image.Resampling.NEAREST)
        self._image.paste(_CLICK, (0, 0), cover)

    def picture(self) -> Image.Image:
        return self._image.resize(self._size, Image.Resampling.LANCZOS)


def _whole(record: ImageRecord, cell: int) -> Image.Image:
    """The image as it is stored, with boxes, traces, and the last click or the icons that are left."""
    longer = max(record.width, record.height)
    size = Size(max(1, round(cell * record.width / longer)), max(1, round(cell * record.height / longer)))
    sketch = _Sketch(decode(record.image, record.file_name), size)
    for box in record.boxes:
        single = record.label >= 0
        sketch.box((box.x_min, box.y_min, box.x_max, box.y_max), _BOX if single else _colour(box.label))
    for showing in record.showings:
        if len(showing.trace) > 1 and not showing.actions:
            sketch.trace([(p.x, p.y) for p in showing.trace])
    for showing in record.showings:
        if showing.selected and showing.clicks:
            sketch.point((showing.clicks[-1].x, showing.clicks[-1].y), _CLICK)
    columns = action_columns(record.showings)
    num_classes = max([*record.labels, *columns.label.tolist()], default=-1) + 1
    for label, (x, y) in enumerate(class_points(IconRule.FINAL, columns, num_classes).tolist()):
        if x == x:
            sketch.point((x, y), _colour(label))
    return sketch.picture()


def _crop(shown: _Shown, targets: Sequence[Target], names: tuple[str, ...], cell: int) -> Image.Image:
    """What the network sees, with the rows of Z that count in the loss; in a mixture the partner's too.

    Heat maps lie below boxes, boxes below points; of several byproducts each has a colour and its name.
    """
    sketch = _Sketch(Image.fromarray(shown.pixels), Size(cell, cell))
    drawn = list(zip(range(len(targets)), targets, shown.byproducts, strict=False))
    for number, target, (values, weights) in sorted(drawn, key=lambda one: _LAYERS.index(_layer(one[1]))):
        num_own = len(weights) if shown.share == 1 else len(weights) // 2
        for row in np.flatnonzero(weights).tolist():
            label, is_own = row % num_own, row < num_own
            usual = _BOX if _layer(target) is TargetKind.BOX else _CLICK if is_own else _PARTNERS_CLICK
            colour = usual if num_own == 1 else _colour(label)
            name = "" if num_own == 1 else names[label]
            if len(targets) > 1 and num_own == 1:
                colour, name = _colour(number + (0 if is_own else len(targets))), target.value
            _draw(sketch, _layer(target), values[row], colour, name)
    return sketch.picture()


_LAYERS = (TargetKind.DISTRIBUTION, TargetKind.BOX, TargetKind.POINT)
"""From below."""


def _layer(target: Target) -> TargetKind:
    kind = kind_of(target)
    return kind if kind in (TargetKind.DISTRIBUTION, TargetKind.BOX) else TargetKind.POINT


def _draw(
    sketch: _Sketch, kind: TargetKind, values: Float[np.ndarray, " d"], colour: tuple[int, int, int], name: str
) -> None:
    if kind is TargetKind.DISTRIBUTION:
        sketch.heat(values)
    elif kind is TargetKind.BOX:
        left, top, right, bottom = values.tolist()
        sketch.box((left, top, right, bottom), colour)
    else:
        x, y = values.tolist()[:2]
        sketch.point((x, y), colour, name)


def _colour(label: int) -> tuple[int, int, int]:
    """Neighbouring labels get colours that lie far apart."""
    hue = (label * 137.508 + 190) / 360 % 1
    wheel = np.clip(np.abs((hue * 6 + np.asarray([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    red, green, blue = (55 + 200 * wheel).astype(int).tolist()
    return red, green, blue


def _names(record: ImageRecord, split: PreparedSplit) -> str:
    names = readable_names(split.manifest.classes)
    labels = [record.label] if record.label >= 0 else list(record.labels)
    return ", ".join(names[label] for label in labels if label < len(names)) or "no class"
