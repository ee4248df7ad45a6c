"""What is kept of predictions as plain arrays, which a file can hold and which join end to end.

Rows of two parts joined array by array are the rows of both, texts included: these stand one after the other, each
ended by a zero.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8

from luab_jax.byproducts.targets import Target
from luab_jax.data.pipeline import Truth
from luab_jax.evaluation.answers import Answers, Doubts
from luab_jax.evaluation.decisions import Decisions
from luab_jax.evaluation.predictions import Predictions

Columns = dict[str, np.ndarray]


def texts(values: Sequence[str]) -> UInt8[np.ndarray, " bytes"]:
    return np.frombuffer("".join(f"{value}\0" for value in values).encode(), np.uint8)


def as_texts(column: np.ndarray) -> list[str]:
    """The inverse of `texts`, and of a numpy array of strings; equal ones are one object."""
    if column.dtype.kind == "U":
        return [sys.intern(value) for value in column.tolist()]
    return [sys.intern(value) for value in column.tobytes().decode().split("\0")[:-1]]


def of_truths(truths: Sequence[Truth]) -> Columns:
    """Rows of equal columns."""

    def coordinates(values: list[np.ndarray | None], size: int) -> np.ndarray:
        missing = np.full(size, np.nan, np.float32)
        return np.asarray([missing if v is None else v for v in values], np.float32).reshape(-1, size)

    return {
        "file_names": texts([t.file_name for t in truths]),
        "group": texts([t.group for t in truths]),
        "label": np.asarray([t.label for t in truths], np.int32),
        "labels": np.asarray([label for t in truths for label in t.labels], np.int32),
        "num_labels": np.asarray([len(t.labels) for t in truths], np.int32),
        "click": coordinates([t.click for t in truths], 2),
        "box": coordinates([t.box for t in truths], 4),
    }


class Truths:
    """What `of_truths` wrote, a few at a time: millions of objects would not fit."""

    def __init__(self, columns: Mapping[str, np.ndarray]):
        self._columns = columns
        self._names = as_texts(columns["file_names"])
        self._groups = as_texts(columns["group"])
        self._ends = np.cumsum(columns["num_labels"])

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, rows: slice) -> list[Truth]:
        return [self._truth(row) for row in range(*rows.indices(len(self)))]

    def _truth(self, row: int) -> Truth:
        columns, end = self._columns, self._ends[row]
        click, box = columns["click"][row], columns["box"][row]
        return Truth(
            file_name=self._names[row],
            label=int(columns["label"][row]),
            labels=tuple(columns["labels"][end - columns["num_labels"][row] : end].tolist()),
            group=self._groups[row],
            click=None if np.isnan(click).any() else click,
            box=None if np.isnan(box).any() else box,
        )


def of_kept(kept: Answers | Decisions | Doubts | Predictions) -> Columns:
    """What a `Part.reduce` gave."""
    if isinstance(kept, Doubts):
        return {"doubts": kept.values, "energy": kept.energy, "max_logit": kept.max_logit}
    if isinstance(kept, Decisions):
        return {
            "decision": kept.decision,
            "shape": kept.shape,
            "texture": kept.texture,
            "images": texts(kept.images),
            "humans": texts(kept.humans),
        }
    if isinstance(kept, Answers):
        return {
            "rank": kept.rank,
            "confidence": kept.confidence,
            "groups": texts(kept.groups),
            "images": texts(kept.images),
            "num_left_out": np.asarray([kept.num_left_out], np.int64),
        }
    return {"logits": kept.logits, **of_heads(kept), **of_truths(kept.truths)}


_HEAD = "byproduct"


def of_heads(predictions: Predictions) -> Columns:
    """What the byproduct heads predicted: `byproduct` of the first, `byproduct.box` of another."""
    first = {} if predictions.byproduct is None else {_HEAD: predictions.byproduct}
    return first | {f"{_HEAD}.{name}": values for name, values in predictions.more.items()}


def further_heads(columns: Mapping[str, np.ndarray]) -> Columns:
    """Those of the heads after the first, by their targets' names."""
    start = f"{_HEAD}."
    return {name.removeprefix(start): column for name, column in columns.items() if name.startswith(start)}


def as_answers(columns: Mapping[str, np.ndarray]) -> Answers:
    return Answers(
        rank=columns["rank"],
        confidence=columns["confidence"],
        groups=as_texts(columns["groups"]),
        images=as_texts(columns["images"]),
        num_left_out=int(columns["num_left_out"].sum()),
    )


def as_kept(columns: Mapping[str, np.ndarray], target: Target | None) -> Answers | Decisions | Doubts | Predictions:
    """The inverse of `of_kept`; `target` is what the model's byproduct head predicts."""
    if "doubts" in columns:
        missing = np.zeros(0)
        return Doubts(columns["doubts"], columns.get("energy", missing), columns.get("max_logit", missing))
    if "decision" in columns:
        images = as_texts(columns["images"])
        humans = as_texts(columns["humans"]) if "humans" in columns else []
        return Decisions(columns["decision"], columns["shape"], columns["texture"], images, humans)
    if "rank" in columns:
        return as_answers(columns)
    return Predictions(columns["logits"], columns.get("byproduct"), Truths(columns)[:], target, further_heads(columns))


def under(prefix: str, columns: Mapping[str, np.ndarray]) -> Columns:
    """Columns of several things in one file."""
    return {f"{prefix}/{name}": column for name, column in columns.items()}


def below(prefix: str, columns: Mapping[str, np.ndarray]) -> Columns:
    """The inverse of `under`; empty where there are none."""
    start = f"{prefix}/"
    return {name.removeprefix(start): column for name, column in columns.items() if name.startswith(start)}


def joined(parts: Sequence[Columns]) -> Columns:
    """Rows of several parts with the same columns, of which there is at least one."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
