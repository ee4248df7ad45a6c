"""A part of a JPEG without the rest, by libjpeg-turbo's partial decompression as nvImageCodec offers it on the CPU.

Blocks outside the part are only Huffman-decoded, rows below it not even that. The pixels are those of libjpeg-turbo's
full decode, bit for bit. Where the library is absent, and for whatever it does not take, `open_jpeg` and
`RegionJpeg.region` say None, and Pillow decodes.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from luab_jax.byproducts.records import Size
from luab_jax.data.decoding import MAX_PIXELS

_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_TRAILER_BYTES = 256  # what a camera may have left behind the end
_EXTENSIONS = "NVIMGCODEC_EXTENSIONS_PATH"
_FOR_CPU, _FOR_GPU = "libjpeg_turbo_ext*", "libnvjpeg_ext*"
_decoders = [_FOR_CPU]
"""Files that are loaded with the library."""
_threads = threading.local()
_loading = threading.Lock()


def library() -> Any:
    """The module; None where it is not installed."""
    with _loading:  # the cache alone lets threads in side by side
        return _load()


def load_for_gpu() -> bool:
    """Loads the module with nvJPEG too. False where it is not installed, or was loaded without: that happens once."""
    with _loading:
        if _FOR_GPU not in _decoders:
            if _load.cache_info().currsize and _load() is not None and _EXTENSIONS not in os.environ:
                return False
            _decoders.append(_FOR_GPU)
        return _load() is not None


@functools.cache
def _load() -> Any:
    """Imports the module with the JPEG decoder for CPUs, and for GPUs if that was asked for.

    Its decoders for GPUs look for CUDA's libraries at import and complain on stderr, hence a folder of the few.
    """
    try:
        package = importlib.util.find_spec("nvidia.nvimgcodec")
    except ModuleNotFoundError:
        return None
    if package is None or not package.submodule_search_locations or _EXTENSIONS in os.environ:
        return None if package is None else importlib.import_module("nvidia.nvimgcodec")
    installed = Path(package.submodule_search_locations[0], "extensions")
    try:
        scratch = tempfile.TemporaryDirectory()
    except OSError:  # no folder for temporary files: it may complain
        return importlib.import_module("nvidia.nvimgcodec")
    with scratch as folder:
        for decoder in (found for name in _decoders for found in installed.glob(name)):
            Path(folder, decoder.name).symlink_to(decoder)
        os.environ[_EXTENSIONS] = folder
        try:
            return importlib.import_module("nvidia.nvimgcodec")
        finally:
            del os.environ[_EXTENSIONS]


def is_available() -> bool:
    """Whether crops are decoded by nvImageCodec here."""
    return library() is not None


def _decoder(smooth_chroma: bool) -> Any:
    """This thread's decoder; it keeps buffers of its own, so threads do not wait for each other."""
    decoders = _threads.__dict__.setdefault("decoders", {})
    if smooth_chroma not in decoders:
        module = library()
        decoders[smooth_chroma] = module.Decoder(
            device_id=module.NVIMGCODEC_DEVICE_CPU_ONLY,
            max_num_cpu_threads=1,
            backends=[module.Backend(module.CPU_ONLY)],
            options=f":fancy_upsampling={int(smooth_chroma)} :fast_idct={int(not smooth_chroma)}",
        )
    return decoders[smooth_chroma]


@functools.cache
def parameters() -> Any:
    """RGB, not turned by EXIF."""
    module = library()
    return module.DecodeParams(apply_exif_orientation=False, color_spec=module.ColorSpec.SRGB)


class RegionJpeg:
    """A JPEG of which the header has been read."""

    __slots__ = ("encoded", "num_channels", "size", "stream")

    def __init__(self, encoded: bytes, stream: Any):
        self.encoded, self.stream = encoded, stream
        self.size = Size(stream.width, stream.height)
        self.num_channels = int(stream.num_channels)

    def region(
        self, left: int, top: int, width: int, height: int, *, smooth_chroma: bool = True, transient: bool = False
    ) -> UInt8[np.ndarray, "h w 3"] | None:
        """RGB pixels of a part; None if the data is broken or cut off.

        `smooth_chroma=False` repeats subsampled chroma instead of interpolating it and takes the fast inverse DCT.
        `transient` pixels stand in this thread's one buffer, which its next transient part overwrites.
        """
        part = self.stream.get_sub_code_stream(region=library().Region(top, left, top + height, left + width))
        buffer = getattr(_threads, "buffer", None) if transient else None
        reused = {} if buffer is None else {"image": buffer}
        try:
            image = _decoder(smooth_chroma).decode(part, params=parameters(), **reused)
        except RuntimeError:
            image = None
        if transient and image is not None:
            _threads.buffer = image
        return None if image is None else np.asarray(image)


def open_jpeg(image: bytes) -> RegionJpeg | None:
    """Reads the header; None where Pillow has to do it, or to refuse it.

    That is another format than JPEG, CMYK, a broken header, more pixels than Pillow takes for honest, or a file without
    an end: whoever decodes a part would not notice that another part is missing.
    """
    if not image.startswith(_JPEG_START) or _JPEG_END not in image[-_TRAILER_BYTES:] or not is_available():
        return None
    try:
        jpeg = RegionJpeg(image, library().CodeStream(image))
    except RuntimeError:
        return None
    return jpeg if jpeg.num_channels in (1, 3) and 0 < jpeg.size.width * jpeg.size.height <= MAX_PIXELS else None
