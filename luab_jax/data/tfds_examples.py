"""Records that TFDS wrote, under the names of this package's schema.

| TFDS                                                                       | here                          |
|----------------------------------------------------------------------------|-------------------------------|
| `original_label`, `real_label` (imagenet2012_real)                         | `label`, `labels`             |
| `image_id` (siscore), `image/filename` (coco)                              | `file_name`                   |
| `objects/label` (coco): 0 to 79, in the order of category ids              | `labels`, each once; no `label` |
| `objects/bbox` (coco): ymin, xmin, ymax, xmax in fractions; `is_crowd`     | table `boxes`                 |

TFDS's coco has no masks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from luab_jax.errors import DataError

_RENAMED = {"original_label": "label", "real_label": "labels", "image/filename": "file_name"}
_EDGES = ("y_min", "x_min", "y_max", "x_max")
"""The order of TFDS's `BBoxFeature`."""


def adopt(features: Any) -> None:
    """Adds the columns of this package to a record (`Example.features.feature`) that TFDS wrote.

    Raises `DataError` for one whose columns do not go together.
    """
    for theirs, ours in _RENAMED.items():
        if theirs in features:
            features[ours].CopyFrom(features[theirs])
    try:
        if "image_id" in features:
            features["file_name"].bytes_list.value.append(str(features["image_id"].int64_list.value[0]).encode())
        if "image/filename" in features:
            _adopt_objects(features)
    except (IndexError, ValueError) as e:
        raise DataError(f"not a record of TFDS's siscore or coco: {e}") from e


def _adopt_objects(features: Any) -> None:
    """A class is on an image if it has any instance there, crowd regions included, as when data_prep reads COCO."""
    labels = list(features["objects/label"].int64_list.value)
    features["label"].int64_list.value.append(-1)
    features["labels"].int64_list.value.extend(sorted(set(labels)))
    edges = np.asarray(features["objects/bbox"].float_list.value, np.float32).reshape(len(labels), 4)
    for name, column in zip(_EDGES, edges.T, strict=True):
        features[f"boxes/{name}"].float_list.value.extend(column.tolist())
    features["boxes/label"].int64_list.value.extend(labels)
    features["boxes/is_crowd"].int64_list.value.extend(features["objects/is_crowd"].int64_list.value)
