"""The table of timm's models says what timm says."""

from __future__ import annotations

import pytest

from luab_jax.models.config import PRESETS
from luab_jax.models.timm_models import IMAGENET_STATISTICS, TIMM_MODELS, TimmSize, timm_model

HEADLESS = ".lvd142m"
"""DINOv2's weights, which classify nothing."""


def test_names_have_a_tag_and_a_preset() -> None:
    for name, row in TIMM_MODELS.items():
        assert row.name == name and "." in name and row.preset in PRESETS


@pytest.mark.parametrize(
    ("name", "filter", "test", "train"),
    [
        ("resnet50.tv_in1k", "bilinear", (224, 256), (224, 256)),
        ("resnet50.tv2_in1k", "bilinear", (224, 232), (176, 201)),
        ("resnet50.gluon_in1k", "bicubic", (224, 256), (224, 256)),
        ("resnet50.a1_in1k", "bicubic", (288, 288), (224, 235)),
        ("resnet50.bt_in1k", "bicubic", (288, 303), (224, 256)),
        ("resnet18.a3_in1k", "bicubic", (224, 235), (160, 168)),
        ("deit_small_patch16_224.fb_in1k", "bicubic", (224, 248), (224, 248)),
        ("vit_small_patch16_224.augreg_in1k", "bicubic", (224, 248), (224, 248)),
        ("deit3_base_patch16_224.fb_in22k_ft_in1k", "bicubic", (224, 224), (224, 224)),
        ("vit_base_patch14_reg4_dinov2", "bicubic", (518, 518), (518, 518)),
        ("convnext_tiny", "bicubic", (288, 288), (224, 235)),
        ("convnext_base.clip_laion2b_augreg_ft_in1k", "bicubic", (256, 256), (256, 256)),
    ],
)
def test_the_short_side_is_the_input_over_the_crop_ratio(
    name: str, filter: str, test: tuple[int, int], train: tuple[int, int]
) -> None:
    row = timm_model(name)
    assert row.filter == filter and row.has_test_size == (test != train)
    for size, expected in ((TimmSize.TEST, test), (TimmSize.TRAIN, train)):
        assert (row.image_size(size), row.resize_side(size)) == expected


def test_augreg_sees_minus_one_to_one_and_deit_imagenets_statistics() -> None:
    assert timm_model("vit_base_patch16_224.augreg_in1k").statistics == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert timm_model("deit_base_patch16_224").statistics == IMAGENET_STATISTICS


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean resnet50"):
        timm_model("resnet5O")
    with pytest.raises(ValueError, match=r"resnet50 has no such tag here; there are resnet50\.a1_in1k"):
        timm_model("resnet50.imagenet")
    with pytest.raises(ValueError, match="Known: resnet18, resnet34"):
        timm_model("qqqq")


def test_every_row_is_timms_own() -> None:
    models = pytest.importorskip("timm.models", reason="the table is timm's")
    timm = pytest.importorskip("timm")
    for name, row in TIMM_MODELS.items():
        stated = models.get_pretrained_cfg(name)
        classes = 0 if name.endswith(HEADLESS) else 1000
        assert (stated.num_classes, stated.interpolation, stated.crop_mode) == (classes, row.filter, "center"), name
        for size, input_size, crop_pct in (
            (TimmSize.TRAIN, stated.input_size, stated.crop_pct),
            # As timm.data.resolve_data_config(use_test_size=True), which its validate.py asks for.
            (TimmSize.TEST, stated.test_input_size or stated.input_size, stated.test_crop_pct or stated.crop_pct),
        ):
            assert input_size == (3, row.image_size(size), row.image_size(size)), name
            assert crop_pct == row.crop_ratio(size), name
        assert (stated.mean, stated.std) == row.statistics, name
    assert (sum(row.has_test_size for row in TIMM_MODELS.values()), len(TIMM_MODELS)) == (39, 82)
    for architecture in {name.partition(".")[0] for name in TIMM_MODELS}:
        assert timm_model(architecture).name == f"{architecture}.{models.get_pretrained_cfg(architecture).tag}"
        stated = {n: models.get_pretrained_cfg(n) for n in timm.list_pretrained(f"{architecture}.*")}
        tags = {n for n, cfg in stated.items() if cfg.num_classes == 1000 and cfg.crop_mode == "center"}
        own = {n for n in TIMM_MODELS if n.startswith(f"{architecture}.")}
        assert tags == {n for n in own if not n.endswith(HEADLESS)}
