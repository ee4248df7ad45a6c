"""ConvNeXts: presets, the fields of a config that change them, and timm's names of layers and weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from luab_jax.models.family import Family, TimmImages, check_stages


@dataclass(frozen=True, slots=True)
class ConvNeXtPreset:
    """Blocks per stage, channels of the first stage, and the initial factors at the end of each branch."""

    stage_sizes: tuple[int, ...]
    width: int
    layer_scale: float = 1e-6

    @property
    def num_blocks(self) -> int:
        return sum(self.stage_sizes)

    @property
    def num_features(self) -> int:
        return self.width * 2 ** (len(self.stage_sizes) - 1)


_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_TAGS = "in12k_ft_in1k fb_in22k_ft_in1k fb_in1k"


class ConvNeXtFamily(Family):
    name = "convnext"
    label = "a ConvNeXt"
    # Liu et al. 2022 (arXiv:2201.03545), section 3.
    presets: ClassVar = {
        "convnext_t": ConvNeXtPreset((3, 3, 9, 3), 96),
        "convnext_s": ConvNeXtPreset((3, 3, 27, 3), 96),
        "convnext_b": ConvNeXtPreset((3, 3, 27, 3), 128),
    }
    fields = ("width", "stage_sizes", "layer_scale")
    hint = "width or stage_sizes"
    map_name = "class_activation_map"

    timm_layers = (
        (r"backbone/stem/conv", r"stem.0"),
        (r"backbone/stem/norm", r"stem.1"),
        (r"backbone/stages/(\d+)/downsample/norm", r"stages.\1.downsample.0"),
        (r"backbone/stages/(\d+)/downsample/conv", r"stages.\1.downsample.1"),
        (r"backbone/stages/(\d+)/blocks/(\d+)/depthwise", r"stages.\1.blocks.\2.conv_dw"),
        (r"backbone/stages/(\d+)/blocks/(\d+)/norm", r"stages.\1.blocks.\2.norm"),
        (r"backbone/stages/(\d+)/blocks/(\d+)/(fc\d)", r"stages.\1.blocks.\2.mlp.\3"),
        (r"backbone/stages/(\d+)/blocks/(\d+)/layer_scale", r"stages.\1.blocks.\2"),
        (r"backbone/norm", r"head.norm"),
        (r"classifier", r"head.fc"),
    )
    # The `default_cfg` of every pretrained tag that classifies ImageNet's 1,000 classes by a centre crop, as of
    # timm 1.0 (huggingface/pytorch-image-models, timm/models/convnext.py).
    timm_architectures: ClassVar = {
        "convnext_tiny": ("convnext_t", _TAGS),
        "convnext_small": ("convnext_s", _TAGS),
        "convnext_base": (
            "convnext_b",
            "fb_in22k_ft_in1k fb_in1k clip_laion2b_augreg_ft_in1k clip_laion2b_augreg_ft_in12k_in1k"
            " clip_laiona_augreg_ft_in1k_384",
        ),
    }
    timm_images: ClassVar = {
        "fb_in1k": TimmImages(224, 0.875, "bicubic", 288, 1.0),
        "fb_in22k_ft_in1k": TimmImages(224, 0.875, "bicubic", 288, 1.0),
        "in12k_ft_in1k": TimmImages(224, 0.95, "bicubic", 288, 1.0),
        "clip_laion2b_augreg_ft_in1k": TimmImages(256, 1.0, "bicubic", statistics=_CLIP),
        "clip_laion2b_augreg_ft_in12k_in1k": TimmImages(256, 1.0, "bicubic", statistics=_CLIP),
        "clip_laiona_augreg_ft_in1k_384": TimmImages(384, 1.0, "bicubic", statistics=_CLIP),
    }

    def check(self, preset: Any, original: Any) -> None:
        check_stages(preset.stage_sizes, original.stage_sizes)

    def check_image_size(self, config: Any, image_size: int) -> None:
        least = 4 * 2 ** (len(self.filled(config).stage_sizes) - 1)
        if image_size < least:
            raise ValueError(
                f"image_size={image_size} leaves nothing for the last stage of {config.name}; choose {least} pixels or"
                " more, or fewer model.stage_sizes."
            )
