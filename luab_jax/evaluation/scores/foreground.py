"""Hard ImageNet (Moayeri et al. 2022): whether a model looks at the object or at what is usually around it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Int

from luab_jax.errors import DataError
from luab_jax.evaluation.answers import Answers, codes
from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.scores.classification import Scores, calibration
from luab_jax.results.answers import Kind, Sample
from luab_jax.results.score import FRACTION, NUMBER, Direction, Score

BOOTSTRAP = f"standard deviation of {intervals.NUM_RESAMPLES} bootstrap resamples, 95 %"


def object_reliance(parts: Mapping[str, Answers]) -> Scores:
    """`top1` of the images; of the same with the object greyed or tiled over, where a model that needs it has little.

    `rfs` is how much more noise on the object costs than noise around it (`relative_sensitivity`), of accuracies that
    are means over classes. Raises `DataError` where a set has other images than `original`.
    """
    objects, around = parts["noisy_object"], parts["noisy_background"]
    for name, part in parts.items():
        if sorted(part.images) != sorted(parts["original"].images):
            raise DataError(f"{name} and original have other images; prepare the set again")
    classes, label = codes([image.partition("/")[0] for image in objects.images])
    place = {image: i for i, image in enumerate(around.images)}
    of_objects, of_around = objects.right, around.right[[place[image] for image in objects.images]]
    everything = np.arange(len(label))
    noisy_object, noisy_background = (
        _mean_of_classes(right, label, len(classes), everything) for right in (of_objects, of_around)
    )

    def again(rng: np.random.Generator) -> float:
        rows = rng.choice(everything, len(everything))
        return relative_sensitivity(*(_mean_of_classes(r, label, len(classes), rows) for r in (of_objects, of_around)))

    value, replicates = relative_sensitivity(noisy_object, noisy_background), intervals.resampled(again)
    half = intervals.Z * float(replicates.std())
    bounds = (max(-1.0, value - half), min(1.0, value + half))
    return {
        "top1": intervals.share(parts["original"].right, images=parts["original"].images),
        **{
            f"top1_{name}": intervals.share(parts[name].right, Direction.NONE, parts[name].images)
            for name in ("grey", "grey_box", "tile")
            if name in parts
        },
        "rfs": Score(value, NUMBER, Direction.HIGHER, bounds, BOOTSTRAP, sample=Sample(Kind.RESAMPLES, replicates)),
        "noisy_object": Score(noisy_object, FRACTION),
        "noisy_background": Score(noisy_background, FRACTION, Direction.HIGHER),
        **calibration(parts["original"]),
        "n": len(parts["original"]),
    }


def relative_sensitivity(noisy_object: float, noisy_background: float) -> float:
    """From -1 to 1: the difference over the largest that its mean allows (rfs.py, `compute_rfs`)."""
    mean = (noisy_object + noisy_background) / 2
    return 0.0 if mean in (0, 1) else (noisy_background - noisy_object) / (2 * min(mean, 1 - mean))


def _mean_of_classes(
    right: Bool[np.ndarray, " n"], label: Int[np.ndarray, " n"], num_classes: int, rows: Int[np.ndarray, " m"]
) -> float:
    """Of the rows, whose classes may be some only."""
    counts = np.bincount(label[rows], minlength=num_classes)
    hits = np.bincount(label[rows], weights=right[rows], minlength=num_classes)
    return float((hits[counts > 0] / counts[counts > 0]).mean())
