"""Procedures that take images one after another, so that several models share what decodes and edits them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.pipeline import num_cores
from luab_jax.errors import ShardError, StorageError, UserError, WorkerLostError
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
    """Images, as a rule."""
    after: Callable[[int], Iterator[Any]]
    """What comes after so many of the total, in an order that never changes; on several hosts by all together."""
    reader: Callable[[BatchPredictor[Any], Work], Reader]
    done_by: Callable[[Any], int] = _one
    """How many of the total are done with once an item is taken."""


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
        outcomes: dict[int, Scores | UserError] = {}
        readers: dict[int, Reader] = {}
        for number, (predictor, work) in enumerate(asked):
            with _noted(number, work, outcomes):
                readers[number] = items.reader(predictor, work)
        at = min((reader.done for reader in readers.values()), default=0)
        with progress(self.title, items.total, at) as told:
            for item in items.after(at) if readers else ():
                for number, reader in readers.items():
                    if number not in outcomes and at >= reader.done:
                        with _noted(number, asked[number][1], outcomes):
                            reader.take(item)
                at += items.done_by(item)
                told.advance(items.done_by(item))
                if len(outcomes) == len(asked):
                    break
            for number, reader in readers.items():  # which has a last batch to see: part of the time that is told
                if number not in outcomes:
                    with _noted(number, asked[number][1], outcomes):
                        outcomes[number] = reader.scores()
        return [outcomes[number] for number in range(len(asked))]


@contextlib.contextmanager
def _noted(number: int, work: Work, outcomes: dict[int, Scores | UserError]) -> Iterator[None]:
    try:
        yield
    except (ShardError, WorkerLostError):
        raise  # of the machine or the data: all models meet it
    except UserError as e:
        if isinstance(e, StorageError) and work.failed is None:
            raise  # the data's
        outcomes[number] = e.with_traceback(None)  # which would keep the images in memory
