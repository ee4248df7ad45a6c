"""Which network to build: the presets by name, and the fields that override them.

Needs neither jax nor flax, so that configs and command-line help stay quick to load.
"""

import difflib
from dataclasses import dataclass
from typing import Any

from luab_jax.models.choices import (
    Attention,
    BatchNorm,
    ByproductPool,
    Dtype,
    Head,
    Init,
    Mlp,
    Pool,
    Remat,
    Stem,
)
from luab_jax.models.families import FAMILIES
from luab_jax.models.family import Family

__all__ = [
    "PRESETS",
    "Attention",
    "BatchNorm",
    "ByproductPool",
    "Dtype",
    "Head",
    "HeadSpec",
    "Init",
    "Mlp",
    "ModelConfig",
    "Pool",
    "Remat",
    "Stem",
    "architecture",
    "check_head",
    "family_of",
    "filled_preset",
    "num_blocks",
]


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """One byproduct head."""

    name: str
    """Of its target."""
    shape: tuple[int, int]
    """(K, D): byproducts per image, numbers per byproduct. Of a dense head K is the number of maps."""
    head: Head = Head.LINEAR
    hidden: int | None = None
    """Units of a hidden layer; None: none of a dense head, as many as there are features of an MLP."""
    pool: ByproductPool = ByproductPool.CLASSIFIER
    block: int | None = None
    """After which residual block it reads, from 1; None: after the last."""

    @property
    def dense(self) -> bool:
        return self.head is Head.DENSE


PRESETS: dict[str, Any] = {name: preset for family in FAMILIES.values() for name, preset in family.presets.items()}
"""Every family's, by the names that configs give."""
_OF_FAMILIES = tuple(dict.fromkeys(field for family in FAMILIES.values() for field in family.fields))
"""Fields that override a preset's."""


@dataclass(slots=True, kw_only=True)
class ModelConfig:
    """A preset by name and what to change in it; None means the preset's value.

    Not frozen: command-line overrides assign to the fields. Call `validate()` after them.
    """

    name: str = "resnet50"
    """A preset: the architecture to start from."""

    # ResNet, ConvNeXt
    width: int | None = None
    """ResNet, ConvNeXt: channels of the first stage; each stage doubles them."""
    stage_sizes: tuple[int, ...] | None = None
    """ResNet, ConvNeXt: residual blocks of each stage."""
    stem: Stem = Stem.IMAGENET
    """ResNet: how images enter the first stage."""
    zero_init_residual: bool = True
    """ResNet: every residual branch starts at zero (Goyal et al. 2017, §5.1; timm's default). Steadies long schedules,
    slows down short ones."""
    batch_norm: BatchNorm = BatchNorm.GLOBAL
    """ResNet: over which images a batch is normalised."""
    batch_norm_images: int = 256
    """ResNet: images of a group, for `batch_norm=groups`; a smaller (micro)batch is one group."""
    batch_norm_unbiased: bool = False
    """ResNet: whether the running variance is that of the batch times n / (n - 1), for n values per channel, as torch
    keeps it. What is normalised in training divides by n in both cases."""
    classifier_init: Init = Init.NORMAL
    """How the classifier's weights are drawn; of ViTs too."""

    # ViT
    patch_size: int | None = None
    """ViT: side of a patch in pixels; 16, and 14 in DINOv2's, unless set."""
    embed_dim: int | None = None
    """ViT: features of a token."""
    depth: int | None = None
    """ViT: number of blocks."""
    num_heads: int | None = None
    """ViT: attention heads of a block."""
    registers: int | None = None
    """ViT: tokens beside the class token that no head reads (Darcet et al. 2023, arXiv:2309.16588)."""
    mlp: Mlp | None = None
    """ViT: what stands between a block's two linear layers."""
    layer_scale: float | None = None
    """ViT, ConvNeXt: initial value of the factors of every channel at the end of each branch (Touvron et al. 2021,
    arXiv:2103.17239). None means the preset's, without in the plain ViTs."""
    pool: Pool = Pool.TOKEN
    """ViT: what the classifier reads."""
    patch_embed_init: Init = Init.NORMAL
    """ViT: how the weights of the patch embedding are drawn."""
    attention: Attention = Attention.AUTO
    """ViT: which kernel computes attention."""

    dropout: float = 0.0
    """Share of features that is dropped. ViT: after the position embeddings and after every projection of a block but
    qkv. ResNet, ConvNeXt: on the pooled features."""
    drop_path: float = 0.0
    """Stochastic depth (Huang et al. 2016): the rate of the last block; those of earlier blocks grow linearly from 0,
    as in timm."""
    compute_dtype: Dtype = Dtype.BFLOAT16
    """Type of activations and products; parameters stay float32."""
    remat: Remat = Remat.NONE
    """What is computed again in the backward pass to save memory."""

    byproduct_head: Head = Head.LINEAR
    """Form of the byproduct head."""
    byproduct_hidden: int | None = None
    """Units of the MLP head's hidden layer; None means as many as there are features."""
    byproduct_pool: ByproductPool = ByproductPool.CLASSIFIER
    """Which features the byproduct head reads; `token` and `mean` are a ViT's."""

    def validate(self) -> None:
        """Raises ValueError that names the field, its value and the remedy."""
        if self.name not in PRESETS:
            nearest = difflib.get_close_matches(self.name, PRESETS, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"model.name='{self.name}' is not a model; did you mean '{nearest}'? Known: {', '.join(PRESETS)}."
            )
        for field in ("dropout", "drop_path"):
            if not 0.0 <= getattr(self, field) < 1.0:
                raise ValueError(f"model.{field}={getattr(self, field)} is not a rate; choose 0 <= rate < 1.")
        for field in (
            "batch_norm_images",
            "width",
            "patch_size",
            "embed_dim",
            "depth",
            "num_heads",
            "byproduct_hidden",
        ):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise ValueError(f"model.{field}={value} is not positive; choose 1 or more.")
        if self.registers is not None and self.registers < 0:
            raise ValueError(f"model.registers={self.registers} is not a number of tokens; choose 0 or more.")
        if self.layer_scale is not None and self.layer_scale <= 0:
            raise ValueError(f"model.layer_scale={self.layer_scale} is not positive; choose a factor such as 1e-5.")
        if self.byproduct_hidden is not None and self.byproduct_head is Head.LINEAR:
            raise ValueError(
                f"model.byproduct_hidden={self.byproduct_hidden} belongs to model.byproduct_head=mlp; set that, or"
                " remove byproduct_hidden."
            )
        family = family_of(self)
        for field in _OF_FAMILIES:
            if field not in family.fields and getattr(self, field) is not None:
                owners = " or ".join(other.label for other in FAMILIES.values() if field in other.fields)
                raise ValueError(
                    f"model.{field}={getattr(self, field)} belongs to {owners}, but model.name='{self.name}';"
                    f" remove it (here one sets {family.hint}) or choose another model.name."
                )
        if self.byproduct_pool not in family.pools:
            raise ValueError(
                f"model.byproduct_pool={self.byproduct_pool.value} belongs to {_with_pool(self.byproduct_pool)}, but"
                f" model.name='{self.name}', which has one pool; set it to classifier."
            )
        filled_preset(self)


