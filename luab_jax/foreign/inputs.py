"""From uint8 pixels to what a model of others is given: type, order of the axes, order of the channels."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from luab_jax.data.transforms import Preprocessing
from luab_jax.errors import UserError


class Layout(enum.Enum):
    """Order of the axes."""

    NHWC = "nhwc"
    NCHW = "nchw"


class Channels(enum.Enum):
    """Order of the channels."""

    RGB = "rgb"
    BGR = "bgr"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFormat:
    """How a function is given its images."""

    dtype: str = "uint8"
    """`uint8`: pixels as they are, which the function normalises by itself. `float32` or `float16`: (x / 255 - mean) /
    std, by the preprocessing's mean and std."""
    layout: Layout = Layout.NHWC
    channels: Channels = Channels.RGB
    """In `BGR` the preprocessing's mean and std are still those of R, G and B."""

    def __post_init__(self) -> None:
        if self.dtype not in ("uint8", "float32", "float16"):
            raise UserError(f"InputFormat.dtype={self.dtype!r}: expected uint8, float32 or float16")

    def facts(self) -> dict[str, str]:
        """For the identity of a model."""
        return {"dtype": self.dtype, "layout": self.layout.value, "channels": self.channels.value}

    def feed(
        self,
        images: UInt8[np.ndarray, "b h w 3"],
        preprocessing: Preprocessing,
        hidden: Bool[np.ndarray, "h w"],
        *,
        black: bool,
    ) -> Shaped[np.ndarray, "b x y z"]:
        """The input of the function.

        Where `hidden`, the input is that of black pixels, or of the mean colour: zero after normalisation, for `uint8`
        the mean rounded to a byte.
        """
        levels = self._levels(preprocessing)
        mean = np.round(255 * np.asarray(preprocessing.mean)).astype(np.uint8)
        fills = levels[:, 0] if black else levels[np.arange(3), mean] if self.dtype == "uint8" else np.zeros(3)
        order = (0, 1, 2) if self.channels is Channels.RGB else (2, 1, 0)
        count, height, width, _ = images.shape
        planes = np.empty((3, count, height, width), levels.dtype)
        for place, channel in enumerate(order):
            planes[place] = levels[channel][images[..., channel]]
            planes[place][:, hidden] = fills[channel]
        return np.ascontiguousarray(planes.transpose((1, 0, 2, 3) if self.layout is Layout.NCHW else (1, 2, 3, 0)))

    def _levels(self, preprocessing: Preprocessing) -> Shaped[np.ndarray, "3 256"]:
        """What each of the 256 values of a byte becomes, by channel."""
        levels = np.tile(np.arange(256, dtype=np.uint8), (3, 1))
        if self.dtype == "uint8":
            return levels
        mean, std = (np.asarray(v, np.float32)[:, None] for v in (preprocessing.mean, preprocessing.std))
        return ((levels.astype(np.float32) / np.float32(255.0) - mean) / std).astype(self.dtype)
