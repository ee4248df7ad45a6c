"""JPEGs decoded whole on a GPU, by nvJPEG as nvImageCodec offers it; the host crops and resizes as ever.

The pixels are not those of libjpeg-turbo: transform, chroma and colours are rounded elsewhere. NVIDIA's own tests of
nvImageCodec let the two differ by 4 levels of 255 in any channel of a pixel where chroma is interpolated, and by 44
where nvJPEG repeats it (github.com/NVIDIA/nvImageCodec, test/python/utils.py). So chroma is interpolated here, for the
fast mode's filter too. `measure` finds what the two do on the data of a run.

Whole images, not crops: with interpolated chroma, nvJPEG before 13.2 may get the outermost pixels of a crop wrong, and
nvImageCodec 0.9 refuses it (its own warning).

One backend, the CUDA kernels (`HYBRID_CPU_GPU`): cards with a JPEG engine would share a batch between engine and
kernels, and an image's pixels would depend on its neighbours in the batch, so that no resumed run were the same.

Threads only: each decoding process would hold a CUDA context and decoders of its own beside the memory that jax has
reserved, and its kernels would take turns with the training step instead of running beside it. The price is that the
rest of a row (reading, cropping, targets) stays under Python's one lock.

Only YCbCr JPEGs of three channels are given to the GPU. The rest (PNG, grey, CMYK, stored RGB, broken or cut off), and
whatever nvJPEG does not take, is the CPU's, with its pixels and its errors.
"""

from __future__ import annotations

import enum
import itertools
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from luab_jax.byproducts.records import Size
from luab_jax.data import region_jpeg
from luab_jax.data.region_jpeg import RegionJpeg

TOLERATED_LEVELS = 4
"""Of 255: what NVIDIA's tests let nvJPEG and libjpeg-turbo differ by at most, with interpolated chroma."""
TOLERATED_SHARE = 0.001
"""Of the values of an image that may differ by more all the same: those tests are on few images, and where a colour is
cut at 0 or 255 roundings add up. Colourful photos whose chroma is repeated are beyond it."""
TOLERATED_MEAN = 1.0
"""Levels, over all values of an image: transform, chroma and colour are each rounded by half a level at most, and
rarely all the same way. A shift by a pixel, swapped channels or another colour matrix is far above."""

_PIXELS_AT_ONCE = 1 << 24
"""48 MB on the GPU and on the host, per thread: a chunk of photos from a camera would take a gigabyte."""
_ALL_REFUSED = 12
"""So many JPEGs of which none is decoded are no matter of the files. More than are compared before a training."""
_threads = threading.local()
_turns = itertools.count()


class JpegDecoder(enum.Enum):
    """What decodes JPEGs for training."""

    CPU = "cpu"
    """libjpeg-turbo, or Pillow where nvImageCodec is not installed: the same pixels."""
    NVJPEG = "nvjpeg"
    """nvJPEG on this host's GPUs; other pixels, within a tolerance."""


class Difference(NamedTuple):
    """Between the pixels of the same image by two decoders."""

    mean: float
    """Levels of 255."""
    share: float
    """Of the values that differ by more than `TOLERATED_LEVELS`."""

    @property
    def is_tolerated(self) -> bool:
        return self.mean <= TOLERATED_MEAN and self.share <= TOLERATED_SHARE


def load() -> bool:
    """Loads the library with its decoders for GPUs. False where it is not installed, or was loaded without them."""
    return region_jpeg.load_for_gpu()


def for_gpu(jpeg: RegionJpeg | None) -> bool:
    """Whether nvJPEG is asked for this image; None is one that is no JPEG, or broken."""
    return jpeg is not None and jpeg.num_channels == 3 and is_ycbcr(jpeg.encoded)


