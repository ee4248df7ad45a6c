"""The table of timm's models says what timm says."""

from __future__ import annotations

import pytest

from luab_jax.models.config import PRESETS
from luab_jax.models.timm_models import IMAGENET_STATISTICS, TIMM_MODELS, timm_model


def test_names_have_a_tag_and_a_preset() -> None:
    for name, row in TIMM_MODELS.items():
        assert row.name == name and "." in name and row.preset in PRESETS


@pytest.mark.parametrize(
    ("name", "image_size", "resize_side", "filter"),
    [
        ("resnet50.tv_in1k", 224, 256, "bilinear"),
        ("resnet50.gluon_in1k", 224, 256, "bicubic"),
        ("resnet50.a1_in1k", 224, 235, "bicubic"),
        ("resnet18.a3_in1k", 160, 168, "bicubic"),
        ("deit_small_patch16_224.fb_in1k", 224, 248, "bicubic"),
        ("vit_small_patch16_224.augreg_in1k", 224, 248, "bicubic"),
    ],
)
def test_the_short_side_is_the_input_over_the_crop_ratio(
    name: str, image_size: int, resize_side: int, filter: str
) -> None:
    row = timm_model(name)
    assert (row.image_size, row.resize_side, row.filter) == (image_size, resize_side, filter)


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
        assert (stated.num_classes, stated.input_size) == (1000, (3, row.image_size, row.image_size)), name
        assert (stated.crop_pct, stated.interpolation, stated.crop_mode) == (row.crop_ratio, row.filter, "center"), name
        assert (stated.mean, stated.std) == row.statistics, name
    for architecture in {name.partition(".")[0] for name in TIMM_MODELS}:
        assert timm_model(architecture).name == f"{architecture}.{models.get_pretrained_cfg(architecture).tag}"
        tags = [
            n for n in timm.list_pretrained(f"{architecture}.*") if models.get_pretrained_cfg(n).num_classes == 1000
        ]
        assert set(tags) == {n for n in TIMM_MODELS if n.startswith(f"{architecture}.")}
