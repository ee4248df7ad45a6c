"""A grid of training batches: each row an image with all that is known of it, then crops of it with the target Z.

The crops come out of `training_batches`, as those of a run do, and the step's augmentation makes of them what it would
make in a run. A split of just the chosen images, in batches of all of them, makes every epoch one batch, and so every
column; images are mixed with others of their column.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from luab_jax.augmentation.render import render
from luab_jax.batches import training_batches
from luab_jax.byproducts.geometry import identity
from luab_jax.byproducts.icons import IconRule, action_columns, class_points
from luab_jax.byproducts.kinds import TargetKind, TargetSettings
from luab_jax.byproducts.records import ImageRecord, Size
from luab_jax.byproducts.targets import Target, kind_of, make_target
from luab_jax.config import Config, label_set_size
from luab_jax.data.batch import Batch
from luab_jax.data.class_lists import readable_names
from luab_jax.data.dataset import PreparedSplit, open_split
from luab_jax.data.features import Example
from luab_jax.data.transforms import decode
from luab_jax.errors import ConfigError, DataError
from luab_jax.step import mixing_groups, train_rows

_SCALE = 2
"""Drawn at twice the size and shrunk, for smooth lines."""
_GAP, _TITLE, _CAPTION = 6, 26, 20
_PAGE, _INK, _SOFT = (255, 255, 255), (29, 29, 31), (120, 120, 126)
_CLICK, _PARTNERS_CLICK, _BOX = (255, 176, 0), (255, 90, 200), (0, 200, 235)
_EARLY, _LATE = np.asarray((90, 0, 170)), np.asarray((255, 190, 60))
_FORMATS = (".png", ".jpg", ".jpeg", ".webp")
_TRIED = 2000
"""Images that are looked at for the target."""


def draw_preview(config: Config, out: str, *, num_images: int, num_crops: int, cell: int) -> Size:
    """Writes the picture and returns its size. Raises `ConfigError` or `DataError`."""
    config.validate()
    path = Path(out)
    if path.suffix.lower() not in _FORMATS or not path.parent.is_dir():
        raise ConfigError(f"--out={out}: expected a file ending in {', '.join(_FORMATS)} in a folder that exists")
    if not config.data.root:
        raise ConfigError("config.data.root is empty: --config.data.root=DIR names the prepared data")
    kind = kind_of(config.byproduct.target)
    if kind in (TargetKind.NUMBER, TargetKind.CLASS):
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
    same = dataclasses.replace(config, batch_size=len(rows), accumulation_steps=1, augmentation=once)
    settings = TargetSettings(heat_map_side=config.byproduct.heat_map_side)
    batches = itertools.islice(training_batches(same, few, num_classes=num_classes, settings=settings), num_crops)
    columns = _columns(same, batches)
    records = [Example(few.records[i]).record() for i in range(len(rows))]
    grid = _Grid(len(rows), num_crops, cell, f"training crops, target {config.byproduct.target.value}")
    for row, record in enumerate(records):
        grid.paste(row, 0, _whole(record, cell), _names(record, split))
        for column, cells in enumerate(columns, 1):
            crop = _crop(cells[row], kind, readable_names(split.manifest.classes), cell)
            grid.paste(row, column, crop, _caption(cells[row]))
    grid.save(path)
    return grid.size


def choose(config: Config, split: PreparedSplit, count: int, num_classes: int | None) -> list[int]:
    """Images that have the target, in an order drawn by the seed."""
    target = config.byproduct.target
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


class _Shown(NamedTuple):
    """One image as the network sees it, with its targets."""

    pixels: UInt8[np.ndarray, "h w 3"]
    targets: Float[np.ndarray, "j d"]
    weights: Float[np.ndarray, " j"]
    """How much each target counts in the loss."""
    share: float
    """Of its own label; the rest is the partner's, whose targets are the second half."""


def augmented_on_device(config: Config) -> Callable[[Batch, jax.Array], tuple[Array, Array, Array, Array]]:
    """What a step makes of a batch by its key: images of 0 to 255, targets, their weights, and λ of each image."""
    mean, std = config.data.preprocessing.mean, config.data.preprocessing.std

    @jax.jit
    def seen(batch: Batch, key: jax.Array) -> tuple[Array, Array, Array, Array]:
        rows = train_rows(config, batch, key)
        images, share = rows.images, jnp.ones(len(rows.images))
        if rows.plan is not None:
            normalised = render(rows.plan, rows.images, mean, std, groups=mixing_groups(config))
            levels = 255.0 * (normalised * jnp.asarray(std) + jnp.asarray(mean))
            images = jnp.round(jnp.clip(levels, 0.0, 255.0)).astype(jnp.uint8)
            share = share if rows.plan.mixing is None else rows.plan.mixing.share
        return images, rows.targets, rows.target_weights, share

    return seen


def _columns(config: Config, batches: Iterable[Batch]) -> list[dict[int, _Shown]]:
    """The first batches of a run as its steps see them, by record."""
    seen = augmented_on_device(config)
    root = jax.random.fold_in(jax.random.key(config.seed), 1)
    columns = []
    for step, batch in enumerate(batches):
        images, targets, weights, share = map(np.asarray, seen(batch, jax.random.fold_in(root, step)))
        shown = itertools.starmap(_Shown, zip(images, targets, weights, share.tolist(), strict=True))
        columns.append(dict(zip(batch.index.tolist(), shown, strict=True)))
    return columns


def _caption(shown: _Shown) -> str:
    mixed = [f"{shown.share:.0%} + {1 - shown.share:.0%}"] if shown.share < 1 else []
    return ", ".join(mixed + ([] if shown.weights.any() or not shown.weights.size else ["unseen"]))


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

    def save(self, path: Path) -> None:
        try:
            self._page.save(path, quality=88)
        except OSError as e:
            raise DataError(f"{path}: cannot be written ({e})") from e


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


def _crop(shown: _Shown, kind: TargetKind | None, names: tuple[str, ...], cell: int) -> Image.Image:
    """What the network sees, with the rows of Z that count in the loss; in a mixture the partner's too."""
    sketch = _Sketch(Image.fromarray(shown.pixels), Size(cell, cell))
    num_own = len(shown.weights) if shown.share == 1 else len(shown.weights) // 2
    for row in np.flatnonzero(shown.weights).tolist():
        if kind is TargetKind.DISTRIBUTION:
            sketch.heat(shown.targets[row])
            continue
        numbers = shown.targets[row].tolist()
        label, is_own = row % num_own, row < num_own
        colour = _colour(label)
        if num_own == 1:
            colour = _BOX if kind is TargetKind.BOX else _CLICK if is_own else _PARTNERS_CLICK
        if kind is TargetKind.BOX:
            sketch.box((numbers[0], numbers[1], numbers[2], numbers[3]), colour)
        else:
            sketch.point((numbers[0], numbers[1]), colour, "" if num_own == 1 else names[label])
    return sketch.picture()


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
