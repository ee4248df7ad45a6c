"""What timm states for its models: which of ours each one is, and how its images are prepared.

The `default_cfg` of every pretrained tag of the plain ResNets and ViTs that classify ImageNet's 1,000 classes, as of
timm 1.0 (huggingface/pytorch-image-models, timm/models/resnet.py, vision_transformer.py, deit.py).
"""

from __future__ import annotations

import difflib
from typing import NamedTuple

from luab_jax.models.config import PRESETS, ModelConfig, Pool, ResNetPreset, Stem, resnet_preset, vit_preset

IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]


class TimmModel(NamedTuple):
    """One pretrained tag."""

    name: str
    """With its tag, as in `resnet50.tv_in1k`."""
    preset: str
    """The model's name here."""
    image_size: int
    """Side of the input, pixels."""
    crop_ratio: float
    """Side of the centre crop over the short side of the resized image."""
    filter: str
    statistics: Statistics
    """Mean and standard deviation of the channels, on [0, 1]."""

    @property
    def resize_side(self) -> int:
        """Short side before the crop, pixels; rounded down, as timm does."""
        return int(self.image_size / self.crop_ratio)


class _Images(NamedTuple):
    image_size: int
    crop_ratio: float
    filter: str
    statistics: Statistics = IMAGENET_STATISTICS


_WIDE = _Images(224, 0.95, "bicubic")
_PLAIN = _Images(224, 0.875, "bicubic")
_TORCHVISION = _Images(224, 0.875, "bilinear")
_VIT = _Images(224, 0.9, "bicubic", _HALF)

_TAGS: dict[str, _Images] = {
    **dict.fromkeys(("tv_in1k", "fb_ssl_yfcc100m_ft_in1k", "fb_swsl_ig1b_ft_in1k"), _TORCHVISION),
    "tv2_in1k": _Images(176, 0.875, "bilinear"),
    **dict.fromkeys(("gluon_in1k", "bt_in1k", "am_in1k", "ra_in1k", "ram_in1k"), _PLAIN),
    **dict.fromkeys(("a1_in1k", "a1h_in1k", "a2_in1k", "d_in1k"), _WIDE),
    **dict.fromkeys(("b1k_in1k", "b2k_in1k", "c1_in1k", "c2_in1k"), _WIDE),
    "a3_in1k": _Images(160, 0.95, "bicubic"),
    "ra4_e3600_r224_in1k": _VIT,
    **dict.fromkeys(("augreg_in1k", "augreg_in21k_ft_in1k", "augreg2_in21k_ft_in1k"), _VIT),
    **dict.fromkeys(("orig_in21k_ft_in1k", "sam_in1k"), _VIT),
    "fb_in1k": _Images(224, 0.9, "bicubic"),
}
_EXCEPTIONS = {"resnet50.a1h_in1k": _Images(176, 0.9, "bicubic")}

_ALL_RESNETS = "tv_in1k gluon_in1k a1_in1k a2_in1k a3_in1k"
_SEMI = "fb_ssl_yfcc100m_ft_in1k fb_swsl_ig1b_ft_in1k"
_ARCHITECTURES: dict[str, tuple[str, str]] = {
    "resnet18": ("resnet18", f"a1_in1k {_ALL_RESNETS} {_SEMI}"),
    "resnet34": ("resnet34", f"a1_in1k {_ALL_RESNETS} bt_in1k ra4_e3600_r224_in1k"),
    "resnet50": (
        "resnet50",
        f"a1_in1k {_ALL_RESNETS} {_SEMI} tv2_in1k a1h_in1k am_in1k b1k_in1k b2k_in1k bt_in1k c1_in1k c2_in1k d_in1k"
        " ra_in1k ram_in1k",
    ),
    "resnet101": ("resnet101", f"a1h_in1k {_ALL_RESNETS} tv2_in1k"),
    "resnet152": ("resnet152", f"a1h_in1k {_ALL_RESNETS} tv2_in1k"),
    "vit_tiny_patch16_224": ("vit_ti", "augreg_in21k_ft_in1k"),
    "vit_small_patch16_224": ("vit_s", "augreg_in21k_ft_in1k augreg_in1k"),
    "vit_base_patch16_224": (
        "vit_b",
        "augreg2_in21k_ft_in1k augreg_in1k augreg_in21k_ft_in1k orig_in21k_ft_in1k sam_in1k",
    ),
    "deit_tiny_patch16_224": ("vit_ti", "fb_in1k"),
    "deit_small_patch16_224": ("vit_s", "fb_in1k"),
    "deit_base_patch16_224": ("vit_b", "fb_in1k"),
}
"""timm's architecture to ours and to its tags; the first is the one that a name without a tag means."""


def _row(architecture: str, tag: str) -> TimmModel:
    name = f"{architecture}.{tag}"
    return TimmModel(name, _ARCHITECTURES[architecture][0], *_EXCEPTIONS.get(name, _TAGS[tag]))


TIMM_MODELS: dict[str, TimmModel] = {
    f"{architecture}.{tag}": _row(architecture, tag)
    for architecture, (_, tags) in _ARCHITECTURES.items()
    for tag in dict.fromkeys(tags.split())
}


def timm_model(name: str) -> TimmModel:
    """By name, with or without a tag; raises ValueError with the nearest names."""
    if name in TIMM_MODELS:
        return TIMM_MODELS[name]
    if name in _ARCHITECTURES:
        return TIMM_MODELS[f"{name}.{_ARCHITECTURES[name][1].split()[0]}"]
    architecture = name.partition(".")[0]
    if architecture in _ARCHITECTURES:
        known = [n for n in TIMM_MODELS if n.startswith(f"{architecture}.")]
        raise ValueError(f"{name!r}: {architecture} has no such tag here; there are {', '.join(known)}")
    near = difflib.get_close_matches(name, (*_ARCHITECTURES, *TIMM_MODELS), n=3, cutoff=0.5)
    guess = f"did you mean {' or '.join(near)}? " if near else ""
    raise ValueError(f"{name!r} is not a model that can be read from timm; {guess}Known: {', '.join(_ARCHITECTURES)}")


def timm_call(config: ModelConfig, *, num_classes: int, image_size: int) -> str | None:
    """The call that makes timm's network of the same shape; None where timm has none under a name."""
    name = next(architecture for architecture, (preset, _) in _ARCHITECTURES.items() if preset == config.name)
    if isinstance(PRESETS[config.name], ResNetPreset):
        if resnet_preset(config) != PRESETS[config.name] or config.stem is not Stem.IMAGENET:
            return None
        return f"create_model('{name}', num_classes={num_classes})"
    if vit_preset(config) != PRESETS[config.name]:
        return None
    options = {"img_size": image_size, "patch_size": config.patch_size}
    changed = "".join(f", {k}={v}" for k, v in options.items() if v != {"img_size": 224, "patch_size": 16}[k])
    pool = ", global_pool='avg'" if config.pool is Pool.MEAN else ""
    return f"create_model('{name}', num_classes={num_classes}{changed}{pool})"
