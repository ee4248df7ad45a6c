"""The models of the GPU kit: what ours and the peer's training steps share, and their toy versions for a rehearsal."""

from __future__ import annotations

import dataclasses
import importlib
from dataclasses import dataclass

from luab_jax.config import Config
from luab_jax.models.config import Attention, ModelConfig, Stem, family_of
from luab_jax.models.timm_models import timm_model

IMAGE_SIZE, TOY_SIZE = 224, 32
TOY_BATCH = 4


@dataclass(frozen=True, slots=True)
class Measured:
    """A model, and how its peer is called."""

    timm: str
    batches: tuple[int, ...]
    """Ours, tried from the first on until one fits into 80 GB with every variant."""
    peer_batch: int
    """The peer's, at most: it keeps more activations."""

    @property
    def is_vit(self) -> bool:
        return family_of(ModelConfig(name=timm_model(self.timm).preset)).is_transformer


MODELS = {
    "vit_b": Measured("vit_base_patch16_224", (512, 256, 128), 512),
    "resnet50": Measured("resnet50", (1024, 512, 256), 512),
    "vit_s": Measured("vit_small_patch16_224", (1024, 512, 256), 1024),
    "vit_ti": Measured("vit_tiny_patch16_224", (1024, 512, 256), 1024),
    "resnet18": Measured("resnet18", (1024, 512, 256), 1024),
}


@dataclass(frozen=True, slots=True)
class Variant:
    """One training step of a model."""

    name: str
    key: str = ""
    """What `--variants` calls it."""
    luab: bool = True
    """With the byproduct head, else the baseline."""
    attention: Attention = Attention.AUTO
    recipe: bool = False
    """With the config's augmentation on the device and its moving average; without them the step is the peer's."""
    tuned: bool = True
    """With what `luab_jax.models.gpu` does otherwise for a GPU."""


def variants(model: str) -> list[Variant]:
    """The headline first."""
    plain = [
        Variant("LUAB", "luab"),
        Variant("baseline", "baseline", luab=False),
        Variant("LUAB, not tuned for GPUs", "untuned", tuned=False),
    ]
    if MODELS[model].is_vit:
        plain.append(Variant("LUAB, XLA's attention", "xla", attention=Attention.XLA))
    return [*plain, Variant("LUAB, whole recipe", "recipe", recipe=True)]


VARIANTS = ("luab", "baseline", "untuned", "xla", "recipe")


def batch_sizes(model: str, *, rehearse: bool) -> tuple[int, ...]:
    return (TOY_BATCH,) if rehearse else MODELS[model].batches


def config_of(model: str, variant: Variant, batch_size: int, *, rehearse: bool) -> Config:
    """The experiment of `configs/` for this model, at this batch size on one device."""
    config: Config = importlib.import_module(f"configs.{model}").get_config()
    config.batch_size = batch_size
    config.eval.batch_size = None
    config.model.attention = variant.attention
    if not variant.recipe:
        config.augmentation.enabled = False
        config.optim.ema_decay = 0.0
    if rehearse:
        config.model = toy(config.model)
        config.data.preprocessing = dataclasses.replace(
            config.data.preprocessing, image_size=TOY_SIZE, resize_side=TOY_SIZE
        )
    return config


def toy(model: ModelConfig) -> ModelConfig:
    """The same family in its smallest form."""
    if family_of(model).is_transformer:
        return dataclasses.replace(model, depth=1, embed_dim=32, num_heads=2)
    return dataclasses.replace(model, width=4, stage_sizes=(1, 1), stem=Stem.PATCH)
