"""One suite on its way: which data it reads, what was kept of each batch, and the scores in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from etils import epath

from luab_jax.byproducts.targets import Target
from luab_jax.data.dataset import Manifest, PreparedSplit, open_split
from luab_jax.data.transforms import Preprocessing, Stored
from luab_jax.errors import DataError
from luab_jax.evaluation.columns import Columns, as_kept, below, of_kept, under
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.suite import Suite, View

_NOTED = ("generated", "notes")
"""Entries of a manifest's `source` that every score on the data repeats."""


@runtime_checkable
class Evaluated(Protocol):
    """What is asked of a model: a `LoadedModel`, or a `SavedModel`."""

    @property
    def name(self) -> str: ...
    @property
    def identity(self) -> dict[str, Any]: ...
    @property
    def class_list_hash(self) -> str: ...
    @property
    def num_classes(self) -> int: ...
    @property
    def has_byproduct_head(self) -> bool: ...
    @property
    def label_sets(self) -> bool: ...
    @property
    def target(self) -> Target | None: ...
    @property
    def preprocessing(self) -> Preprocessing: ...


@runtime_checkable
class Predicts(Protocol):
    """A `Predictor`, or a `SavedModel`."""

    def stream(
        self, split: PreparedSplit, views: Sequence[View], stored: Stored = ..., start: int = ...
    ) -> Iterator[dict[View, Predictions]]: ...


class Source(NamedTuple):
    """What is decoded once, for all suites that read it."""

    directory: epath.Path
    split: str
    stored: Stored


@dataclass(frozen=True, slots=True)
class Missing:
    """A suite that was asked for and could not run."""

    suite: Suite
    reason: str


class SuiteRun:
    """A suite on its way: what was kept of its parts so far."""

    def __init__(self, suite: Suite, directories: Mapping[str, epath.Path], image_size: int):
        """`image_size` is that of the model's input."""
        self.suite = suite
        self._image_size = image_size
        self._found = directories
        self.directories = dict(directories)
        """Of the parts that are used."""
        self._left_out: dict[str, str] = {}
        self.seconds = 0.0
        self._kept: dict[str, list[Any]] = {name: [] for name in directories}
        self._opened: dict[Source, PreparedSplit] = {}

    def sources(self) -> dict[str, Source]:
        parts = self.suite.parts
        return {name: Source(d, parts[name].split, parts[name].stored) for name, d in self.directories.items()}

    def waiting(self) -> list[Source]:
        """The sources that were not read yet."""
        return [source for source in dict.fromkeys(self.sources().values()) if source not in self._opened]

    def views(self, source: Source) -> set[View]:
        return {self.suite.parts[name].view for name, own in self.sources().items() if own == source}

    def keep(self, source: Source, predictions: Mapping[View, Predictions]) -> Columns:
        """Reduces a batch for every part that reads the source; returns what was kept, for `keep_again`."""
        reduced = {}
        for name in self._reading(source):
            part = self.suite.parts[name]
            reduced[name] = part.reduce(predictions[part.view])
        return self._take(reduced)

    def keep_again(self, source: Source, columns: Mapping[str, np.ndarray], target: Target | None) -> bool:
        """Keeps what an earlier run kept; False if that lacks a part."""
        found = {name: below(f"{self.suite.name}/{name}", columns) for name in self._reading(source)}
        if not all(found.values()):
            return False
        self._take({name: as_kept(of_part, target) for name, of_part in found.items()})
        return True

    def _take(self, reduced: Mapping[str, Any]) -> Columns:
        columns: Columns = {}
        for name, of_part in reduced.items():
            self._kept[name].append(of_part)
            columns |= under(f"{self.suite.name}/{name}", of_kept(of_part))
        return columns

    def _reading(self, source: Source) -> list[str]:
        return [name for name, own in self.sources().items() if own == source]

    def forget(self, source: Source) -> None:
        """As if nothing of the source had been kept."""
        for name in self._reading(source):
            self._kept[name].clear()

    def finish(self, source: Source, opened: PreparedSplit, seconds: float) -> None:
        self._opened[source] = opened
        self.seconds += seconds

    def check(self, opened: PreparedSplit, source: Source, loaded: Evaluated) -> None:
        """Raises `DataError` for data of another suite or of other classes; a part that may be absent is left out."""
        names = self._reading(source)
        try:
            self._check(names, opened, loaded)
        except DataError as e:
            if not all(self.suite.parts[name].optional for name in names):
                raise
            for name in names:
                self._left_out[name] = str(e)
                del self.directories[name], self._kept[name]

    def _check(self, parts: Sequence[str], opened: PreparedSplit, loaded: Evaluated) -> None:
        for name in parts:
            names = self.suite.parts[name].datasets
            if names and opened.manifest.dataset not in names:
                raise DataError(
                    f"{opened.directory}: holds {opened.manifest.dataset}, not {self.suite.name}; get that with:"
                    f" {self.suite.how_to_get}"
                )
        # The images of ImageNet's validation set keep ImageNet's labels in a suite whose own are others.
        self.suite.label_space.check(opened, loaded.class_list_hash, loaded.num_classes)

    def scores(self) -> dict[str, Any]:
        """Raises `DataError` where the data cannot be scored."""
        parts = {name: type(kept[0]).concatenate(kept) for name, kept in self._kept.items()}
        return {**self.suite.score(parts), **self.facts()}

    def facts(self) -> dict[str, Any]:
        """What stands beside the scores: of which data they are, and what it is not."""
        manifests = {name: self._opened[source].manifest for name, source in self.sources().items()}
        facts: dict[str, Any] = {"seconds": round(self.seconds, 2)}
        facts["data"] = data_identity(self.suite, self._found)
        if any(manifest.partial for manifest in manifests.values()):
            facts["partial"] = True
        if smaller := sorted({manifest.stored_smaller for manifest in manifests.values()} - {""}):
            facts["stored_smaller"] = "; ".join(smaller)
        if absent := [name for name in self.suite.parts if name not in self.directories]:
            facts["absent_parts"] = absent
        if self._left_out:
            facts["parts_left_out"] = self._left_out
        if resized := sorted({s.stored.side for s in self.sources().values() if s.stored.side} - {self._image_size}):
            facts["resized_from"] = resized[0]
        if notes := {name: noted for name, manifest in manifests.items() if (noted := _notes(manifest))}:
            facts["data_notes"] = notes
        return facts


def _notes(manifest: Manifest) -> dict[str, Any]:
    """What a reader of a score must know of the data: that it was generated or made smaller, and what was left out."""
    notes = {name: value for name in _NOTED if (value := manifest.source.get(name))}
    skipped = Counter(skipped.reason for skipped in manifest.skipped)
    return notes | ({"skipped": dict(skipped)} if skipped else {})


def data_identity(suite: Suite, found: Mapping[str, epath.Path | None]) -> dict[str, str] | None:
    """The fingerprints of a suite's data, by which a result knows what it was computed on; None if some are missing."""
    identity: dict[str, str] = {}
    for name, part in suite.parts.items():
        directory = found.get(name)
        if directory is not None:
            identity[name] = open_split(directory, part.split).manifest.fingerprint
        elif not part.optional:
            return None
    return identity
