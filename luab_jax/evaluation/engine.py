"""Runs suites on a loaded model, decoding shared data once."""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Iterable, Mapping

import jax
from etils import epath

from luab_jax import sharding
from luab_jax.data.dataset import has_split, open_split
from luab_jax.errors import CheckpointError, DataError, ShardError, UserError
from luab_jax.evaluation.compilations import Compilations
from luab_jax.evaluation.predict import Predictor
from luab_jax.evaluation.reading import SourceReading
from luab_jax.evaluation.results import COMPILATIONS, Results
from luab_jax.evaluation.suite import Part, Suite
from luab_jax.evaluation.suite_run import Evaluated, Missing, Predicts, Source, SuiteRun, data_identity
from luab_jax.evaluation.suites import SUITES
from luab_jax.evaluation.unfinished import Work
from luab_jax.log import say


def choose_suites(names: str) -> list[Suite]:
    """`all` (but those that must be named), or a comma-separated choice; raises `UserError` listing what there is."""
    if names == "all":
        return [suite for suite in SUITES if not suite.only_if_named]
    known = {suite.name: suite for suite in SUITES}
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        near = [match for name in unknown for match in difflib.get_close_matches(name, known, n=1)]
        hint = f"; did you mean {', '.join(near)}?" if near else ";"
        raise UserError(
            f"--suites={names}: no suite {', '.join(unknown) or 'named'}{hint} there are all, {', '.join(known)}"
        )
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
    runs, missing = _plan(loaded, predictor, data, suites, results)
    sharding.agree(
        {f"suites to run, and data in {os.fspath(data)}": str([(r.suite.name, r.directories) for r in runs])}
    )
    if runs:
        with Compilations() as compiled:
            predicted = [run for run in runs if run.suite.procedure is None]
            missing += _read_all(predicted, loaded, predictor, results, save_to)
            for run in [run for run in runs if run.suite.procedure is not None]:
                try:
                    _carry_out(run, predictor, results)
                except (CheckpointError, DataError) as e:
                    if isinstance(e, ShardError) and jax.process_count() > 1:
                        raise  # the others may have read it, and wait for this host
                    missing.append(Missing(run.suite, str(e)))
        facts = {"programs": compiled.count, "seconds": round(compiled.seconds, 2)}
        if isinstance(predictor, Predictor):
            facts["programs_of_predict"] = predictor.num_programs
        results.note(COMPILATIONS, facts)
    results.unfinished.tidy()
    return missing


def _plan(
    loaded: Evaluated, predictor: Predicts, data: epath.PathLike, suites: Iterable[Suite], results: Results
) -> tuple[list[SuiteRun], list[Missing]]:
    """What is to run, and what cannot."""
    runs: list[SuiteRun] = []
    missing: list[Missing] = []
    for suite in suites:
        try:
            found = {name: find_part(data, part) for name, part in suite.parts.items()}
            identity = data_identity(suite, found)
        except DataError as e:
            missing.append(Missing(suite, str(e)))
            continue
        if suite.name in results.suites:
            if results.suites[suite.name].get("data") == identity:
                say(f"{suite.name}: already in the results", active=jax.process_index() == 0)
                continue
            say(f"{suite.name}: its result is of other data, running it again", active=jax.process_index() == 0)
        reason = _why_not(suite, found, loaded, predictor)
        if reason:
            missing.append(Missing(suite, reason))
        else:
            directories = {name: directory for name, directory in found.items() if directory is not None}
            runs.append(SuiteRun(suite, directories, loaded.preprocessing.image_size))
    return runs, missing


def _read_all(
    runs: list[SuiteRun],
    loaded: Evaluated,
    predictor: Predicts,
    results: Results,
    save_to: epath.PathLike | None,
) -> list[Missing]:
    """Source by source; a suite whose sources are read has its result. Returns the suites without one.

    Where a source cannot be read to its end, what was computed of it stays, and so does what its suites have of others.
    """
    missing: list[Missing] = []
    begun: dict[Source, Work] = {}
    kept: set[Source] = set()
    while runs:
        source = next(source for run in runs for source in run.waiting())
        readers = [run for run in runs if source in run.waiting()]
        try:
            reading = SourceReading(source, readers, loaded, results.unfinished, save_to)
            begun[source] = reading.work
            reading.read(predictor)
            failed = {entry.suite.name: entry.reason for entry in reading.missing}
        except DataError as e:  # one broken set does not cost the results of the others
            failed = {run.suite.name: str(e) for run in readers}
            kept |= {source for run in readers for source in run.sources().values()}
        for run in readers:
            if run.suite.name not in failed and not run.waiting():
                try:
                    results.add(run.suite.name, run.scores())
                except DataError as e:
                    failed[run.suite.name] = str(e)
        missing += [Missing(run.suite, failed[run.suite.name]) for run in readers if run.suite.name in failed]
        runs = [run for run in runs if run.waiting() and run.suite.name not in failed]
        wanted = {source for run in runs for source in run.sources().values()}
        for source in begun.keys() - wanted - kept:
            begun.pop(source).remove()
    return missing


def _carry_out(run: SuiteRun, predictor: Predicts, results: Results) -> None:
    """A procedure on its data; raises `DataError` where that is not for it, `CheckpointError` where the model is."""
    assert run.suite.procedure is not None and isinstance(predictor, Predictor)
    sources = run.sources()
    opened = {name: open_split(source.directory, source.split) for name, source in sources.items()}
    for name, source in sources.items():
        run.check(opened[name], source, predictor.loaded)
    start = time.monotonic()
    with results.unfinished.work(run.suite.name, opened, batch_size=predictor.batch_size) as work:
        scores = run.suite.procedure(predictor, opened, work)
    for name, source in sources.items():
        run.finish(source, opened[name], 0.0)
    run.seconds = work.seconds + time.monotonic() - start
    results.add(run.suite.name, {**scores, **run.facts()})
    work.remove()


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
