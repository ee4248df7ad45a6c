"""One source, decoded and predicted once for all suites that read it; what an earlier run did of it is taken up."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack

import jax
from etils import epath

from luab_jax import sharding
from luab_jax.data.dataset import open_split
from luab_jax.errors import CheckpointError, DataError
from luab_jax.evaluation.columns import Columns, as_texts, below, texts, under
from luab_jax.evaluation.finite import check_finite
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.saved import PredictionWriter, compacted, describe
from luab_jax.evaluation.suite import View
from luab_jax.evaluation.suite_run import Evaluated, Missing, Predicts, Source, SuiteRun
from luab_jax.evaluation.unfinished import Unfinished

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
        unfinished: Unfinished,
        save_to: epath.PathLike | None = None,
    ):
        """Raises `DataError` if the source cannot be opened."""
        self._source, self._loaded, self._save_to = source, loaded, save_to
        self._opened = open_split(source.directory, source.split)
        self.missing: list[Missing] = []
        """The suites that the data is not for."""
        self._runs: list[SuiteRun] = []
        for run in readers:
            try:
                run.check(self._opened, source, loaded)
            except DataError as e:
                self.missing.append(Missing(run.suite, str(e)))
            else:
                self._runs.append(run)
        name = f"{self._opened.manifest.dataset}-{source.split}"
        facts = {"stored": str(source.stored), "predictions": save_to is not None}
        self.work = unfinished.work(name, {source.split: self._opened}, **facts)

    def read(self, predictor: Predicts) -> None:
        """Lets each suite keep what it needs of every batch; raises `DataError` where the source cannot be read."""
        try:
            self._read(predictor)
        except _OtherSuitesError:
            self.work.remove()
            for run in self._runs:
                run.forget(self._source)
            self._read(predictor)

    def _read(self, predictor: Predicts) -> None:
        views = sorted({v for run in self._runs for v in run.views(self._source)}, key=lambda view: view.value)
        with ExitStack() as stack:
            writers: dict[View, PredictionWriter] = {}
            if self._save_to is not None and jax.process_index() == 0:
                about = describe(self._loaded)
                writers = {
                    v: stack.enter_context(PredictionWriter(self._save_to, self._opened, v, about)) for v in views
                }
            stack.enter_context(self.work)
            done = self._take_up(writers)
            sharding.agree({f"data in {self._source.directory}": self._opened.manifest.fingerprint, "done": done})
            start = time.monotonic()
            if views and (not done or done < len(self._opened.records)):
                self._predict(predictor, views, writers, done)
            seconds = self.work.seconds + time.monotonic() - start
        for run in self._runs:
            run.finish(self._source, self._opened, seconds)

    def _take_up(self, writers: Writers) -> int:
        """Keeps again what an earlier run kept; returns of how many images."""
        done = 0
        for step in self.work.done():
            for run in list(self._runs):
                if (message := step.columns.get(f"failed/{run.suite.name}")) is not None:
                    self._drop(run, as_texts(message)[0])
                elif not run.keep_again(self._source, step.columns, self._loaded.target):
                    raise _OtherSuitesError
            for view, writer in writers.items():
                if not (compact := below(f"saved/{view.value}", step.columns)):
                    raise _OtherSuitesError
                writer.add(compact)
            done = step.stop
        return done

    def _predict(self, predictor: Predicts, views: list[View], writers: Writers, done: int) -> None:
        """The images after `done`."""
        for predictions in predictor.stream(self._opened, views, self._source.stored, done):
            columns = self._keep(predictions)
            for view, writer in writers.items():
                compact = compacted(predictions[view])
                writer.add(compact)
                columns |= under(f"saved/{view.value}", compact)
            self.work.add(len(predictions[views[0]]), columns)
            if not self._runs:
                break

    def _keep(self, predictions: Mapping[View, Predictions]) -> Columns:
        columns: Columns = {}
        for run in list(self._runs):
            try:
                for view in run.views(self._source):
                    self._check(predictions[view], with_byproduct=run.suite.needs_byproduct_head)
                columns |= run.keep(self._source, predictions)
            except (CheckpointError, DataError) as e:
                self._drop(run, str(e))
                columns[f"failed/{run.suite.name}"] = texts([str(e)])
        return columns

    def _check(self, predictions: Predictions, *, with_byproduct: bool) -> None:
        images = [truth.file_name for truth in predictions.truths]
        check_finite(self._loaded, predictions.logits, images)
        if with_byproduct and predictions.byproduct is not None:
            check_finite(self._loaded, predictions.byproduct, images)

    def _drop(self, run: SuiteRun, message: str) -> None:
        self.missing.append(Missing(run.suite, message))
        self._runs.remove(run)
