"""ImageNet-AB, ResNet-101, LUAB; the baseline with --config.byproduct.target=none."""

from __future__ import annotations

from configs import base
from luab_jax.config import Config


def get_config() -> Config:
    return base.imagenet_resnet("resnet101")
