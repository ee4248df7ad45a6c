"""An imitation of `nvidia.nvimgcodec` on Pillow, with a "GPU" whose pixels are a little off, for tests without one.

It has what `region_jpeg` and `gpu_jpeg` use of nvImageCodec 0.9: names, arguments, and None for what is not decoded.
"""

from __future__ import annotations

import enum
import functools
import importlib.machinery
import io
import sys
import threading
import types
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image as PIL

from luab_jax.data import gpu_jpeg, region_jpeg

MODULE = "nvidia.nvimgcodec"


class ColorSpec(enum.Enum):
    SRGB = 1


class Region(NamedTuple):
    """As (top, left, bottom, right)."""

    top: int
    left: int
    bottom: int
    right: int


class CodeStream:
    """A JPEG's header; `RuntimeError` for what is none."""

    def __init__(self, encoded: bytes, region: Region | None = None):
        try:
            image = PIL.open(io.BytesIO(encoded), formats=["JPEG"])
        except OSError as e:
            raise RuntimeError("no code stream") from e
        self.encoded, self.region = encoded, region
        self.width, self.height = image.size
        self.num_channels = len(image.getbands())
        self.is_ycbcr = image.mode == "RGB" and image.info.get("adobe_transform") != 0

    def get_sub_code_stream(self, *, region: Region) -> CodeStream:
        return CodeStream(self.encoded, region)


class Image:
    """Pixels; those on the "GPU" become an array only through `cpu`."""

    def __init__(self, pixels: np.ndarray, on_gpu: bool):
        self.pixels, self.on_gpu = pixels, on_gpu

    def cpu(self) -> Image:
        return Image(self.pixels, on_gpu=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        assert not self.on_gpu, "pixels of the GPU, read on the host"
        return self.pixels


class Gpus:
    """The machine's: what its decoders are asked for, and what they do."""

    def __init__(self) -> None:
        self.added = 1
        """To every pixel: by how many levels it is off."""
        self.broken: set[bytes] = set()
        """What it does not decode."""
        self.fails = False
        self.batches: list[int] = []
        self.decoders: list[dict[str, Any]] = []

    def decode(self, stream: CodeStream) -> Image | None:
        if stream.encoded in self.broken:
            return None
        assert stream.region is None and stream.is_ycbcr
        return Image(np.clip(_pixels(stream).astype(int) + self.added, 0, 255).astype(np.uint8), on_gpu=True)


def _pixels(stream: CodeStream) -> np.ndarray:
    whole = np.asarray(PIL.open(io.BytesIO(stream.encoded)).convert("RGB"))
    top, left, bottom, right = stream.region or (0, 0, stream.height, stream.width)
    return whole[top:bottom, left:right]


CPU_ONLY, HYBRID_CPU_GPU, NVIMGCODEC_DEVICE_CPU_ONLY = 1, 3, -99999


class Decoder:
    def __init__(self, gpus: Gpus, **options: Any):
        self._gpus, self._on_gpu = gpus, options["device_id"] != NVIMGCODEC_DEVICE_CPU_ONLY
        if self._on_gpu:
            gpus.decoders.append(options)

    def decode(self, sources: Any, *, params: Any, image: Any = None) -> Any:
        assert params == {"apply_exif_orientation": False, "color_spec": ColorSpec.SRGB}
        if not self._on_gpu:
            return Image(_pixels(sources), on_gpu=False)
        if self._gpus.fails:
            raise RuntimeError("CUDA error")
        self._gpus.batches.append(len(sources))
        return [self._gpus.decode(source) for source in sources]


def install(monkeypatch: pytest.MonkeyPatch) -> Gpus:
    """From now on this process has the imitation, as if nothing had been decoded before."""
    gpus = Gpus()
    module: Any = types.ModuleType(MODULE)
    module.__spec__ = importlib.machinery.ModuleSpec(MODULE, None)
    module.ColorSpec, module.Region, module.CodeStream = ColorSpec, Region, CodeStream
    module.CPU_ONLY, module.HYBRID_CPU_GPU = CPU_ONLY, HYBRID_CPU_GPU
    module.NVIMGCODEC_DEVICE_CPU_ONLY = NVIMGCODEC_DEVICE_CPU_ONLY
    module.Backend, module.DecodeParams = lambda kind: kind, dict
    module.Decoder = functools.partial(Decoder, gpus)
    monkeypatch.setitem(sys.modules, MODULE, module)
    forget(monkeypatch)
    return gpus


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process knows of the library; the test's end brings it back."""
    monkeypatch.setattr(region_jpeg, "_load", functools.cache(region_jpeg._load.__wrapped__))
    monkeypatch.setattr(region_jpeg, "parameters", functools.cache(region_jpeg.parameters.__wrapped__))
    monkeypatch.setattr(region_jpeg, "_decoders", ["libjpeg_turbo_ext*"])
    monkeypatch.setattr(region_jpeg, "_threads", threading.local())
    monkeypatch.setattr(gpu_jpeg, "_threads", threading.local())
