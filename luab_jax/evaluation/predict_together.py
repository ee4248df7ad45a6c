"""One pass over a split for several models that see the same pixels: each image is decoded once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from luab_jax.byproducts.targets import Target
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.pipeline import Truth
from luab_jax.data.transforms import Preprocessing, Stored
from luab_jax.errors import DataError, UserError, without_frames
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.suite import View
from luab_jax.io.console import Progress

Seen = dict[View, Predictions]


@runtime_checkable
class PredictsBatches(Protocol):
    """A `BatchPredictor`, as far as this pass is concerned."""

    @property
    def loaded(self) -> Any: ...
    @property
    def further_heads(self) -> tuple[str, ...]: ...
    def preprocessing_for(self, stored: Stored) -> Preprocessing: ...
    def batches(
        self, split: PreparedSplit, preprocessing: Preprocessing, stored: Stored, start: int
    ) -> Iterator[Any]: ...
    def place(self, images: Any) -> Any: ...
    def outputs_of(self, images: Any, view: View) -> Any: ...


@dataclass(slots=True, eq=False)
class Asked:
    """What one model is to predict of the split."""

    predictor: PredictsBatches
    views: Sequence[View]
    start: int = 0
    """Images before it are not predicted."""
    gone: bool = False
    """Set by who reads the predictions, when no more are wanted."""


def predict_together(
    split: PreparedSplit, asked: Sequence[Asked], stored: Stored
) -> Iterator[tuple[Asked, Seen | UserError]]:
    """The predictions of every model, batch by batch; of a model that fails its error, and no more of that one.

    All predictors feed the same pixels and take batches of the same size. Raises `DataError` at a record that cannot be
    read, after all batches before.
    """
    title, num_images = f"{split.manifest.dataset} {split.manifest.split}", len(split.records)
    if not num_images:
        raise DataError(f"{split.directory}: the split {split.manifest.split!r} holds no record")
    start = min(one.start for one in asked)
    running: dict[int, _Running] = {}
    broken: DataError | None = None
    with progress(title, num_images, start) as told:
        try:
            first, at = asked[0].predictor, start
            for rows in first.batches(split, first.preprocessing_for(stored), stored, start):
                placed: dict[type, Any] = {}
                for number, one in enumerate(asked):
                    skipped = max(0, one.start - at)
                    if one.gone or skipped >= len(rows.truths):
                        continue
                    error, outputs = None, {}
                    try:
                        kind = type(one.predictor)
                        if kind not in placed:
                            placed[kind] = one.predictor.place(rows.images)
                        outputs = {view: one.predictor.outputs_of(placed[kind], view) for view in one.views}
                    except UserError as e:
                        error = without_frames(e)
                    # Waiting for the batch before keeps one in flight, and the predictions off the device.
                    if number in running:
                        yield one, running.pop(number).fetch()
                    if error is not None:
                        one.gone = True
                        yield one, error
                    elif not one.gone:
                        order, truths = rows.order[skipped:], rows.truths[skipped:]
                        running[number] = _Running(
                            outputs, order, truths, one.predictor.loaded.target, one.predictor.further_heads
                        )
                at += len(rows.truths)
                told.advance(len(rows.truths))
                if all(one.gone for one in asked):
                    return
        except DataError as e:
            broken = e
        for number, batch in running.items():
            if not asked[number].gone:
                yield asked[number], batch.fetch()
        if broken is not None:
            raise broken


def progress(title: str, total: int, done: int = 0, unit: str = "images") -> Progress:
    """Told by the first host alone."""
    return Progress(title, total, unit=unit, done=done, active=jax.process_index() == 0)


class _Running(NamedTuple):
    """A batch on the device."""

    outputs: dict[View, Any]
    order: np.ndarray
    truths: list[Truth]
    target: Target | None
    further_heads: tuple[str, ...]

    def fetch(self) -> Seen:
        return {view: self._of_view(jax.device_get(output)) for view, output in self.outputs.items()}

    def _of_view(self, output: Any) -> Predictions:
        logits, byproduct = output
        heads = byproduct if isinstance(byproduct, tuple) else () if byproduct is None else (byproduct,)
        in_order = [np.asarray(values)[self.order] for values in heads]
        more = dict(zip(self.further_heads, in_order[1:], strict=True))
        first = in_order[0] if in_order else None
        return Predictions(np.asarray(logits)[self.order], first, self.truths, self.target, more)
