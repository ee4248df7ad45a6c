"""ResNets: presets, the fields of a config that change them, and timm's names of layers and weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from luab_jax.models.choices import Stem
from luab_jax.models.family import Family, TimmImages, check_stages


@dataclass(frozen=True, slots=True)
class ResNetPreset:
    """Blocks per stage, channels of the first stage, and whether blocks are bottlenecks."""

    stage_sizes: tuple[int, ...]
    bottleneck: bool
    width: int = 64

    @property
    def num_blocks(self) -> int:
        return sum(self.stage_sizes)

    @property
    def num_features(self) -> int:
        return (4 if self.bottleneck else 1) * self.width * 2 ** (len(self.stage_sizes) - 1)


_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_WIDE = TimmImages(224, 0.95, "bicubic", 288, 1.0)
_PLAIN = TimmImages(224, 0.875, "bicubic")
_PLAIN_LARGER = TimmImages(224, 0.875, "bicubic", 288, 0.95)
_TORCHVISION = TimmImages(224, 0.875, "bilinear")

_ALL = "tv_in1k gluon_in1k a1_in1k a2_in1k a3_in1k"
_SEMI = "fb_ssl_yfcc100m_ft_in1k fb_swsl_ig1b_ft_in1k"


class ResNetFamily(Family):
    name = "resnet"
    label = "a ResNet"
    # He et al. 2015, table 1.
    presets: ClassVar = {
        "resnet18": ResNetPreset((2, 2, 2, 2), bottleneck=False),
        "resnet34": ResNetPreset((3, 4, 6, 3), bottleneck=False),
        "resnet50": ResNetPreset((3, 4, 6, 3), bottleneck=True),
        "resnet101": ResNetPreset((3, 4, 23, 3), bottleneck=True),
        "resnet152": ResNetPreset((3, 8, 36, 3), bottleneck=True),
    }
    fields = ("width", "stage_sizes")
    hint = "width or stage_sizes"
    map_name = "class_activation_map"
    has_batch_norm = True

    timm_layers = (
        (r"backbone/stem/conv", r"conv1"),
        (r"backbone/stem/norm", r"bn1"),
        (r"backbone/stage(\d+)/(\d+)/conv(\d)", r"layer\1.\2.conv\3"),
        (r"backbone/stage(\d+)/(\d+)/norm(\d)", r"layer\1.\2.bn\3"),
        (r"backbone/stage(\d+)/(\d+)/shortcut/conv", r"layer\1.\2.downsample.0"),
        (r"backbone/stage(\d+)/(\d+)/shortcut/norm", r"layer\1.\2.downsample.1"),
        (r"classifier", r"fc"),
    )
    # The `default_cfg` of every pretrained tag that classifies ImageNet's 1,000 classes, as of timm 1.0
    # (huggingface/pytorch-image-models, timm/models/resnet.py).
    timm_architectures: ClassVar = {
        "resnet18": ("resnet18", f"a1_in1k {_ALL} {_SEMI}"),
        "resnet34": ("resnet34", f"a1_in1k {_ALL} bt_in1k ra4_e3600_r224_in1k"),
        "resnet50": (
            "resnet50",
            f"a1_in1k {_ALL} {_SEMI} tv2_in1k a1h_in1k am_in1k b1k_in1k b2k_in1k bt_in1k c1_in1k c2_in1k d_in1k"
            " ra_in1k ram_in1k",
        ),
        "resnet101": ("resnet101", f"a1h_in1k {_ALL} tv2_in1k"),
        "resnet152": ("resnet152", f"a1h_in1k {_ALL} tv2_in1k"),
    }
    timm_images: ClassVar = {
        **dict.fromkeys(("tv_in1k", "fb_ssl_yfcc100m_ft_in1k", "fb_swsl_ig1b_ft_in1k"), _TORCHVISION),
        "tv2_in1k": TimmImages(176, 0.875, "bilinear", 224, 0.965),
        **dict.fromkeys(("gluon_in1k", "am_in1k"), _PLAIN),
        **dict.fromkeys(("bt_in1k", "ra_in1k", "ram_in1k"), _PLAIN_LARGER),
        **dict.fromkeys(("a1_in1k", "a1h_in1k", "a2_in1k", "d_in1k"), _WIDE),
        **dict.fromkeys(("b1k_in1k", "b2k_in1k", "c1_in1k", "c2_in1k"), _WIDE),
        "a3_in1k": TimmImages(160, 0.95, "bicubic", 224, 0.95),
        "ra4_e3600_r224_in1k": TimmImages(224, 0.9, "bicubic", 288, 1.0, _HALF),
        "resnet50.a1h_in1k": TimmImages(176, 0.9, "bicubic", 224, 1.0),
    }

    def check(self, preset: Any, original: Any) -> None:
        check_stages(preset.stage_sizes, original.stage_sizes)

    def differences(self, config: Any) -> dict[str, str]:
        return {} if config.stem is Stem.IMAGENET else {"stem": config.stem.value}

    def timm_options(self, config: Any, image_size: int) -> dict[str, Any] | None:
        return super().timm_options(config, image_size) if config.stem is Stem.IMAGENET else None
