"""Runs suites on a loaded model, decoding shared data once, and keeps what is finished in results.json."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from etils import epath

from luab_jax import checkpoint as checkpoint_lib
from luab_jax.data.dataset import PreparedSplit, has_split, open_split
from luab_jax.errors import DataError, UserError
from luab_jax.evaluation.loading import LoadedModel
from luab_jax.evaluation.predict import Predictor
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.suites import SUITES, Part, Suite, View
from luab_jax.log import say

RESULTS_VERSION = 1


@dataclass(frozen=True, slots=True)
class Missing:
    """A suite that was asked for and could not run."""

    suite: Suite
    reason: str


def choose_suites(names: str) -> list[Suite]:
    """`all`, or a comma-separated choice; raises `UserError` listing what there is."""
    if names == "all":
        return list(SUITES)
    known = {suite.name: suite for suite in SUITES}
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise UserError(f"--suites={names}: no suite {', '.join(unknown) or 'named'}; there are {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(wanted)]


def find_part(data: epath.PathLike, part: Part) -> epath.Path | None:
    """The first of a part's directories that holds its split."""
    for name in part.directories:
        directory = epath.Path(data) / name if name != "." else epath.Path(data)
        if has_split(directory, part.split):
            return directory
    return None


class Results:
    """results.json, written after every suite, so that an interrupted evaluation loses only the running one."""

    def __init__(self, path: epath.PathLike, loaded: LoadedModel, *, overwrite: bool = False):
        """Continues the file of the same checkpoint; refuses another's unless told to overwrite it."""
        self._path = epath.Path(path)
        self.content: dict[str, Any] = {
            "results_version": RESULTS_VERSION,
            "checkpoint": loaded.identity,
            "name": loaded.name,
            "suites": {},
            "versions": checkpoint_lib.versions(),
        }
        if self._path.exists() and not overwrite:
            old = read_results(self._path)
            if old["checkpoint"] != json.loads(json.dumps(loaded.identity)):
                raise UserError(
                    f"{path}: holds results of another checkpoint ({old['checkpoint'].get('workdir')}, step"
                    f" {old['checkpoint'].get('step')}); choose another --out, or --overwrite"
                )
            self.content["suites"] = old["suites"]

    @property
    def suites(self) -> dict[str, dict[str, Any]]:
        return self.content["suites"]

    def add(self, name: str, scores: Mapping[str, Any]) -> None:
        self.suites[name] = dict(scores)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_name(self._path.name + ".tmp")
        part.write_text(json.dumps(self.content, indent=1) + "\n")
        part.replace(self._path)


def read_results(path: epath.PathLike) -> dict[str, Any]:
    """Reads results.json; raises `UserError` if it is none or of another version."""
    try:
        content = json.loads(epath.Path(path).read_text())
        version = content["results_version"]
        if not {"suites", "checkpoint"} <= content.keys():
            raise KeyError("no `suites` or no `checkpoint`")
    except OSError as e:
        raise UserError(f"{os.fspath(path)}: cannot be read ({e.strerror or e})") from e
    except (ValueError, KeyError, TypeError) as e:
        raise UserError(f"{os.fspath(path)}: not a results file of luab_jax.evaluate ({e})") from e
    if version != RESULTS_VERSION:
        raise UserError(f"{os.fspath(path)}: results version {version}, this version reads {RESULTS_VERSION}")
    return content


