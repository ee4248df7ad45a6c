"""Suites on a model, from the folder of the data to results: what the command and `luab_jax.run_suites` share."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import jax
from etils import epath

from luab_jax.data.copies import SplitCache
from luab_jax.errors import UserError, option, without_frames
from luab_jax.evaluation import runner
from luab_jax.evaluation.accumulator import Evaluated, Missing, Predicts
from luab_jax.evaluation.data_folder import check_prepared
from luab_jax.evaluation.keep_example_images import keep_examples
from luab_jax.evaluation.results import Results
from luab_jax.evaluation.shared_decoding import exchange
from luab_jax.evaluation.suite import Suite
from luab_jax.io.lease import Lease
from luab_jax.io.storage import check_writable
from luab_jax.results.format import File
from luab_jax.results.format import Suite as SuiteResult
from luab_jax.results.text import compilation_line, suite_lines


@dataclass(frozen=True, slots=True)
class SuiteResults:
    """What an evaluation gave. `str` of it is what the command prints."""

    file: File
    """All that is in results.json, suites of earlier evaluations among it."""
    asked: tuple[str, ...]
    """Names of the suites of this one."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Suites that could not run, and why."""
    why_no_examples: str = ""
    has_computed: bool = True
    """Whether any suite ran, and is not from an earlier evaluation."""
    no_data: bool = False
    """Whether no suite for this model that has no result yet found its data."""

    @property
    def suites(self) -> dict[str, SuiteResult]:
        """By name; `results.suites["imagenet"]["top1"]` is a fraction."""
        return self.file.suites

    def __getitem__(self, suite: str) -> SuiteResult:
        """Raises `UserError` that says why a suite has no result."""
        if suite not in self.suites:
            raise UserError(f"{suite}: no result; {self.missing.get(suite, 'it was not asked for')}")
        return self.suites[suite]

    def __str__(self) -> str:
        lines = [line for name in self.asked if name in self.suites for line in suite_lines(name, self.suites[name])]
        if self.file.compilations is not None and self.has_computed:
            lines.append(compilation_line(self.file.compilations))
        lines += self.reasons
        if self.why_no_examples:
            lines.append(f"no example images: {self.why_no_examples}")
        return "\n".join(lines)

    __repr__ = __str__

    @property
    def reasons(self) -> list[str]:
        """Why suites could not run, one line for each reason."""
        by_reason = sorted(self.missing.items(), key=lambda pair: pair[1])
        return [
            f"not run: {', '.join(name for name, _ in entries)}: {reason}"
            for reason, entries in itertools.groupby(by_reason, key=lambda pair: pair[1])
        ]


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A model to evaluate, and where to."""

    loaded: Evaluated
    predictor: Predicts
    out: epath.PathLike | None = None
    predictions: epath.PathLike | None = None
    """A folder to keep them in."""


def evaluate_suites(
    entries: Sequence[Entry],
    data: epath.PathLike,
    suites: Sequence[Suite],
    *,
    overwrite: bool = False,
    examples: int = 48,
    cache: str | None = None,
) -> list[SuiteResults | UserError]:
    """Runs the suites whose data is there, in one pass for all models. On several hosts every one calls it.

    A model whose results cannot be written or continued has its error instead, and the others theirs. Raises
    `DataError` for a folder without prepared data. Where no suite has a result, `missing` says why.

    cache: `DIR` or `DIR:SIZE`, a local folder that keeps whole shards.
    """
    is_first = jax.process_index() == 0
    split_cache = SplitCache(cache, active=is_first, everyones=exchange) if cache else None
    check_prepared(data)
    outcomes: dict[int, SuiteResults | UserError] = {}
    members: dict[int, runner.Member] = {}
    with ExitStack() as leases:
        for number, entry in enumerate(entries):
            try:
                if entry.out is not None:
                    out = os.fspath(entry.out)
                    lease = Lease(out, file=f"{out}.lease", remedy=f"choose another {option('out')}", active=is_first)
                    leases.enter_context(lease)
                check_places(entry.predictions)
                results = Results(entry.out, entry.loaded, overwrite=overwrite)
            except UserError as e:
                if len(entries) == 1 and jax.process_count() > 1:
                    raise  # nothing is left to do, and the other hosts are told
                outcomes[number] = without_frames(e)
            else:
                members[number] = runner.Member(entry.loaded, entry.predictor, results, entry.predictions)
        for number, error in _errors_of_others(outcomes).items():
            outcomes[number] = error
            members.pop(number, None)
        lacking = runner.evaluate_together(list(members.values()), data, suites, split_cache)
        for (number, member), missing in zip(members.items(), lacking, strict=True):
            outcomes[number] = member.stopped or _outcome(entries[number], member, missing, data, suites, examples)
    return [outcomes[number] for number in range(len(entries))]


def check_places(*paths: epath.PathLike | None) -> None:
    """Raises `StorageError` for one in a bucket that is not to be written."""
    for path in paths:
        if path is not None:
            check_writable(path)


def _errors_of_others(outcomes: Mapping[int, SuiteResults | UserError]) -> dict[int, UserError]:
    """Of models that another host cannot write the results of, so that all hosts go on with the same ones."""
    everyones = exchange({number: str(error) for number, error in outcomes.items()})
    return {
        number: UserError(f"host {host} of {len(everyones)}: {message}")
        for host, of_host in enumerate(everyones, 1)
        for number, message in of_host.items()
        if number not in outcomes
    }


def _outcome(
    entry: Entry,
    member: runner.Member,
    missing: Sequence[Missing],
    data: epath.PathLike,
    suites: Sequence[Suite],
    examples: int,
) -> SuiteResults:
    why_no_examples = None
    if entry.out is not None:
        why_no_examples = keep_examples(entry.predictor, data, suites, entry.out, examples)
    return SuiteResults(
        member.results.content,
        tuple(suite.name for suite in suites),
        {of_suite.suite.name: of_suite.reason for of_suite in missing},
        why_no_examples or "",
        has_computed=member.results.has_computed,
        no_data=not any(of_suite.data_found for of_suite in missing)
        and any(of_suite.data_found is False for of_suite in missing),
    )
