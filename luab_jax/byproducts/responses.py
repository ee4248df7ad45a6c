"""How an annotator came to the answer: how quickly, with how many corrections, and who it was.

None of this has a place on the image, so crop and flip leave it as it is. Times and counts are skewed (most answers are
quick and uncorrected, a few are not), so both are taken as logarithms, and averaged over showings as logarithms.
"""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from luab_jax.byproducts.columns import ACTION_KINDS, ByproductColumns
from luab_jax.byproducts.records import ActionKind

_CORRECTING = [ACTION_KINDS.index(kind) for kind in (ActionKind.MOVE, ActionKind.REMOVE)]


class Response(enum.Enum):
    """A number that tells how an answer came about."""

    TIME_TO_CLICK = "time_to_click"
    NUM_CORRECTIONS = "num_corrections"


class SampleWeight(enum.Enum):
    """By what an image's classification loss is weighted; see `sample_weight`."""

    NONE = "none"
    TIME_TO_CLICK = "time_to_click"
    NUM_CORRECTIONS = "num_corrections"

    @property
    def response(self) -> Response | None:
        return None if self is SampleWeight.NONE else Response(self.value)


def log_response(response: Response, byproducts: ByproductColumns) -> float | None:
    """The response of an image with one label on its logarithmic scale; `None` where nothing of it was recorded."""
    if response is Response.TIME_TO_CLICK:
        return log_time_to_click(byproducts)
    return log_corrections(byproducts)


def time_to_click(clicks: Sequence[int], entries: Sequence[int], trace: Callable[[], Sequence[int]]) -> int | None:
    """Milliseconds from the pointer's coming onto the image to the first click; `None` if either is not recorded.

    The pointer comes when it enters for the last time before that click, since on a page of many images it crosses an
    image several times; without such an entry, at the first sample of its trace. All times are of one showing, in ms
    and recorded order, -1 where not recorded; those of the trace, a long column, are asked for only if they matter.
    """
    if not len(clicks):
        return None
    came = [time for time in entries if 0 <= time <= clicks[0]]
    came = came or [time for time in trace()[:1] if 0 <= time <= clicks[0]]
    return int(clicks[0] - max(came)) if came else None


def log_time_to_click(byproducts: ByproductColumns) -> float | None:
    """log of `time_to_click`, taken as 1 ms at least; mean over the selected showings that have it."""
    clicks, hovers = byproducts.clicks, byproducts.hovers
    logs = []
    for index in np.flatnonzero(byproducts.selected).tolist():
        waited = time_to_click(
            clicks.time_ms[clicks.showing == index].tolist(),
            hovers.time_ms[(hovers.showing == index) & hovers.entered].tolist(),
            functools.partial(_trace_times, byproducts, index),
        )
        if waited is not None:
            logs.append(math.log(max(1, waited)))
    return sum(logs) / len(logs) if logs else None


def _trace_times(byproducts: ByproductColumns, index: int) -> list[int]:
    trace = byproducts.trace
    return trace.time_ms[trace.showing == index].tolist()


def log_corrections(byproducts: ByproductColumns) -> float | None:
    """log(1 + clicks beyond the first), mean over the selected showings with a click.

    A click is recorded on select and not on deselect, so every click after the first is a choice that was taken back
    and made again.
    """
    showing = byproducts.clicks.showing
    counts = [int(np.sum(showing == index)) for index in np.flatnonzero(byproducts.selected)]
    logs = [math.log(count) for count in counts if count]
    return sum(logs) / len(logs) if logs else None


def class_log_corrections(byproducts: ByproductColumns, num_classes: int) -> Float[np.ndarray, " classes"]:
    """log(1 + moves and removes of a present class's icon, in all records); NaN for a class without any action."""
    actions = byproducts.actions
    corrections = np.full(num_classes, np.nan)
    for label in byproducts.labels.tolist():
        of_class = actions.kind[actions.label == label]
        if len(of_class):
            corrections[label] = math.log1p(np.isin(of_class, _CORRECTING).sum())
    return corrections


def annotators(byproducts: ByproductColumns) -> list[str]:
    """Who selected the image: ids in the order of the showings, each once."""
    showings = zip(byproducts.worker_ids.tolist(), byproducts.selected.tolist(), strict=False)
    return list(dict.fromkeys(worker for worker, selected in showings if selected and worker))


def sample_weight(response: Response, value: float | None, mean: float) -> float:
    """1 / (1 + x): quick and uncorrected answers weigh more. 0 says "none recorded"; the loss gives such images 1.

    x is the number of corrections, or the time in units of its geometric mean over the training split (`mean` is the
    mean of its log), so both are halved by what is usual, and neither ever vanishes. `value` is `log_response`'s.
    """
    if value is None:
        return 0.0
    if response is Response.NUM_CORRECTIONS:
        return math.exp(-value)
    return 1 / (1 + math.exp(value - mean))
