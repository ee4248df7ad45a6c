"""Which network to build: the presets by name, and the fields that override them.

Needs neither jax nor flax, so that configs and command-line help stay quick to load.
"""

import difflib
import enum
from dataclasses import dataclass


class Stem(enum.Enum):
    """First layers of a ResNet: the input side over the side of the first stage is 4, 1 or 4."""

    IMAGENET = "imagenet"  # 7x7 convolution stride 2, then 3x3 max-pool stride 2 (He et al. 2015)
    SMALL = "small"  # 3x3 convolution stride 1, no pool: for images of about 32 px
    PATCH = "patch"  # 4x4 convolution stride 4, no pool: cheap, for images of 64 px and more


class Pool(enum.Enum):
    """What a ViT hands to the heads."""

    TOKEN = "token"  # the class token
    MEAN = "mean"  # the mean of the patch tokens; the class token still takes part in attention


class ByproductPool(enum.Enum):
    """What a ViT hands to the byproduct head."""

    CLASSIFIER = "classifier"  # what the classifier reads
    TOKEN = "token"
    MEAN = "mean"


class Head(enum.Enum):
    """What the byproduct head is."""

    LINEAR = "linear"
    MLP = "mlp"  # one hidden layer, exact (erf) GELU


class Dtype(enum.Enum):
    """Type of activations, matrix products and convolutions; parameters are float32 always."""

    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


class BatchNorm(enum.Enum):
    """Over which images a ResNet takes its training statistics."""

    GLOBAL = "global"  # the whole batch, on whatever number of devices: the same numbers on any mesh
    PER_REPLICA = "per_replica"  # each device's own images, as torch does without SyncBatchNorm


class Remat(enum.Enum):
    """What the backward pass computes again instead of keeping it (jax.checkpoint): memory for time."""

    NONE = "none"  # nothing
    DOTS = "dots"  # all but the products with weights and convolutions: cheap to repeat, attention among them
    BLOCKS = "blocks"  # everything but the inputs of blocks: a third more work, the least memory


class Attention(enum.Enum):
    """What computes attention. All are softmax(q k^T / sqrt(channels)) v; they differ by rounding.

    A TPU has XLA's only: jax's splash attention works on blocks of 128 tokens and saves the matrix of weights, which at
    197 tokens (224 px) is small; padding 197 to 256 would add 69 % to it.
    """

    AUTO = "auto"  # cuDNN on a GPU that has it for these shapes and types, else XLA
    XLA = "xla"  # any device
    CUDNN = "cudnn"  # flash attention of NVIDIA's library: bfloat16, channels of a head a multiple of 8


@dataclass(frozen=True, slots=True)
class ResNetPreset:
    """Blocks per stage, channels of the first stage, and whether blocks are bottlenecks."""

    stage_sizes: tuple[int, ...]
    bottleneck: bool
    width: int = 64


@dataclass(frozen=True, slots=True)
class ViTPreset:
    """Channels of a token, number of blocks, attention heads per block."""

    embed_dim: int
    depth: int
    num_heads: int


# ResNets: He et al. 2015, table 1. ViTs: DeiT (Touvron et al. 2021), table 1;
# timm's vit_{tiny,small,base}_patch16_224.
PRESETS: dict[str, ResNetPreset | ViTPreset] = {
    "resnet18": ResNetPreset((2, 2, 2, 2), bottleneck=False),
    "resnet34": ResNetPreset((3, 4, 6, 3), bottleneck=False),
    "resnet50": ResNetPreset((3, 4, 6, 3), bottleneck=True),
    "resnet101": ResNetPreset((3, 4, 23, 3), bottleneck=True),
    "resnet152": ResNetPreset((3, 8, 36, 3), bottleneck=True),
    "vit_ti": ViTPreset(embed_dim=192, depth=12, num_heads=3),
    "vit_s": ViTPreset(embed_dim=384, depth=12, num_heads=6),
    "vit_b": ViTPreset(embed_dim=768, depth=12, num_heads=12),
}

_RESNET_FIELDS = ("width", "stage_sizes")
_VIT_FIELDS = ("embed_dim", "depth", "num_heads")


