"""Results files as experiments: seeds together, the reference first."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from luab_jax.errors import UserError, option
from luab_jax.io import storage
from luab_jax.results.answers import Answered, Answers, answers_path, read_answers
from luab_jax.results.format import Checkpoint, File, Suite
from luab_jax.results.read import FILE_NAME, read_results
from luab_jax.results.text import printable, title

NO_TARGET = "none"


@dataclass(frozen=True, slots=True)
class Run:
    """One results file, with the answers beside it if there are any."""

    file: File
    path: str = ""
    answers: Answers | None = None

    @property
    def checkpoint(self) -> Checkpoint:
        return self.file.run

    @property
    def by_title(self) -> dict[str, tuple[str, Suite]]:
        """Rows of a table: the title, then the suite's name and its result."""
        return {title(name, suite): (name, suite) for name, suite in self.file.suites.items()}

    def answered(self, suite: str, score: str) -> Answered | None:
        """What is kept of a score image by image."""
        return None if self.answers is None else self.answers.suites.get(suite, {}).get(score)


@dataclass(slots=True)
class Experiment:
    """Runs that differ in their seed only: one column of a table, one colour of a plot."""

    name: str
    runs: list[Run] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The name, and of how many seeds it is the mean."""
        return f"{self.name} ({len(self.runs)} seeds)" if len(self.runs) > 1 else self.name

    def suite(self, row: str) -> Suite | None:
        """That of the first seed that has it."""
        return next((run.by_title[row][1] for run in self.runs if row in run.by_title), None)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Experiments, the reference first, and what a reader must know of that choice."""

    experiments: list[Experiment]
    notes: list[str]

    @property
    def reference(self) -> Experiment:
        return self.experiments[0]

    @property
    def titles(self) -> list[str]:
        """Rows, in the order in which the files have them."""
        return list(dict.fromkeys(row for of in self.experiments for run in of.runs for row in run.by_title))


def read_run(path: str) -> Run:
    """Raises `UserError` for a file that is no results file, or answers that are damaged."""
    file = read_results(path)
    place = storage.place(path)
    if not storage.is_remote(place) and place.is_dir():
        place = place / FILE_NAME
    beside = answers_path(place)
    answers = read_answers(beside) if storage.facts(beside) is not None else None
    if answers is not None and answers.checkpoint != file.checkpoint:
        answers = None  # of another evaluation
    return Run(file, os.fspath(place), answers)


def compare(runs: Sequence[Run], baseline: str | None = None) -> Comparison:
    """Groups the runs by experiment, in the order of the files, the reference first.

    The reference is the experiment without a target, whatever the order of the files; or the one that `baseline`
    names. Raises `UserError` for a seed that stands twice in one experiment, and for a name that is none or several.
    """
    experiments = _grouped(runs)
    chosen, notes = _reference(experiments, baseline)
    return Comparison([chosen, *(other for other in experiments if other is not chosen)], notes)


def _grouped(runs: Sequence[Run]) -> list[Experiment]:
    grouped: dict[str, Experiment] = {}
    seeds: dict[str, set[int]] = {}
    for run in runs:
        checkpoint = run.checkpoint
        key = json.dumps(_facts(run), sort_keys=True)
        if checkpoint.seed in seeds.setdefault(key, set()):
            raise UserError(
                f"two results of one experiment with seed {checkpoint.seed}, the second from"
                f" {printable(checkpoint.workdir)} step {checkpoint.step}: their mean would not be one over seeds"
            )
        seeds[key].add(checkpoint.seed)
        grouped.setdefault(key, Experiment(_name(run))).runs.append(run)
    _tell_apart(list(grouped.values()))
    return list(grouped.values())


def _facts(run: Run) -> dict[str, Any]:
    """What two seeds of one experiment share."""
    checkpoint = run.checkpoint
    return {
        "experiment": checkpoint.experiment,
        "chosen": checkpoint.chosen,
        "dataset": checkpoint.dataset,
        "class_list_hash": checkpoint.class_list_hash,
        "preprocessing_override": checkpoint.preprocessing_override,
        "weights": checkpoint.weights,
        "dtype": run.file.dtype,
        "from_saved_predictions": checkpoint.from_saved_predictions,
        **(_facts_of_foreign(run.file.checkpoint) if checkpoint.is_foreign else {}),
    }


USUAL = {"input": "uint8 nhwc rgb", "outputs": "logits"}
"""What a foreign model is that does not state it."""


def _facts_of_foreign(stated: Mapping[str, Any]) -> dict[str, Any]:
    """By what models of others differ, all of which have seed 0 and an experiment of a file's name at most."""
    names = ("weights_hash", "source_hash", "classifier_hash", "input", "outputs", "columns")
    found = USUAL | {name: stated[name] for name in names if name in stated}
    if isinstance(fed := found["input"], dict):
        found["input"] = " ".join(map(str, fed.values()))
    return found


