"""Where a model sees what it sees: a coarse map over the image, for localisation and for looking at."""

from __future__ import annotations

from jaxtyping import Array, Float, Int

from luab_jax.models.families import FAMILIES
from luab_jax.models.functional import BatchStats, Model, Params

MAPS = {name: family.map_name for name, family in FAMILIES.items()}
"""The kind of map of each family; its name stands beside every result made from it."""


def localise(
    model: Model, params: Params, batch_stats: BatchStats, images: Float[Array, "b h w 3"], labels: Int[Array, " b"]
) -> Float[Array, "b i j"]:
    """Normalised images to maps of the class `labels`, a cell for each position of the last features or each patch."""
    backbone = model.bind("backbone", params, batch_stats)
    return FAMILIES[model.family].network.localise(backbone, params["classifier"]["kernel"], images, labels)
