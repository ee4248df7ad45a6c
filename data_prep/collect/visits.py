"""Who asks: an annotator, and his or her visit."""

from __future__ import annotations

from typing import NamedTuple

from data_prep.collect.store import RefusedError, Tx, row


class DeniedError(RefusedError):
    """An annotator who may not go on; `code` is one of docs/collect-protocol.md §2."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


class Session(NamedTuple):
    """Who asks: signed into the session's token."""

    worker: int
    visit: str


class Worker(NamedTuple):
    """A row of the store."""

    id: int
    public_id: str
    state: str
    reason: str
    consent_version: str | None
    practice_ms: int | None
    practice_tries: int


WORKER = "w.id, w.public_id, w.state, w.reason, w.consent_version, w.practice_ms, w.practice_tries"
"""The columns of a `Worker`, of a table `worker w`."""


def find_worker(tx: Tx, session: Session) -> Worker:
    """Raises `DeniedError` for one whom the database lacks, or who only has the number of an earlier annotator.

    Both happen after an older backup was restored. The visit decides: its id is a keyed hash of the worker's key.
    """
    found = row(
        tx,
        f"SELECT {WORKER} FROM worker w JOIN visit v ON v.worker = w.id WHERE w.id = ? AND v.id = ?",
        *(session.worker, session.visit),
    )
    if found is None:
        raise DeniedError("no_worker", "the server does not know this visit; open your link once more")
    return Worker(*found)
