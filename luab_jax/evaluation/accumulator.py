"""One suite on its way: which data it reads, what was kept of each batch, and the scores in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from etils import epath

from luab_jax.byproducts.targets import Target
from luab_jax.data.class_lists import ClassList
from luab_jax.data.dataset import PreparedSplit, open_split
from luab_jax.data.transforms import Preprocessing, Stored
from luab_jax.errors import DataError
from luab_jax.evaluation import definitions
from luab_jax.evaluation.columns import Columns, as_kept, below, of_kept, under
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.restriction import OF_ALL_CLASSES, Restriction, apply
from luab_jax.evaluation.suite import Need, Procedure, Scored, Suite, View
from luab_jax.results import format as results_format


@runtime_checkable
class Evaluated(Protocol):
    """What is asked of a model: a `LoadedModel`, a `FunctionModel` or a `SavedModel`."""

    @property
    def name(self) -> str: ...
    @property
    def identity(self) -> dict[str, Any]: ...
    @property
    def class_list_hash(self) -> str: ...
    @property
    def num_classes(self) -> int: ...
    @property
    def classes(self) -> ClassList | None: ...
    @property
    def has_byproduct_head(self) -> bool: ...
    @property
    def label_sets(self) -> bool: ...
    @property
    def target(self) -> Target | None: ...
    @property
    def preprocessing(self) -> Preprocessing: ...
    @property
    def sides(self) -> frozenset[int]: ...
    def side_for(self, stored: Stored) -> int: ...


@runtime_checkable
class HasSaved(Protocol):
    """A `SavedModel`, which has nothing but what was predicted before."""

    def check_saved(self, split: PreparedSplit, view: View) -> None:
        """Raises `DataError` for images that were not predicted in this view."""
        ...

    def font_of(self, split: PreparedSplit) -> str | None:
        """Of the watermark under which they were predicted, by its digest."""
        ...


@runtime_checkable
class Predicts(Protocol):
    """A `Predictor`, a `FunctionPredictor` or a `SavedModel`."""

    @property
    def gives(self) -> frozenset[Need]: ...
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
    data_found: bool | None = True
    """None where it was not looked for, since the suite is not for the model."""


class SuiteRun:
    """A suite on its way: what was kept of its parts so far."""

    def __init__(self, suite: Suite, directories: Mapping[str, epath.Path], loaded: Evaluated):
        self.suite = suite
        self._loaded = loaded
        self._found = directories
        self.directories = dict(directories)
        """Of the parts that are used."""
        self._left_out: dict[str, str] = {}
        self.seconds = 0.0
        self._restrictions: dict[str, Restriction | None] = {}
        self._kept: dict[str, list[Any]] = {name: [] for name in directories}
        self._definitions = {name: definitions.of_part(suite.parts[name]) for name in directories}
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
            of_suite = apply(self._restrictions.get(name), predictions[part.view], part.reduce)
            reduced[name] = part.reduce(of_suite)
        return self._take(reduced)

    def keep_again(self, source: Source, columns: Mapping[str, np.ndarray], target: Target | None) -> bool:
        """Keeps what an earlier run kept; False if that lacks a part."""
        found = {name: below(self._prefix(name), columns) for name in self._reading(source)}
        if not all(found.values()):
            return False
        self._take({name: as_kept(of_part, target) for name, of_part in found.items()})
        return True

    def _take(self, reduced: Mapping[str, Any]) -> Columns:
        columns: Columns = {}
        for name, of_part in reduced.items():
            self._kept[name].append(of_part)
            columns |= under(self._prefix(name), of_kept(of_part))
        return columns

    def _prefix(self, part: str) -> str:
        """Of its columns, in which those of another suite of this name are not found."""
        return f"{self.suite.name}/{part}/{self._definitions[part]}"

    @property
    def failure(self) -> str:
        """The name of the column that says why the suite cannot go on."""
        return f"failed/{self.suite.name}/{definitions.of_suite(self.suite)}"

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
            if isinstance(loaded, HasSaved):  # else a view that one suite lacks would cost those that share the images
                loaded.check_saved(opened, self.suite.parts[name].view)
        if reason := self.suite.why_not(opened):
            raise DataError(reason)
        # The images of ImageNet's validation set keep ImageNet's labels in a suite whose own are others.
        restricted = self.suite.label_space.check(opened, loaded)
        if restricted is not None and isinstance(self.suite.method, Procedure):
            raise DataError(
                f"{opened.directory}: is of ImageNet's own class list; the checkpoint's has {loaded.num_classes} of its"
                " classes or another order of them, which this suite cannot follow. Prepare the data with that list"
                " (--classes)"
            )
        for name in parts:
            self._restrictions[name] = restricted

    def scores(self) -> Mapping[str, object]:
        """Raises `DataError` where the data cannot be scored."""
        parts = {name: type(kept[0]).concatenate(kept) for name, kept in self._kept.items()}
        empty = [name for name, part in parts.items() if not len(part) and self._restrictions.get(name)]
        if any(not self.suite.parts[name].optional for name in empty):
            raise DataError(f"{self.suite.name}: none of its images is of the checkpoint's classes")
        assert isinstance(self.suite.method, Scored)
        scores = self.suite.method.score({name: part for name, part in parts.items() if name not in empty})
        if not self.restricted():
            return scores
        return {name: value for name, value in scores.items() if name not in OF_ALL_CLASSES}

    def restricted(self) -> str:
        """To which classes; empty if the suite was run on all of its own."""
        found = {
            restricted.in_words(getattr(self.suite.parts[name].reduce, "outputs", None))
            for name, restricted in self._restrictions.items()
            if restricted is not None
        }
        return min(found, key=lambda words: (len(words), words), default="")

    def data(self) -> results_format.Data:
        """Which images the scores are of, and in what these differ from the published ones."""
        sources = self.sources()
        manifests = {name: self._opened[source].manifest for name, source in sources.items()}
        skipped: Counter[str] = Counter()
        for manifest in {id(manifest): manifest for manifest in manifests.values()}.values():
            skipped.update(of_record.reason for of_record in manifest.skipped)
        stored = {source.stored for source in sources.values()}
        resized = sorted(s.side for s in stored if s.side is not None and s.side != self._loaded.side_for(s))
        return results_format.Data(
            dataset=", ".join(dict.fromkeys(manifest.dataset for manifest in manifests.values())),
            parts={
                name: results_format.Part(dataset=m.dataset, split=sources[name].split, fingerprint=m.fingerprint)
                for name, m in manifests.items()
            },
            identity=data_identity(self.suite, self._found),
            partial=any(manifest.partial for manifest in manifests.values()),
            stored_smaller=_joined(manifest.stored_smaller for manifest in manifests.values()),
            generated=_joined(str(manifest.source.get("generated", "")) for manifest in manifests.values()),
            restricted=self.restricted(),
            resized_from=resized[0] if resized else None,
            skipped=dict(skipped),
            notes=sorted({str(note) for m in manifests.values() if (note := m.source.get("notes"))}),
            absent=[name for name in self.suite.parts if name not in self.directories],
            left_out=dict(self._left_out),
        )


def _joined(texts: Iterable[str]) -> str:
    """Each once; empty ones are left out."""
    return "; ".join(sorted({text for text in texts if text}))


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
