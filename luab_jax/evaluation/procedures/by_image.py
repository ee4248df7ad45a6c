"""Procedures that take images one after another, so that several models share what decodes and edits them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.pipeline import num_cores
from luab_jax.errors import ShardError, StorageError, UserError, WorkerLostError, without_frames
from luab_jax.evaluation.predict_together import progress
from luab_jax.evaluation.predictor import BatchPredictor
from luab_jax.evaluation.resume import Work

Scores = Mapping[str, Any]
Splits = Mapping[str, PreparedSplit]


def threads_of(predictor: BatchPredictor[Any]) -> int:
    """To read with."""
    return predictor.reading.num_threads or num_cores()


class Reader(Protocol):
    """What one model makes of the images."""

    done: int
    """Of what `Items` counts, that of earlier runs, which is not given again."""

    def take(self, item: Any) -> None:
        """The next item. Raises `DataError`."""
        ...

    def scores(self) -> Scores:
        """Once all are taken. Raises `DataError`."""
        ...


def _one(_: Any) -> int:
    return 1


@dataclass(frozen=True, slots=True)
class Items:
    """What is made of the images of opened parts for all models, and what each of these makes of it."""

    total: int
    """Number of units."""
    after: Callable[[int], Iterator[Any]]
    """The items from this position on, in a fixed order; on several hosts by all together."""
    reader: Callable[[BatchPredictor[Any], Work], Reader]
    done_by: Callable[[Any], int] = _one
    """Number of units that an item completes, at least 1."""
    unit: str = "images"
    """Plural noun for what is counted."""
    unit_of_work: str | None = None
    """Plural noun for what readers count in their work, if that is something else, of unknown total."""

    def expect(self, work: Work) -> None:
        """Tells the work what its reader will count."""
        if self.unit_of_work is None:
            work.expect(self.total, self.unit)
        else:
            work.expect(None, self.unit_of_work)


@dataclass(frozen=True, slots=True)
class ByImage:
    """A function of a predictor, the opened parts and what keeps the work, and the same of several predictors."""

    title: str
    begin: Callable[[BatchPredictor[Any], Splits], Items]
    """Called once for all predictors that are alike, with the first. Raises `DataError` where the data is no good."""
    alike: Callable[[BatchPredictor[Any]], Hashable]
    """Predictors of which this is equal have the same items."""

    def __call__(self, predictor: BatchPredictor[Any], splits: Splits, work: Work | None = None) -> Scores:
        """Raises what stopped it."""
        (outcome,) = self.together([(predictor, work or Work())], splits)
        if isinstance(outcome, UserError):
            raise outcome
        return outcome

    def together(self, asked: Sequence[tuple[BatchPredictor[Any], Work]], splits: Splits) -> list[Scores | UserError]:
        """Of predictors that are `alike`: the scores of each, or what stopped it alone.

        Raises what stops all: a record that cannot be read, a lost worker or bucket.
        """
        items = self.begin(asked[0][0], splits)
        readers = _Readers(items, asked)
        at = readers.least_done()
        with progress(self.title, items.total, at, items.unit) as told:
            for item in items.after(at) if readers else ():
                readers.take(item, at)
                count = items.done_by(item)
                assert count >= 1, "resuming behind an item that completes nothing would take it twice"
                at += count
                told.advance(count)
                if not readers:
                    break
            readers.finish()  # which has a last batch to see: part of the time that is told
        return [readers.outcomes[number] for number in range(len(asked))]


class _Readers:
    """Those of all models whose outcome is not known yet. Each is released with its outcome: it may hold much."""

    def __init__(self, items: Items, asked: Sequence[tuple[BatchPredictor[Any], Work]]):
        self.outcomes: dict[int, Scores | UserError] = {}
        self._works = [work for _, work in asked]
        self._readers: dict[int, Reader] = {}
        for number, (predictor, work) in enumerate(asked):
            items.expect(work)
            with self._noted(number):
                self._readers[number] = items.reader(predictor, work)

    def __len__(self) -> int:
        return len(self._readers)

    def least_done(self) -> int:
        return min((reader.done for reader in self._readers.values()), default=0)

    def take(self, item: Any, at: int) -> None:
        """Gives an item to those that have not done it in an earlier run."""
        for number in list(self._readers):
            if at >= self._readers[number].done:
                with self._noted(number):
                    self._readers[number].take(item)

    def finish(self) -> None:
        for number in list(self._readers):
            with self._noted(number):
                self.outcomes[number] = self._readers.pop(number).scores()

    @contextlib.contextmanager
    def _noted(self, number: int) -> Iterator[None]:
        try:
            yield
        except (ShardError, WorkerLostError):
            raise  # of the machine or the data: all models meet it
        except UserError as e:
            if isinstance(e, StorageError) and self._works[number].failed is None:
                raise  # the data's
            self._readers.pop(number, None)
            self.outcomes[number] = without_frames(e)
