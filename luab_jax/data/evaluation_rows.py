"""Rows of evaluation batches: records resized and cut as the checkpoint states, and what is known of them.

Threads and worker processes make them alike, so nothing here imports jax or Grain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from luab_jax.byproducts.geometry import Affines, identity
from luab_jax.byproducts.kinds import TargetSettings
from luab_jax.byproducts.targets import Target, make_targets, scored_target
from luab_jax.data.features import Example
from luab_jax.data.slots import Column
from luab_jax.data.training_rows import Records, label_columns, multi_hot, suffix, target_columns
from luab_jax.data.transforms import Preprocessing, Stored, input_of_file


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of one evaluation image, in fractions of the model's input."""

    file_name: str
    label: int
    labels: tuple[int, ...]
    group: str
    click: Float[np.ndarray, " 2"] | None
    """The final click, where it lies inside the input."""
    box: Float[np.ndarray, " 4"] | None
    """The class's box, clipped to the input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRows:
    """Makes rows of a `Batch` with the truth about each."""

    records: Records
    preprocessing: Preprocessing
    stored: Stored
    num_classes: int | None
    """Of sets of labels."""
    target: Target
    """What the model was trained on; the rows have `scored_target` of it."""
    settings: TargetSettings
    more: tuple[Target, ...] = ()
    """Targets after the first."""

    @property
    def scored(self) -> tuple[Target, ...]:
        """For each target what its head's output is compared with."""
        return tuple(scored_target(target, self.num_classes) for target in (self.target, *self.more))

    def columns(self) -> dict[str, Column]:
        """The columns of a `Batch` without weights."""
        side = self.preprocessing.image_size
        columns = {"images": Column((side, side, 3), np.dtype(np.uint8))}
        first, *more = self.scored
        columns |= label_columns(first, self.num_classes, self.settings)
        for place, target in enumerate(more, 1):
            columns |= target_columns(target, self.num_classes, self.settings, place)
        return columns

    def fill(
        self, places: Int[np.ndarray, "n 2"], rows: Mapping[str, np.ndarray], tell: Callable[[], None]
    ) -> list[Truth]:
        """The truths of the records of `places[:, 1]`, in order; -1 is padding, of which there is none.

        Calls `tell` after each image. Raises `DataError` naming the image that cannot be read, or is not what the
        suite's protocol says.
        """
        rows["index"][:] = places[:, 1]
        rows["mask"][:] = places[:, 1] >= 0
        examples: list[Example] = []
        views = []
        for row, index in zip(rows["images"], places[:, 1].tolist(), strict=True):
            if index < 0:
                row[:] = 0
                continue
            example = Example(self.records[index])
            row[:], view = input_of_file(example.image, example.file_name, self.preprocessing, self.stored)
            examples.append(example)
            views.append(view)
            tell()
        return self._truths(examples, Affines.of(views or [identity()]), rows)

    def _truths(self, examples: Sequence[Example], views: Affines, rows: Mapping[str, np.ndarray]) -> list[Truth]:
        byproducts = [example.byproducts() for example in examples]
        absent = rows["index"] < 0
        for place in range(len(self.scored)):
            rows[f"targets{suffix(place)}"][absent], rows[f"valid{suffix(place)}"][absent] = 0, False
        rows["labels"][absent] = -1 if self.num_classes is None else False
        if not examples:
            return []
        for place, target in enumerate(self.scored):
            rows[f"targets{suffix(place)}"][~absent], rows[f"valid{suffix(place)}"][~absent] = make_targets(
                target, byproducts, views, seed=0, num_classes=self.num_classes, settings=self.settings
            )
        if self.num_classes is None:
            rows["labels"][~absent] = [example.label for example in examples]
        else:
            rows["labels"][~absent] = [multi_hot(example.labels, self.num_classes) for example in examples]
        clicks = make_targets(Target.CLICK_LAST, byproducts, views, seed=0)
        boxes = make_targets(Target.BOX, byproducts, views, seed=0)
        return [
            Truth(
                file_name=example.file_name,
                label=example.label,
                labels=tuple(example.labels.tolist()),
                group=example.group,
                click=clicks.values[i, 0] if clicks.valid[i, 0] else None,
                box=boxes.values[i, 0] if boxes.valid[i, 0] else None,
            )
            for i, example in enumerate(examples)
        ]
