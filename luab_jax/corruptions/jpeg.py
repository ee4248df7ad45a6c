"""JPEG's loss on the device: what is left of an image after libjpeg has written and read it.

The steps are those of libjpeg(-turbo) with Pillow's settings (4:2:0, the accurate integer DCT, smoothed chroma), in the
same whole numbers, so that the pixels are the same; entropy coding loses nothing and is left out.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, UInt8

from luab_jax.corruptions import parameters

Image = UInt8[Array, "h w 3"]

# ITU-T T.81, Annex K, tables K.1 and K.2.
_LUMINANCE = """
16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99
"""
_CHROMINANCE = """
17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99
"""
_DCT_BITS, _PASS_BITS = 13, 2
_COLOUR_BITS = 16


def jpeg_compression(image: Image, severity: int, key: Key[Array, ""]) -> Image:
    """Deterministic; the key is not used."""
    return through_jpeg(image, parameters.JPEG_COMPRESSION[severity - 1])


def through_jpeg(image: Image, quality: int) -> Image:
    """The pixels that Pillow reads back from a JPEG of this quality, 1 to 100, written with its defaults."""
    height, width = image.shape[:2]
    padded = jnp.pad(image, ((0, -height % 16), (0, -width % 16), (0, 0)), mode="edge")
    luma, blue, red = _to_ycc(padded.astype(jnp.int32))
    luma = _through_blocks(luma, quantisation_table(_LUMINANCE, quality))
    chroma = quantisation_table(_CHROMINANCE, quality)
    # What lies beyond the image's own half-size chroma is repeated from its edge when it is smoothed.
    kept = np.s_[: -(-height // 2), : -(-width // 2)]
    blue, red = (_upsample(_through_blocks(_downsample(c), chroma)[kept]) for c in (blue, red))
    inside = np.s_[:height, :width]
    return _to_rgb(luma[inside], blue[inside], red[inside])


def quantisation_table(base: str, quality: int) -> Int[np.ndarray, "8 8"]:
    """jpeg_set_quality's scaling."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    table = (np.array(base.split(), np.int32) * scale + 50) // 100
    return np.clip(table, 1, 255).reshape(8, 8)


def _fixed(value: float, bits: int) -> int:
    return int(value * (1 << bits) + 0.5)


def _to_ycc(rgb: Int[Array, "h w 3"]) -> tuple[Int[Array, "h w"], Int[Array, "h w"], Int[Array, "h w"]]:
    """JFIF's conversion in 16 bit fixed point (jccolor.c)."""

    def weigh(*weights: float) -> Array:
        whole = [_fixed(abs(w), _COLOUR_BITS) * (1 if w > 0 else -1) for w in weights]
        return (rgb * jnp.asarray(whole)).sum(-1)

    half, centre = 1 << (_COLOUR_BITS - 1), 128 << _COLOUR_BITS
    luma = (weigh(0.29900, 0.58700, 0.11400) + half) >> _COLOUR_BITS
    blue = (weigh(-0.16874, -0.33126, 0.50000) + centre + half - 1) >> _COLOUR_BITS
    red = (weigh(0.50000, -0.41869, -0.08131) + centre + half - 1) >> _COLOUR_BITS
    return luma, blue, red


def _to_rgb(luma: Int[Array, "h w"], blue: Int[Array, "h w"], red: Int[Array, "h w"]) -> Image:
    """And back (jdcolor.c)."""
    blue, red, half = blue - 128, red - 128, 1 << (_COLOUR_BITS - 1)
    r = luma + ((_fixed(1.40200, _COLOUR_BITS) * red + half) >> _COLOUR_BITS)
    b = luma + ((_fixed(1.77200, _COLOUR_BITS) * blue + half) >> _COLOUR_BITS)
    g_shift = -_fixed(0.34414, _COLOUR_BITS) * blue - _fixed(0.71414, _COLOUR_BITS) * red + half
    g = luma + (g_shift >> _COLOUR_BITS)
    return jnp.clip(jnp.stack([r, g, b], axis=-1), 0, 255).astype(jnp.uint8)


