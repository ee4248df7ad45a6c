"""What a family of backbones is: a folder of `families`, and this class filled in. Needs neither jax nor flax."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from luab_jax.models.choices import ByproductPool

Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]

IMAGENET_STATISTICS: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class TimmImages(NamedTuple):
    """How timm prepares the images of one pretrained tag."""

    image_size: int
    """Side of the input, pixels."""
    crop_ratio: float
    """Side of the centre crop over the short side of the resized image."""
    filter: str
    test_size: int | None = None
    """Side of the input in evaluation, where that is another."""
    test_crop_ratio: float | None = None
    statistics: Statistics = IMAGENET_STATISTICS
    """Mean and standard deviation of the channels, on [0, 1]."""


class Family:
    """One family of backbones: its presets and what is told of them. Subclassed in the family's folder, once.

    `network` is the module beside it that needs jax: `build`, `HEAD_STDDEV` and `localise` (see `families/README.md`).
    """

    name: ClassVar[str]
    """That of the folder, in results and checkpoints."""
    label: ClassVar[str]
    """As in 'a ResNet'."""
    presets: ClassVar[Mapping[str, Any]]
    """Dataclasses with `num_features` and `num_blocks`, by the models' names."""
    fields: ClassVar[tuple[str, ...]]
    """Of a preset, those that a field of the config by the same name overrides."""
    hint: ClassVar[str]
    """The fields that one would set first, for messages."""
    pools: ClassVar[frozenset[ByproductPool]] = frozenset({ByproductPool.CLASSIFIER, ByproductPool.MAP})
    """What a byproduct head can read."""
    map_name: ClassVar[str]
    """The kind of map that `localise` of the network's module makes."""
    has_batch_norm: ClassVar[bool] = False
    is_transformer: ClassVar[bool] = False

    timm_layers: ClassVar[tuple[tuple[str, str], ...]]
    """(our module's path, timm's); \\1 … are the groups of the left side."""
    timm_arrays: ClassVar[Mapping[str, str]] = {}
    """Parameters that belong to no layer of their own: our path to timm's name."""
    timm_pooled_layers: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Before `timm_layers` where the network averages what it else would not."""
    timm_architectures: ClassVar[Mapping[str, tuple[str, str]]]
    """timm's architecture to our preset and to its pretrained tags, the first of which a name without a tag means."""
    timm_images: ClassVar[Mapping[str, TimmImages]]
    """By tag, or by architecture and tag, which comes first."""

    def filled(self, config: Any) -> Any:
        """The preset with the config's overrides."""
        preset = self.presets[config.name]
        given = {field: getattr(config, field) for field in self.fields if getattr(config, field) is not None}
        preset = dataclasses.replace(preset, **{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})
        self.check(preset, self.presets[config.name])
        return preset

    def check(self, preset: Any, original: Any) -> None:
        """Raises ValueError that names the field of the config and the remedy."""

    def check_image_size(self, config: Any, image_size: int) -> None:
        """Raises ValueError if the network takes no images of that side."""

    def differences(self, config: Any) -> dict[str, str]:
        """What makes it another network than its preset, beside the preset's own fields."""
        del config
        return {}

    def pools_mean(self, config: Any) -> bool:
        """Whether `timm_pooled_layers` come first."""
        del config
        return False

    def timm_options(self, config: Any, image_size: int) -> dict[str, Any] | None:
        """Of `timm.create_model`, beside the number of classes; None where timm has no such network under a name."""
        del image_size
        return {} if self.filled(config) == self.presets[config.name] else None

    @property
    def network(self) -> Any:
        """The module that builds the networks."""
        return importlib.import_module(f"luab_jax.models.families.{self.name}.network")


def check_stages(sizes: tuple[int, ...], original: tuple[int, ...]) -> None:
    """Raises ValueError unless there are stages, each with blocks."""
    if not sizes or min(sizes) < 1:
        raise ValueError(
            f"model.stage_sizes={sizes} needs at least one stage and one block in each; the preset has {original}."
        )
