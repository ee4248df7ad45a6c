"""The log: batches are appended and never changed; what is read from it is folded anew."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from data_prep.collect import leases
from data_prep.collect.events import Batch
from data_prep.collect.merge import StoredBatch
from data_prep.collect.store import RefusedError, Tx, row

_MAX_SET_ASIDE = 64
"""Bodies kept of one page beside its log."""
_ACTS_BEYOND = 20_000
"""Events that are no samples are taken even from a page whose samples are at their limit; this is theirs."""


class NotYoursError(RefusedError):
    """The page belongs to somebody else, or to nobody."""


class PageFullError(RefusedError):
    """A page has sent as much as a page may."""


class PageLimits(NamedTuple):
    max_bytes: int
    max_samples: int


class Appended(NamedTuple):
    """What became of a batch."""

    outcome: str
    """`stored`, `duplicate` or `differs`."""
    state: str
    """Of the assignment."""
    expires_ms: int
    holder: bool


def append(
    tx: Tx, worker: int, batch: Batch, body: bytes, now_ms: int, sent_ms: int, lease_ms: int, limits: PageLimits
) -> Appended:
    """Stores a batch once. Raises `NotYoursError` or `PageFullError` before anything is written."""
    found = row(
        tx,
        "SELECT a.worker, a.task, a.state, a.expires_ms, a.tab, a.num_bytes, a.num_samples, a.num_events, t.practice"
        " FROM assignment a JOIN task t ON t.id = a.task WHERE a.id = ?",
        batch.assignment,
    )
    if found is None or found[0] != worker or found[8]:
        raise NotYoursError("this page is not yours")
    _, task, state, expires_ms, tab, num_bytes, num_samples, num_events, _ = found
    digest = hashlib.sha256(body).digest()
    there = row(
        tx,
        "SELECT sha256 FROM batch WHERE assignment = ? AND tab = ? AND number = ?",
        *(batch.assignment, batch.tab, batch.number),
    )
    if there is not None:
        if bytes(there[0]) == digest:
            return Appended("duplicate", state, expires_ms, tab in ("", batch.tab))
        set_aside(tx, batch.assignment, batch.tab, batch.number, now_ms, "differs", body)
        return Appended("differs", state, expires_ms, tab in ("", batch.tab))
    many = num_bytes + len(body) > limits.max_bytes or num_samples + batch.num_samples > limits.max_samples
    if many and (batch.num_samples or num_events > _ACTS_BEYOND):
        raise PageFullError("this page has sent as much as one page may")
    added = tx.run(
        "INSERT INTO batch (assignment, tab, number, received_ms, sent_ms, sha256, body) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (assignment, tab, number) DO NOTHING",
        *(batch.assignment, batch.tab, batch.number, now_ms, sent_ms, digest, zlib.compress(body, 6)),
    )
    if not added:  # another process stored it between the two statements; asked again it tells which
        return append(tx, worker, batch, body, now_ms, sent_ms, lease_ms, limits)
    if state == "leased" and expires_ms <= now_ms:
        leases.expire(tx, now_ms)
        state = "expired"
    if state == "expired" and leases.renew_expired(tx, batch.assignment, task, now_ms + lease_ms):
        state = "leased"
    if state == "leased":
        leases.renew(tx, worker, now_ms + lease_ms)
        expires_ms = leases.expiry_of(tx, batch.assignment)
    tx.run(
        "UPDATE assignment SET num_batches = num_batches + 1, num_events = num_events + ?, num_samples = num_samples"
        " + ?, num_bytes = num_bytes + ? WHERE id = ?",
        *(len(batch.events), batch.num_samples, len(body), batch.assignment),
    )
    return Appended("stored", state, expires_ms, tab in ("", batch.tab))


def set_aside(tx: Tx, assignment: str, tab: str, number: int, now_ms: int, reason: str, body: bytes) -> None:
    """Keeps a body that is not taken into the log, a few of each page."""
    count = tx.rows("SELECT COUNT(*) FROM set_aside WHERE assignment = ?", assignment)[0][0]
    if count < _MAX_SET_ASIDE:
        tx.run(
            "INSERT INTO set_aside (assignment, tab, number, received_ms, reason, body) VALUES (?, ?, ?, ?, ?, ?)",
            *(assignment, tab, number, now_ms, reason, zlib.compress(body, 6)),
        )


def batches_of(tx: Tx, assignment: str, *, as_submitted: bool = False) -> list[StoredBatch]:
    """The log of one page, parsed; `as_submitted` without what came after its submission was answered."""
    rows = tx.rows(
        "SELECT tab, number, body, received_ms - sent_ms FROM batch WHERE assignment = ? ORDER BY seq", assignment
    )
    if as_submitted:
        (count,) = tx.rows("SELECT submitted_batches FROM assignment WHERE id = ?", assignment)[0]
        rows = rows[:count]
    return [StoredBatch(tab, number, parse_body(body)["events"], delay) for tab, number, body, delay in rows]


def parse_body(body: bytes) -> dict[str, Any]:
    return json.loads(zlib.decompress(body))


def numbers_of(tx: Tx, assignment: str) -> dict[str, list[int]]:
    """The numbers of the stored batches of each tab."""
    numbers: dict[str, list[int]] = {}
    for tab, number in tx.rows("SELECT tab, number FROM batch WHERE assignment = ? ORDER BY tab, number", assignment):
        numbers.setdefault(tab, []).append(number)
    return numbers


def raw_batches(tx: Tx, assignment: str) -> Iterator[tuple[str, int, int, int, bytes]]:
    """Tab, number, times of arrival and sending, and the JSON as it came."""
    for tab, number, received_ms, sent_ms, body in tx.rows(
        "SELECT tab, number, received_ms, sent_ms, body FROM batch WHERE assignment = ? ORDER BY seq", assignment
    ):
        yield tab, number, received_ms, sent_ms, zlib.decompress(body)
