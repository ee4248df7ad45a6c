"""JPEGs of every process: read by all decoders alike, or refused by all with what they are.

Written by libjpeg-turbo 2.1.5 (`cjpeg -arithmetic`) and 3 (lossless, 12 bits): 24 x 16 pixels, red = 10 x,
green = 15 y.
"""

from __future__ import annotations

import base64

import numpy as np
import pytest

from data_prep.images import BadImage, check_image
from data_prep.problems import Reason
from luab_jax.data.decoding import decode
from luab_jax.data.transforms import EncodedImage, PixelBox
from luab_jax.errors import DataError

ARITHMETIC = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMU"
    "FRUVDA8XGBYUGBIUFRT/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU"
    "FBQUFBQUFBT/yQARCAAQABgDASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/AOjo35W1vm/3B7xxCuO+DcuV658b"
    "zIE8AG5e7ZzRy7igYPFWV6ohJPcF79n6NvVJuJ6Zy52hSc3HYfJ9otNUlv/Z"
)
ARITHMETIC_PROGRESSIVE = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMU"
    "FRUVDA8XGBYUGBIUFRT/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU"
    "FBQUFBQUFBT/ygARCAAQABgDASIAAhEBAxEB/8wABgAQARD/2gAMAwEAAhADEAAAAf8A0ch1c+tMafjJcIjYf2aQ/8wABBAF/9oA"
    "CAEBAAEFAhUpwJwmWGsLYdL/zAAEEQX/2gAIAQMBAT8BFiNmeK5ubB9U/8wABBEF/9oACAECAQE/ARN41684/8wABBAF/9oACAEB"
    "AAY/Al4T8v/MAAQQBf/aAAgBAQABPyHXbyFvwP/aAAwDAQACAAMAAAAQrvj/zAAEEQX/2gAIAQMBAT8Qpnn/zAAEEQX/2gAIAQIB"
    "AT8QUB9I/8wABBAF/9oACAEBAAE/EEvGFNR7znBiIP/Z"
)
LOSSLESS = (
    "/9j/7gAOQWRvYmUAZAAAAAAA/8MAEQgAEAAYA1IRAEcRAEIRAP/EABcAAAMBAAAAAAAAAAAAAAAAAAADBAj/2gAMA1IARwBCAAEA"
    "AM/5/wA/1Dqh1Q6odUOqHVDqh1Q6odUOqHVDqh1Q6odUOqHVDqh1Q6odUOL3VDqh1Q6odUOqHVDqh1Q6odUOqHVDqh1Q6odUOqHV"
    "Dqh1Q6odUOL3VDqh1Q6odUOqHVDqh1Q6odUOqHVDqh1Q6odUOqHVDqh1Q6odUOL3VDqh1Q6odUOqHVDqh1Q6odUOqHVDqh1Q6odU"
    "OqHVDqh1Q6odUOL3VDqh1Q6odUOqHVDqh1Q6odUOqHVDqh1Q6odUOqHVDqh1Q6odUOL3VDqh1Q6odUOqHVDqh1Q6odUOqHVDqh1Q"
    "6odUOqHVDqh1Q6odUOL3VDqh1Q6odUOqHVDqh1Q6odUOqHVDqh1Q6odUOqHVDqh1Q6odUOL3VDqh1Q6odUOqHVDqh1Q6odUOqHVD"
    "qh1Q6odUOqHVDqh1Q6odUOL3VDqh1Q6odUOqHVDqh1Q6odUOqHVDqh1Q6odUOqHVDqh1Q6odUOL3VDqh1Q6odUOqHVDqh1Q6odUO"
    "qHVDqh1Q6odUOqHVDqh1Q6odUOL3VDqh1Q6odUOqHVDqh1Q6odUOqHVDqh1Q6odUOqHVDqh1Q6odUOL3VDqh1Q6odUOqHVDqh1Q6"
    "odUOqHVDqh1Q6odUOqHVDqh1Q6odUOL3VDqh1Q6odUOqHVDqh1Q6odUOqHVDqh1Q6odUOqHVDqh1Q6odUOL3VDqh1Q6odUOqHVDq"
    "h1Q6odUOqHVDqh1Q6odUOqHVDqh1Q6odUOL3VDqh1Q6odUOqHVDqh1Q6odUOqHVDqh1Q6odUOqHVDqh1Q6odUOL3VDqh1Q6odUOq"
    "HVDqh1Q6odUOqHVDqh1Q6odUOqHVDqh1Q6odUO//2Q=="
)
TWELVE_BITS = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMU"
    "FRUVDA8XGBYUGBIUFRT/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU"
    "FBQUFBQUFBT/wQARDAAQABgDASIAAhEBAxEB/8QAFgABAQEAAAAAAAAAAAAAAAAACwAM/8QAHBAAAAYDAAAAAAAAAAAAAAAAAAoL"
    "JzZFU2Jx/8QAFgEBAQEAAAAAAAAAAAAAAAAACggM/8QAKREAAAEHDQEAAAAAAAAAAAAAAAkKJCZDUWIBAgMFBwgoNDVCU2Fxov/a"
    "AAwDAQACEQMRAD8AxK5edKYjTP467moTmLzpTEaZ7HXc1D4JedKYjTP467moTmLzpTEaZ/HXc1EW3Pyj+WTXbgS01tP29AW7jbeR"
    "AD4vOlMRpnsddzUQ2U5edKYjTP467mogwOyko+rVCm/XUg1K5Nc/bw/VWtzm0M2If//Z"
)
TWELVE_BITS_GREY = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMU"
    "FRUVDA8XGBYUGBIUFRT/wQALDAAQABgBAREA/8QAFQABAQAAAAAAAAAAAAAAAAAADA3/xAAYEAACAwAAAAAAAAAAAAAAAAAAC0eE"
    "wv/aAAgBAQAAPwAG4nyhOnkcVp8oTp5HFafKE6eSHUp8oTp5HFafKE6eRxWnyhOnk//Z"
)
LOSSLESS_16 = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/wwALEAAQABgBAREA/8QAFgABAQEAAAAAAAAAAAAAAAAADAAQ/9oACAEBAAEAAMqMVGKjFRio"
    "xUYqMVGKjFRioxUYqMVGKjFRioxUYqMVGKjFRioyVGKjFRioxUYqMVGKjFRioxUYqMVGKjFRioxUYqMVGKjFRioxUZKjFRioxUYq"
    "MVGKjFRioxUYqMVGKjFRioxUYqMVGKjFRioxUYqMlRioxUYqMVGKjFRioxUYqMVGKjFRioxUYqMVGKjFRioxUYqMVGSoxUYqMVGK"
    "jFRioxUYqMVGKjFRioxUYqMVGKjFRioxUYqMVGKjJUYqMVGKjFRioxUYqMVGKjFRioxUYqMVGKjFRioxUYqMVGKjFRkqMVGKjFRi"
    "oxUYqMVGKjFRioxUYqMVGKjFRioxUYqMVGKjFRioyVGKjFRioxUYqMVGKjFRioxUYqMVGKjFRioxUYqMVGKjFRioxUZKjFRioxUY"
    "qMVGKjFRioxUYqMVGKjFRioxUYqMVGKjFRioxUYqMlRioxUYqMVGKjFRioxUYqMVGKjFRioxUYqMVGKjFRioxUYqMVGSoxUYqMVG"
    "KjFRioxUYqMVGKjFRioxUYqMVGKjFRioxUYqMVGKjJUYqMVGKjFRioxUYqMVGKjFRioxUYqMVGKjFRioxUYqMVGKjFRkqMVGKjFR"
    "ioxUYqMVGKjFRioxUYqMVGKjFRioxUYqMVGKjFRioyVGKjFRioxUYqMVGKjFRioxUYqMVGKjFRioxUYqMVGKjFRioxUZKjFRioxU"
    "YqMVGKjFRioxUYqMVGKjFRioxUYqMVGKjFRioxUYqMlRioxUYqMVGKjFRioxUYqMVGKjFRioxUYqMVGKjFRioxUYqMVGf//Z"
)
JPEG_LS = (
    "/9j/6AAgU1BJRkYAAgAAAwAAABAAAAAYCggGAQAAASwAAAEs/+gACAAAAAH/2P/3ABEIABAAGAMBEQACEQADEQD/2gAMAwEAAgAD"
    "AAACAIEhgeHJvD2k/btOU4/H4fH5eXl5eXl5eXl5eXoAAACOiRAlyrEc7mcTW7du3bt06dOsssssspBIBrWta1rWt3d3d3d3d2lT"
    "nd3f/3//f/9//UWv/3//f/9//3//LH//f/9//3//f/K3/3//f/9//3/9Kn//f/9//3//f/Uv/3//f/9//3/+of9//3//f/9//2+/"
    "/3//f/9//3/7z/9//3//f/9//uv/f/9//3//f/9df/9//3//f/9/5x//f/9//3//f/nH/3//f/9//3/+AP/Z"
)


