"""What each severity means: the constants of ImageNet-C, severity 1 first.

Source: hendrycks/robustness, ImageNet-C/create_c/make_imagenet_c.py (224 pixel protocol), of Hendrycks & Dietterich,
"Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019, arXiv 1903.12261.
"""

from __future__ import annotations

from typing import NamedTuple

VERSION = 1
"""Raised when the same image and key give other pixels."""

NAMES = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
EXTRA_NAMES = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""Meant for validation, not for the headline."""

SEVERITIES = (1, 2, 3, 4, 5)

GAUSSIAN_NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)
"""Standard deviation, of values in [0, 1]."""

SHOT_NOISE = (60, 25, 12, 5, 3)
"""Photons that make white."""

IMPULSE_NOISE = (0.03, 0.06, 0.09, 0.17, 0.27)
"""Share of values that become 0 or 1."""

SPECKLE_NOISE = (0.15, 0.2, 0.35, 0.45, 0.6)
"""Standard deviation of the factor."""

GAUSSIAN_BLUR = (1, 2, 3, 4, 6)
"""Standard deviation in pixels."""


class Defocus(NamedTuple):
    radius: int
    """Pixels."""
    alias_blur: float
    """Standard deviation, in pixels, of the blur that smooths the disk's edge."""


DEFOCUS_BLUR = (Defocus(3, 0.1), Defocus(4, 0.5), Defocus(6, 0.5), Defocus(8, 0.5), Defocus(10, 0.5))


class Glass(NamedTuple):
    sigma: float
    """Of the blur before and after, pixels."""
    max_delta: int
    """Pixels are taken from offsets in [-max_delta, max_delta)."""
    iterations: int


GLASS_BLUR = (Glass(0.7, 1, 2), Glass(0.9, 2, 1), Glass(1.0, 2, 3), Glass(1.1, 3, 2), Glass(1.5, 4, 2))


class Motion(NamedTuple):
    radius: int
    """The trail is 2 radius + 1 pixels long."""
    sigma: float
    """Pixels."""


MOTION_BLUR = (Motion(10, 3.0), Motion(15, 5.0), Motion(15, 8.0), Motion(15, 12.0), Motion(20, 15.0))
MOTION_ANGLES = (-45.0, 45.0)
"""Degrees, uniform."""

ZOOM_BLUR = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))
"""Stop and step of the zoom factors, which start at 1."""


class Snow(NamedTuple):
    mean: float
    std: float
    zoom: float
    threshold: float
    motion: Motion
    weight: float
    """Of the image against its whitened self."""


SNOW = (
    Snow(0.1, 0.3, 3.0, 0.5, Motion(10, 4.0), 0.8),
    Snow(0.2, 0.3, 2.0, 0.5, Motion(12, 4.0), 0.7),
    Snow(0.55, 0.3, 4.0, 0.9, Motion(12, 8.0), 0.7),
    Snow(0.55, 0.3, 4.5, 0.85, Motion(12, 8.0), 0.65),
    Snow(0.55, 0.3, 2.5, 0.85, Motion(12, 12.0), 0.55),
)
SNOW_ANGLES = (-135.0, -45.0)
"""Degrees, uniform."""

FROST = ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))
"""Weights of the image and of the frost."""

FOG = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))
"""Weight of the fog, and the factor by which its detail fades from scale to scale."""

BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Added to the value of hue, saturation, value."""

CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)

SATURATE = ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2))
"""Factor and addend of the saturation."""


class Elastic(NamedTuple):
    alpha: float
    """Factor of the smoothed field, pixels."""
    sigma: float
    """Of its smoothing, pixels."""
    affine: float
    """Largest shift of each of the affine map's three points, pixels."""


ELASTIC_TRANSFORM = (
    Elastic(244 * 2.0, 244 * 0.7, 244 * 0.1),
    Elastic(244 * 2.0, 244 * 0.08, 244 * 0.2),
    Elastic(244 * 0.05, 244 * 0.01, 244 * 0.02),
    Elastic(244 * 0.07, 244 * 0.01, 244 * 0.02),
    Elastic(244 * 0.12, 244 * 0.01, 244 * 0.02),
)
"""244 is the official number; 224 was meant."""

PIXELATE = (0.6, 0.5, 0.4, 0.3, 0.25)
"""Side that is left."""

JPEG_COMPRESSION = (25, 18, 15, 10, 7)
"""Quality."""


class Spatter(NamedTuple):
    mean: float
    std: float
    sigma: float
    """Of the drops, pixels."""
    threshold: float
    strength: float
    """Of water: its weight. Of mud: the blur of its edge, pixels."""
    is_mud: bool


SPATTER = (
    Spatter(0.65, 0.3, 4.0, 0.69, 0.6, False),
    Spatter(0.65, 0.3, 3.0, 0.68, 0.6, False),
    Spatter(0.65, 0.3, 2.0, 0.68, 0.5, False),
    Spatter(0.65, 0.3, 1.0, 0.65, 1.5, True),
    Spatter(0.67, 0.4, 1.0, 0.65, 1.5, True),
)
WATER = (175 / 255, 238 / 255, 238 / 255)
MUD = (63 / 255, 42 / 255, 20 / 255)
MUD_THRESHOLD = 0.8
