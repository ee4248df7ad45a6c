"""A grid of training batches: each row an image with all that is known of it, then crops of it with the target Z.

The crops come out of `training_batches`, as those of a run do. A split of just the chosen images, in batches of all of
them, makes every epoch one batch, and so every column.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from luab_jax.batches import training_batches
from luab_jax.byproducts.geometry import identity
from luab_jax.byproducts.icons import IconRule, action_columns, class_points
from luab_jax.byproducts.kinds import TargetKind, TargetSettings
from luab_jax.byproducts.records import ImageRecord, Size
from luab_jax.byproducts.targets import Target, kind_of, make_target
from luab_jax.config import Config, label_set_size
from luab_jax.data.dataset import PreparedSplit, open_split
from luab_jax.data.features import Example
from luab_jax.data.transforms import decode
from luab_jax.errors import ConfigError, DataError

_SCALE = 2
"""Drawn at twice the size and shrunk, for smooth lines."""
_GAP, _TITLE, _CAPTION = 6, 26, 20
_PAGE, _INK, _SOFT = (255, 255, 255), (29, 29, 31), (120, 120, 126)
_CLICK, _BOX = (255, 176, 0), (0, 200, 235)
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
    rows = choose(config, split, num_images, label_set_size(config, num_classes))
    few = dataclasses.replace(split, records=split.records.take(rows))
    same = dataclasses.replace(config, batch_size=len(rows))
    settings = TargetSettings(heat_map_side=config.byproduct.heat_map_side)
    batches = itertools.islice(training_batches(same, few, num_classes=num_classes, settings=settings), num_crops)
    columns = [(batch, {int(index): row for row, index in enumerate(batch.index)}) for batch in batches]
    records = [Example(few.records[i]).record() for i in range(len(rows))]
    grid = _Grid(len(rows), num_crops, cell, f"training crops, target {config.byproduct.target.value}")
    for row, record in enumerate(records):
        grid.paste(row, 0, _whole(record, cell), _names(record, split))
        for column, (batch, row_of) in enumerate(columns, 1):
            at = row_of[row]
            crop = _crop(batch.images[at], kind, batch.targets[at], batch.valid[at], split.manifest.classes.names, cell)
            grid.paste(row, column, crop, "" if batch.valid[at].any() else "outside of the crop")
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


def _crop(
    pixels: UInt8[np.ndarray, "h w 3"],
    kind: TargetKind | None,
    values: Float[np.ndarray, "k d"],
    valid: np.ndarray,
    names: tuple[str, ...],
    cell: int,
) -> Image.Image:
    """What the model sees, with the rows of Z that count in the loss."""
    sketch = _Sketch(Image.fromarray(pixels), Size(cell, cell))
    for row in np.flatnonzero(valid).tolist():
        if kind is TargetKind.DISTRIBUTION:
            sketch.heat(values[row])
            continue
        numbers = values[row].tolist()
        colour = _CLICK if len(values) == 1 else _colour(row)
        if kind is TargetKind.BOX:
            sketch.box((numbers[0], numbers[1], numbers[2], numbers[3]), _BOX if len(values) == 1 else colour)
        else:
            sketch.point((numbers[0], numbers[1]), colour, "" if len(values) == 1 else names[row])
    return sketch.picture()


def _colour(label: int) -> tuple[int, int, int]:
    """Neighbouring labels get colours that lie far apart."""
    hue = (label * 137.508 + 190) / 360 % 1
    wheel = np.clip(np.abs((hue * 6 + np.asarray([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    red, green, blue = (55 + 200 * wheel).astype(int).tolist()
    return red, green, blue


def _names(record: ImageRecord, split: PreparedSplit) -> str:
    names = split.manifest.classes.names
    labels = [record.label] if record.label >= 0 else list(record.labels)
    return ", ".join(names[label] for label in labels if label < len(names)) or "no class"
