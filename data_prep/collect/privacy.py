"""Who an annotator is: known to the project's database alone, and by a keyed hash to everybody else."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from data_prep.collect import leases
from data_prep.collect.store import Tx, note, row
from luab_jax.errors import DataError

ID_DIGITS = 10
"""Upper-case hexadecimal digits of a worker id, as in the release: 40 bits, so that among 2,000 annotators two share
one with a chance of 2e-6."""


def keyed_hash(secret: bytes, *words: str) -> str:
    """64 upper-case hex digits that only the holder of the secret can compute."""
    return hmac.new(secret, "\0".join(words).encode(), hashlib.sha256).hexdigest().upper()


def worker_key(secret: bytes, platform: str, external_id: str) -> str:
    """By which a returning worker is found."""
    return keyed_hash(secret, "worker", platform, external_id)


def public_id(key: str) -> str:
    """What exports show of a worker."""
    return key[:ID_DIGITS]


def forget(tx: Tx, name: str, now_ms: int, *, erase: bool) -> str:
    """Cuts the tie between a worker and the platform's id: `name` is that id or the worker's public id.

    The worker gets a new random public id, so that even who knows both the platform's id and the project's secret
    cannot find the records again. With `erase`, the records go too. Returns the new public id.
    """
    found = row(tx, "SELECT id, state FROM worker WHERE external_id = ? OR public_id = ?", name, name.upper())
    if found is None:
        raise DataError(f"{name}: no such annotator; give the platform's id, or the id that `collect status` lists")
    worker, new_key = found[0], secrets.token_hex(32).upper()
    leases.free_worker(tx, worker)
    if not erase and found[1] not in ("blocked", "withdrawn"):
        leases.take_worker_back(tx, worker)
    if erase:
        for table in ("batch", "set_aside"):
            tx.run(f"DELETE FROM {table} WHERE assignment IN (SELECT id FROM assignment WHERE worker = ?)", worker)
        tx.run("DELETE FROM assignment WHERE worker = ?", worker)
        tx.run("DELETE FROM consent WHERE worker = ?", worker)
    state = found[1] if found[1] in ("blocked", "withdrawn") else "forgotten"
    tx.run(
        "UPDATE worker SET external_id = NULL, key = ?, public_id = ?, state = ?, reason = 'forgotten' WHERE id = ?",
        *(new_key, public_id(new_key), state, worker),
    )
    tx.run(
        "UPDATE visit SET external = NULL, assignment_hash = ?, hit_hash = ? WHERE worker = ?",
        *(secrets.token_hex(15).upper(), secrets.token_hex(15).upper(), worker),
    )
    note(tx, now_ms, "forget", f"erased {erase}")
    return public_id(new_key)
