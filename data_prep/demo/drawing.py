"""Draws the demo's pictures: one silhouette on one texture, with its exact mask and box.

The class is told by the shape alone. Colours, size, place, angle and shading are random and
independent of the class. Which texture family lies behind the shape is up to the caller, and is the
only shortcut.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Array = np.ndarray
Box = tuple[float, float, float, float]

SHAPES = ("star", "arrow", "ring", "crescent", "cross", "heart", "key", "mug")
TEXTURES = ("stripes", "checks", "dots", "waves", "bricks", "clouds", "ripples", "triangles")
# Texture k is the usual background of shape k.

SHAPE_SUPERSAMPLING = 4
TEXTURE_SUPERSAMPLING = 2
SIZE_RANGE = (
    0.32,
    0.60,
)  # diameter of the shape's bounding circle, as a fraction of the image side
ANGLE_RANGE = (-30.0, 30.0)  # degrees


@dataclass(frozen=True, slots=True)
class Scene:
    """One drawn image and the truth about it.

    image: [side, side, 3] uint8.   mask: [side, side] bool, pixels mostly covered by the shape.
    box: x_min, y_min, x_max, y_max of the mask as fractions of the image; None without a shape.
    label: index into SHAPES.   background: index into TEXTURES.
    """

    image: Array
    mask: Array
    label: int
    background: int
    box: Box | None


def _circle(x: float, y: float, radius: float) -> Array:
    """A circle as a polygon, [40, 2]."""
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], axis=1)


def _rectangle(x_min: float, y_min: float, x_max: float, y_max: float) -> Array:
    """An axis-aligned rectangle as a polygon, [4, 2]."""
    return np.array([(x_min, y_min), (x_max, y_min), (x_max, y_max), (x_min, y_max)])


def _star() -> Array:
    turn = np.arange(10) * np.pi / 5 - np.pi / 2
    radius = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)


def _heart() -> Array:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([np.sin(t) ** 3, -y / 16], axis=1)


# A silhouette is a list of polygons painted one after the other; False cuts a hole.
_OUTLINES: dict[str, list[tuple[Array, bool]]] = {
    "star": [(_star(), True)],
    "arrow": [
        (_rectangle(-1.0, -0.22, 0.2, 0.22), True),
        (np.array([(0.1, -0.7), (1.0, 0.0), (0.1, 0.7)]), True),
    ],
    "ring": [(_circle(0, 0, 1.0), True), (_circle(0, 0, 0.58), False)],
    "crescent": [(_circle(0, 0, 1.0), True), (_circle(0.45, 0, 0.8), False)],
    "cross": [
        (_rectangle(-1.0, -0.3, 1.0, 0.3), True),
        (_rectangle(-0.3, -1.0, 0.3, 1.0), True),
    ],
    "heart": [(_heart(), True)],
    "key": [
        (_circle(-0.6, 0, 0.45), True),
        (_circle(-0.6, 0, 0.2), False),
        (_rectangle(-0.2, -0.13, 1.0, 0.13), True),
        (_rectangle(0.45, 0.1, 0.65, 0.45), True),
        (_rectangle(0.8, 0.1, 1.0, 0.5), True),
    ],
    "mug": [
        (_circle(0.55, 0.0, 0.5), True),
        (_circle(0.55, 0.0, 0.26), False),
        (_rectangle(-0.9, -0.8, 0.4, 0.8), True),
    ],
}


def _normalised(outline: list[tuple[Array, bool]]) -> list[tuple[Array, bool]]:
    """Moves the bounding box's centre to 0 and scales the farthest point to distance 1."""
    points = np.concatenate([polygon for polygon, solid in outline if solid])
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    radius = np.linalg.norm(points - centre, axis=1).max()
    return [((polygon - centre) / radius, solid) for polygon, solid in outline]


_SILHOUETTES = {name: _normalised(outline) for name, outline in _OUTLINES.items()}


def shape_alpha(label: int, *, centre: Array, size: float, angle: float, side: int) -> Array:
    """Coverage of every pixel by a shape, [side, side] float32 in [0, 1].

    centre: x, y as fractions.   size: diameter as a fraction.   angle: degrees.
    """
    pixels = side * SHAPE_SUPERSAMPLING
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turn = np.array([[cos, sin], [-sin, cos]])
    canvas = Image.new("L", (pixels, pixels))
    pen = ImageDraw.Draw(canvas)
    for polygon, solid in _SILHOUETTES[SHAPES[label]]:
        # PIL's integer coordinate names a pixel's centre, hence the half pixel.
        corners = (polygon @ turn * (size / 2) + centre) * pixels - 0.5
        pen.polygon(corners.ravel().tolist(), fill=255 if solid else 0)
    return np.asarray(canvas.reduce(SHAPE_SUPERSAMPLING), np.float32) / 255


def _clouds(rng: np.random.Generator, pixels: int, cells: int) -> Array:
    """Smooth noise in about [0, 1], [pixels, pixels]; the coarsest octave has `cells` cells."""
    total = np.zeros((pixels, pixels), np.float32)
    for octave, weight in enumerate((0.6, 0.3, 0.1)):
        num = cells * 2**octave + 1
        grid = Image.fromarray(rng.random((num, num), dtype=np.float32))
        total += weight * np.asarray(grid.resize((pixels, pixels), Image.Resampling.BICUBIC))
    return total


def _frac(values: Array) -> Array:
    return values - np.floor(values)