def family_of(config: ModelConfig) -> Family:
    """Of a known model."""
    return next(family for family in FAMILIES.values() if config.name in family.presets)


def filled_preset(config: ModelConfig) -> Any:
    """The preset with the config's overrides filled in. Raises ValueError that names the field that does not fit."""
    return family_of(config).filled(config)


def num_blocks(config: ModelConfig) -> int:
    """Residual blocks of a network, which `HeadSpec.block` counts."""
    return filled_preset(config).num_blocks


def _with_pool(pool: ByproductPool) -> str:
    return " or ".join(family.label for family in FAMILIES.values() if pool in family.pools)


def check_head(config: ModelConfig, spec: HeadSpec) -> None:
    """Raises ValueError that begins with the field of the head that the network cannot have."""
    if spec.hidden is not None and spec.head is Head.LINEAR:
        raise ValueError(f"hidden={spec.hidden} belongs to head=mlp or dense; set one, or remove hidden.")
    if spec.dense and spec.pool is not ByproductPool.MAP:
        raise ValueError(f"pool={spec.pool.value} is one vector, and head=dense draws a map; set it to map.")
    if spec.pool not in family_of(config).pools:
        raise ValueError(
            f"pool={spec.pool.value} belongs to {_with_pool(spec.pool)}, but model.name='{config.name}' has one pool;"
            " set it to classifier, or to map for the features at every position."
        )
    if spec.block is not None and spec.block > num_blocks(config):
        raise ValueError(f"block={spec.block}: {config.name} has {num_blocks(config)} residual blocks.")


def architecture(config: ModelConfig) -> str:
    """What is built, for a person: the preset's name, and all that makes it another network than the name says.

    `resnet34 with width=32, stage_sizes=1-1-1, stem=patch` has as little of a ResNet-34 as it sounds.
    """
    if config.name not in PRESETS:
        return config.name
    family, preset = family_of(config), PRESETS[config.name]
    changed = {
        field: "-".join(map(str, value)) if isinstance(value, tuple | list) else str(getattr(value, "value", value))
        for field in family.fields
        if (value := getattr(config, field)) is not None and value != getattr(preset, field)
    }
    changed |= family.differences(config)
    listed = ", ".join(f"{name}={value}" for name, value in changed.items())
    return f"{config.name} with {listed}" if changed else config.name
