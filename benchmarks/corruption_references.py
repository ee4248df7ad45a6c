"""Published implementations of ImageNet-C's corruptions, made to run beside a current numpy and scikit-image.

`imagenet_c` is the authors' own package (0.0.3, of 2018) and `imagecorruptions` the maintained one. They agree but for:
elastic_transform (other constants, no affine map), pixelate (nearest pixels where the official code resizes back with
boxes), frost (photos enlarged by 1.1) - there the authors' is the reference - and motion_blur and snow, for which the
authors' calls ImageMagick and `imagecorruptions` has ImageMagick's algorithm in numpy.

    pip install imagecorruptions && pip install --no-deps imagenet-c
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import math
import os
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from luab_jax.corruptions import parameters
from luab_jax.corruptions.corrupt import CORRUPTIONS

OFFICIAL = ("elastic_transform", "pixelate", "frost")
"""Taken from `imagenet_c`; all others from `imagecorruptions`."""

Reference = Callable[[UInt8[np.ndarray, "h w 3"], int], UInt8[np.ndarray, "h w 3"]]


def missing() -> list[str]:
    """The packages that are not installed."""
    packages = {"imagecorruptions": "imagecorruptions", "imagenet_c": "--no-deps imagenet-c"}
    return [pip for name, pip in packages.items() if importlib.util.find_spec(name) is None]


def package_of(name: str) -> str:
    """The package whose function is the reference."""
    return "imagenet_c" if name in OFFICIAL else "imagecorruptions"


def reference(name: str) -> Reference:
    """A function of an image and a severity that draws from numpy's global generator."""
    corrupt = _packages()[package_of(name)].corrupt
    return lambda image, severity: corrupt(image, severity=severity, corruption_name=name)


@functools.cache
def _packages() -> dict[str, Any]:
    """Both, imported with stand-ins for what has been removed from their dependencies since."""
    import skimage.filters  # pyright: ignore[reportMissingImports]

    gaussian = skimage.filters.gaussian

    def with_multichannel(image: np.ndarray, *args: Any, multichannel: bool = False, **options: Any) -> np.ndarray:
        return gaussian(image, *args, channel_axis=-1 if multichannel else None, **options)

    wand = {name: types.ModuleType(name) for name in ("wand", "wand.image", "wand.api", "wand.color")}
    vars(wand["wand.image"])["Image"] = object
    vars(wand["wand.api"])["library"] = types.SimpleNamespace(MagickMotionBlurImage=types.SimpleNamespace())
    vars(wand["wand"])["color"] = wand["wand.color"]
    resources = types.ModuleType("pkg_resources")
    vars(resources)["resource_filename"] = _frost_file
    with (
        warnings.catch_warnings(action="ignore"),
        mock.patch.object(skimage.filters, "gaussian", with_multichannel),
        mock.patch.dict(sys.modules, {**wand, "pkg_resources": resources}),
    ):
        packages = {name: importlib.import_module(name) for name in ("imagecorruptions", "imagenet_c")}
    for package in packages.values():
        package.corruptions.np = _OldNumpy()
    return packages


class _OldNumpy:
    """numpy with the name that fog uses."""

    float_ = np.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def _frost_file(_: str, path: str) -> str:
    """The photos of `imagecorruptions` for both: the wheel of `imagenet_c` lacks them."""
    spec = importlib.util.find_spec("imagecorruptions")
    assert spec is not None and spec.origin is not None
    return os.fspath(Path(spec.origin).parent / path)


def centre_crop(path: Path, side: int = 224) -> UInt8[np.ndarray, "side side 3"]:
    """A photo as ImageNet-C's authors prepare it: short side to 256, bilinear, and the centre."""
    with Image.open(path) as photo:
        photo = photo.convert("RGB")
    short = round(side * 256 / 224)
    width, height = photo.size
    size = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    photo = photo.resize(size, Image.Resampling.BILINEAR)
    left, top = round((photo.width - side) / 2), round((photo.height - side) / 2)
    return np.asarray(photo.crop((left, top, left + side, top + side)))


class Draws:
    """Takes the place of numpy.random and keeps what was drawn, as numbers in [0, 1) or of a standard normal."""

    def __init__(self, seed: int):
        self._rng = np.random.default_rng(seed)
        self._kept: dict[str, list[np.ndarray]] = {"uniform": [], "normal": []}

    def _keep(self, kind: str, drawn: np.ndarray) -> np.ndarray:
        self._kept[kind].append(drawn.reshape(-1))
        return drawn

    def normal(self, loc: float = 0.0, scale: float = 1.0, size: Any = None) -> Any:
        return loc + scale * self._keep("normal", self._rng.standard_normal(size))

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        return low + (high - low) * self._keep("uniform", np.asarray(self._rng.random(size)))

    def randint(self, low: int, high: int | None = None, size: Any = None) -> Any:
        low, high = (0, low) if high is None else (low, high)
        drawn = self._rng.integers(low, high, size)
        # In the middle of its share of [0, 1), so that no rounding makes another number of it.
        self._keep("uniform", np.asarray((drawn - low + 0.5) / (high - low)))
        return drawn

    def replayed(self) -> contextlib.AbstractContextManager[Any]:
        """Functions of jax.random give what was kept, in order, instead of drawing; shapes may differ."""
        left = {kind: np.concatenate([*drawn, np.zeros(1)]) for kind, drawn in self._kept.items()}

        def take(kind: str, shape: tuple[int, ...]) -> jax.Array:
            count = math.prod(shape)
            values, left[kind] = left[kind][:count], left[kind][count:]
            return jnp.asarray(values.reshape(shape), jnp.float32)

        def uniform(_: jax.Array, shape: tuple[int, ...], minval: float = 0.0, maxval: float = 1.0) -> jax.Array:
            return minval + (maxval - minval) * take("uniform", shape)

        def randint(_: jax.Array, shape: tuple[int, ...], minval: int, maxval: int) -> jax.Array:
            return jnp.floor(uniform(_, shape, minval, maxval)).astype(jnp.int32)

        return mock.patch.multiple(
            jax.random, uniform=uniform, randint=randint, normal=lambda _, shape: take("normal", shape)
        )

    def keep_centre(self, side: int, factor: float) -> None:
        """Of a square of normal numbers, the crop that snow enlarges: the reference draws all of it."""
        crop = math.ceil(side / factor)
        top = (side - crop) // 2
        square = self._kept["normal"].pop().reshape(side, side)
        self._kept["normal"].append(square[top : top + crop, top : top + crop].reshape(-1))


def with_draws(name: str, image: UInt8[np.ndarray, "h w 3"], severity: int, seed: int) -> tuple[np.ndarray, Draws]:
    """The reference's pixels, and what it drew for them."""
    numpy_of_package = _packages()[package_of(name)].corruptions.np
    draws = Draws(seed)
    with mock.patch.object(numpy_of_package, "random", draws, create=True):
        pixels = reference(name)(image, severity)
    if name == "snow":
        draws.keep_centre(len(image), parameters.SNOW[severity - 1].zoom)
    return pixels, draws


def ours_with_same_draws(name: str, image: UInt8[np.ndarray, "h w 3"], severity: int, draws: Draws) -> np.ndarray:
    """Our function's pixels, with the reference's draws in place of its own."""
    with draws.replayed():
        return np.asarray(CORRUPTIONS[name](jnp.asarray(image), severity, jax.random.key(0)))
