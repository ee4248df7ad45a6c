"""Whether a model is right as often as it says."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

_NUM_BINS = 15


def calibration_error(
    confidence: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"], num_bins: int = _NUM_BINS
) -> float | None:
    """Expected calibration error (Guo et al. 2017, eq. 3): bins (0, 1/15], (1/15, 2/15] ... of equal width.

    None if a confidence is not finite: a diverged model is not well calibrated for being wrong and unsure.
    """
    if not len(confidence) or not np.all(np.isfinite(confidence)):
        return None
    bins = np.clip(np.ceil(confidence.astype(np.float64) * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    gaps = np.bincount(bins, weights=right.astype(np.float64) - confidence, minlength=num_bins)
    return float(np.sum(np.abs(gaps)) / len(confidence))
