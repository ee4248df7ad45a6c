"""Runs suites on a loaded model, decoding shared data once."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from etils import epath

from luab_jax.data.dataset import has_split, open_split
from luab_jax.errors import DataError, UserError
from luab_jax.evaluation.predict import Predictor
from luab_jax.evaluation.results import Results
from luab_jax.evaluation.saved import PredictionWriter, describe
from luab_jax.evaluation.suite import Part, Suite
from luab_jax.evaluation.suite_run import Evaluated, Predicts, Source, SuiteRun, data_identity
from luab_jax.evaluation.suites import SUITES
from luab_jax.log import say


@dataclass(frozen=True, slots=True)
class Missing:
    """A suite that was asked for and could not run."""

    suite: Suite
    reason: str


def choose_suites(names: str) -> list[Suite]:
    """`all` (but those that must be named), or a comma-separated choice; raises `UserError` listing what there is."""
    if names == "all":
        return [suite for suite in SUITES if not suite.only_if_named]
    known = {suite.name: suite for suite in SUITES}
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise UserError(f"--suites={names}: no suite {', '.join(unknown) or 'named'}; there are {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(wanted)]


def find_part(data: epath.PathLike, part: Part) -> epath.Path | None:
    """The first of a part's directories that holds its whole split; else the first that holds any of it."""
    found = [epath.Path(data) / name if name != "." else epath.Path(data) for name in part.directories]
    found = [directory for directory in found if has_split(directory, part.split)]
    if len(found) < 2:
        return found[0] if found else None
    return min(found, key=lambda directory: open_split(directory, part.split).manifest.partial)  # the first of equals


def evaluate(
    loaded: Evaluated,
    predictor: Predicts,
    data: epath.PathLike,
    suites: Iterable[Suite],
    results: Results,
    save_to: epath.PathLike | None = None,
) -> list[Missing]:
    """Runs every suite whose data is there and that has no result yet; returns those that could not run.

    With `save_to` the predictions of every split are kept there.
    """
    runs: dict[str, SuiteRun] = {}
    missing: list[Missing] = []
    for suite in suites:
        found = {name: find_part(data, part) for name, part in suite.parts.items()}
        if suite.name in results.suites:
            if results.suites[suite.name].get("data") == data_identity(suite, found):
                say(f"{suite.name}: already in the results")
                continue
            say(f"{suite.name}: its result is of other data, running it again")
        reason = _why_not(suite, found, loaded, predictor)
        if reason:
            missing.append(Missing(suite, reason))
        else:
            runs[suite.name] = SuiteRun(
                suite, {name: d for name, d in found.items() if d is not None}, loaded.preprocessing.image_size
            )
    for run in [run for run in runs.values() if run.suite.procedure is not None]:
        try:
            results.add(run.suite.name, _carry_out(runs.pop(run.suite.name), loaded, predictor))
        except DataError as e:
            missing.append(Missing(run.suite, str(e)))
    while runs:
        source = next(source for run in runs.values() for source in run.waiting())
        readers = [run for run in runs.values() if source in run.waiting()]
        try:
            failed = _read(source, readers, loaded, predictor, save_to)
        except DataError as e:  # one broken set does not cost the results of the others
            failed = [Missing(run.suite, str(e)) for run in readers]
        for entry in failed:
            del runs[entry.suite.name]
        missing += failed
        for run in [run for run in runs.values() if not run.waiting()]:
            try:
                results.add(run.suite.name, run.scores())
            except DataError as e:
                missing.append(Missing(run.suite, str(e)))
            del runs[run.suite.name]
    return missing


def _carry_out(run: SuiteRun, loaded: Evaluated, predictor: Predicts) -> dict[str, Any]:
    """A procedure on its data; raises `DataError` where that is not for it."""
    assert run.suite.procedure is not None
    sources = run.sources()
    opened = {name: open_split(source.directory, source.split) for name, source in sources.items()}
    for name, source in sources.items():
        run.check(opened[name], source, loaded)
    start = time.monotonic()
    scores = run.suite.procedure(predictor, opened)
    for name, source in sources.items():
        run.finish(source, opened[name], 0.0)
    run.seconds = time.monotonic() - start
    return {**scores, **run.facts()}


def _why_not(
    suite: Suite, found: Mapping[str, epath.Path | None], loaded: Evaluated, predictor: Predicts
) -> str | None:
    if suite.label_sets != loaded.label_sets:
        return f"the checkpoint was trained on {'sets of labels' if loaded.label_sets else 'one label per image'}"
    if suite.needs_byproduct_head and not loaded.has_byproduct_head:
        return "the checkpoint has no byproduct head"
    if reason := suite.label_space.why_not(loaded.class_list_hash, loaded.num_classes):
        return reason
    if suite.procedure is not None and not isinstance(predictor, Predictor):
        return "it asks the model for more than its predictions of a set, which is all that was kept"
    absent = [name for name, directory in found.items() if directory is None and not suite.parts[name].optional]
    return f"no data for {', '.join(absent)}; get it with: {suite.how_to_get}" if absent else None


def _read(
    source: Source,
    readers: Sequence[SuiteRun],
    loaded: Evaluated,
    predictor: Predicts,
    save_to: epath.PathLike | None,
) -> list[Missing]:
    """Predicts a source in every view that is wanted, and lets each suite keep what it needs of each batch.

    Returns the suites that the data is not for. Raises `DataError` where it is for none, or cannot be read.
    """
    start = time.monotonic()
    opened = open_split(source.directory, source.split)
    missing: list[Missing] = []

    def those_that(accept: Callable[[SuiteRun], None], runs: list[SuiteRun]) -> list[SuiteRun]:
        accepted = []
        for run in runs:
            try:
                accept(run)
            except DataError as e:
                missing.append(Missing(run.suite, str(e)))
            else:
                accepted.append(run)
        return accepted

    runs = those_that(lambda run: run.check(opened, source, loaded), list(readers))
    views = sorted({view for run in runs for view in run.views(source)}, key=lambda view: view.value)
    if not views:
        return missing
    with ExitStack() as stack:
        writers = {}
        if save_to is not None:
            about = describe(loaded)
            writers = {v: stack.enter_context(PredictionWriter(save_to, opened, v, about)) for v in views}
        for predictions in predictor.stream(opened, views, source.stored):
            runs = those_that(functools.partial(SuiteRun.keep, source=source, predictions=predictions), runs)
            if not runs:
                break
            for view, writer in writers.items():
                writer.add(predictions[view])
    seconds = time.monotonic() - start
    for run in runs:
        run.finish(source, opened, seconds)
    return missing
