"""What the owner decides while people work: pause, block, hold, extend."""

from __future__ import annotations

from data_prep.collect import leases
from data_prep.collect.store import Store, Tx, note, row, set_meta, value
from luab_jax.errors import DataError

_FREE = ("new", "active")
ACTIONS = {
    "block": (*_FREE, "held", "blocked"),
    "unblock": (*_FREE, "blocked"),
    "hold": (*_FREE, "held"),
    "release": (*_FREE, "held"),
}
"""Of which state an annotator must be. Nobody comes back from `withdrawn` or `forgotten`, which are not the owner's to
undo; a block ends with `unblock` alone, which counts the work again."""


def pause(store: Store, paused: bool, message: str, now_ms: int) -> None:
    """No new page is given out while a project is paused; what is under way is taken all the same."""

    def job(tx: Tx) -> None:
        set_meta(tx, "paused", "1" if paused else "0")
        set_meta(tx, "paused_message", message)
        note(tx, now_ms, "pause", f"{paused} {message}")

    store.do(job)


def act_on(store: Store, worker: str, action: str, reason: str, now_ms: int) -> None:
    """Blocks, unblocks, holds or releases an annotator; raises `DataError` for an unknown one, or one in another state
    than `ACTIONS` says.

    Blocking keeps the work out of exports and lets others do the pages again.
    """

    def job(tx: Tx) -> None:
        found = row(tx, "SELECT id, state, consent_version FROM worker WHERE public_id = ?", worker)
        if found is None:
            raise DataError(f"{worker}: no such annotator")
        number, state, consented = found
        if state not in ACTIONS[action]:
            raise DataError(f"{worker}: is {state}, and {action} is for who is {', '.join(ACTIONS[action])}")
        free = "active" if consented else "new"
        if action == "block" and state != "blocked":
            leases.free_worker(tx, number)
        elif action == "unblock" and state == "blocked":
            leases.take_worker_back(tx, number)
        elif action == "release":
            tx.run("UPDATE worker SET controls = 0, controls_right = 0 WHERE id = ?", number)
        state = {"block": "blocked", "unblock": free, "hold": "held", "release": free}[action]
        tx.run("UPDATE worker SET state = ?, reason = ? WHERE id = ?", state, reason, number)
        note(tx, now_ms, action, f"{worker} {reason}")

    if action not in ACTIONS:
        raise DataError(f"{action}: expected one of {', '.join(ACTIONS)}")
    store.do(job)


def set_overlap(store: Store, overlap: int, now_ms: int) -> int:
    """How often each page is to be done; returns the number of pages. What is done beyond it stays."""

    def job(tx: Tx) -> int:
        tx.run("UPDATE task SET overlap = ? WHERE practice = 0", overlap)
        set_meta(tx, "overlap", str(overlap))
        note(tx, now_ms, "overlap", str(overlap))
        return value(tx, "SELECT COUNT(*) FROM task WHERE practice = 0")

    if overlap < 1:
        raise DataError(f"overlap {overlap}: expected at least 1")
    return store.do(job)


def prolong(store: Store, minutes: int, now_ms: int) -> int:
    """Prolongs all leases that run now; returns how many."""
    if minutes < 1:
        raise DataError(f"{minutes} minutes: expected at least 1")

    def job(tx: Tx) -> int:
        note(tx, now_ms, "prolong", f"{minutes} minutes")
        return tx.run("UPDATE assignment SET expires_ms = expires_ms + ? WHERE state = 'leased'", minutes * 60_000)

    return store.do(job)
