"""Runs suites on a loaded model, decoding shared data once."""

from __future__ import annotations

import contextlib
import difflib
import os
import time
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
from etils import epath

from luab_jax.data.class_lists import imagenet
from luab_jax.data.copies import SplitCache
from luab_jax.data.dataset import PreparedSplit, has_split, open_split
from luab_jax.distributed import sharding
from luab_jax.errors import (
    ConfigError,
    DataError,
    ShardError,
    StorageError,
    UserError,
    WorkerLostError,
    option,
    without_frames,
)
from luab_jax.evaluation import definitions
from luab_jax.evaluation.accumulator import Evaluated, HasSaved, Missing, Predicts, Source, SuiteRun, data_identity
from luab_jax.evaluation.compilations import Compilations
from luab_jax.evaluation.data_folder import GET_OWN
from luab_jax.evaluation.entries import samples, suite_entry
from luab_jax.evaluation.label_spaces import OF_THE_MODEL
from luab_jax.evaluation.own_storage import agreed
from luab_jax.evaluation.predictor import BatchPredictor, Predictor
from luab_jax.evaluation.procedures.by_image import ByImage
from luab_jax.evaluation.results import COMPILATIONS, Results
from luab_jax.evaluation.resume import Work
from luab_jax.evaluation.settings import other_setting, settings
from luab_jax.evaluation.shared_pass import SourceReading, read_together
from luab_jax.evaluation.suite import Need, Part, Procedure, Scored, Suite, View
from luab_jax.evaluation.suites import SUITES
from luab_jax.io.console import say
from luab_jax.results.format import Suite as Result


def choose_suites(names: str | Sequence[str | Suite]) -> list[Suite]:
    """`all` (but those that must be named), or a comma-separated choice; or names and suites of one's own.

    Raises `UserError` listing what there is.
    """
    if not isinstance(names, str):
        chosen = [suite for name in names for suite in ([name] if isinstance(name, Suite) else choose_suites(name))]
        if len({suite.name for suite in chosen}) < len(set(map(id, chosen))) or not chosen:
            raise UserError("suites: none is named, or two have the same name; a suite of your own needs its own name")
        return list({suite.name: suite for suite in chosen}.values())
    if names == "all":
        return [suite for suite in SUITES if not suite.only_if_named]
    known = {suite.name: suite for suite in SUITES}
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        near = [match for name in unknown for match in difflib.get_close_matches(name, known, n=1)]
        hint = f"; did you mean {', '.join(near)}?" if near else ";"
        raise UserError(
            f"{option('suites', names)}: no suite {', '.join(unknown) or 'named'}{hint} there are all,"
            f" {', '.join(known)}"
        )
    return [known[name] for name in dict.fromkeys(wanted)]


def find_part(data: epath.PathLike, part: Part) -> epath.Path | None:
    """The first of a part's directories that holds its whole split; else the first that holds any of it."""
    found = [epath.Path(data) / name if name != "." else epath.Path(data) for name in part.directories]
    found = [directory for directory in found if has_split(directory, part.split)]
    if len(found) < 2:
        return found[0] if found else None
    return min(found, key=lambda directory: open_split(directory, part.split).manifest.partial)  # the first of equals


@dataclass(slots=True, eq=False)
class Member:
    """One of several models that are evaluated in one pass, and what was done for it."""

    loaded: Evaluated
    predictor: Predicts
    results: Results
    save_to: epath.PathLike | None = None
    """A folder for the predictions of every split."""
    runs: list[SuiteRun] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    begun: dict[Source, Work] = field(default_factory=dict)
    kept: set[Source] = field(default_factory=set)
    """Sources of which what was computed stays, since one that belongs to them could not be read to its end."""
    stopped: StorageError | None = None
    """Its results, or what it keeps on the way there, cannot be read or written; nothing more is done for it."""

    def readers(self, source: Source) -> list[SuiteRun]:
        return [run for run in self.runs if source in run.waiting()]


def evaluate(
    loaded: Evaluated,
    predictor: Predicts,
    data: epath.PathLike,
    suites: Iterable[Suite],
    results: Results,
    save_to: epath.PathLike | None = None,
) -> list[Missing]:
    """Runs every suite whose data is there and that has no result yet; returns those that could not run.

    With `save_to` the predictions of every split are kept there. Raises `StorageError` where results cannot be.
    """
    member = Member(loaded, predictor, results, save_to)
    [missing] = evaluate_together([member], data, list(suites))
    if member.stopped is not None:
        raise member.stopped
    return missing


