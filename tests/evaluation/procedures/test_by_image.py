"""Procedures that take images one after another: several models share the images, and nothing else."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from etils import epath

from luab_jax.data.dataset import PreparedSplit
from luab_jax.errors import CheckpointError, DataError, ShardError
from luab_jax.evaluation.predictor import BatchPredictor
from luab_jax.evaluation.procedures.by_image import ByImage, Items
from luab_jax.evaluation.resume import Work

SPLITS: Any = {"val": Mock(spec=PreparedSplit, records=range(7))}


@dataclass
class Sums:
    """A reader that adds up images from one on, and stops at another."""

    done: int = 0
    stops_at: int = 99
    taken: list[int] = field(default_factory=list)

    def take(self, item: int) -> None:
        if item == self.stops_at:
            raise CheckpointError(f"image {item}: NaN")
        self.taken.append(item)

    def scores(self) -> dict[str, Any]:
        if not self.taken:
            raise DataError("nothing to score")
        return {"sum": sum(self.taken)}


def by_image(made: list[int], broken: int = 99) -> ByImage:
    """Of predictors that hold their reader; images are numbers, and every one that is made is noted."""

    def begin(_: Any, splits: Any) -> Items:
        total = len(splits["val"].records)

        def after(start: int) -> Iterator[int]:
            for number in range(start, total):
                if number == broken:
                    raise ShardError(f"record {number} fails its CRC")
                made.append(number)
                yield number

        return Items(total, after, reader_of)

    return ByImage("sums", begin, lambda _: 0)


def reader_of(predictor: Any, _: Work) -> Sums:
    return predictor.reader


def model(reader: Sums) -> Any:
    return Mock(spec=BatchPredictor, reader=reader)


def asked(*readers: Sums) -> list[Any]:
    return [(model(reader), Work()) for reader in readers]


def test_images_are_made_once_for_all_models() -> None:
    made: list[int] = []
    assert by_image(made).together(asked(Sums(), Sums(), Sums()), SPLITS) == [{"sum": 21}] * 3
    assert made == list(range(7))


def test_a_model_goes_on_after_its_own_last_image() -> None:
    made: list[int] = []
    behind, ahead = Sums(done=2), Sums(done=5)
    assert by_image(made).together(asked(ahead, behind), SPLITS) == [{"sum": 11}, {"sum": 20}]
    assert made == [2, 3, 4, 5, 6] and ahead.taken == [5, 6]


def of_sizes(sizes: list[int]) -> ByImage:
    """Each item stands for so many images."""

    def after(start: int) -> Iterator[int]:
        at = 0
        for size in sizes:
            if at >= start:
                yield size
            at += size

    def begin(_: Any, __: Any) -> Items:
        return Items(sum(sizes), after, reader_of, done_by=lambda size: size)

    return ByImage("sizes", begin, lambda _: 0)


def test_an_item_may_stand_for_several_images() -> None:
    """A model goes on after its last one, and others take all."""
    sizes = [2, 1, 3, 2]
    whole, after_two, after_six = Sums(), Sums(done=2), Sums(done=6)
    of_sizes(sizes).together(asked(whole, after_two, after_six), SPLITS)
    assert [reader.taken for reader in (whole, after_two, after_six)] == [sizes, sizes[1:], sizes[3:]]


def test_an_item_that_stands_for_none_is_refused() -> None:
    """A model whose work ends with one would take it again on resuming."""
    with pytest.raises(AssertionError, match="would take it twice"):
        of_sizes([2, 0]).together(asked(Sums()), SPLITS)


def test_a_reader_is_released_as_soon_as_its_outcome_is_known() -> None:
    """It may hold the answers of millions of images."""
    living: list[weakref.ref[Sums]] = []
    seen: list[list[bool]] = []
    stops = iter((2, 99, 99))

    def note() -> None:
        seen.append([reader() is not None for reader in living])

    class Noting(Sums):
        def scores(self) -> dict[str, Any]:
            note()
            return super().scores()

    def reader(_: Any, __: Work) -> Sums:
        made = Noting(stops_at=next(stops))
        living.append(weakref.ref(made))
        return made

    def after(_: int) -> Iterator[int]:
        for number in range(5):
            note()
            yield number

    models = [(Mock(spec=BatchPredictor), Work()) for _ in range(3)]
    ByImage("released", lambda _, __: Items(5, after, reader), lambda _: 0).together(models, SPLITS)
    assert seen == [[True, True, True]] * 3 + [[False, True, True]] * 3 + [[False, False, True]]


def test_the_outcome_of_a_model_that_failed_keeps_no_frame_in_memory() -> None:
    """Nor do the errors that it came from."""
    batches: list[weakref.ref[Any]] = []

    class Batch:
        pass

    class Failing(Sums):
        def take(self, item: int) -> None:
            batch = Batch()
            batches.append(weakref.ref(batch))
            try:
                try:
                    raise KeyError(f"of {batch}")
                except KeyError:
                    int("no number")
            except ValueError as e:
                raise CheckpointError("no array") from e

    (outcome,) = by_image([]).together(asked(Failing()), SPLITS)
    assert isinstance(outcome, CheckpointError)
    assert isinstance(outcome.__cause__, ValueError) and isinstance(outcome.__cause__.__context__, KeyError)
    assert [batch() for batch in batches] == [None]


@pytest.mark.parametrize(
    ("names", "total", "told"),
    [
        ({}, 7, "What was computed of the 3 images before is kept"),
        ({"unit": "videos"}, 7, "What was computed of the 3 videos before is kept"),
        ({"unit": "videos", "unit_of_work": "frames"}, None, "What was computed of the 3 frames before is kept"),
    ],
)
def test_work_knows_what_its_reader_counts(names: dict[str, str], total: int | None, told: str, tmp_path: Path) -> None:
    """And how many there are: not the records of all splits."""

    class Keeping(Sums):
        def take(self, item: int) -> None:
            work.add(1, {"x": np.full(1, item)})

    def after(_: int) -> Iterator[int]:
        yield from range(3)
        raise ShardError("record 3 fails its CRC")

    work = Work(epath.Path(tmp_path / "work"), "w", total=1000)
    suite = ByImage("units", lambda _, __: Items(7, after, lambda _, __: Keeping(), **names), lambda _: 0)
    with pytest.raises(ShardError, match=told), work:
        suite(Mock(spec=BatchPredictor), SPLITS, work)
    assert work.total == total


def test_a_model_that_is_stopped_stops_no_other() -> None:
    made: list[int] = []
    sound = Sums()
    stopped, scored = by_image(made).together(asked(Sums(stops_at=1), sound), SPLITS)
    assert isinstance(stopped, CheckpointError) and "image 1" in str(stopped) and scored == {"sum": 21}
    assert sound.taken == list(range(7))


def test_no_image_is_made_for_nobody() -> None:
    made: list[int] = []
    outcomes = by_image(made).together(asked(Sums(stops_at=0), Sums(stops_at=2)), SPLITS)
    assert all(isinstance(outcome, CheckpointError) for outcome in outcomes) and made == [0, 1, 2]


def test_a_record_that_cannot_be_read_stops_all() -> None:
    with pytest.raises(ShardError, match="record 3"):
        by_image([], broken=3).together(asked(Sums(), Sums()), SPLITS)


def test_one_model_alone_raises_what_stopped_it() -> None:
    assert by_image([])(model(Sums()), SPLITS) == {"sum": 21}
    with pytest.raises(CheckpointError, match="image 4"):
        by_image([])(model(Sums(stops_at=4)), SPLITS)
    with pytest.raises(DataError, match="nothing to score"):
        by_image([])(model(Sums(done=9)), SPLITS)
