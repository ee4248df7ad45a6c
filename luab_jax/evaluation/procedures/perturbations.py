"""ImageNet-P (Hendrycks and Dietterich 2019): how often the answer changes from frame to frame of a video."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from luab_jax.data.decoding import decode
from luab_jax.data.features import Example
from luab_jax.data.label_tables import PERTURBATION_SIDE, PERTURBATIONS
from luab_jax.data.transforms import Stored, evaluation_input
from luab_jax.errors import DataError
from luab_jax.evaluation.columns import Columns, as_texts, joined, texts
from luab_jax.evaluation.finite import check_finite
from luab_jax.evaluation.predictor import BatchPredictor
from luab_jax.evaluation.procedures.by_image import ByImage, Items, Scores, Splits, threads_of
from luab_jax.evaluation.resume import Work
from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.shared_decoding import on_all_hosts
from luab_jax.results.answers import Kind, Sample
from luab_jax.results.score import FRACTION, NUMBER, Direction, Score

SQUARES = Stored(side=PERTURBATION_SIDE)
TEST = tuple(PERTURBATIONS)[:10]
"""The perturbations that the published means are over."""
_TOP = 5
_BATCHES = 4
"""Videos are predicted in groups of about as many batches, of which only the last is padded."""
Frames = UInt8[np.ndarray, "f h w 3"]


class Video(NamedTuple):
    """As the models are fed it."""

    kind: str
    file_name: str
    frames: Frames


def _begin(predictor: BatchPredictor[Any], splits: Splits) -> Items:
    """Raises `DataError` where there is no perturbation; its items do for a strip of other frames than its own."""
    present = [kind for kind in PERTURBATIONS if kind in splits]
    if not present:
        raise DataError(
            "no data for any of its perturbations; get it with: python -m data_prep suite imagenet_p --source=noise.tar"
            " --out=DATA"
        )
    preprocessing, threads = predictor.preprocessing_for(SQUARES), threads_of(predictor)
    videos = [(kind, index) for kind in present for index in range(len(splits[kind].records))]

    def read(video: tuple[str, int]) -> Video:
        kind, index = video
        example = Example(splits[kind].records[index])
        strip = decode(example.image, example.file_name)
        check_strip(strip.size, kind, example.file_name)
        tops = range(0, strip.height, PERTURBATION_SIDE)
        frames = [strip.crop((0, top, strip.width, top + PERTURBATION_SIDE)) for top in tops]
        pixels = np.stack([evaluation_input(frame, preprocessing, SQUARES)[0] for frame in frames])
        return Video(kind, example.file_name, pixels)

    return Items(len(videos), lambda start: on_all_hosts(read, videos[start:], threads), _Reader, unit="videos")


def check_strip(size: tuple[int, int], kind: str, file_name: str) -> None:
    """Raises `DataError` for a strip of another number or size of frames."""
    if size != (PERTURBATION_SIDE, PERTURBATIONS[kind] * PERTURBATION_SIDE):
        raise DataError(
            f"{file_name}: a strip of {size[0]}x{size[1]} pixels, one of {kind} has {PERTURBATIONS[kind]} frames of"
            f" {PERTURBATION_SIDE}; prepare the set again"
        )


class _Reader:
    """Predicts the videos of a perturbation some at a time."""

    def __init__(self, predictor: BatchPredictor[Any], work: Work):
        self._predictor, self._work = predictor, work
        self._kept: list[Columns] = [step.columns for step in work.done()]
        self._videos: list[Video] = []
        self.done = sum(len(columns["flips"]) for columns in self._kept)

    def take(self, item: Video) -> None:
        if self._videos and self._videos[0].kind != item.kind:
            self._measure()
        self._videos.append(item)
        at_once = max(1, _BATCHES * self._predictor.batch_size // PERTURBATIONS[item.kind])
        if len(self._videos) == at_once:
            self._measure()

    def _measure(self) -> None:
        videos, self._videos = self._videos, []
        columns = _measured(self._predictor, videos, videos[0].kind)
        self._kept.append(columns)
        self._work.add(len(videos), columns)

    def scores(self) -> Scores:
        if self._videos:
            self._measure()
        return scores_of(joined(self._kept))


flip_rates = ByImage("imagenet_p", _begin, lambda predictor: predictor.pixels_of(SQUARES))
"""`flip_rate` and `top5_distance`: means over the perturbations that are there, of means over videos.

