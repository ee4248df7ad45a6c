"""Whether JPEGs can be decoded on this host's GPUs, asked before a training begins."""

from __future__ import annotations

import jax
import numpy as np

from luab_jax.config import Config
from luab_jax.data import gpu_jpeg
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.features import Example
from luab_jax.data.gpu_jpeg import GpuJpegs, JpegDecoder
from luab_jax.data.transforms import EncodedImage, PixelBox
from luab_jax.errors import ConfigError
from luab_jax.io.console import say

_COMPARED = 8
"""JPEGs that are decoded both ways."""
_LOOKED_AT = 64
"""Records in which they are looked for."""
_FIELD = "config.data.decoder=nvjpeg"
_ELSE = "or set config.data.decoder=cpu"


def gpu_jpegs(config: Config) -> GpuJpegs | None:
    """What decodes on this host's GPUs; None for the CPU. Raises `ConfigError` where there is no GPU or no library."""
    if config.data.decoder is not JpegDecoder.NVJPEG:
        return None
    devices = [device for device in jax.local_devices() if device.platform == "gpu"]
    if not devices:
        raise ConfigError(f"{_FIELD}: jax sees no GPU on this host; install '.[cuda13]', {_ELSE}")
    if not gpu_jpeg.load():
        raise ConfigError(
            f"{_FIELD}: nvImageCodec cannot be loaded with its decoders for GPUs: pip install nvidia-nvimgcodec-cu12"
            " nvidia-nvjpeg-cu12 (within a notebook that has decoded on the CPU, begin a new process),"
            f" {_ELSE}"
        )
    return GpuJpegs(tuple(device.local_hardware_id for device in devices))


def check_decoder(config: Config, split: PreparedSplit) -> None:
    """Decodes the first JPEGs of a split on the GPU and on the CPU, where the GPU is to decode.

    Says how far the two are apart. Raises `ConfigError` if nvJPEG decodes none of them, or pixels that are not
    tolerated.
    """
    gpu = gpu_jpegs(config)
    if gpu is None:
        return
    images = _first_jpegs(split)
    found = list(gpu.whole([image.jpeg for _, image in images]))
    differences = []
    for (name, image), pixels in zip(images, found, strict=True):
        if pixels is None:
            continue
        expected = image.region(PixelBox(0, 0, *image.size))
        difference = gpu_jpeg.measure(pixels, expected)
        if not difference.is_tolerated:
            raise ConfigError(
                f"{_FIELD}: {name} of {split.directory} differs from the CPU's pixels by {difference.mean:.2f} levels"
                f" on average, by more than {gpu_jpeg.TOLERATED_LEVELS} in {difference.share:.2%} of the values"
                f" (tolerated: {gpu_jpeg.TOLERATED_MEAN:g} and {gpu_jpeg.TOLERATED_SHARE:.1%});"
                f" update nvidia-nvjpeg-cu12, {_ELSE}"
            )
        differences.append(difference)
    if images and not differences:
        raise ConfigError(
            f"{_FIELD}: nvJPEG decoded none of the first {len(images)} JPEGs of {split.directory}: pip install"
            f" nvidia-nvjpeg-cu12, leave it GPU memory (XLA_PYTHON_CLIENT_MEM_FRACTION), {_ELSE}"
        )
    say(_told(differences, split), active=jax.process_index() == 0)


def _first_jpegs(split: PreparedSplit) -> list[tuple[str, EncodedImage]]:
    """Names and images of those that the GPU is asked for."""
    found = []
    for index in range(min(_LOOKED_AT, len(split.records))):
        example = Example(split.records[index])
        image = EncodedImage(example.image, example.file_name)
        if gpu_jpeg.for_gpu(image.jpeg):
            found.append((example.file_name, image))
        if len(found) == _COMPARED:
            break
    return found


def _told(differences: list[gpu_jpeg.Difference], split: PreparedSplit) -> str:
    if not differences:
        return f"nvJPEG: no colour JPEG among the first records of {split.directory}; the CPU decodes all others"
    mean = float(np.mean([difference.mean for difference in differences]))
    share = max(difference.share for difference in differences)
    return (
        f"nvJPEG: {len(differences)} JPEGs differ from the CPU's pixels by {mean:.2f} levels on average, by more than"
        f" {gpu_jpeg.TOLERATED_LEVELS} in at most {share:.2%} of an image's values"
    )