def _name(run: Run) -> str:
    checkpoint = run.checkpoint
    changed = "".join(f" {name}={_flag(value)}" for name, value in checkpoint.preprocessing_override.items())
    average = " average" if checkpoint.weights == "ema" else ""
    saved = " from saved predictions" if checkpoint.from_saved_predictions else ""
    return printable(f"{checkpoint.model} {experiment_name(checkpoint)}{average}{changed}{saved}")


_CONTROLS = {"random": "matched Rand", "random_in_image": "Rand"}
"""Targets that no annotator chose; `luab_jax.byproducts.targets` says which of them is the paper's Rand."""


def experiment_name(checkpoint: Checkpoint) -> str:
    """`baseline`, `Rand`, or `LUAB click_last`, as in the paper's tables, with λ where there is one; `onnx` and so on
    for a model that is not an experiment."""
    weighting = checkpoint.experiment.get("byproduct.sample_weight")
    suffix = f" weighted by {weighting}" if weighting else ""
    if checkpoint.target == NO_TARGET:
        return f"baseline{suffix}"
    if checkpoint.is_foreign:
        return checkpoint.target
    weight = f"λ={checkpoint.weight:g}"
    name = _CONTROLS.get(checkpoint.target, f"LUAB {checkpoint.target}")
    return f"{name} {weight}{suffix}"


def _flag(value: object) -> str:
    """As it is written on the command line."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _tell_apart(experiments: Sequence[Experiment]) -> None:
    """Gives experiments of one name the facts in which they differ, and those whose facts read alike their file."""
    for alike in _of_one_name(experiments):
        shown = _telling([_flat(_facts(experiment.runs[0])) for experiment in alike])
        for experiment, facts in zip(alike, shown, strict=True):
            experiment.name = printable(" ".join([experiment.name, *facts]))
    for alike in _of_one_name(experiments):
        for experiment in alike:
            run = experiment.runs[0]
            experiment.name = printable(f"{experiment.name} {run.path or run.checkpoint.workdir}")


def _of_one_name(experiments: Sequence[Experiment]) -> list[list[Experiment]]:
    """Those that share their name with another."""
    by_name: dict[str, list[Experiment]] = {}
    for experiment in experiments:
        by_name.setdefault(experiment.name, []).append(experiment)
    return [alike for alike in by_name.values() if len(alike) > 1]


def _telling(facts: Sequence[Mapping[str, str]]) -> list[list[str]]:
    """Of each the first three facts in which not all agree, and of the others those that tell some more apart."""
    names = dict.fromkeys(name for of_one in facts for name in of_one)
    shown: list[list[str]] = [[] for _ in facts]
    for name in names:
        stated = [f"{name}={of_one.get(name) or '-'}" for of_one in facts]
        longer = [[*before, one] for before, one in zip(shown, stated, strict=True)]
        if _count(longer) > _count(shown) or (len(shown[0]) < 3 and len(set(stated)) > 1):
            shown = longer
    return shown


def _count(shown: Sequence[Sequence[str]]) -> int:
    """How many are told apart."""
    return len(set(map(tuple, shown)))


def _flat(facts: Mapping[str, Any]) -> dict[str, str]:
    outer = {name: value for name, value in facts.items() if name != "experiment"}
    return {name: _flag(value) for name, value in (facts["experiment"] | outer).items()}


def _reference(experiments: Sequence[Experiment], baseline: str | None) -> tuple[Experiment, list[str]]:
    if baseline is not None:
        return _named(experiments, baseline), []
    without = [of for of in experiments if of.runs[0].checkpoint.target == NO_TARGET]
    chosen = (without or experiments)[0]
    choose = "--baseline=NAME chooses another."
    if len(experiments) == 1 or len(without) == 1:
        return chosen, []
    if not without:
        return chosen, [f"No run has target=none, so differences are to the first run, {chosen.name}; {choose}"]
    names = ", ".join(of.name for of in without)
    several = f"{len(without)} experiments have target=none ({names})"
    return chosen, [f"{several}: differences are to the first of them, {chosen.name}; {choose}"]


def _named(experiments: Sequence[Experiment], name: str) -> Experiment:
    """By name, by the file that was given, by workdir or target; then by a part of the name."""
    wanted = name.casefold().rstrip("/")

    def names(of: Experiment) -> set[str]:
        found = {of.name}
        for run in of.runs:
            checkpoint = run.checkpoint
            found |= {
                checkpoint.target,
                str(run.file.checkpoint["target"]),
                run.file.name,
                run.path,
                str(PurePath(run.path).parent),
            }
            found |= {checkpoint.workdir, PurePath(checkpoint.workdir).name}
        return {text.casefold().rstrip("/") for text in found if text}

    exact = [of for of in experiments if wanted in names(of)]
    found = exact or [of for of in experiments if wanted in of.name.casefold()]
    if len(found) == 1:
        return found[0]
    all_names = "; ".join(of.name for of in (found or experiments))
    asked = option("baseline", printable(name))
    if found:
        raise UserError(f"{asked}: names {len(found)} experiments: {all_names}; give one whole name")
    raise UserError(f"{asked}: no such experiment; there are: {all_names}")