def evaluate(
    loaded: LoadedModel, predictor: Predictor, data: epath.PathLike, suites: Iterable[Suite], results: Results
) -> list[Missing]:
    """Runs every suite whose data is there and that has no result yet; returns those that could not run."""
    missing: list[Missing] = []
    runnable: dict[str, tuple[Suite, dict[str, epath.Path]]] = {}
    for suite in suites:
        found = {name: find_part(data, part) for name, part in suite.parts.items()}
        if suite.name in results.suites:
            if results.suites[suite.name].get("data") == _data_identity(suite, found):
                say(f"{suite.name}: already in the results")
                continue
            say(f"{suite.name}: its result is of other data, running it again")
        if suite.label_sets != loaded.label_sets:
            kind = "sets of labels" if loaded.label_sets else "one label per image"
            missing.append(Missing(suite, f"the checkpoint was trained on {kind}"))
        elif suite.needs_byproduct_head and loaded.model.byproduct_shape is None:
            missing.append(Missing(suite, "the checkpoint has no byproduct head"))
        elif absent := [name for name, directory in found.items() if directory is None]:
            missing.append(Missing(suite, f"no data for {', '.join(absent)}; get it with: {suite.how_to_get}"))
        else:
            runnable[suite.name] = (suite, {name: d for name, d in found.items() if d is not None})
    while runnable:
        group = [runnable.pop(name) for name in _sharing(runnable)]
        try:
            missing += _run_group(group, loaded, predictor, results)
        except DataError as e:  # one broken set does not cost the results of the others
            missing += [Missing(suite, str(e)) for suite, _ in group]
    return missing


def _data_identity(suite: Suite, found: Mapping[str, epath.Path | None]) -> dict[str, str] | None:
    """The fingerprints of a suite's data, by which a result knows what it was computed on; None if some are missing."""
    identity: dict[str, str] = {}
    for name, part in suite.parts.items():
        directory = found[name]
        if directory is None:
            return None
        identity[name] = open_split(directory, part.split).manifest.fingerprint
    return identity


def _sharing(runnable: Mapping[str, tuple[Suite, dict[str, epath.Path]]]) -> list[str]:
    """The first suite and all those that read just the same data."""
    first = set(next(iter(runnable.values()))[1].values())
    return [name for name, (_, directories) in runnable.items() if set(directories.values()) == first]


def _run_group(
    group: list[tuple[Suite, dict[str, epath.Path]]], loaded: LoadedModel, predictor: Predictor, results: Results
) -> list[Missing]:
    start = time.monotonic()
    wanted: dict[tuple[epath.Path, str], set[View]] = {}
    for suite, directories in group:
        for name, part in suite.parts.items():
            wanted.setdefault((directories[name], part.split), set()).add(part.view)
    predictions: dict[tuple[epath.Path, str, View], Predictions] = {}
    opened: dict[tuple[epath.Path, str], PreparedSplit] = {}
    for (directory, split), views in wanted.items():
        opened[directory, split] = _open_checked(directory, split, loaded)
        by_view = predictor(opened[directory, split], sorted(views, key=lambda view: view.value))
        predictions |= {(directory, split, view): values for view, values in by_view.items()}
    seconds = time.monotonic() - start
    missing = []
    for suite, directories in group:
        parts = {n: predictions[directories[n], p.split, p.view] for n, p in suite.parts.items()}
        try:
            scores = suite.score(parts)
        except DataError as e:
            missing.append(Missing(suite, str(e)))
            continue
        manifests = [opened[directories[n], p.split].manifest for n, p in suite.parts.items()]
        facts: dict[str, Any] = {"seconds": round(seconds, 2), "data": _data_identity(suite, directories)}
        if any(manifest.partial for manifest in manifests):
            facts["partial"] = True
        if smaller := sorted({manifest.stored_smaller for manifest in manifests} - {""}):
            facts["stored_smaller"] = "; ".join(smaller)
        results.add(suite.name, {**scores, **facts})
    return missing


def _open_checked(directory: epath.Path, split: str, loaded: LoadedModel) -> PreparedSplit:
    """Opens a split; refuses one whose labels mean other classes than the model's outputs."""
    opened = open_split(directory, split)
    classes = opened.manifest.classes
    if classes.hash != loaded.class_list_hash:
        raise DataError(
            f"{directory}: prepared with a class list of {len(classes)} classes (hash {classes.hash}), the checkpoint"
            f" was trained with another ({loaded.model.num_classes} classes, hash {loaded.class_list_hash}); its"
            " outputs would be read as wrong classes. Prepare the data with the checkpoint's list (--classes)"
        )
    return opened
