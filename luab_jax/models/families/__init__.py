"""The families of backbones, a folder each. A new one is a folder and a line here."""

from luab_jax.models.families.convnext.family import ConvNeXtFamily
from luab_jax.models.families.resnet.family import ResNetFamily
from luab_jax.models.families.vit.family import ViTFamily
from luab_jax.models.family import Family

FAMILIES: dict[str, Family] = {family.name: family for family in (ResNetFamily(), ViTFamily(), ConvNeXtFamily())}
"""By name."""
