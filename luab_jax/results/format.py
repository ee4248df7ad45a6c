"""The structure of results.json, version 2. Reading, checking and writing all go through these classes.

    File ─ suites ─▶ Suite ─ scores ─▶ Entry
                       └───── data ──▶ Data

Fractions are fractions, never percent. Fields may be added; a field that changes its meaning is a new version, and
`upgrade` has a function for every older one.
"""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

from luab_jax.results.foreign import FOREIGN
from luab_jax.results.score import FRACTION, NUMBER, Direction, Role

VERSION = 2
FONT, MAP = "font", "map"
"""Names in `details` of what besides model and data decides a score: a font by its digest, the kind of map."""
_LARGEST = 1e12
"""No score of any suite comes near; a table could not show it."""
_LARGEST_FRACTION = 1000.0
"""Fractions of something, such as the mCE, may exceed 1."""


class Entry(msgspec.Struct, kw_only=True):
    """One number of a suite."""

    value: float
    unit: str = NUMBER
    direction: Direction = Direction.NONE
    role: Role = Role.SCORE
    interval: tuple[float, float] | None = None
    """95 %, over images. `interval[0] <= value <= interval[1]`."""
    method: str = ""
    """Of the interval."""
    protocol: str = ""
    """How it was scored, where that is not the protocol of the suite."""

    def __post_init__(self) -> None:
        largest = _LARGEST_FRACTION if self.unit == FRACTION else _LARGEST
        for number in (self.value, *(self.interval or ())):
            if not math.isfinite(number) or abs(number) > largest:
                raise ValueError(f"{number!r} is no score in the unit {self.unit!r}")
        if self.interval is not None and not self.interval[0] <= self.value <= self.interval[1]:
            raise ValueError(f"the interval {list(self.interval)} does not hold the value {self.value}")


class Part(msgspec.Struct, kw_only=True):
    """One prepared split that a suite read."""

    dataset: str
    """As its metadata names it."""
    split: str
    fingerprint: str = ""


class Data(msgspec.Struct, kw_only=True):
    """Which images a suite was scored on, and in what they differ from the published ones."""

    dataset: str = ""
    """The name in the data's own metadata; of several parts all, joined by commas."""
    parts: dict[str, Part] = {}
    identity: dict[str, str] | None = None
    """Fingerprint of every part that was found, by which an evaluation knows its own result again."""
    partial: bool = False
    """Whether images of the published set are missing."""
    stored_smaller: str = ""
    """How images were made smaller at preparation."""
    generated: str = ""
    """By what, if the images are not the published files."""
    restricted: str = ""
    """To which classes, if the suite was not run on all of its own."""
    resized_from: int | None = None
    """Side in pixels at which the images are stored, where that is not the model's input size."""
    skipped: dict[str, int] = {}
    """Images left out at preparation, by reason."""
    notes: list[str] = []
    absent: list[str] = []
    """Optional parts that were not there."""
    left_out: dict[str, str] = {}
    """Optional parts that could not be used, and why."""


class Suite(msgspec.Struct, kw_only=True):
    """The result of one suite."""

    n: int
    scores: dict[str, Entry]
    title: str = ""
    """What tables call it; empty for the name of the suite."""
    group: str = ""
    """Under which heading its column stands."""
    protocol: str = ""
    definition: str = ""
    """A digest of the suite's row, by which an evaluation knows a result of another suite of this name; empty if it is
    not known."""
    preprocessing: str = ""
    """What was done to the images of this suite, in words; numbers are in the file's `preprocessing`."""
    dtype: str = ""
    weights: str = "raw"
    """`raw`, or `average` for a moving average."""
    data: Data = msgspec.field(default_factory=Data)
    groups: dict[str, float] = {}
    """The headline score of every group of images (size, angle, corruption …)."""
    details: dict[str, Any] = {}
    """What else the suite states; for people and scripts, not for tables."""
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ValueError(f"n is {self.n}")
        for name, value in self.groups.items():
            if not math.isfinite(value) or abs(value) > _LARGEST:
                raise ValueError(f"group {name!r} is {value!r}")
        if sum(entry.role is Role.HEADLINE for entry in self.scores.values()) > 1:
            raise ValueError("several scores have the role headline")

    def __getitem__(self, name: str) -> float | int:
        """The value of a score, a count or a setting; `n` is among them."""
        return self.n if name == "n" else self.scores[name].value

    def __contains__(self, name: str) -> bool:
        return name == "n" or name in self.scores

    @property
    def settings(self) -> dict[str, str]:
        """What besides model and data decides the scores, as far as it is known."""
        return {name: str(self.details[name]) for name in (FONT, MAP) if name in self.details}

    @property
    def headline(self) -> str | None:
        """The name of the headline score."""
        return next((name for name, entry in self.scores.items() if entry.role is Role.HEADLINE), None)


class Checkpoint(msgspec.Struct, kw_only=True):
    """What a table needs of a checkpoint; the file may state more."""

    model: str
    target: str
    weight: float
    seed: int
    step: int
    chosen: str
    dataset: str
    class_list_hash: str
    workdir: str
    experiment: dict[str, Any]
    preprocessing_override: dict[str, Any] = {}
    weights: str = ""
    config_hash: str = ""
    weights_hash: str = ""
    from_saved_predictions: bool = False

    def __post_init__(self) -> None:
        # Until `random` was matched to the clicks it meant what `random_in_image` means now, as in `config.versions`.
        if self.target == "random" and "byproduct.random_point" not in self.experiment:
            self.target = "random_in_image"

    @property
    def is_foreign(self) -> bool:
        """Whether it is no experiment, so that it has no byproduct, λ, training curves or row of the paper."""
        return self.target in FOREIGN


class File(msgspec.Struct, kw_only=True):
    """A whole results.json."""

    results_version: int
    checkpoint: dict[str, Any]
    """What tells this checkpoint from any other; `run` has the fields that are fixed."""
    suites: dict[str, Suite]
    name: str = ""
    preprocessing: dict[str, Any] = {}
    dtype: str = ""
    architecture: str = ""
    """Empty if the network is the preset of that name; else what was changed in it."""
    versions: dict[str, str] = {}
    command: list[str] = []
    """Empty if a function was called from Python."""
    date: str = ""
    """Of the last change, UTC, ISO 8601."""
    compilations: dict[str, float] | None = None
    """How the run went that computed something last."""

    def __post_init__(self) -> None:
        if self.results_version != VERSION:
            raise ValueError(f"results_version is {self.results_version}, expected {VERSION}")
        msgspec.convert(self.checkpoint, Checkpoint)

    @property
    def run(self) -> Checkpoint:
        return msgspec.convert(self.checkpoint, Checkpoint)


def to_json(file: File) -> str:
    """As it is written; indented, with a line break at the end."""
    # Not msgspec's own encoder: a name may hold half a character, which JSON can escape and UTF-8 cannot hold.
    return json.dumps(msgspec.to_builtins(file), indent=1, allow_nan=False) + "\n"