def is_ycbcr(encoded: bytes) -> bool:
    """Whether the header of a JPEG says so, by the rules of libjpeg (`default_decompress_parms` of jdapimin.c).

    False where libjpeg would warn or guess. nvImageCodec 0.9 calls stored RGB YCbCr too, so it is not asked.
    """
    position, jfif, transform = 2, False, None
    while position + 4 <= len(encoded) and encoded[position] == 0xFF:
        marker = encoded[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        end = position + 2 + int.from_bytes(encoded[position + 2 : position + 4], "big")
        content = encoded[position + 4 : end]
        if marker == 0xE0 and content.startswith(b"JFIF\0"):
            jfif = True
        elif marker == 0xEE and content.startswith(b"Adobe") and len(content) >= 12:
            transform = content[11]
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if content[5:6] != b"\3" or transform not in (None, 1):
                return False
            return jfif or transform == 1 or content[6:15:3] == b"\1\2\3"
        position = end
    return False


@dataclass(frozen=True, slots=True)
class GpuJpegs:
    """Decodes on GPUs of this host. The threads that use it take the GPUs in turns, each a decoder of its own."""

    devices: tuple[int, ...]
    """Numbers of CUDA."""

    def whole(self, jpegs: Sequence[RegionJpeg | None]) -> Iterator[UInt8[np.ndarray, "h w 3"] | None]:
        """RGB pixels of each image in order, on the host; None for what the CPU has to decode.

        Some are decoded at a time, when the first of them is asked for. Warns where the GPU decodes nothing at all.
        """
        for group in _groups(jpegs):
            chosen = [i for i, jpeg in enumerate(group) if for_gpu(jpeg)]
            found: list[Any] = [None] * len(group)
            for i, pixels in zip(chosen, self._decode([group[i] for i in chosen]), strict=True):
                found[i] = pixels
            if len(chosen) >= _ALL_REFUSED and all(pixels is None for pixels in found):
                warnings.warn(
                    f"nvJPEG decoded none of {len(chosen)} JPEGs (out of GPU memory? XLA_PYTHON_CLIENT_MEM_FRACTION"
                    " leaves it more); the CPU decodes what it does not",
                    RuntimeWarning,
                    stacklevel=2,
                )
            while found:
                yield found.pop(0)

    def _decode(self, jpegs: Sequence[Any]) -> list[UInt8[np.ndarray, "h w 3"] | None]:
        if not jpegs:
            return []
        try:
            images = self._decoder().decode([jpeg.stream for jpeg in jpegs], params=region_jpeg.parameters())
            return [_on_host(image, jpeg.size) for image, jpeg in zip(images, jpegs, strict=True)]
        except RuntimeError:  # of CUDA, or of a stream that nobody can read
            return [None] * len(jpegs)

    def _decoder(self) -> Any:
        """This thread's."""
        if not hasattr(_threads, "decoders"):
            _threads.decoders, _threads.turn = {}, next(_turns)
        device = self.devices[_threads.turn % len(self.devices)]
        if device not in _threads.decoders:
            library = region_jpeg.library()
            _threads.decoders[device] = library.Decoder(
                device_id=device,
                max_num_cpu_threads=1,  # for the Huffman codes of small images; the callers are threads already
                backends=[library.Backend(library.HYBRID_CPU_GPU)],
                options=":fancy_upsampling=1",
            )
        return _threads.decoders[device]


def _on_host(image: Any, size: Size) -> UInt8[np.ndarray, "h w 3"] | None:
    """None for what is not as the header says."""
    copied = None if image is None else image.cpu()
    if copied is None:
        return None
    pixels = np.asarray(copied)
    return pixels if pixels.shape == (size.height, size.width, 3) and pixels.dtype == np.uint8 else None


def _groups(jpegs: Sequence[RegionJpeg | None]) -> Iterator[list[RegionJpeg | None]]:
    """Some that follow each other, of no more than `_PIXELS_AT_ONCE` together if there are several."""
    group: list[RegionJpeg | None] = []
    pixels = 0
    for jpeg in jpegs:
        more = jpeg.size.width * jpeg.size.height if jpeg is not None and for_gpu(jpeg) else 0
        if group and pixels + more > _PIXELS_AT_ONCE:
            yield group
            group, pixels = [], 0
        group.append(jpeg)
        pixels += more
    if group:
        yield group


def measure(found: UInt8[np.ndarray, "h w 3"], expected: UInt8[np.ndarray, "h w 3"]) -> Difference:
    """How far one decoder's pixels are from another's."""
    difference = np.abs(found.astype(np.int16) - expected)
    return Difference(float(difference.mean()), float((difference > TOLERATED_LEVELS).mean()))