@dataclass(slots=True, kw_only=True)
class ModelConfig:
    """A preset by name and what to change in it; None means the preset's value.

    Not frozen: command-line overrides assign to the fields. Call `validate()` after them.
    """

    name: str = "resnet50"

    # ResNet
    width: int | None = None  # channels of the first stage; each stage doubles them
    stage_sizes: tuple[int, ...] | None = None  # residual blocks per stage
    stem: Stem = Stem.IMAGENET
    # Every residual branch starts at zero (Goyal et al. 2017, section 5.1; timm's default). It steadies long schedules
    # and slows down short ones.
    zero_init_residual: bool = True
    batch_norm: BatchNorm = BatchNorm.GLOBAL

    # ViT
    patch_size: int = 16  # pixels
    embed_dim: int | None = None
    depth: int | None = None
    num_heads: int | None = None
    pool: Pool = Pool.TOKEN
    attention: Attention = Attention.AUTO

    # ViT: after the position embeddings and after every projection of a block but qkv.
    # ResNet: on the pooled features.
    dropout: float = 0.0
    # Stochastic depth (Huang et al. 2016): the last block's rate; earlier blocks' grow linearly
    # from 0, as in timm.
    drop_path: float = 0.0
    compute_dtype: Dtype = Dtype.BFLOAT16
    remat: Remat = Remat.NONE

    byproduct_head: Head = Head.LINEAR
    byproduct_hidden: int | None = None  # units of the MLP's hidden layer; None means as many as features
    byproduct_pool: ByproductPool = ByproductPool.CLASSIFIER  # ViT

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
        for field in ("width", "patch_size", "embed_dim", "depth", "num_heads", "byproduct_hidden"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise ValueError(f"model.{field}={value} is not positive; choose 1 or more.")
        if self.byproduct_hidden is not None and self.byproduct_head is not Head.MLP:
            raise ValueError(
                f"model.byproduct_hidden={self.byproduct_hidden} belongs to model.byproduct_head=mlp; set that, or"
                " remove byproduct_hidden."
            )
        if isinstance(PRESETS[self.name], ResNetPreset):
            self._refuse(_VIT_FIELDS, family="a ViT", remedy="width or stage_sizes")
            if self.byproduct_pool is not ByproductPool.CLASSIFIER:
                raise ValueError(
                    f"model.byproduct_pool={self.byproduct_pool.value} belongs to a ViT, but model.name='{self.name}',"
                    " which has one pool; set it to classifier."
                )
            resnet_preset(self)
        else:
            self._refuse(_RESNET_FIELDS, family="a ResNet", remedy="embed_dim or depth")
            vit_preset(self)

    def _refuse(self, fields: tuple[str, ...], *, family: str, remedy: str) -> None:
        for field in fields:
            if getattr(self, field) is not None:
                raise ValueError(
                    f"model.{field}={getattr(self, field)} belongs to {family},"
                    f" but model.name='{self.name}';"
                    f" remove it (here one sets {remedy}) or choose another model.name."
                )


def resnet_preset(config: ModelConfig) -> ResNetPreset:
    """The ResNet preset with the config's overrides filled in."""
    preset = PRESETS[config.name]
    assert isinstance(preset, ResNetPreset)
    sizes = preset.stage_sizes if config.stage_sizes is None else tuple(config.stage_sizes)
    if not sizes or min(sizes) < 1:
        raise ValueError(
            f"model.stage_sizes={sizes} needs at least one stage and one block in each;"
            f" the preset has {preset.stage_sizes}."
        )
    width = preset.width if config.width is None else config.width
    return ResNetPreset(sizes, preset.bottleneck, width)


def vit_preset(config: ModelConfig) -> ViTPreset:
    """The ViT preset with the config's overrides filled in."""
    preset = PRESETS[config.name]
    assert isinstance(preset, ViTPreset)
    embed_dim = preset.embed_dim if config.embed_dim is None else config.embed_dim
    depth = preset.depth if config.depth is None else config.depth
    num_heads = preset.num_heads if config.num_heads is None else config.num_heads
    if embed_dim % num_heads:
        divisors = [n for n in range(1, embed_dim + 1) if embed_dim % n == 0]
        nearest = min(divisors, key=lambda n: abs(n - num_heads))
        raise ValueError(
            f"model.embed_dim={embed_dim} does not divide into model.num_heads={num_heads};"
            f" the nearest number of heads that fits is {nearest}."
        )
    return ViTPreset(embed_dim, depth, num_heads)