def evaluate_together(
    members: Sequence[Member],
    data: epath.PathLike,
    suites: Sequence[Suite],
    cache: SplitCache | None = None,
) -> list[list[Missing]]:
    """The same for several models: what they read alike is decoded once, by procedures too that go image by image.

    cache: Through which images are read.
    """
    for member in members:
        member.runs, member.missing = _plan(member.loaded, member.predictor, data, suites, member.results)
    told = str([[(r.suite.name, r.directories) for r in member.runs] for member in members])
    given = str([[settings(r.suite, member.predictor, r.directories) for r in member.runs] for member in members])
    sharding.agree({f"suites to run, and data in {os.fspath(data)}": told, "fonts and maps": given})
    running = [member for member in members if member.runs]
    procedures = [(member, run) for member in running for run in member.runs if isinstance(run.suite.method, Procedure)]
    for member in running:
        member.runs = [run for run in member.runs if isinstance(run.suite.method, Scored)]
    with Compilations() as compiled:
        _read_all(running, cache)
        for group in _alike(procedures):
            if able := [(member, run) for member, run in group if member.stopped is None]:
                _carry_out(able, cache)
    for member in running:
        if member.stopped is not None:
            continue
        facts = {"programs": compiled.count, "seconds": round(compiled.seconds, 2)}
        if isinstance(member.predictor, Predictor):
            facts["programs_of_predict"] = member.predictor.num_programs
        with _stopping(member), agreed():
            member.results.note(COMPILATIONS, facts)
    for member in members:
        member.results.unfinished.tidy()
    return [member.missing for member in members]


def _plan(
    loaded: Evaluated, predictor: Predicts, data: epath.PathLike, suites: Iterable[Suite], results: Results
) -> tuple[list[SuiteRun], list[Missing]]:
    """What is to run, and what cannot."""
    runs: list[SuiteRun] = []
    missing: list[Missing] = []
    is_first = jax.process_index() == 0
    for suite in suites:
        result = results.suites.get(suite.name)
        kept = "" if result is None else "its earlier result is kept; "
        try:
            found = {name: find_part(data, part) for name, part in suite.parts.items()}
            identity = data_identity(suite, found)
            given = settings(suite, predictor, found)
        except DataError as e:
            missing.append(Missing(suite, f"{kept}{e}"))
            continue
        other = ""
        if result is not None:
            other = _other(suite, result, identity, given)
            if not other and identity is not None:
                say(f"{suite.name}: already in the results", active=is_first)
                continue
        if other:
            kept = f"its earlier result, from {other}, is kept; "
        if (reason := _why_not(suite, loaded, predictor)) is not None:
            missing.append(Missing(suite, f"{kept}{reason}", data_found=None))
        elif (reason := _no_data(suite, found, loaded)) is not None:
            missing.append(Missing(suite, f"{kept}{reason}", data_found=False))
        else:
            if other:
                say(f"{suite.name}: its result is from {other}, running it again", active=is_first)
            directories = {name: directory for name, directory in found.items() if directory is not None}
            runs.append(SuiteRun(suite, directories, loaded))
    return runs, missing


def _other(suite: Suite, result: Result, identity: Mapping[str, str] | None, given: Mapping[str, str]) -> str:
    """What a result was computed from that differs now; empty if nothing does, as far as that is known."""
    if identity is not None and result.data.identity != identity:
        return "other data"
    if result.definition and result.definition != definitions.of_suite(suite):
        return "another definition of the suite"
    setting = other_setting(result, given)
    return setting and f"another {setting}"


def _read_all(members: Sequence[Member], cache: SplitCache | None) -> None:
    """Source by source; a suite whose sources are read has its result, or is missing.

    Where a source cannot be read to its end, what was computed of it stays, and so does what its suites have of others.
    """
    while waiting := [source for member in members for run in member.runs for source in run.waiting()]:
        source = waiting[0]
        opened: list[_Opened] = []
        for member in members:
            if not (readers := member.readers(source)):
                continue
            try:
                unfinished, save_to = member.results.unfinished, member.save_to
                reading = SourceReading(source, readers, member.loaded, member.predictor, unfinished, save_to)
            except DataError as e:
                _conclude(member, source, readers, {run.suite.name: str(e) for run in readers})
                continue
            member.begun[source] = reading.work
            opened.append(_Opened(member, reading, readers))
        for group in _groups(opened, source):
            predictors = [one.member.predictor for one in group]
            errors = read_together([one.reading for one in group], predictors, source.stored, cache)
            for (member, reading, readers), error in zip(group, errors, strict=True):
                failed = {entry.suite.name: entry.reason for entry in reading.missing}
                if error is not None:
                    failed = {run.suite.name: str(error) for run in readers} | failed
                with _stopping(member):
                    if isinstance(error, StorageError):
                        raise error
                    _conclude(member, source, readers, failed, keep=isinstance(error, DataError))


