"""ImageNet-W as a set of its own: squares of 224 px under the watermark.

The short side becomes 256 by Pillow's bilinear filter first, as of torchvision's models. The authors draw on the input
of each model, as the suite `imagenet_w_generated` does.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from data_prep.datasets.imagenet_ab import ReadImage
from data_prep.datasets.imagenet_c import PREPROCESSING
from data_prep.datasets.listing import Item
from data_prep.problems import Reason
from data_prep.writing.shards import Outcome
from luab_jax.data.decoding import decode
from luab_jax.data.transforms import resize_and_centre_crop
from luab_jax.data.watermark import Font, marked
from luab_jax.errors import DataError

VERSION = 1
SPLITS = ("watermark", "clean")


@dataclass(frozen=True, slots=True)
class Marked:
    """Reads one listed image, cuts it, and marks it if there is a font; stored as PNG."""

    read: ReadImage
    font: Font | None

    def __call__(self, item: Item) -> Outcome:
        outcome = self.read(item)
        if outcome.record is None:
            return outcome
        try:
            pixels = resize_and_centre_crop(decode(outcome.record.image, item.file_name), PREPROCESSING)[0]
        except DataError as e:
            left_out = Outcome.left_out(item.file_name, Reason.IMAGE_TRUNCATED, str(e))
            return left_out._replace(problems=(*outcome.problems, *left_out.problems))
        image = Image.fromarray(np.asarray(pixels))
        file = io.BytesIO()
        (image if self.font is None else marked(image, self.font)).save(file, "PNG", compress_level=3)
        record = replace(outcome.record, image=file.getvalue(), height=image.height, width=image.width)
        return Outcome(record, outcome.counts, outcome.problems)
