"""What timm states for its models: which of ours each one is, and how its images are prepared.

From the tables of the families. Those of DINOv2 have no classifier.
"""

from __future__ import annotations

import difflib
import enum
from typing import NamedTuple

from luab_jax.models.config import ModelConfig, family_of
from luab_jax.models.families import FAMILIES
from luab_jax.models.family import IMAGENET_STATISTICS, Statistics, TimmImages

__all__ = ["IMAGENET_STATISTICS", "TIMM_MODELS", "TimmModel", "TimmSize", "timm_call", "timm_model"]


class TimmSize(enum.Enum):
    """Which of the two input sizes that timm states for some weights; their names are those of `--timm_size`."""

    TEST = "test"
    """`test_input_size` and `test_crop_pct`, which timm's own validation takes and published accuracies belong to."""
    TRAIN = "train"
    """`input_size` and `crop_pct`, those of the training."""


class TimmModel(NamedTuple):
    """One pretrained tag."""

    name: str
    """With its tag, as in `resnet50.tv_in1k`."""
    preset: str
    """The model's name here."""
    images: TimmImages

    @property
    def statistics(self) -> Statistics:
        return self.images.statistics

    @property
    def filter(self) -> str:
        return self.images.filter

    @property
    def has_test_size(self) -> bool:
        """Whether timm evaluates it at another size than it was trained at."""
        return self.images.test_size is not None

    def image_size(self, size: TimmSize) -> int:
        """Side of the input, pixels."""
        return (size is TimmSize.TEST and self.images.test_size) or self.images.image_size

    def crop_ratio(self, size: TimmSize) -> float:
        """Side of the centre crop over the short side of the resized image."""
        return (size is TimmSize.TEST and self.images.test_crop_ratio) or self.images.crop_ratio

    def resize_side(self, size: TimmSize) -> int:
        """Short side before the crop, pixels; rounded down, as timm does."""
        return int(self.image_size(size) / self.crop_ratio(size))


_ARCHITECTURES = {name: row for family in FAMILIES.values() for name, row in family.timm_architectures.items()}


def _row(architecture: str, tag: str) -> TimmModel:
    name, preset = f"{architecture}.{tag}", _ARCHITECTURES[architecture][0]
    images = next(family.timm_images for family in FAMILIES.values() if architecture in family.timm_architectures)
    return TimmModel(name, preset, images.get(name, images.get(tag)))  # pyright: ignore[reportArgumentType]


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
    family = family_of(config)
    options = family.timm_options(config, image_size)
    if options is None:
        return None
    name = next(name for name, (preset, _) in family.timm_architectures.items() if preset == config.name)
    given = "".join(f", {option}={value!r}" for option, value in options.items())
    return f"create_model('{name}', num_classes={num_classes}{given})"
