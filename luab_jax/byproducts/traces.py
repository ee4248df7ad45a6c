"""Where the pointer was: the box of its trace, and how long it stayed in which part of the image."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from luab_jax.byproducts.columns import ByproductColumns
from luab_jax.byproducts.geometry import Affine, inside

MAX_DWELL_MS = 1000
"""A longer pause is the annotator's, not the image's, and counts as this much."""


def trace_box(byproducts: ByproductColumns) -> Float[np.ndarray, " 4"] | None:
    """The smallest box around the whole trace of a selected showing, averaged over these corner by corner.

    An average, and not a union that would grow with the number of showings. The whole trace, so from where the pointer
    came in: it holds more than the object. `None` without a trace of a selected showing.
    """
    trace = byproducts.trace
    boxes = []
    for index in np.flatnonzero(byproducts.selected):
        xy = trace.xy[trace.showing == index]
        if len(xy):
            boxes.append(np.concatenate([xy.min(axis=0), xy.max(axis=0)]))
    return np.mean(boxes, axis=0) if boxes else None


def dwell_times(byproducts: ByproductColumns) -> Float[np.ndarray, " n"]:
    """The share of its showing's time that the pointer spent at each sample of the trace; 0 where not selected.

    A sample lasts until the next sample or click of its showing, whichever comes first (tracking stops while an image
    is selected), at least 1 ms and at most `MAX_DWELL_MS`. The last sample, if no click follows, lasts as long as the
    median of the others. Where a showing lacks a time, all its samples last equally long. Every selected showing with a
    trace has a total of 1, so that a slow annotator counts no more than a quick one.
    """
    trace, clicks = byproducts.trace, byproducts.clicks
    shares = np.zeros(len(trace.showing))
    for index in np.flatnonzero(byproducts.selected):
        of_showing = trace.showing == index
        if of_showing.any():
            lasted = _lasted(trace.time_ms[of_showing], clicks.time_ms[clicks.showing == index])
            shares[of_showing] = lasted / lasted.sum()
    return shares


def _lasted(samples: Int[np.ndarray, " n"], clicks: Int[np.ndarray, " m"]) -> Float[np.ndarray, " n"]:
    if np.any(samples < 0):
        return np.ones(len(samples))
    clicks = np.sort(clicks[clicks >= 0])
    ends = np.append(samples[1:], np.iinfo(np.int64).max)
    following = np.append(clicks, np.iinfo(np.int64).max)[np.searchsorted(clicks, samples)]
    ends = np.minimum(ends, following)
    lasted = np.clip(ends - samples, 1, MAX_DWELL_MS).astype(np.float64)
    if ends[-1] == np.iinfo(np.int64).max:
        lasted[-1] = np.median(lasted[:-1]) if len(lasted) > 1 else 1
    return lasted


def heat_map(byproducts: ByproductColumns, view: Affine, side: int) -> Float[np.ndarray, " cells"] | None:
    """How the pointer's time is spread over side² equal cells of what `view` shows, row by row; sums to 1.

    Samples that the view does not show drop out. `None` if none is left.
    """
    shares = dwell_times(byproducts)
    moved = view.points(byproducts.trace.xy)
    shown = inside(moved) & (shares > 0)
    if not shown.any():
        return None
    column, row = np.minimum(moved[shown] * side, side - 1).astype(np.int64).T
    cells = np.bincount(row * side + column, weights=shares[shown], minlength=side * side)
    return cells / cells.sum()