@contextlib.contextmanager
def _stopping(member: Member) -> Iterator[None]:
    """Where what is a member's own cannot be read or written, it is left as it is, and the others go on.

    On several hosts every `StorageError` that comes here is one of all of them.
    """
    try:
        yield
    except StorageError as e:
        member.stopped, member.runs = without_frames(e), []


class _Opened(NamedTuple):
    """A source on its way to a member's suites."""

    member: Member
    reading: SourceReading
    readers: list[SuiteRun]
    """That waited for it, those among them that leave it out once it is opened."""


def _groups(opened: Sequence[_Opened], source: Source) -> list[list[_Opened]]:
    """Of those that see the same pixels; what was kept of a model sees none."""
    groups: list[list[_Opened]] = []
    for one in opened:
        predictor = one.member.predictor
        for group in groups:
            first = group[0].member.predictor
            if (
                isinstance(predictor, BatchPredictor)
                and isinstance(first, BatchPredictor)
                and predictor.sees_as(first, source.stored)
            ):
                group.append(one)
                break
        else:
            groups.append([one])
    return groups


def _conclude(
    member: Member, source: Source, readers: Sequence[SuiteRun], failed: dict[str, str], *, keep: bool = True
) -> None:
    """What becomes of a member's suites after a source; `failed` are those that the source was not read for."""
    if keep:  # one broken set does not cost the results of the others
        member.kept |= {source for run in readers for source in run.sources().values()}
    for run in readers:
        if run.suite.name not in failed and not run.waiting():
            try:
                _add(run, run.scores(), member)
            except DataError as e:
                failed[run.suite.name] = str(e)
    member.missing += [Missing(run.suite, failed[run.suite.name]) for run in readers if run.suite.name in failed]
    member.runs = [run for run in member.runs if run.waiting() and run.suite.name not in failed]
    wanted = {source for run in member.runs for source in run.sources().values()}
    for source in [source for source in member.begun if source not in wanted | member.kept]:
        work = member.begun.pop(source)
        work.remove()
        work.settle()


def _alike(asked: Sequence[tuple[Member, SuiteRun]]) -> list[list[tuple[Member, SuiteRun]]]:
    """Members that ask for the same of the same images stand together, so that these are decoded once for all."""
    groups: dict[Hashable, list[tuple[Member, SuiteRun]]] = {}
    for number, (member, run) in enumerate(asked):
        assert isinstance(run.suite.method, Procedure)
        procedure = run.suite.method.run
        alike = procedure.alike(_asked(member)) if isinstance(procedure, ByImage) else number
        groups.setdefault((run.suite.name, str(run.directories), alike), []).append((member, run))
    return list(groups.values())


def _carry_out(group: Sequence[tuple[Member, SuiteRun]], cache: SplitCache | None) -> None:
    """A procedure on its data, for members that are alike. One that is stopped has the reason in `missing`."""
    sources = group[0][1].sources()
    try:
        opened = {name: open_split(source.directory, source.split) for name, source in sources.items()}
    except UserError as e:
        _all_missing(group, e)
        return
    able: list[tuple[Member, SuiteRun]] = []
    for member, run in group:
        with _missing(member, run):
            for name, source in sources.items():
                run.check(opened[name], source, member.loaded)
                _check_filled(opened[name])
            able.append((member, run))
    if not able:
        return
    start = time.monotonic()
    works = [_work(member, run, opened) for member, run in able]
    try:
        outcomes = _outcomes(able, works, opened, cache)
    except UserError as e:
        _all_missing(able, e, works)
        return
    for (member, run), work, outcome in zip(able, works, outcomes, strict=True):
        for name, source in sources.items():
            run.finish(source, opened[name], 0.0)
        run.seconds = work.seconds + time.monotonic() - start
        with _stopping(member):
            work.settle()
            with _missing(member, run):
                if isinstance(outcome, UserError):
                    with work:  # decides what is kept
                        raise outcome
                _add(run, outcome, member)
                work.remove()
            work.settle()


def _check_filled(split: PreparedSplit) -> None:
    if not len(split.records):
        raise DataError(f"{split.directory}: the split {split.manifest.split!r} holds no record")


def _all_missing(
    group: Sequence[tuple[Member, SuiteRun]], error: UserError, works: Sequence[Work] | None = None
) -> None:
    """What stopped all; the work of each, where it was begun, decides what is kept."""
    if isinstance(error, ConfigError | ShardError) and jax.process_count() > 1:
        raise error  # the others may have read it, and wait for this host
    if isinstance(error, StorageError | WorkerLostError):
        raise error  # what was kept is written; nothing is wrong with any model or its data
    for (member, run), work in zip(group, works or [Work() for _ in group], strict=True):
        with _stopping(member):
            with _missing(member, run), work:
                raise error
            work.settle()


