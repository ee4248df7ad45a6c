"""One source, decoded and predicted once for all suites that read it; what an earlier run did of it is taken up."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack

import jax
from etils import epath

from luab_jax.data.copies import SplitCache
from luab_jax.data.dataset import PreparedSplit, open_split
from luab_jax.data.transforms import Stored
from luab_jax.distributed import sharding
from luab_jax.errors import CheckpointError, DataError, StorageError, UserError, WorkerLostError, without_frames
from luab_jax.evaluation.accumulator import Evaluated, Missing, Predicts, Source, SuiteRun
from luab_jax.evaluation.columns import Columns, as_texts, below, of_heads, texts, under
from luab_jax.evaluation.finite import check_finite
from luab_jax.evaluation.own_storage import agreed, of_any_host
from luab_jax.evaluation.predict_together import Asked, predict_together
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.predictor import BatchPredictor
from luab_jax.evaluation.resume import Unfinished
from luab_jax.evaluation.saved_predictions import PredictionWriter, compacted, describe
from luab_jax.evaluation.settings import font_of
from luab_jax.evaluation.suite import Need, View

Writers = Mapping[View, PredictionWriter]


class _OtherSuitesError(Exception):
    """What an earlier run kept is not what is asked for now."""


class SourceReading:
    """A source on its way to the suites that read it."""

    def __init__(
        self,
        source: Source,
        readers: Iterable[SuiteRun],
        loaded: Evaluated,
        predictor: Predicts,
        unfinished: Unfinished,
        save_to: epath.PathLike | None = None,
    ):
        """Raises `DataError` if the source cannot be opened."""
        self._source, self._loaded, self._save_to = source, loaded, save_to
        self.opened = open_split(source.directory, source.split)
        self._font = font_of(predictor, self.opened)
        self.missing: list[Missing] = []
        """The suites that the data is not for."""
        self._runs: list[SuiteRun] = []
        for run in readers:
            try:
                run.check(self.opened, source, loaded)
            except DataError as e:
                self.missing.append(Missing(run.suite, str(e)))
            else:
                self._runs.append(run)
        self._writers: Writers = {}
        self._stack = ExitStack()
        self._start, self.done = 0.0, 0
        self.views: list[View] = []
        """That its suites want; known once it has begun."""
        name = f"{self.opened.manifest.dataset}-{source.split}"
        facts: dict[str, object] = {"stored": str(source.stored), "predictions": save_to is not None}
        if View.WATERMARK in self._wanted():
            facts["font"] = self._font
        self.work = unfinished.work(name, {source.split: self.opened}, **facts)

    def begin(self) -> None:
        """Takes up what an earlier run kept; until `end` what comes is written. Raises `StorageError` on all hosts."""
        self.views = sorted(self._wanted(), key=lambda view: view.value)
        for _ in range(2):  # what is of other suites is forgotten, and the work begins anew
            with ExitStack() as stack:
                with agreed():
                    writers = self._open_writers(stack)
                stack.enter_context(self.work)
                try:
                    self.done = self._take_up(writers)
                except _OtherSuitesError:
                    pass
                else:
                    self._writers, self._stack = writers, stack.pop_all()
                    break
            self.work.remove()
            self.work.settle()
            for run in self._runs:
                run.forget(self._source)
        sharding.agree({f"data in {self._source.directory}": self.opened.manifest.fingerprint, "done": self.done})
        self._start = time.monotonic()

    def _wanted(self) -> set[View]:
        return {view for run in self._runs for view in run.views(self._source)}

    def _open_writers(self, stack: ExitStack) -> Writers:
        writers: dict[View, PredictionWriter] = {}
        if self._save_to is not None and jax.process_index() == 0:
            about = describe(self._loaded)
            for view in self.views:
                of_view = about | ({"font": self._font} if view is View.WATERMARK else {})
                writers[view] = stack.enter_context(PredictionWriter(self._save_to, self.opened, view, of_view))
        return writers

    @property
    def asks(self) -> bool:
        """Whether any image is still to be predicted."""
        return bool(self.views) and (not self.done or self.done < len(self.opened.records))

    def take(self, predictions: Mapping[View, Predictions]) -> bool:
        """Keeps what each suite needs of a batch; False if no suite wants more. Raises `StorageError`, on all hosts."""
        views = list(predictions)
        columns = self._keep(predictions)
        for view, writer in self._writers.items():
            compact = compacted(predictions[view])
            self._write(writer, compact)
            columns |= under(f"saved/{view.value}", compact)
        self.work.add(len(predictions[views[0]]), columns)
        return bool(self._runs)

    def _write(self, writer: PredictionWriter, compact: Columns) -> None:
        """Of several hosts the others do not know of an error here, and would wait for this one."""
        if self.work.failed is not None:
            return
        try:
            writer.add(compact)
        except StorageError as e:
            self.work.failed = e
            if jax.process_count() == 1:
                raise

    def end(self, error: UserError | None = None) -> UserError | None:
        """Writes what waits, after an error too; returns it as the work tells it, or that something could not be
        written. Without one the suites have their source."""
        ended: UserError | None = None
        try:
            with self._stack:
                if (first := error or self.work.failed) is not None:
                    raise first
        except UserError as e:
            ended = without_frames(e)
        own = ended if isinstance(ended, StorageError) else self.work.failed
        ended = of_any_host(own) or ended
        if ended is None:
            seconds = self.work.seconds + time.monotonic() - self._start
            for run in self._runs:
                run.finish(self._source, self.opened, seconds)
        return ended

    def close(self) -> None:
        """After an interruption: what waits is written."""
        self._stack.close()

    def _take_up(self, writers: Writers) -> int:
        """Keeps again what an earlier run kept; returns of how many images."""
        done = 0
        for step in self.work.done():
            for run in list(self._runs):
                if (message := step.columns.get(run.failure)) is not None:
                    self._drop(run, as_texts(message)[0])
                elif not run.keep_again(self._source, step.columns, self._loaded.target):
                    raise _OtherSuitesError
            saved = {
                view: below(f"saved/{view.value}", step.columns) for view in self.views if self._save_to is not None
            }
            if not all(saved.values()):  # on all hosts alike, though the first alone writes
                raise _OtherSuitesError
            for view, writer in writers.items():
                self._write(writer, saved[view])
            done = step.stop
        return done

    def _keep(self, predictions: Mapping[View, Predictions]) -> Columns:
        columns: Columns = {}
        for run in list(self._runs):
            try:
                for view in run.views(self._source):
                    self._check(predictions[view], with_byproduct=Need.BYPRODUCT_HEAD in run.suite.needs)
                columns |= run.keep(self._source, predictions)
            except (CheckpointError, DataError) as e:
                self._drop(run, str(e))
                columns[run.failure] = texts([str(e)])
        return columns

    def _check(self, predictions: Predictions, *, with_byproduct: bool) -> None:
        images = [truth.file_name for truth in predictions.truths]
        check_finite(self._loaded, predictions.logits, images)
        for values in of_heads(predictions).values() if with_byproduct else ():
            check_finite(self._loaded, values, images)

    def _drop(self, run: SuiteRun, message: str) -> None:
        self.missing.append(Missing(run.suite, message))
        self._runs.remove(run)


def read_together(
    readings: Sequence[SourceReading],
    predictors: Sequence[Predicts],
    stored: Stored,
    cache: SplitCache | None = None,
) -> list[UserError | None]:
    """Reads a source for models that see the same pixels, so that each image is decoded once; of each the error that
    it ended with.

    An error of the data is one of all, a model's is its own alone, and so is one of where its work is kept. Raises
    `StorageError` of the bucket that the data is in.
    """
    errors: list[UserError | None] = [None] * len(readings)
    begun: list[int] = []
    with ExitStack() as interrupted:
        for number, reading in enumerate(readings):
            try:
                reading.begin()
            except StorageError as e:
                errors[number] = without_frames(e)
            else:
                interrupted.callback(reading.close)
                begun.append(number)
        asking = [number for number in begun if readings[number].asks]
        try:
            _predict([readings[i] for i in asking], [predictors[i] for i in asking], stored, cache, asking, errors)
        except DataError as e:
            errors = [error or (e if i in asking else None) for i, error in enumerate(errors)]
        for number in begun:
            errors[number] = readings[number].end(errors[number])
        return errors


def _predict(
    readings: Sequence[SourceReading],
    predictors: Sequence[Predicts],
    stored: Stored,
    cache: SplitCache | None,
    numbers: Sequence[int],
    errors: list[UserError | None],
) -> None:
    """The images after what each has; a model that fails leaves its error at its place of `errors`."""
    if cache is not None and any(isinstance(predictor, BatchPredictor) for predictor in predictors):
        with cache.reading(readings[0].opened) as split:
            _predict_split(split, readings, predictors, stored, numbers, errors)
    elif readings:
        _predict_split(readings[0].opened, readings, predictors, stored, numbers, errors)


def _predict_split(
    split: PreparedSplit,
    readings: Sequence[SourceReading],
    predictors: Sequence[Predicts],
    stored: Stored,
    numbers: Sequence[int],
    errors: list[UserError | None],
) -> None:
    """From the one split that all of them read."""
    if len(readings) == 1:
        [reading], [predictor] = readings, predictors
        try:
            for predictions in predictor.stream(split, reading.views, stored, reading.done):
                try:
                    wants_more = reading.take(predictions)
                except StorageError as e:  # what is kept of this model cannot be written
                    errors[numbers[0]] = without_frames(e)
                    break
                if not wants_more:
                    break
        except (DataError, StorageError, WorkerLostError):  # of no model
            raise
        except UserError as e:
            errors[numbers[0]] = without_frames(e)
        return
    asked = [
        Asked(predictor, reading.views, reading.done)
        for reading, predictor in zip(readings, predictors, strict=True)
        if isinstance(predictor, BatchPredictor)
    ]
    assert len(asked) == len(readings), "what was kept of a model decodes nothing, and is read by itself"
    for one, seen in predict_together(split, asked, stored):
        number = asked.index(one)
        if isinstance(seen, UserError):
            errors[numbers[number]] = seen
        else:
            try:
                if not readings[number].take(seen):
                    one.gone = True
            except StorageError as e:  # what is kept of this model cannot be written
                errors[numbers[number]] = without_frames(e)
                one.gone = True
