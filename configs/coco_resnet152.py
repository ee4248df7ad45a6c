"""COCO-AB, ResNet-152, LUAB; the baseline with --config.byproduct.target=none."""

from luab_jax import recipes
from luab_jax.config import Config


def get_config() -> Config:
    return recipes.coco("resnet152")
