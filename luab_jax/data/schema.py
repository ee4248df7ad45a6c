"""The columns of a shard, and the same as TFDS's features.

Variable-length lists are stored as flat columns, every row naming its showing, since TFDS nests only one level without
ragged bookkeeping.

Missing integers are -1, missing floats NaN, and coordinates are float32 (the only float of `tf.train.Example`): about
1e-7 of the image, far below a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

SCHEMA_VERSION = 2
"""2 added `foreground_mask`, the table `masks` (of boxes) and the column `actions/label`."""
MISSING_INT = -1

TABLES: dict[str, dict[str, Any]] = {
    "boxes": {
        "x_min": np.float32,
        "y_min": np.float32,
        "x_max": np.float32,
        "y_max": np.float32,
        "label": np.int64,
        "is_crowd": np.bool_,
    },
    # Apart from the boxes, so that the many records without masks do not carry an empty text for every box.
    "masks": {"box": np.int64, "segmentation": np.object_},
    "showings": {
        "selected": np.bool_,
        "time_spent_ms": np.int64,
        "submit_time_s": np.int64,
        "selected_count": np.int64,
        "hovered_count": np.int64,
        "worker_id": np.object_,
        "assignment_id": np.object_,
        "hit_id": np.object_,
        "source_hit_id": np.object_,
        "page_index": np.int64,
        "image_index": np.int64,
        "page_x": np.int64,
        "page_y": np.int64,
        "display_width": np.int64,
        "display_height": np.int64,
        "original_width": np.int64,
        "original_height": np.int64,
    },
    "clicks": {"showing": np.int64, "time_ms": np.int64, "x": np.float32, "y": np.float32},
    "trace": {"showing": np.int64, "time_ms": np.int64, "x": np.float32, "y": np.float32},
    "hovers": {"showing": np.int64, "time_ms": np.int64, "entered": np.bool_},
    "actions": {
        "showing": np.int64,
        "time_ms": np.int64,
        "kind": np.int64,
        "icon": np.object_,
        "from_x": np.float32,
        "from_y": np.float32,
        "to_x": np.float32,
        "to_y": np.float32,
        "label": np.int64,
    },
    "category_views": {
        "showing": np.int64,
        "time_ms": np.int64,
        "index": np.int64,
        "name": np.object_,
        "used_keyboard": np.bool_,
    },
}
"""Column types of every list; `np.object_` is text."""


def example_features(class_ids: Sequence[str]) -> Any:
    """The TFDS features (`FeaturesDict`) of a shard whose labels index `class_ids`."""
    import tensorflow_datasets as tfds  # takes half a second, and only who writes metadata needs it

    def tensor(dtype: Any) -> Any:
        return tfds.features.Text() if dtype is np.object_ else tfds.features.Scalar(dtype)

    return tfds.features.FeaturesDict(
        {
            "file_name": tfds.features.Text(),
            "image": tfds.features.Image(shape=(None, None, 3)),
            "height": tfds.features.Scalar(np.int64),
            "width": tfds.features.Scalar(np.int64),
            "label": tfds.features.ClassLabel(names=list(class_ids)),
            "labels": tfds.features.Sequence(tfds.features.ClassLabel(names=list(class_ids))),
            "group": tfds.features.Text(),
            "foreground_mask": tfds.features.Sequence(
                tfds.features.Image(shape=(None, None, 1), encoding_format="png")
            ),
            **{
                table: tfds.features.Sequence({name: tensor(dtype) for name, dtype in columns.items()})
                for table, columns in TABLES.items()
            },
        }
    )
