"""What a score was, image by image: the file beside results.json by which two runs on the same images are compared.

`runs/results.answers.npz` of `runs/results.json`, readable by `numpy.load` alone:

about            a text of JSON: `answers_version`, `checkpoint` (as in the results) and, for every suite and score,
                 `kind`, `num` (how many values), `images` (a name below) and `data` (the fingerprints)
images/<hash>    names of images, shared by all scores on the same images
<suite>/<score>  the values, of one of three kinds
    right        uint8, bits by `numpy.packbits`: whether each image was answered rightly
    means        float32, one for each image; their mean is the score and their spread its uncertainty
    resamples    float32, the score on bootstrap resamples of the images; resample i is the same for every run
"""

from __future__ import annotations

import enum
import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from luab_jax.errors import UserError, option
from luab_jax.io import storage
from luab_jax.io.atomic import atomic_file

VERSION = 1
ANSWERS_ENDING = ".answers.npz"
_MAX_UNPACKED = 1 << 30
"""Bytes; the answers of every suite take some ten million."""


class Kind(enum.Enum):
    RIGHT = "right"
    MEANS = "means"
    RESAMPLES = "resamples"


@dataclass(frozen=True, slots=True)
class Sample:
    """A score's values over images, or over resamples of them."""

    kind: Kind
    values: np.ndarray
    """bool `[n]`, float `[n]` or float `[r]`, by `kind`."""
    images: Sequence[str] = ()
    """Names of the n images; empty where they are not known, and then their order in the data stands for them."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A sample, and the data that it is of."""

    sample: Sample
    data: Mapping[str, str]


@dataclass(slots=True)
class Answers:
    """Those of one checkpoint."""

    checkpoint: Mapping[str, Any]
    suites: dict[str, dict[str, Answered]] = field(default_factory=dict)


def answers_path(results: str | os.PathLike[str]) -> storage.Place:
    """`runs/results.answers.npz` of `runs/results.json`; any other ending is part of the name."""
    path = storage.place(os.fspath(results))
    return path.with_name(f"{path.name.removesuffix('.json')}{ANSWERS_ENDING}")


def write_answers(path: storage.Place, answers: Answers) -> None:
    """Raises `WriteError`, or `StorageError` of a bucket."""
    arrays: dict[str, np.ndarray] = {}
    described: dict[str, dict[str, Any]] = {}
    for suite, scores in answers.suites.items():
        described[suite] = {}
        for score, answered in scores.items():
            sample, images = answered.sample, ""
            if sample.images:
                images = _hash(sample.images)
                arrays.setdefault(f"images/{images}", _texts(sample.images))
            is_right = sample.kind is Kind.RIGHT
            arrays[f"{suite}/{score}"] = np.packbits(sample.values) if is_right else sample.values.astype(np.float32)
            described[suite][score] = {
                "kind": sample.kind.value,
                "num": len(sample.values),
                "images": images,
                "data": dict(answered.data),
            }
    about = {"answers_version": VERSION, "checkpoint": answers.checkpoint, "suites": described}
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    with atomic_file(path, make_folder=True) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)  # pyright: ignore[reportArgumentType]


def _texts(values: Sequence[str]) -> np.ndarray:
    """UTF-8, of equal length: a fifth of what numpy's own texts take."""
    return np.asarray([value.encode("utf-8", "backslashreplace") for value in values])


def _hash(images: Sequence[str]) -> str:
    text = "\0".join(images).encode("utf-8", "backslashreplace")
    return hashlib.sha256(text).hexdigest()[:16]


_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, EOFError, RecursionError)
_DAMAGE = (*_DAMAGE, NotImplementedError, MemoryError, OverflowError, zlib.error, zipfile.BadZipFile)


def read_answers(path: storage.Place) -> Answers:
    """Raises `UserError` if the file is none of this version, or damaged."""
    try:
        content = storage.read_all(path)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > _MAX_UNPACKED:
            raise ValueError(f"it unpacks to {unpacked:,} bytes, answers have at most {_MAX_UNPACKED:,}")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            about = json.loads(arrays["about"].tobytes())
            version = about["answers_version"]
            if version == VERSION:
                return _answers(about, arrays)
    except _DAMAGE as e:
        cause = " ".join(str(e).split())[:200]
        raise UserError(
            f"{os.fspath(path)}: not the answers of luab_jax.evaluate ({type(e).__name__}: {cause}); remove it, and"
            f" evaluate again with {option('overwrite', True)} if you want paired differences"
        ) from e
    raise UserError(f"{os.fspath(path)}: answers version {version!r:.40}, this version reads {VERSION}; remove it")


def _answers(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Answers:
    names: dict[str, list[str]] = {"": []}
    answers = Answers(dict(about["checkpoint"]))
    for suite, score, facts in _described(about):
        key = str(facts["images"])
        if key not in names:
            names[key] = [bytes(name).decode() for name in arrays[f"images/{key}"]]
        kind, num = Kind(facts["kind"]), int(facts["num"])
        values = arrays[f"{suite}/{score}"]
        if kind is Kind.RIGHT:
            values = np.unpackbits(values, count=num).astype(bool)
        if values.ndim != 1 or len(values) != num or values.dtype.kind not in "bf" or not np.isfinite(values).all():
            raise ValueError(f"the values of {suite} {score} are not {num} numbers")
        if names[key] and len(names[key]) != num:
            raise ValueError(f"{suite} {score} has {num} values for {len(names[key])} images")
        data = {str(part): str(fingerprint) for part, fingerprint in facts["data"].items()}
        answers.suites.setdefault(suite, {})[score] = Answered(Sample(kind, values, names[key]), data)
    return answers


def _described(about: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for suite, scores in about["suites"].items():
        for score, facts in scores.items():
            yield suite, score, facts
