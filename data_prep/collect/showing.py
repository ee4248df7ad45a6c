"""One submitted page of one annotator, as the exporters take it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TextIO

from data_prep.collect.fold import Page
from data_prep.problems import Problems


@dataclass(frozen=True, slots=True)
class Showing:
    """One submitted page of one annotator."""

    assignment: str
    worker: str
    """Public id."""
    assignment_id: str
    hit_id: str
    """Keyed hashes of the platform's ids."""
    submitted_ms: int
    surplus: bool
    page: Page


class LeftOut:
    """Showings that no reader of `data_prep` would take as they were collected: counted, and listed in a file."""

    def __init__(self, counts: Counter[str], file: TextIO):
        self._counts, self._file = counts, file

    def add(self, showing: Showing, picture: str, why: str) -> None:
        """One line: whose, of which picture, and what is odd."""
        self._counts["showings_left_out_as_odd"] += 1
        line = {"assignment": showing.assignment, "worker_id": showing.worker, "picture": picture, "reason": why}
        self._file.write(json.dumps(line) + "\n")


def oddity(problems: Problems) -> str:
    """What a reader said, for `LeftOut`."""
    found = [f"{problem.reason}: {problem.detail}" for problem in problems.listed("")]
    return "; ".join(found) or "reads back as something else than was collected"
