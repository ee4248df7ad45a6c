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
    """Images of earlier runs, which are not given again."""

    def take(self, item: Any) -> None:
        """The next image. Raises `DataError`."""
        ...

    def scores(self) -> Scores:
        """Once all are taken. Raises `DataError`."""
        ...


@dataclass(frozen=True, slots=True)
class ByImage:
    """A function of a predictor, the opened parts and what keeps the work, and the same of several predictors."""

    title: str
    items: Callable[[BatchPredictor[Any], Splits, int], Iterator[Any]]
    """What is made of the images from a number on, in the order of the records; on several hosts by all together."""
    alike: Callable[[BatchPredictor[Any]], Hashable]
    """Predictors of which this is equal have the same items."""
    reader: Callable[[BatchPredictor[Any], Splits, Work], Reader]

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
        outcomes: dict[int, Scores | UserError] = {}
        readers: dict[int, Reader] = {}
        for number, (predictor, work) in enumerate(asked):
            with _noted(number, work, outcomes):
                readers[number] = self.reader(predictor, splits, work)
        start = min((reader.done for reader in readers.values()), default=0)
        total = len(next(iter(splits.values())).records)
        with progress(self.title, total, start) as told:
            for index, item in enumerate(self.items(asked[0][0], splits, start) if readers else (), start):
                for number, reader in readers.items():
                    if number not in outcomes and index >= reader.done:
                        with _noted(number, asked[number][1], outcomes):
                            reader.take(item)
                told.advance(1)
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
        outcomes[number] = e
