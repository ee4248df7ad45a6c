"""Zero-shot classification: image embeddings against a matrix of text embeddings, one for each class."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from typing import Any

import numpy as np
from etils import epath

from luab_jax.errors import CheckpointError, DataError, option
from luab_jax.foreign.model import FunctionModel, rows_of
from luab_jax.io import storage

SCALE = 100.0
"""Logits are this times the cosine: the limit that CLIP's learned temperature reaches (Radford et al. 2021, §2.5)."""
_TINY = 1e-12


def read_classifier(path: epath.PathLike) -> np.ndarray:
    """`[C, D]` float32 with rows of length 1; raises `DataError` for anything else. Nothing is unpickled."""
    try:
        matrix = np.load(io.BytesIO(storage.read_all(path)), allow_pickle=False)
    except OSError as e:
        raise DataError(f"{path}: cannot be read ({e.strerror or e})") from e
    except (ValueError, EOFError) as e:
        raise DataError(f"{path}: not a file of numpy.save ({e}); expected a matrix of text embeddings [C, D]") from e
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2 or not np.issubdtype(matrix.dtype, np.floating):
        found = f"{matrix.dtype} {matrix.shape}" if isinstance(matrix, np.ndarray) else "several arrays"
        raise DataError(f"{path}: holds {found}; expected text embeddings [C, D], a row for each class")
    matrix = matrix.astype(np.float32)
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    if not np.isfinite(matrix).all() or not lengths.all():
        raise DataError(f"{path}: a row is zero, NaN or infinite; every class needs its embedding")
    return matrix / lengths


def classifying(model: FunctionModel, classifier: epath.PathLike) -> tuple[FunctionModel, dict[str, Any]]:
    """The model of image embeddings as one of logits, and what that adds to its identity."""
    matrix = read_classifier(classifier)
    embed, name = model.function, model.name

    def logits(images: np.ndarray) -> np.ndarray:
        embeddings = rows_of(name, embed, images)
        if embeddings.shape[1] != matrix.shape[1]:
            raise CheckpointError(
                f"{name}: gives embeddings of {embeddings.shape[1]:,} numbers, those of"
                f" {option('classifier', classifier)} have {matrix.shape[1]:,};"
                " text and image embeddings must be of the same model, projected"
            )
        lengths = np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), _TINY)
        return SCALE * (embeddings / lengths) @ matrix.T

    digest = hashlib.sha256(matrix.tobytes()).hexdigest()[:12]
    return dataclasses.replace(model, function=logits, maps=None), {"classifier_hash": digest}
