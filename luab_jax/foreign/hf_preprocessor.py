"""The JSON files of a folder of Hugging Face's: fields that are the file's fault, and the preprocessing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from luab_jax.data.transforms import Preprocessing, ResizeFilter
from luab_jax.errors import CheckpointError
from luab_jax.io.console import say

_FILTERS = {2: ResizeFilter.BILINEAR, 3: ResizeFilter.BICUBIC}
"""By PIL's numbers."""
_SQUASHING = ("vit", "deit", "swin")
"""Types whose processors (ViT's, DeiT's) take a size that is one number for a square, and the image out of shape."""
_CONVNEXT = ("convnext",)
_CROP_PCT = 224 / 256
"""Of ConvNeXt's processor where it is not stated."""
_WHOLE_FROM = 384
"""From this size on ConvNeXt's processor cuts nothing off, and squashes."""

_SQUARE = {"resample": 2, "do_center_crop": False, "size": {"height": 224, "width": 224}}
_CROPPED = {"resample": 3, "do_center_crop": True, "size": {"shortest_edge": 224}, "crop_size": 224}
_DEFAULTS = {
    "vit": _SQUARE,
    "swin": _SQUARE,
    "deit": {"resample": 3, "do_center_crop": True, "size": {"height": 256, "width": 256}, "crop_size": 224},
    "clip": _CROPPED,
    "bit": _CROPPED,
    "dinov2": _CROPPED,
    "convnext": {"do_center_crop": False, "size": {"shortest_edge": 384}},
}
"""By the beginning of the type, what a processor does where its file does not say it: the arguments' defaults of
image_processing_vit.py, _deit.py, _clip.py, _bit.py, _convnext.py. ConvNeXt's filter differs between versions."""


def read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise CheckpointError(f"{path}: cannot be read ({e.strerror or e})") from e
    except (ValueError, RecursionError) as e:
        raise CheckpointError(f"{path}: not JSON ({e})") from e
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: holds a {type(found).__name__}; expected an object")
    return found


@contextlib.contextmanager
def fields_of(path: Path) -> Iterator[Path]:
    """A field that is not there or of another type is the file's fault."""
    try:
        yield path
    except KeyError as e:
        raise CheckpointError(f"{path}: has no field {e}") from e
    except (TypeError, ValueError, AttributeError, ArithmeticError) as e:  # the last: of Infinity, of a crop_pct of 0
        raise CheckpointError(f"{path}: a field is not what is expected ({e})") from e


def preprocessing_of(path: Path, config: dict[str, Any]) -> Preprocessing:
    """By preprocessor_config.json; sizes are numbers, or by `shortest_edge`, or by `height` and `width`.

    What transformers does beside it (image_processing_vit.py, _deit.py, _convnext.py, _bit.py; `get_size_dict`) and is
    not done here is said.
    """
    stated = _completed(path, read_json(path), config)
    size, crop = stated["size"], stated.get("crop_size")
    side = short = _side(path, size)
    if stated.get("do_center_crop") and crop is not None:
        side = _side(path, crop)
    elif _is_of(_CONVNEXT, stated, config) and short < _WHOLE_FROM:  # the size is that of the crop
        short = int(short / float(stated.get("crop_pct") or _CROP_PCT))
    resize_side = max(short, side)
    if _squashes(size, stated, config):
        say(
            f"{path}: squashes images to {short} x {short}; here the short side is resized to {resize_side} and the"
            f" centre of {side} is cut"
        )
    resample = stated["resample"]
    if resample not in _FILTERS:
        say(f"{path}: resamples by PIL's filter {resample}; bicubic is taken")
    factor = stated.get("rescale_factor", 1 / 255) if stated.get("do_rescale", True) else 1.0
    if abs(float(factor) * 255 - 1) > 1e-3:
        raise CheckpointError(f"{path}: rescale_factor {factor}; only 1/255 is read")
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if stated.get("do_normalize", True):
        (red, green, blue), (of_red, of_green, of_blue) = (
            map(float, stated[key]) for key in ("image_mean", "image_std")
        )
        mean, std = (red, green, blue), (of_red, of_green, of_blue)
    return Preprocessing(
        image_size=side,
        resize_side=resize_side,
        filter=_FILTERS.get(resample, ResizeFilter.BICUBIC),
        mean=mean,
        std=std,
    )


def _completed(path: Path, stated: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """With what its type does where the file says nothing.

    Raises `CheckpointError` where that is not known: an input that differs a little costs accuracy without a word.
    """
    kind = next((kind for kind in _DEFAULTS if _is_of((kind,), stated, config)), None)
    completed = (_DEFAULTS[kind] if kind else {}) | stated
    if kind is None and "size" not in completed and "image_size" in config:
        completed["size"] = config["image_size"]
    needed = ["resample", "size", *(["do_center_crop"] if "crop_size" in completed else ())]
    if missing := [name for name in needed if name not in completed]:
        raise CheckpointError(
            f"{path}: says nothing of {' and '.join(missing)}, and what its processor"
            f" ({_type_of(stated, config)}) does then is not known here; state it in the file"
        )
    if not completed.get("do_resize", True):
        raise CheckpointError(f"{path}: do_resize is false; the suites feed squares of one size")
    return completed


def _squashes(size: Any, stated: dict[str, Any], config: dict[str, Any]) -> bool:
    """Whether transformers resizes to a square, whatever the shape of the image."""
    if isinstance(size, dict) and size.get("height"):
        return True
    if _is_of(_CONVNEXT, stated, config):
        return int(size["shortest_edge"] if isinstance(size, dict) else size) >= _WHOLE_FROM
    return not isinstance(size, dict) and _is_of(_SQUASHING, stated, config)


def _is_of(types: tuple[str, ...], stated: dict[str, Any], config: dict[str, Any]) -> bool:
    """Whether the processor is of one of these types: by its name, else by the model's, as transformers chooses it."""
    return _type_of(stated, config).lower().startswith(types)


def _type_of(stated: dict[str, Any], config: dict[str, Any]) -> str:
    named = stated.get("image_processor_type") or stated.get("feature_extractor_type") or config.get("model_type")
    return str(named)


def _side(path: Path, size: Any) -> int:
    if isinstance(size, dict):
        sides = {int(size[key]) for key in ("shortest_edge", "height", "width") if size.get(key)}
        if len(sides) != 1:
            raise CheckpointError(f"{path}: size {size}; the suites feed squares")
        return sides.pop()
    return int(size)
