"""ImageNet-AB, ViT-S/16, LUAB; the baseline with --config.byproduct.target=none."""

from __future__ import annotations

from luab_jax import recipes
from luab_jax.config import Config


def get_config() -> Config:
    return recipes.imagenet_vit("vit_s")