@contextlib.contextmanager
def _missing(member: Member, run: SuiteRun) -> Iterator[None]:
    """A suite that is not for this model, or this data, is missing; other errors are not of the suite."""
    try:
        yield
    except (StorageError, WorkerLostError):
        raise
    except UserError as e:
        if isinstance(e, ConfigError) and jax.process_count() > 1:
            raise  # of this host alone, perhaps
        member.missing.append(Missing(run.suite, str(e)))


def _outcomes(
    group: Sequence[tuple[Member, SuiteRun]],
    works: Sequence[Work],
    opened: Mapping[str, PreparedSplit],
    cache: SplitCache | None,
) -> list[Mapping[str, object] | UserError]:
    """Scores of each, or what stopped it alone; raises what stopped all. What waits is written, by Ctrl-C too."""
    method = group[0][1].suite.method
    assert isinstance(method, Procedure)
    with contextlib.ExitStack() as stack:
        for work in works:
            stack.callback(_flush, work)
        if cache is not None:
            opened = {name: stack.enter_context(cache.reading(split)) for name, split in opened.items()}
        asked = [(_asked(member), work) for (member, _), work in zip(group, works, strict=True)]
        if isinstance(method.run, ByImage):
            return list(method.run.together(asked, opened))
        [(predictor, work)] = asked
        try:
            return [method.run(predictor, opened, work)]
        except StorageError as e:
            if work.failed is None:  # the data's
                raise
            return [e]


def _flush(work: Work) -> None:
    """What cannot be written is in `work.failed`."""
    with contextlib.suppress(StorageError):
        work.flush()


def _asked(member: Member) -> BatchPredictor[Any]:
    assert isinstance(member.predictor, BatchPredictor)
    return member.predictor


def _work(member: Member, run: SuiteRun, opened: Mapping[str, PreparedSplit]) -> Work:
    predictor = _asked(member)
    facts = settings(run.suite, predictor, run.directories) | {"definition": definitions.of_suite(run.suite)}
    return member.results.unfinished.work(run.suite.name, opened, batch_size=predictor.batch_size, **facts)


def _add(run: SuiteRun, scores: Mapping[str, object], member: Member) -> None:
    try:
        entry = suite_entry(run.suite, scores, run.data(), member.loaded, run.seconds)
    except (TypeError, ValueError) as e:  # of a user's own score
        raise DataError(f"{run.suite.name}: its score cannot be kept ({e})") from e
    entry.details |= settings(run.suite, member.predictor, run.directories)
    with agreed():
        member.results.add(run.suite.name, entry, samples(scores))


def _why_not(suite: Suite, loaded: Evaluated, predictor: Predicts) -> str | None:
    """Why the suite is not for this model, whatever its data."""
    if suite.label_sets != loaded.label_sets:
        return f"the checkpoint was trained on {'sets of labels' if loaded.label_sets else 'one label per image'}"
    if reason := suite.label_space.why_not(loaded):
        return reason
    if isinstance(suite.method, Procedure) and not isinstance(predictor, BatchPredictor):
        return Need.LOGITS.value
    lacking = next((need for need in Need if need in suite.needs - predictor.gives), None)
    if lacking is None:
        return _no_mark(suite, predictor) if isinstance(predictor, BatchPredictor) else None
    font = f"{option('font', 'SourceHanSerifSC-ExtraLight.otf')} (facebookresearch/Whac-A-Mole, imagenet_w/fonts)"
    remedies = {
        Need.MAP: f"; {option('maps', 'rise')} makes one by occlusion",
        Need.FONT: f"; predict the images under it, with {option('predictions', 'DIR')} and {font}"
        if isinstance(predictor, HasSaved)
        else f"; give it with {font}",
    }
    return f"{lacking.value}{remedies.get(lacking, '')}"


def _no_mark(suite: Suite, predictor: BatchPredictor[Any]) -> str | None:
    """Why no watermark can be drawn at the size of the input; known now, it costs no suite that shares the images."""
    try:
        for part in suite.parts.values():
            if part.view is View.WATERMARK:
                predictor.mark(predictor.preprocessing_for(part.stored).image_size)
    except DataError as e:
        return str(e)
    return None


def _no_data(suite: Suite, found: Mapping[str, epath.Path | None], loaded: Evaluated) -> str | None:
    """Which data is not there, and how to get it."""
    absent = [name for name, directory in found.items() if directory is None and not suite.parts[name].optional]
    if not absent:
        return None
    # Photos of other classes than ImageNet's are the user's own: no archive of a published set has them.
    is_own = suite.label_space is OF_THE_MODEL and not suite.label_sets and loaded.class_list_hash != imagenet().hash
    how = GET_OWN if is_own and suite.of_any_photos else suite.how_to_get
    return f"no data for {', '.join(absent)}; get it with: {how}"
