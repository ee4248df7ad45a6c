"""What the fields of a model's config can be."""

import enum


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
    """What a backbone hands to a byproduct head; `token` and `mean` are a ViT's."""

    CLASSIFIER = "classifier"  # what the classifier reads
    TOKEN = "token"
    MEAN = "mean"
    MAP = "map"  # a ViT's patch tokens, a ResNet's features at every position: all of them, not their mean


class Head(enum.Enum):
    """What the byproduct head is."""

    LINEAR = "linear"
    MLP = "mlp"  # one hidden layer, exact (erf) GELU
    DENSE = "dense"  # a heat map: one score at every position of the map, by one linear layer or an MLP for all of them


class Mlp(enum.Enum):
    """What stands between a ViT block's two linear layers."""

    GELU = "gelu"  # exact (erf) GELU, 4 times the width
    SWIGLU = "swiglu"  # silu(a) b, where a and b are the halves of the first layer's 16/3 times the width (DINOv2's)


class Dtype(enum.Enum):
    """Type of activations, matrix products and convolutions; parameters are float32 always."""

    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


class BatchNorm(enum.Enum):
    """Over which images a ResNet takes its training statistics."""

    GLOBAL = "global"  # the whole batch, on whatever number of devices: the same numbers on any mesh
    GROUPS = "groups"  # every `batch_norm_images` of it, on whatever number of devices: torch's on as many GPUs
    PER_REPLICA = "per_replica"  # each device's own images, as torch does without SyncBatchNorm


class Init(enum.Enum):
    """From what distribution a layer's kernel and bias are drawn."""

    NORMAL = "normal"  # a normal one (0.01 for a ResNet's classifier: Goyal et al. 2017, §5.1; 0.02 in a ViT), bias 0
    TORCH = "torch"  # torch's default for linear and convolution layers: both uniform in ±1 / sqrt(inputs of a unit)


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
