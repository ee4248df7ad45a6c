"""ImageNet-W's watermark, laid on whole batches, is the one that Pillow draws."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from luab_jax.data.watermark import TEXT, Font, laid_on, marked, opacity, read_font
from luab_jax.errors import DataError


def pillows_own() -> Font:
    """It has none of the characters, so that boxes stand for them."""
    font = ImageFont.load_default(36)
    assert isinstance(font, ImageFont.FreeTypeFont) and isinstance(font.path, io.BytesIO)
    return Font(font.path.getvalue(), "pillows")


def test_white_is_laid_on_every_level_at_every_opacity_as_pillow_does() -> None:
    alpha, level = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    white = np.concatenate([np.full((256, 256, 3), 255, np.uint8), alpha[..., None]], axis=-1)
    pixels = np.repeat(level[..., None], 3, axis=-1)
    ours = laid_on(np.stack([pixels, 255 - pixels]), alpha[..., None])
    for below, found in zip((pixels, 255 - pixels), ours, strict=True):
        image = Image.fromarray(below).convert("RGBA")
        assert np.array_equal(found, np.asarray(Image.alpha_composite(image, Image.fromarray(white)).convert("RGB")))


@pytest.mark.parametrize(("side", "size"), [(224, 36), (384, 62), (518, 84), (299, 48)])
def test_the_characters_grow_with_the_input(side: int, size: int) -> None:
    """Sizes of imagenet_w/watermark_transform.py, which takes the side over 6.22 where its table has no row."""
    font = pillows_own()
    text = Image.new("L", (side, side))
    truetype = ImageFont.truetype(io.BytesIO(font.data), size)
    ImageDraw.Draw(text).text((0.01 * side, 0.4 * side), TEXT, fill=128, font=truetype)
    assert np.array_equal(opacity(font, side)[..., 0], np.asarray(text)) and opacity(font, side).any()
    pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    assert np.array_equal(laid_on(pixels, opacity(font, side)), np.asarray(marked(Image.fromarray(pixels), font)))


def test_what_is_no_font_and_an_input_without_room_are_named(tmp_path: Path) -> None:
    (tmp_path / "no.otf").write_text("no font")
    for name, why in (("no.otf", "cannot be read as a font"), ("absent.otf", "No such file")):
        with pytest.raises(DataError, match=f"{name}.*{why}"):
            read_font(tmp_path / name)
    with pytest.raises(DataError, match="would have no size"):
        opacity(pillows_own(), 6)
