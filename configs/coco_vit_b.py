"""COCO-AB, ViT-B/16, LUAB; the baseline with --config.byproduct.target=none."""

from configs import base
from luab_jax.config import Config


def get_config() -> Config:
    return base.coco("vit_b")
