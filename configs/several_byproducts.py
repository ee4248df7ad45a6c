"""ImageNet-AB, ResNet-18, three byproducts at once; the first alone with --config.byproduct.more=."""

from __future__ import annotations

from luab_jax import recipes
from luab_jax.config import Config


def get_config() -> Config:
    return recipes.several_byproducts()
