"""Vision Transformers: presets, the fields of a config that change them, and timm's names of layers and weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from luab_jax.models.choices import ByproductPool, Mlp, Pool
from luab_jax.models.family import Family, TimmImages


@dataclass(frozen=True, slots=True)
class ViTPreset:
    """Channels of a token, number of blocks, attention heads per block, and what else tells the variants apart."""

    embed_dim: int
    depth: int
    num_heads: int
    patch_size: int = 16
    """Side in pixels."""
    layer_scale: float | None = None
    """Initial factors at the end of each branch; None: there are none."""
    registers: int = 0
    """Tokens beside the class token."""
    mlp: Mlp = Mlp.GELU
    token_has_position: bool = True
    """Whether there is a position embedding for the class token too; registers have none."""

    @property
    def num_blocks(self) -> int:
        return self.depth

    @property
    def num_features(self) -> int:
        return self.embed_dim

    @property
    def num_extra_tokens(self) -> int:
        """Those before the patches: class token and registers."""
        return 1 + self.registers


_SIZES = {"s": (384, 12, 6), "b": (768, 12, 12), "l": (1024, 24, 16), "g": (1536, 40, 24)}


def _dinov2(size: str, registers: int = 0) -> ViTPreset:
    """Oquab et al. 2023 (arXiv:2304.07193), table 16; with registers the class token has no position of its own."""
    mlp = Mlp.SWIGLU if size == "g" else Mlp.GELU
    return ViTPreset(
        *_SIZES[size], patch_size=14, layer_scale=1e-5, registers=registers, mlp=mlp, token_has_position=not registers
    )


def _deit3(size: str) -> ViTPreset:
    """Touvron et al. 2022 (arXiv:2204.07118)."""
    return ViTPreset(*_SIZES[size], layer_scale=1e-6, token_has_position=False)


_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_VIT = TimmImages(224, 0.9, "bicubic", statistics=_HALF)
_DEIT3 = TimmImages(224, 0.9, "bicubic")
_DEIT3_21K = TimmImages(224, 1.0, "bicubic")


class ViTFamily(Family):
    name = "vit"
    label = "a ViT"
    presets: ClassVar = {
        # DeiT (Touvron et al. 2021), table 1; timm's vit_{tiny,small,base}_patch16_224.
        "vit_ti": ViTPreset(embed_dim=192, depth=12, num_heads=3),
        "vit_s": ViTPreset(*_SIZES["s"]),
        "vit_b": ViTPreset(*_SIZES["b"]),
        **{f"deit3_{size}": _deit3(size) for size in ("s", "b", "l")},
        **{f"dinov2_{size}": _dinov2(size) for size in _SIZES},
        **{f"dinov2_{size}_reg4": _dinov2(size, registers=4) for size in _SIZES},
    }
    fields = ("embed_dim", "depth", "num_heads", "patch_size", "registers", "mlp", "layer_scale")
    hint = "embed_dim or depth"
    pools = frozenset(ByproductPool)
    map_name = "attention_rollout"
    is_transformer = True

    timm_layers = (
        (r"backbone/patch_embed", r"patch_embed.proj"),
        (r"backbone/blocks/(\d+)/(norm\d)", r"blocks.\1.\2"),
        (r"backbone/blocks/(\d+)/layer_scale(\d)", r"blocks.\1.ls\2"),
        (r"backbone/blocks/(\d+)/attention/qkv", r"blocks.\1.attn.qkv"),
        (r"backbone/blocks/(\d+)/attention/out", r"blocks.\1.attn.proj"),
        (r"backbone/blocks/(\d+)/mlp/(fc\d)", r"blocks.\1.mlp.\2"),
        (r"backbone/norm", r"norm"),
        (r"classifier", r"head"),
    )
    # With the mean of the patch tokens timm calls the last norm by another name (`global_pool='avg'`).
    timm_pooled_layers = ((r"backbone/norm", r"fc_norm"),)
    timm_arrays: ClassVar = {
        "backbone/class_token": "cls_token",
        "backbone/registers": "reg_token",
        "backbone/position_embed": "pos_embed",
    }
    # The `default_cfg` of every pretrained tag that classifies ImageNet's 1,000 classes, as of timm 1.0
    # (huggingface/pytorch-image-models, timm/models/vision_transformer.py, deit.py). DINOv2's weights have no
    # classifier of ImageNet: they are read with `init_from`.
    timm_architectures: ClassVar = {
        "vit_tiny_patch16_224": ("vit_ti", "augreg_in21k_ft_in1k"),
        "vit_small_patch16_224": ("vit_s", "augreg_in21k_ft_in1k augreg_in1k"),
        "vit_base_patch16_224": (
            "vit_b",
            "augreg2_in21k_ft_in1k augreg_in1k augreg_in21k_ft_in1k orig_in21k_ft_in1k sam_in1k",
        ),
        "deit_tiny_patch16_224": ("vit_ti", "fb_in1k"),
        "deit_small_patch16_224": ("vit_s", "fb_in1k"),
        "deit_base_patch16_224": ("vit_b", "fb_in1k"),
        "deit3_small_patch16_224": ("deit3_s", "fb_in1k fb_in22k_ft_in1k"),
        "deit3_base_patch16_224": ("deit3_b", "fb_in1k fb_in22k_ft_in1k"),
        "deit3_large_patch16_224": ("deit3_l", "fb_in1k fb_in22k_ft_in1k"),
        "vit_small_patch14_dinov2": ("dinov2_s", "lvd142m"),
        "vit_base_patch14_dinov2": ("dinov2_b", "lvd142m"),
        "vit_large_patch14_dinov2": ("dinov2_l", "lvd142m"),
        "vit_giant_patch14_dinov2": ("dinov2_g", "lvd142m"),
        "vit_small_patch14_reg4_dinov2": ("dinov2_s_reg4", "lvd142m"),
        "vit_base_patch14_reg4_dinov2": ("dinov2_b_reg4", "lvd142m"),
        "vit_large_patch14_reg4_dinov2": ("dinov2_l_reg4", "lvd142m"),
        "vit_giant_patch14_reg4_dinov2": ("dinov2_g_reg4", "lvd142m"),
    }
    timm_images: ClassVar = {
        **dict.fromkeys(("augreg_in1k", "augreg_in21k_ft_in1k", "augreg2_in21k_ft_in1k"), _VIT),
        **dict.fromkeys(("orig_in21k_ft_in1k", "sam_in1k"), _VIT),
        "fb_in1k": _DEIT3,
        "fb_in22k_ft_in1k": _DEIT3_21K,
        "lvd142m": TimmImages(518, 1.0, "bicubic"),
    }

    def check(self, preset: Any, original: Any) -> None:
        del original
        embed_dim, num_heads = preset.embed_dim, preset.num_heads
        if embed_dim % num_heads:
            divisors = [n for n in range(1, embed_dim + 1) if embed_dim % n == 0]
            nearest = min(divisors, key=lambda n: abs(n - num_heads))
            raise ValueError(
                f"model.embed_dim={embed_dim} does not divide into model.num_heads={num_heads};"
                f" the nearest number of heads that fits is {nearest}."
            )

    def check_image_size(self, config: Any, image_size: int) -> None:
        side = self.filled(config).patch_size
        if image_size % side:
            below = max(1, image_size // side) * side
            raise ValueError(
                f"image_size={image_size} is no multiple of model.patch_size={side};"
                f" choose {below} or {below + side} pixels, or another patch_size."
            )

    def differences(self, config: Any) -> dict[str, str]:
        return {} if config.pool is Pool.TOKEN else {"pool": config.pool.value}

    def pools_mean(self, config: Any) -> bool:
        return config.pool is Pool.MEAN

    def timm_options(self, config: Any, image_size: int) -> dict[str, Any] | None:
        preset, original = self.filled(config), self.presets[config.name]
        side = 518 if original.patch_size == 14 else 224
        options: dict[str, Any] = {"img_size": image_size} if image_size != side else {}
        for field, name in (("patch_size", "patch_size"), ("registers", "reg_tokens"), ("layer_scale", "init_values")):
            if getattr(preset, field) != getattr(original, field):
                options[name] = getattr(preset, field)
        if config.pool is Pool.MEAN:
            options["global_pool"] = "avg"
        named = ("embed_dim", "depth", "num_heads", "mlp")
        if any(getattr(preset, field) != getattr(original, field) for field in named):
            return None
        # With registers timm gives the class token a position too, unless it is told not to; ours never does.
        if "reg_tokens" in options and not original.registers and original.token_has_position:
            return None
        return options