def _downsample(plane: Int[Array, "h w"]) -> Int[Array, "h/2 w/2"]:
    """Means of 2 x 2, rounded down and up in turns (jcsample.c)."""
    height, width = plane.shape
    total = plane.reshape(height // 2, 2, width // 2, 2).sum((1, 3))
    return (total + 1 + jnp.arange(width // 2) % 2) >> 2


def _upsample(plane: Int[Array, "h w"]) -> Int[Array, "2*h 2*w"]:
    """Three parts of the nearer and one of the farther pixel, both ways (jdsample.c, "fancy")."""
    height, width = plane.shape
    rows = jnp.pad(plane, ((1, 1), (0, 0)), mode="edge")
    near = jnp.stack([3 * plane + rows[:-2], 3 * plane + rows[2:]], axis=1).reshape(2 * height, width)
    columns = jnp.pad(near, ((0, 0), (1, 1)), mode="edge")
    left, right = (3 * near + columns[:, :-2] + 8) >> 4, (3 * near + columns[:, 2:] + 7) >> 4
    return jnp.stack([left, right], axis=-1).reshape(2 * height, 2 * width)


def _through_blocks(plane: Int[Array, "h w"], table: Int[np.ndarray, "8 8"]) -> Int[Array, "h w"]:
    """DCT, quantisation and back, block by block."""
    height, width = plane.shape
    blocks = plane.reshape(height // 8, 8, width // 8, 8).transpose(0, 2, 1, 3) - 128
    coefficients = _transform(blocks, _DCT, _DCT_BITS - _PASS_BITS, _DCT_BITS + _PASS_BITS)
    # The forward transform's output is 8 times the coefficients; halves are rounded away from zero.
    step = jnp.asarray(8 * table)
    levels = jnp.sign(coefficients) * ((jnp.abs(coefficients) + step // 2) // step)
    pixels = _transform(
        levels * jnp.asarray(table), _DCT.T, _DCT_BITS - _PASS_BITS, _DCT_BITS + _PASS_BITS + 3, columns_first=True
    )
    return jnp.clip(pixels + 128, 0, 255).transpose(0, 2, 1, 3).reshape(height, width)


def _transform(
    blocks: Int[Array, "m n 8 8"],
    matrix: Int[np.ndarray, "8 8"],
    first_shift: int,
    second_shift: int,
    *,
    columns_first: bool = False,
) -> Int[Array, "m n 8 8"]:
    """The matrix over both axes of each block, rounded after each."""
    equations = ("mnij,ki->mnkj", "mnij,kj->mnik") if columns_first else ("mnij,kj->mnik", "mnij,ki->mnkj")
    for equation, shift in zip(equations, (first_shift, second_shift), strict=True):
        blocks = (jnp.einsum(equation, blocks, jnp.asarray(matrix)) + (1 << (shift - 1))) >> shift
    return blocks


def _dct_matrix() -> Int[np.ndarray, "8 8"]:
    """The accurate integer DCT as one matrix of whole numbers, scaled by 2 ** 13 * sqrt(8).

    Loeffler, Ligtenberg, Moschytz (ICASSP 1989), with constants rounded as in jfdctint.c and jidctint.c: there several
    products share a rotation, and as sums of whole numbers are exact, that amounts to this matrix and its transpose.
    """
    one = 1 << _DCT_BITS
    c = {
        name: _fixed(value, _DCT_BITS)
        for name, value in {
            "a": 0.298631336,
            "b": 0.390180644,
            "c": 0.541196100,
            "d": 0.765366865,
            "e": 0.899976223,
            "f": 1.175875602,
            "g": 1.501321110,
            "h": 1.847759065,
            "i": 1.961570560,
            "j": 2.053119869,
            "k": 2.562915447,
            "l": 3.072711026,
        }.items()
    }
    matrix = np.zeros((8, 8), np.int32)
    # Even outputs, of the sums x0+x7, x1+x6, x2+x5, x3+x4.
    large, small = c["c"] + c["d"], c["c"]
    matrix[0, :4] = (one, one, one, one)
    matrix[4, :4] = (one, -one, -one, one)
    matrix[2, :4] = (large, small, -small, -large)
    matrix[6, :4] = (small, small - c["h"], c["h"] - small, -small)
    matrix[::2, 4:] = matrix[::2, 3::-1]
    # Odd outputs, of the differences x0-x7, x1-x6, x2-x5, x3-x4.
    f = c["f"]
    matrix[1, :4] = (c["g"] - c["e"] - c["b"] + f, f, f - c["b"], f - c["e"])
    matrix[3, :4] = (f, c["l"] - c["k"] - c["i"] + f, f - c["k"], f - c["i"])
    matrix[5, :4] = (f - c["b"], f - c["k"], c["j"] - c["k"] - c["b"] + f, f)
    matrix[7, :4] = (f - c["e"], f - c["i"], f, c["a"] - c["e"] - c["i"] + f)
    matrix[1::2, 4:] = -matrix[1::2, 3::-1]
    return matrix


_DCT = _dct_matrix()
