"""Who gets which page: never above the overlap, never twice to one annotator, and late work is kept. On both stores."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from data_prep.collect import control, leases, log
from data_prep.collect.config import Config
from data_prep.collect.events import Batch
from data_prep.collect.leases import LeaseRule
from data_prep.collect.log import NotYoursError, PageFullError, PageLimits
from data_prep.collect.platforms import Arrival
from data_prep.collect.service import Service
from data_prep.collect.store import Store, value
from data_prep.collect.tasks import Shown, Source, Task
from data_prep.collect.visits import Session
from luab_jax.errors import DataError
from tests.data_prep.collect.conftest import NOW, Make, new_database

MINUTE = 60_000
LIMITS = PageLimits(20 << 20, 200_000)


def add_tasks(store: Store, number: int, overlap: int) -> None:
    def job(tx) -> None:
        tx.run("DELETE FROM planned")
        tx.run("DELETE FROM task")
        for k in range(number):
            task = Task("cat", (Shown(Source(f"cat/{k}.jpg", "cat", 10, 0), "candidate"),), group="0" * 32)
            tx.run(
                "INSERT INTO task (id, seq, class_id, grp, place, practice, overlap, body)"
                " VALUES (?, ?, ?, ?, ?, 0, ?, ?)",
                *(task.id, k, "cat", "0" * 32, 0, overlap, task.body()),
            )

    store.do(job)


@pytest.fixture
def store(make_project: Make, db: str) -> Store:
    return make_project(db=db, practice=False)[1]


def arrive(store: Store, name: str) -> Session:
    config = Config(title="t", task="imagenet", images="/", classes="own")
    service = Service(config, b"secret", store)
    session, _ = service.arrive("none", Arrival(name), NOW)
    service.consent(session, config.consent.version, True, NOW)
    return session


def take(store: Store, session: Session, now: int = NOW, rule: LeaseRule | None = None) -> leases.Lease | None:
    rule = rule or LeaseRule(30 * MINUTE)
    return store.do(lambda tx: leases.take(tx, session.worker, session.visit, now, rule))


def submit(store: Store, lease: leases.Lease, now: int = NOW) -> bool:
    return store.do(lambda tx: leases.finish(tx, lease.assignment, lease.task, now))


def over_overlap(store: Store) -> int:
    """Pages that more annotators hold or did, in time, than the overlap allows; the counter must say the same."""
    rows = store.read(
        lambda tx: tx.rows(
            "SELECT t.overlap, t.taken, (SELECT COUNT(*) FROM assignment a WHERE a.task = t.id AND a.counts = 1) FROM"
            " task t WHERE t.practice = 0"
        )
    )
    assert all(taken == counted for _, taken, counted in rows)
    return sum(counted > overlap for overlap, _, counted in rows)


def test_sixteen_threads_get_every_page_exactly_as_often_as_wanted(store: Store) -> None:
    add_tasks(store, 40, overlap=2)
    given: list[tuple[int, str]] = []
    sessions = [arrive(store, f"w{k}") for k in range(16)]

    def work(session: Session) -> None:
        while lease := take(store, session):
            given.append((session.worker, lease.task))
            submit(store, lease)

    threads = [threading.Thread(target=work, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(Counter(task for _, task in given).values()) == {2: 40}
    assert len(set(given)) == len(given), "nobody has a page twice"
    assert over_overlap(store) == 0


def test_pages_that_were_begun_are_finished_first(store: Store) -> None:
    add_tasks(store, 5, overlap=2)
    first, second = (take(store, arrive(store, name)) for name in "ab")
    assert first is not None and second is not None and first.task == second.task
    breadth = LeaseRule(30 * MINUTE, breadth_first=True)
    third = take(store, arrive(store, "c"), rule=breadth)
    assert third is not None and third.task != first.task


def test_an_unfinished_page_comes_again(store: Store) -> None:
    add_tasks(store, 3, overlap=1)
    session = arrive(store, "a")
    first, again = take(store, session), take(store, session, NOW + MINUTE)
    assert first is not None and again is not None
    assert again.assignment == first.assignment and not again.is_new
    assert again.expires_ms == NOW + 31 * MINUTE, "asking for it renews it"


def test_a_lease_that_ran_out_is_given_to_others_and_late_work_is_surplus(store: Store) -> None:
    add_tasks(store, 1, overlap=1)
    slow, fast = arrive(store, "slow"), arrive(store, "fast")
    lease = take(store, slow)
    assert lease is not None and take(store, fast) is None
    other = take(store, fast, NOW + 31 * MINUTE)
    assert other is not None and other.task == lease.task
    assert not submit(store, lease), "kept, and not counted"
    assert submit(store, other)
    assert over_overlap(store) == 0


def test_late_work_counts_where_nobody_else_did_the_page(store: Store) -> None:
    add_tasks(store, 1, overlap=1)
    lease = take(store, arrive(store, "slow"))
    assert lease is not None
    store.do(lambda tx: leases.expire(tx, NOW + 31 * MINUTE))
    assert submit(store, lease)
    assert over_overlap(store) == 0


def batch_of(lease: leases.Lease, number: int = 0, samples: int = 0) -> Batch:
    return Batch(lease.assignment, "0123456789abcdef", number, NOW, [{"k": "heartbeat", "t": NOW}], samples, 1)


def append(store: Store, session: Session, batch: Batch, body: bytes = b"{}", now: int = NOW) -> log.Appended:
    return store.do(lambda tx: log.append(tx, session.worker, batch, body, now, now, 30 * MINUTE, LIMITS))


def test_a_batch_renews_the_lease(store: Store) -> None:
    add_tasks(store, 1, overlap=1)
    session = arrive(store, "a")
    lease = take(store, session)
    assert lease is not None
    done = append(store, session, batch_of(lease), now=NOW + 20 * MINUTE)
    assert done.expires_ms == NOW + 50 * MINUTE
    assert store.do(lambda tx: leases.expire(tx, NOW + 40 * MINUTE)) == 0


def test_no_renewal_shortens_a_lease_that_the_owner_prolonged(store: Store) -> None:
    add_tasks(store, leases.AHEAD_FROM + 1, overlap=1)
    session = arrive(store, "a")
    lease = take(store, session)
    assert lease is not None
    control.prolong(store, 600, NOW)
    until = NOW + 630 * MINUTE
    assert append(store, session, batch_of(lease), now=NOW + MINUTE).expires_ms == until, "which the page is told"
    again = take(store, session, NOW + 2 * MINUTE)
    assert again is not None and again.expires_ms == until
    assert store.do(lambda tx: leases.expire(tx, until - 1)) == 0
    late = append(store, session, batch_of(lease, 1), now=until - MINUTE)
    assert late.expires_ms == until + 29 * MINUTE, "renewed as ever once that is later"


def test_a_batch_of_a_lease_that_ran_out_takes_the_page_back_if_it_is_free(store: Store) -> None:
    add_tasks(store, 1, overlap=1)
    session = arrive(store, "a")
    lease = take(store, session)
    assert lease is not None
    assert append(store, session, batch_of(lease), now=NOW + 40 * MINUTE).state == "leased"
    store.do(lambda tx: leases.expire(tx, NOW + 80 * MINUTE))
    other = take(store, arrive(store, "b"), NOW + 81 * MINUTE)
    assert other is not None
    late = append(store, session, batch_of(lease, 1), now=NOW + 82 * MINUTE)
    assert late.outcome == "stored" and late.state == "expired"
    assert over_overlap(store) == 0


def test_a_batch_is_stored_once_whatever_is_repeated(store: Store) -> None:
    add_tasks(store, 1, overlap=1)
    session = arrive(store, "a")
    lease = take(store, session)
    assert lease is not None
    outcomes = [append(store, session, batch_of(lease), body).outcome for body in (b"{}", b"{}", b"[]")]
    assert outcomes == ["stored", "duplicate", "differs"]
    assert store.read(lambda tx: value(tx, "SELECT COUNT(*) FROM batch")) == 1
    assert store.read(lambda tx: value(tx, "SELECT COUNT(*) FROM set_aside")) == 1, "the other body is kept apart"


def test_the_page_of_another_is_refused_and_the_group_goes_on(store: Store) -> None:
    add_tasks(store, 1, overlap=1)
    mine, other = arrive(store, "a"), arrive(store, "b")
    lease = take(store, mine)
    assert lease is not None
    futures = [
        store.write(lambda tx, s=s: log.append(tx, s.worker, batch_of(lease), b"{}", NOW, NOW, MINUTE, LIMITS))
        for s in (other, mine)
    ]
    with pytest.raises(NotYoursError):
        futures[0].result()
    assert futures[1].result().outcome == "stored"


def test_a_page_has_a_limit_and_acts_pass_it(store: Store) -> None:
    add_tasks(store, 1, overlap=1)
    session = arrive(store, "a")
    lease = take(store, session)
    assert lease is not None
    append(store, session, batch_of(lease, 0, samples=LIMITS.max_samples))
    with pytest.raises(PageFullError):
        append(store, session, batch_of(lease, 1, samples=1))
    assert append(store, session, batch_of(lease, 1)).outcome == "stored"


def test_blocking_gives_the_work_to_others_and_unblocking_makes_it_surplus(store: Store) -> None:
    add_tasks(store, 2, overlap=1)
    bad, good = arrive(store, "bad"), arrive(store, "good")
    done = take(store, bad)
    assert done is not None
    submit(store, done)
    held = take(store, bad)
    assert held is not None and take(store, good) is None
    name = store.read(lambda tx: value(tx, "SELECT public_id FROM worker WHERE id = ?", bad.worker))
    control.act_on(store, name, "block", "clicks at random", NOW)
    again = take(store, good)
    assert again is not None and over_overlap(store) == 0
    submit(store, again)
    second = take(store, good)
    assert second is not None and {again.task, second.task} == {done.task, held.task}
    control.act_on(store, name, "unblock", "", NOW)
    assert over_overlap(store) == 0


STATES = ("new", "active", "held", "blocked", "withdrawn", "forgotten")
BECOMES = {
    "block": {"new": "blocked", "active": "blocked", "held": "blocked", "blocked": "blocked"},
    "unblock": {"new": "new", "active": "active", "blocked": "active"},
    "hold": {"new": "held", "active": "held", "held": "held"},
    "release": {"new": "new", "active": "active", "held": "active"},
}


@pytest.mark.parametrize("action", BECOMES)
@pytest.mark.parametrize("state", STATES)
def test_what_the_owner_may_do_with_whom(make_project: Make, action: str, state: str) -> None:
    """Nobody comes back who has withdrawn, and a release is no way around an unblock, which counts the work again."""
    _, store = make_project(practice=False)
    session = arrive(store, "a")
    if state == "new":
        store.do(lambda tx: tx.run("UPDATE worker SET consent_version = NULL"))
    store.do(lambda tx: tx.run("UPDATE worker SET state = ?", state))
    name = store.read(lambda tx: value(tx, "SELECT public_id FROM worker WHERE id = ?", session.worker))
    expected = BECOMES[action].get(state)
    if expected is None:
        with pytest.raises(DataError, match=state):
            control.act_on(store, name, action, "why", NOW)
    else:
        control.act_on(store, name, action, "why", NOW)
    assert store.read(lambda tx: value(tx, "SELECT state FROM worker")) == (expected or state)


def test_nobody_is_done_while_another_process_holds_the_last_page_in_a_transaction(
    make_project: Make, postgres: str
) -> None:
    """PostgreSQL: SKIP LOCKED does not see the page, and its overlap is not used up."""
    _, store = make_project(db=new_database(postgres), practice=False)
    config = Config(title="t", task="imagenet", images="/", classes="own", practice=False)
    add_tasks(store, 1, overlap=2)
    first, second = (arrive(store, name) for name in "ab")
    service = Service(config, b"secret", store)
    other = store.engine.connect()
    other.execute("BEGIN")
    other.execute("SELECT id FROM task WHERE practice = 0 FOR UPDATE")
    assert service.next(second, "0" * 16, NOW).state == "wait"
    other.execute("ROLLBACK")
    store.engine.close(other)
    assert service.next(second, "0" * 16, NOW).state == "task"
    assert service.next(first, "0" * 16, NOW).state == "task"
    assert service.next(arrive(store, "c"), "0" * 16, NOW).state == "wait", "others work"


def test_a_returned_page_is_free_at_once_and_does_not_come_back(store: Store) -> None:
    add_tasks(store, 1, overlap=1)
    first, second = arrive(store, "a"), arrive(store, "b")
    lease = take(store, first)
    assert lease is not None
    store.do(lambda tx: leases.give_back(tx, lease.assignment, lease.task))
    assert take(store, first) is None
    assert take(store, second) is not None


def test_a_second_page_is_reserved_only_while_many_are_open(store: Store) -> None:
    rule = LeaseRule(30 * MINUTE)
    add_tasks(store, leases.AHEAD_FROM + 1, overlap=1)
    session = arrive(store, "a")
    first = take(store, session)
    ahead = store.do(lambda tx: leases.look_ahead(tx, session.worker, session.visit, NOW, rule))
    assert first is not None and ahead is not None and ahead.task != first.task
    submit(store, first)
    second = take(store, session)
    assert second is not None and second.assignment == ahead.assignment
    assert store.do(lambda tx: leases.look_ahead(tx, session.worker, session.visit, NOW, rule)) is None
