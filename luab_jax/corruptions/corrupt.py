"""The table of corruptions, a batch through one of them, and the key of an image.

keys = image_keys(["ILSVRC2012_val_00000001", ...], "fog", 3)
fogged = corrupt(images, keys, name="fog", severity=3)
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jaxtyping import Array, Key, UInt8

from luab_jax.corruptions import blur, colour, geometry, jpeg, noise, parameters, spatter, weather
from luab_jax.corruptions.frost_photos import FrostPhotos
from luab_jax.errors import ConfigError

Corruption = Callable[[UInt8[Array, "h w 3"], int, Key[Array, ""]], UInt8[Array, "h w 3"]]
"""A pure function of an image, a severity from 1 to 5 (static under jit) and a key."""

_MODULES = (noise, blur, weather, colour, geometry, jpeg, spatter)

CORRUPTIONS: dict[str, Corruption] = {
    name: next(getattr(module, name) for module in _MODULES if hasattr(module, name))
    for name in (*parameters.NAMES, *parameters.EXTRA_NAMES)
}
"""ImageNet-C's 15 kinds, then the four extra ones."""


@functools.partial(jax.jit, static_argnames=("name", "severity", "photos"))
def corrupt(
    images: UInt8[Array, "b h w 3"],
    keys: Key[Array, " b"],
    *,
    name: str,
    severity: int,
    photos: FrostPhotos | None = None,
) -> UInt8[Array, "b h w 3"]:
    """Every image by its own key, whatever else is in the batch.

    images: as ImageNet-C has them: short side 256, centre 224.
    photos: for frost, instead of those of the installed package `imagecorruptions`.

    Raises `ConfigError` for an unknown name or severity, `DataError` for frost without photos.
    """
    if name not in CORRUPTIONS:
        raise ConfigError(f"no corruption is called {name!r}; there are {', '.join(CORRUPTIONS)}")
    if severity not in parameters.SEVERITIES:
        raise ConfigError(f"{name}: severity {severity}, expected 1 to 5")
    function = functools.partial(weather.frost, photos=photos) if name == "frost" else CORRUPTIONS[name]
    return jax.vmap(lambda image, key: function(image, severity, key))(images, keys)


def image_keys(image_names: Sequence[str], name: str, severity: int, seed: int = 0) -> Key[Array, " b"]:
    """Keys that depend on the image's name, the corruption, the severity and the seed, and on nothing else.

    image_names: file names without folders and suffix, so that every command gives an image the same noise.
    """
    hashes = [
        hashlib.blake2b(f"{seed}/{name}/{severity}/{image}".encode(), digest_size=8).digest() for image in image_names
    ]
    words = np.frombuffer(b"".join(hashes), "<u4").reshape(-1, 2)
    return jax.random.wrap_key_data(jax.numpy.asarray(words), impl="threefry2x32")