def _brick_joints(u: Array, v: Array) -> Array:
    shifted = u / 2 + 0.5 * (np.floor(v) % 2)  # every other row starts half a brick later
    return (_frac(v) < 0.22) | (_frac(shifted) < 0.11)


# Pattern value (truthy = second colour) at texture coordinates u, v, whose unit is one period.
_PATTERNS: dict[str, Callable[[Array, Array], Array]] = {
    "stripes": lambda u, v: _frac(u) < 0.5,
    "checks": lambda u, v: (np.floor(u) + np.floor(v)) % 2 == 0,
    "dots": lambda u, v: (_frac(u) - 0.5) ** 2 + (_frac(v) - 0.5) ** 2 < 0.1,
    "waves": lambda u, v: _frac(u + 0.35 * np.sin(np.pi * v)) < 0.5,
    "bricks": _brick_joints,
    "ripples": lambda u, v: _frac(np.hypot(u, v)) < 0.5,
    "triangles": lambda u, v: _frac(u) > _frac(v),
}


def texture_blend(rng: np.random.Generator, background: int, side: int) -> Array:
    """Share of the second tone in every pixel, [side, side] float32; random scale and angle."""
    family = TEXTURES[background]
    pixels = side * TEXTURE_SUPERSAMPLING
    period = rng.uniform(0.13, 0.26)  # fraction of the image side
    angle = rng.uniform(0, 2 * np.pi)
    phase = rng.uniform(-1, 1, 2)
    if family == "clouds":
        blend = np.clip(2.5 * (_clouds(rng, pixels, cells=round(1 / period)) - 0.5) + 0.5, 0, 1)
    else:
        x, y = np.meshgrid(*[(np.arange(pixels, dtype=np.float32) + 0.5) / pixels - 0.5] * 2)
        u = (x * np.cos(angle) + y * np.sin(angle)) / period + phase[0]
        v = (y * np.cos(angle) - x * np.sin(angle)) / period + phase[1]
        blend = _PATTERNS[family](u, v).astype(np.float32)
    factor = TEXTURE_SUPERSAMPLING
    return blend.reshape(side, factor, side, factor).mean(axis=(1, 3))


def _palette(rng: np.random.Generator) -> Array:
    """Colours of the shape and of the two texture tones, [3, 3] in [0, 1], all well apart."""
    while True:
        colours = rng.uniform(0.05, 0.95, (3, 3))
        gaps = np.linalg.norm(colours - np.roll(colours, 1, axis=0), axis=1)
        if gaps.min() > 0.4:
            return colours


def _box_of(mask: Array) -> Box | None:
    if not mask.any():
        return None
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = mask.shape
    x_min, x_max = float(columns[0] / width), float((columns[-1] + 1) / width)
    return x_min, float(rows[0] / height), x_max, float((rows[-1] + 1) / height)


def draw_scene(
    rng: np.random.Generator,
    *,
    label: int,
    background: int,
    side: int,
    centre: tuple[float, float] | None = None,
    size: float | None = None,
    angle: float | None = None,
    with_object: bool = True,
) -> Scene:
    """Draws one scene; what is None is drawn at random.

    Two scenes from equal generators share everything that the arguments do not set: the same label
    on another background is the same shape, in the same place and colours.
    centre: x, y as fractions.   size: diameter as a fraction of the side.   angle: degrees.
    """
    shape_rng, texture_rng = rng.spawn(2)
    random_size, random_angle = shape_rng.uniform(*SIZE_RANGE), shape_rng.uniform(*ANGLE_RANGE)
    unit_centre = shape_rng.random(2)
    size = random_size if size is None else size
    angle = random_angle if angle is None else angle
    # The whole bounding circle lies inside the image, so no shape is cut off at the rim.
    place = unit_centre * (1 - size) + size / 2 if centre is None else np.asarray(centre)
    shape_colour, *tones = _palette(shape_rng)
    shading = 0.25 * (_clouds(shape_rng, side, cells=4) - 0.5)
    noise = shape_rng.normal(0, 0.02, (side, side, 3))

    blend = texture_blend(texture_rng, background, side)[..., None]
    picture = (1 - blend) * tones[0] + blend * tones[1]
    alpha = np.zeros((side, side), np.float32)
    if with_object:
        alpha = shape_alpha(label, centre=place, size=size, angle=angle, side=side)
    surface = shape_colour + shading[..., None]
    picture = picture + alpha[..., None] * (surface - picture) + noise
    mask = alpha > 0.5
    image = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return Scene(image=image, mask=mask, label=label, background=background, box=_box_of(mask))


def _jpeg(image: Array, quality: int) -> Array:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer, formats=("JPEG",)))


def corrupt(rng: np.random.Generator, image: Array, corruption: str, severity: int) -> Array:
    """A corrupted copy of a uint8 image [H, W, 3]; severity 1, 3 or 5."""
    level = {1: 0, 3: 1, 5: 2}[severity]
    match corruption:
        case "gaussian_noise":
            changed = image + rng.normal(0, (10, 25, 45)[level], image.shape)
        case "blur":
            filtered = Image.fromarray(image).filter(ImageFilter.GaussianBlur((0.5, 1, 1.6)[level]))
            changed = np.asarray(filtered)
        case "contrast":
            mean = image.mean(axis=(0, 1))
            changed = mean + (image - mean) * (0.6, 0.35, 0.15)[level]
        case "jpeg":
            changed = _jpeg(image, (40, 15, 6)[level])
        case _:
            raise ValueError(f"unknown corruption {corruption!r}")
    return np.rint(np.clip(changed, 0, 255)).astype(np.uint8)