@pytest.mark.parametrize("text", [ARITHMETIC, ARITHMETIC_PROGRESSIVE, LOSSLESS])
def test_what_pillow_reads_every_decoder_reads(text: str) -> None:
    encoded = base64.b64decode(text)
    assert check_image(encoded).size == (24, 16)
    pixels = np.asarray(decode(encoded, "a")).astype(int)
    y, x = np.mgrid[:16, :24]
    assert np.abs(pixels - np.stack([10 * x, 15 * y, 6 * (x + y)], -1)).mean() < 3
    np.testing.assert_array_equal(EncodedImage(encoded, "a").region(PixelBox(3, 2, 9, 8)), pixels[2:10, 3:12])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TWELVE_BITS, "12 bits a sample, process SOF1"),
        (TWELVE_BITS_GREY, "12 bits a sample, process SOF1"),
        (LOSSLESS_16, "16 bits a sample, process SOF3"),
    ],
)
def test_others_are_refused_with_what_they_are(text: str, words: str) -> None:
    encoded = base64.b64decode(text)
    with pytest.raises(BadImage) as refused:
        check_image(encoded)
    assert refused.value.reason == Reason.IMAGE_KIND and refused.value.detail == words
    part = PixelBox(0, 0, 8, 8)
    for read in (lambda: decode(encoded, "a.JPEG"), lambda: EncodedImage(encoded, "a.JPEG").region(part)):
        with pytest.raises(DataError, match=rf"a\.JPEG: the image cannot be decoded \(a JPEG of a kind .*{words}"):
            read()


def test_jpeg_ls_is_no_jpeg() -> None:
    with pytest.raises(BadImage) as refused:
        check_image(base64.b64decode(JPEG_LS))
    assert refused.value.reason == Reason.IMAGE_FORMAT
