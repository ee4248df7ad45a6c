"""The drawn demo set (`data_prep demo`) on a laptop: a narrow ResNet, minutes on two cores."""

from __future__ import annotations

from luab_jax import recipes
from luab_jax.config import Config


def get_config() -> Config:
    return recipes.demo()