Not divided by AlexNet's, as mFR and mT5D are; `flip_rate_<perturbation>` of each."""


def _measured(predictor: BatchPredictor[Any], videos: list[Video], kind: str) -> Columns:
    frames = np.concatenate([video.frames for video in videos])
    size = predictor.batch_size
    logits = np.concatenate([predictor.logits(frames[i : i + size]) for i in range(0, len(frames), size)])
    names = [video.file_name for video in videos]
    check_finite(predictor.loaded, logits, [name for name in names for _ in range(PERTURBATIONS[kind])])
    top = np.argsort(-logits, axis=-1, kind="stable")[:, :_TOP].reshape(len(videos), -1, _TOP)
    noise = "noise" in kind
    return {
        "flips": np.asarray([flip_rate(of_video[:, 0], noise=noise) for of_video in top]),
        "distance": np.asarray([top5_distance(of_video, noise=noise) for of_video in top]),
        "kind": np.full(len(videos), list(PERTURBATIONS).index(kind), np.int32),
        "names": texts(names),
    }


def flip_rate(answers: Int[np.ndarray, " f"], *, noise: bool) -> float:
    """The share of frames that are answered otherwise than the one before; of noise, otherwise than the first, clean.

    ImageNet-P/test.py, `flip_prob`.
    """
    reference = answers[:1] if noise else answers[:-1]
    return float(np.mean(answers[1:] != reference))


def top5_distance(top: Int[np.ndarray, "f 5"], *, noise: bool) -> float:
    """By how many places the five best classes of a frame move, those that leave the five counted as sixth.

    Σ over i of |i - r_i|, where r_i is the place in the next frame of what is in place i of this one, at most 5; mean
    over frames (ImageNet-P/test.py, `dist` and `ranking_dist`).
    """
    before = np.broadcast_to(top[:1], top[1:].shape) if noise else top[:-1]
    same = before[:, :, None] == top[1:, None, :]
    place = np.where(same.any(axis=-1), same.argmax(axis=-1), _TOP)
    return float(np.abs(place - np.arange(_TOP)).sum(axis=-1).mean())


def scores_of(columns: Columns) -> Mapping[str, Any]:
    """Means over the perturbations of the test set; where there are none of it, over what there is."""
    names = list(PERTURBATIONS)
    kinds = np.asarray([names[i] for i in columns["kind"]], object)
    present = sorted(set(kinds), key=names.index)
    counted = [kind for kind in present if kind in TEST] or present
    images = as_texts(columns["names"])
    rows = {kind: np.flatnonzero(kinds == kind) for kind in present}
    mean = {kind: float(columns["flips"][of].mean()) for kind, of in rows.items()}
    weights = np.zeros(len(kinds))
    for kind in counted:
        weights[rows[kind]] = 1 / (len(counted) * len(rows[kind]))
    used = np.flatnonzero(weights)
    of_used = [images[i] for i in used]
    missing = [kind for kind in TEST if kind not in rows]
    return {
        "flip_rate": _mean(columns["flips"][used], weights[used], of_used, FRACTION),
        "top5_distance": _mean(columns["distance"][used], weights[used], of_used, NUMBER),
        **{f"flip_rate_{kind}": Score(value, FRACTION, Direction.LOWER) for kind, value in mean.items()},
        "n": len(set(images)),
        "n_videos": len(images),
        **({"partial": True, "perturbations_missing": missing} if missing else {}),
    }


def _mean(values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"], images: list[str], unit: str) -> Score:
    """Σ weight · value; the videos of one image are drawn together."""
    names, of_image = intervals.per_image(values, weights, images)
    low, high = intervals.of_weighted_sum(values, weights, images)
    bounds = (max(0.0, low), min(1.0, high) if unit == FRACTION else high) if len(names) > 1 else None
    sample = Sample(Kind.MEANS, of_image, names)
    return Score(float(of_image.mean()), unit, Direction.LOWER, bounds, intervals.CLUSTERED, sample=sample)
