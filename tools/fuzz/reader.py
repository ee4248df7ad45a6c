"""A reader as it is fed: valid input to start from, the damage that fits its format, and one call of it.

A call ends well (the input is accepted), with the package's own `UserError` (refused), or in any other way, which is a
bug. What is accepted must also be fit for a shard: the record is encoded, and the problems must be writable as text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from data_prep.problems import Problems
from luab_jax.byproducts.records import ImageRecord
from luab_jax.data import features
from luab_jax.data.class_lists import ClassList
from tests.data_prep.conftest import CLASSES
from tools.fuzz import mutations as m
from tools.fuzz.mutations import Mutation

CLASSES_OF_TESTS = ClassList(CLASSES, CLASSES)
JSON_TOKENS = (
    b"NaN",
    b"-Infinity",
    b"null",
    b'"\\ud800"',
    b"\\u0000",
    b"[[[[",
    b"{",
    b"]",
    b"}",
    b",",
    b'"',
    b"\xff",
    b"1e",
)


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader that is set up in a scratch folder of its own."""

    seeds: Sequence[bytes]
    mutations: Sequence[Mutation]
    read: Callable[[bytes], object]
    """Raises `UserError` for what it refuses."""

    def input(self, rng: Random) -> bytes:
        return m.mutated(self.seeds, self.mutations, rng)


def fits_a_shard(problems: Problems, **fields: object) -> None:
    """Whatever was taken from outside can be written."""
    features.encode(ImageRecord(file_name="a.JPEG", image=b"", height=1, width=1, **fields))  # type: ignore[arg-type]
    for skipped in problems.listed("a"):
        skipped.detail.encode()
