"""Who works on which page: given out at most `overlap` times, never twice to one annotator, and back when time is up.

Every function here runs inside a transaction of the store. `task.taken` is the number of assignments that count
towards the overlap: those that are leased, and those that were submitted in time and are not excluded.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import NamedTuple

from data_prep.collect.store import Tx, row, value

_EXPIRE_AT_ONCE = 200
AHEAD_FROM = 50
"""A second page is reserved for preloading only while so many are open, so that nobody waits for an idle one."""
_LATER = "expires_ms = CASE WHEN expires_ms < ? THEN ? ELSE expires_ms END"


class Lease(NamedTuple):
    """One page in the hands of one annotator."""

    assignment: str
    task: str
    expires_ms: int
    is_new: bool


class LeaseRule(NamedTuple):
    """What the owner decided."""

    lease_ms: int
    breadth_first: bool = False


def expire(tx: Tx, now_ms: int) -> int:
    """Takes back what has run out; returns how many pages."""
    due = tx.rows(
        "SELECT id, task FROM assignment WHERE state = 'leased' AND expires_ms <= ? ORDER BY expires_ms LIMIT"
        f" {_EXPIRE_AT_ONCE}{tx.skip_locked}",
        now_ms,
    )
    for assignment, task in due:
        _free(tx, assignment, task, "expired")
    return len(due)


def _free(tx: Tx, assignment: str, task: str, state: str) -> None:
    if tx.run("UPDATE assignment SET state = ?, counts = 0 WHERE id = ? AND state = 'leased'", state, assignment):
        tx.run("UPDATE task SET taken = taken - 1 WHERE id = ?", task)


def take(tx: Tx, worker: int, visit: str, now_ms: int, rule: LeaseRule, *, without: Sequence[str] = ()) -> Lease | None:
    """The page that this annotator works on now: an unfinished one, else a new one; `None` if there is none.

    without: assignments of this annotator that are passed over.

    A lease that ran out is renewed if the page still has room. Of a page without room the annotator may still have
    the work in the browser; that arrives as surplus.
    """
    if tx.skip_locked:  # two requests of one annotator, in two processes, one after the other
        tx.rows("SELECT id FROM worker WHERE id = ? FOR UPDATE", worker)
    expire(tx, now_ms)
    expires_ms = now_ms + rule.lease_ms
    mine = row(
        tx,
        f"SELECT id, task FROM assignment WHERE worker = ? AND state = 'leased'{_but('id', without)}"
        " ORDER BY leased_ms, id LIMIT 1",
        *(worker, *without),
    )
    if mine is not None:
        tx.run(f"UPDATE assignment SET {_LATER}, visit = ? WHERE id = ?", expires_ms, expires_ms, visit, mine[0])
        return Lease(mine[0], mine[1], expiry_of(tx, mine[0]), False)
    late = row(
        tx,
        "SELECT a.id, a.task FROM assignment a JOIN task t ON t.id = a.task WHERE a.worker = ? AND a.state = 'expired'"
        f" AND a.num_batches > 0 AND t.taken < t.overlap{_but('a.id', without)} ORDER BY a.leased_ms LIMIT 1",
        *(worker, *without),
    )
    if late is not None and renew_expired(tx, late[0], late[1], expires_ms):
        tx.run("UPDATE assignment SET visit = ? WHERE id = ?", visit, late[0])
        return Lease(late[0], late[1], expires_ms, False)
    return take_new(tx, worker, visit, now_ms, rule)


def _but(column: str, values: Sequence[str]) -> str:
    return f" AND {column} NOT IN ({', '.join('?' * len(values))})" if values else ""


def is_open(tx: Tx, worker: int) -> bool:
    """Whether a page is left that this annotator never had, even if another process holds it at this moment.

    With SKIP LOCKED `take_new` does not see a page whose row an uncommitted transaction has changed, though that may
    take only a part of its overlap.
    """
    return bool(
        tx.rows(
            "SELECT 1 FROM task t WHERE t.taken < t.overlap AND t.practice = 0 AND NOT EXISTS (SELECT 1 FROM assignment"
            " a WHERE a.task = t.id AND a.worker = ?) LIMIT 1",
            worker,
        )
    )


def undo_take(tx: Tx, worker: int, assignments: Sequence[str]) -> None:
    """As if pages had never been given out; those on which work has come in stay leased."""
    for assignment in assignments:
        task = value(tx, "SELECT task FROM assignment WHERE id = ?", assignment)
        if tx.run(
            "DELETE FROM assignment WHERE id = ? AND worker = ? AND state = 'leased' AND num_batches = 0",
            *(assignment, worker),
        ):
            tx.run("UPDATE task SET taken = taken - 1 WHERE id = ?", task)


def renew_expired(tx: Tx, assignment: str, task: str, expires_ms: int) -> bool:
    """Gives an annotator the page back that ran out, if there is still room on it."""
    if not tx.run("UPDATE task SET taken = taken + 1 WHERE id = ? AND taken < overlap", task):
        return False
    done = tx.run(
        "UPDATE assignment SET state = 'leased', counts = 1, expires_ms = ? WHERE id = ? AND state = 'expired'",
        expires_ms,
        assignment,
    )
    if not done:
        tx.run("UPDATE task SET taken = taken - 1 WHERE id = ?", task)
    return bool(done)


def take_new(tx: Tx, worker: int, visit: str, now_ms: int, rule: LeaseRule, *, ahead: bool = False) -> Lease | None:
    """A page that this annotator never had. Pages that others began come first, so that pages get finished."""
    order = "ASC" if rule.breadth_first else "DESC"
    while True:
        found = row(
            tx,
            "SELECT t.id FROM task t WHERE t.taken < t.overlap AND t.practice = 0 AND NOT EXISTS (SELECT 1 FROM"
            f" assignment a WHERE a.task = t.id AND a.worker = ?) ORDER BY t.taken {order}, t.seq LIMIT 1"
            f"{tx.skip_locked}",
            worker,
        )
        if found is None:
            return None
        if not tx.run("UPDATE task SET taken = taken + 1 WHERE id = ? AND taken < overlap", found[0]):
            continue  # another process was faster
        assignment, expires_ms = secrets.token_hex(16), now_ms + rule.lease_ms
        leased_ms = now_ms + 1 if ahead else now_ms
        added = tx.run(
            "INSERT INTO assignment (id, task, worker, visit, state, counts, leased_ms, expires_ms)"
            " VALUES (?, ?, ?, ?, 'leased', 1, ?, ?) ON CONFLICT (task, worker) DO NOTHING",
            *(assignment, found[0], worker, visit, leased_ms, expires_ms),
        )
        if added:
            return Lease(assignment, found[0], expires_ms, True)
        tx.run("UPDATE task SET taken = taken - 1 WHERE id = ?", found[0])


def look_ahead(
    tx: Tx, worker: int, visit: str, now_ms: int, rule: LeaseRule, *, without: Sequence[str] = ()
) -> Lease | None:
    """The page that will come next, reserved as long as the present one; `None` when few are left."""
    second = tx.rows(
        f"SELECT id, task, expires_ms FROM assignment WHERE worker = ? AND state = 'leased'{_but('id', without)}"
        " ORDER BY leased_ms, id LIMIT 2",
        *(worker, *without),
    )
    if len(second) > 1:
        assignment, task, expires_ms = second[1]
        return Lease(assignment, task, expires_ms, False)
    open_pages = value(
        tx,
        f"SELECT COUNT(*) FROM (SELECT 1 FROM task WHERE taken < overlap AND practice = 0 LIMIT {AHEAD_FROM}) AS few",
    )
    return take_new(tx, worker, visit, now_ms, rule, ahead=True) if open_pages >= AHEAD_FROM else None


def renew(tx: Tx, worker: int, expires_ms: int) -> None:
    """Prolongs all that this annotator holds; what the owner prolonged further stays so."""
    tx.run(f"UPDATE assignment SET {_LATER} WHERE worker = ? AND state = 'leased'", expires_ms, expires_ms, worker)


def expiry_of(tx: Tx, assignment: str) -> int:
    """When the lease runs out."""
    return value(tx, "SELECT expires_ms FROM assignment WHERE id = ?", assignment)


def give_back(tx: Tx, assignment: str, task: str) -> None:
    """Frees a page that its annotator returns."""
    _free(tx, assignment, task, "returned")


def lock(tx: Tx, assignment: str) -> None:
    """Lets no other process change it until the transaction ends; what is read from now on is what it left."""
    if tx.skip_locked:
        tx.rows("SELECT id FROM assignment WHERE id = ? FOR UPDATE", assignment)


def finish(tx: Tx, assignment: str, task: str, now_ms: int) -> bool:
    """Marks a page that `lock` holds as submitted; returns whether it counts. One that came late to a full page is
    surplus."""
    state, counts, worker = tx.rows(
        "SELECT a.state, a.counts, w.state FROM assignment a JOIN worker w ON w.id = a.worker WHERE a.id = ?",
        assignment,
    )[0]
    if state == "submitted":
        return bool(counts)
    blocked = worker == "blocked"  # while at work: the page is kept, but neither counted nor exported
    if blocked:
        counts = 0
    elif state != "leased":
        counts = tx.run("UPDATE task SET taken = taken + 1 WHERE id = ? AND taken < overlap", task)
    tx.run(
        "UPDATE assignment SET state = 'submitted', counts = ?, excluded = ?, submitted_ms = ? WHERE id = ?",
        *(int(bool(counts)), int(blocked), now_ms, assignment),
    )
    return bool(counts)


def done_and_left(tx: Tx) -> tuple[int, int]:
    """Showings that are done and that are left; what a page has beyond its overlap stands for no other page."""
    done, left = tx.rows(
        "SELECT SUM(CASE WHEN done < overlap THEN done ELSE overlap END), SUM(CASE WHEN done < overlap THEN overlap -"
        " done ELSE 0 END) FROM (SELECT t.overlap, COUNT(a.id) AS done FROM task t LEFT JOIN assignment a ON a.task ="
        " t.id AND a.state = 'submitted' AND a.counts = 1 WHERE t.practice = 0 GROUP BY t.id, t.overlap) AS page"
    )[0]
    return int(done or 0), int(left or 0)


def free_worker(tx: Tx, worker: int) -> int:
    """Frees what a blocked or withdrawn annotator holds, and lets others do again what that annotator did."""
    held = " FOR UPDATE" if tx.skip_locked else ""  # another server may do the same
    rows = tx.rows(f"SELECT id, task, state, counts FROM assignment WHERE worker = ? ORDER BY id{held}", worker)
    for assignment, task, state, counts in rows:
        if state == "leased":
            _free(tx, assignment, task, "returned")
        elif state == "submitted":
            tx.run("UPDATE assignment SET excluded = 1, counts = 0 WHERE id = ?", assignment)
            if counts:
                tx.run("UPDATE task SET taken = taken - 1 WHERE id = ?", task)
    return len(rows)


def take_worker_back(tx: Tx, worker: int) -> None:
    """Counts the work of an annotator again who was blocked by mistake; what others did meanwhile makes it surplus."""
    rows = tx.rows("SELECT id, task FROM assignment WHERE worker = ? AND state = 'submitted' AND excluded = 1", worker)
    for assignment, task in rows:
        room = tx.run("UPDATE task SET taken = taken + 1 WHERE id = ? AND taken < overlap", task)
        tx.run("UPDATE assignment SET excluded = 0, counts = ? WHERE id = ?", int(bool(room)), assignment)
