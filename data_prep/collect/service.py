"""What the server does for an annotator, without the web: arrive, agree, practise, work on a page, submit it.

Every method is one or two transactions of the store and may be called from any thread, in any of several processes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from data_prep.collect import leases, log, platforms
from data_prep.collect.config import Config
from data_prep.collect.events import Batch
from data_prep.collect.fold import differs_from_submit, fold, missing_numbers
from data_prep.collect.log import Appended, NotYoursError, PageLimits
from data_prep.collect.platforms import Arrival, Completion, Visit
from data_prep.collect.practice import judge_icons, judge_selection
from data_prep.collect.privacy import keyed_hash, public_id, worker_key
from data_prep.collect.store import Store, Tx, get_meta, row, value
from data_prep.collect.summary import summarise
from data_prep.collect.tasks import Task, read_task
from data_prep.collect.visits import WORKER, DeniedError, Session, Worker, find_worker

PREVIEW = "preview-"
"""Before the id of a page that nobody has."""
WAIT_MS = 15_000
PAUSE_MS = 30_000
_RECENT = 20
"""Pages of which the mean time per page is taken."""
_PROJECT_DONE_S = 10.0
_HELD = "Thank you. Your work is being looked at before you go on; please come back later."
_PAUSED = "The owner has paused this project. Your work is kept; please come back later."


class Leased(NamedTuple):
    """A page to be shown."""

    assignment: str
    task: Task
    expires_ms: int
    number: int
    """For people, from 1."""
    ahead: tuple[str, Task] | None


class Next(NamedTuple):
    """What comes next for an annotator; `state` is one of docs/collect-protocol.md §3."""

    state: str
    page: Leased | None = None
    completion: Completion | None = None
    message: str = ""
    retry_ms: int = 0


class Submitted(NamedTuple):
    """The answer to a submit."""

    complete: bool
    surplus: bool = False
    missing: list[list[int]] | None = None
    state: dict[str, Any] | None = None


class Service:
    """The annotators' side of one project."""

    def __init__(self, config: Config, secret: bytes, store: Store):
        self.config, self._secret, self._store = config, secret, store
        self.rule = leases.LeaseRule(config.lease_minutes * 60_000, config.breadth_first)
        self._limits = PageLimits(config.max_page_bytes, config.max_page_samples)
        self._done = (0.0, 0.0)
        """Share of the project that is done, and until when that is not counted again."""

    # Arrival

    def arrive(self, platform: str, arrival: Arrival, now_ms: int) -> tuple[Session, Worker]:
        """Finds or makes the worker and the visit; the same link gives the same ones."""
        key = worker_key(self._secret, platform, arrival.worker)
        visit = keyed_hash(self._secret, "visit", key, arrival.assignment)[:32].lower()
        hashes = [
            keyed_hash(self._secret, kind, platform, text)[:30]
            for kind, text in (("assignment", arrival.assignment), ("hit", arrival.hit))
        ]

        def job(tx: Tx) -> tuple[Session, Worker]:
            tx.run(
                "INSERT INTO worker (platform, external_id, key, public_id, created_ms) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (key) DO NOTHING",
                *(platform, arrival.worker, key, public_id(key), now_ms),
            )
            worker = Worker(*tx.rows(f"SELECT {WORKER} FROM worker w WHERE w.key = ?", key)[0])
            tx.run(
                "INSERT INTO visit (id, worker, platform, external, assignment_hash, hit_hash, started_ms)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                *(visit, worker.id, platform, json.dumps(dict(arrival.params)), *hashes, now_ms),
            )
            return Session(worker.id, visit), worker

        return self._store.do(job)

    def consent(self, session: Session, version: str, agreed: bool, now_ms: int) -> None:
        """Raises `DeniedError` for another version than the one that is shown now."""

        def job(tx: Tx) -> None:
            worker = find_worker(tx, session)
            if version != self.config.consent.version:
                raise DeniedError("no_consent", "the text has changed; read it again")
            tx.run(
                "INSERT INTO consent (worker, version, agreed, ms) VALUES (?, ?, ?, ?)",
                *(worker.id, version, int(agreed), now_ms),
            )
            if agreed:
                tx.run(
                    "UPDATE worker SET consent_version = ?, consent_ms = ?, state = CASE WHEN state = 'new' THEN"
                    " 'active' ELSE state END WHERE id = ?",
                    *(version, now_ms, worker.id),
                )
            else:
                tx.run("UPDATE worker SET consent_version = NULL WHERE id = ?", worker.id)

        self._store.do(job)

    def _check(self, worker: Worker) -> None:
        """Raises `DeniedError` for one who may not work."""
        if worker.state == "blocked":
            raise DeniedError("blocked", "the owner of this project has ended your work")
        if worker.state in ("withdrawn", "forgotten"):
            raise DeniedError("withdrawn", "you have withdrawn from this project")
        if worker.consent_version != self.config.consent.version:
            raise DeniedError("no_consent", "agree to the terms first")

    # A page

    def next(
        self, session: Session, tab: str, now_ms: int, *, practice: bool = True, without: Sequence[str] = ()
    ) -> Next:
        """The page to work on, or why there is none. `without`: assignments that are passed over."""
        return self._store.do(lambda tx: self._next(tx, session, tab, now_ms, practice, without))

    def _next(self, tx: Tx, session: Session, tab: str, now_ms: int, practice: bool, without: Sequence[str]) -> Next:
        worker = find_worker(tx, session)
        self._check(worker)
        if get_meta(tx, "paused") == "1":
            return Next("paused", message=get_meta(tx, "paused_message") or _PAUSED, retry_ms=PAUSE_MS)
        if worker.state == "held":
            return Next("held", message=worker.reason or _HELD)
        if practice and worker.practice_ms is None and (page := self._practice_page(tx, worker, session, now_ms)):
            return Next("practice", page)
        platform, params, done_ms = tx.rows(
            "SELECT platform, external, done_ms FROM visit WHERE id = ?", session.visit
        )[0]
        quota = self.config.quota(platform)
        done = value(tx, "SELECT COUNT(*) FROM assignment WHERE visit = ? AND state = 'submitted'", session.visit)
        lease = None
        if quota is None or done < quota:
            lease = leases.take(tx, session.worker, session.visit, now_ms, self.rule, without=without)
            if lease is None and (self._others_work(tx, session.worker) or leases.is_open(tx, session.worker)):
                return Next("wait", retry_ms=WAIT_MS)
        if lease is None:
            if done_ms is None:
                tx.run("UPDATE visit SET done_ms = ? WHERE id = ?", now_ms, session.visit)
            code = keyed_hash(self._secret, "code", session.visit)[:10]
            visit = Visit(session.visit, platform, json.loads(params or "{}"), code)
            return Next("done", completion=platforms.complete(visit, self.config))
        tx.run("UPDATE assignment SET tab = ? WHERE id = ?", tab, lease.assignment)
        tx.run("UPDATE worker SET last_ms = ? WHERE id = ?", now_ms, session.worker)
        ahead = None
        if quota is None or done + 1 < quota:
            second = leases.look_ahead(tx, session.worker, session.visit, now_ms, self.rule, without=without)
            ahead = None if second is None else (second.assignment, self._task(tx, second.task))
        return Next("task", Leased(lease.assignment, self._task(tx, lease.task), lease.expires_ms, done + 1, ahead))

    def pass_over(self, session: Session, assignments: Sequence[str], *, for_good: bool) -> None:
        """Takes back pages that cannot be shown; `for_good` they do not come to this annotator again."""

        def job(tx: Tx) -> None:
            if not for_good:
                leases.undo_take(tx, session.worker, assignments)
                return
            for assignment in assignments:
                leases.give_back(tx, assignment, value(tx, "SELECT task FROM assignment WHERE id = ?", assignment))

        self._store.do(job)

    @staticmethod
    def _others_work(tx: Tx, worker: int) -> bool:
        """Whether a page that this annotator never had may become free."""
        return bool(
            tx.rows(
                "SELECT 1 FROM assignment a WHERE a.state = 'leased' AND a.worker <> ? AND NOT EXISTS (SELECT 1 FROM"
                " assignment b WHERE b.task = a.task AND b.worker = ?) LIMIT 1",
                *(worker, worker),
            )
        )

    def _practice_page(self, tx: Tx, worker: Worker, session: Session, now_ms: int) -> Leased | None:
        task = value(tx, "SELECT id FROM task WHERE practice = 1 ORDER BY seq DESC LIMIT 1")
        if task is None or not self.config.practice:
            return None
        assignment = keyed_hash(self._secret, "practice", str(worker.id), task)[:32].lower()
        tx.run(
            "INSERT INTO assignment (id, task, worker, visit, state, counts, leased_ms, expires_ms)"
            " VALUES (?, ?, ?, ?, 'practice', 0, ?, ?) ON CONFLICT (task, worker) DO NOTHING",
            *(assignment, task, worker.id, session.visit, now_ms, now_ms + self.rule.lease_ms),
        )
        return Leased(assignment, self._task(tx, task), now_ms + self.rule.lease_ms, 1, None)

    @staticmethod
    def _task(tx: Tx, task: str) -> Task:
        body, group, place, practice = tx.rows("SELECT body, grp, place, practice FROM task WHERE id = ?", task)[0]
        return read_task(body, group=group, place=place, practice=bool(practice))

    def task_of(self, assignment: str) -> Task | None:
        """The page of an assignment, for its pictures."""

        def job(tx: Tx) -> Task | None:
            if assignment.startswith(PREVIEW):
                task = value(tx, "SELECT id FROM task WHERE id = ?", assignment.removeprefix(PREVIEW))
            else:
                task = value(tx, "SELECT task FROM assignment WHERE id = ?", assignment)
            return None if task is None else self._task(tx, task)

        return self._store.read(job)

    def has_practice(self) -> bool:
        """Whether the plan has a practice page."""
        return bool(self._store.read(lambda tx: tx.rows("SELECT 1 FROM task WHERE practice = 1 LIMIT 1")))

    def any_page(self) -> tuple[str, Task] | None:
        """For those who only preview: the practice page, else the first page of the plan."""

        def job(tx: Tx) -> tuple[str, Task] | None:
            task = value(tx, "SELECT id FROM task ORDER BY practice DESC, seq LIMIT 1")
            return None if task is None else (PREVIEW + task, self._task(tx, task))

        return self._store.read(job)

    def resume(self, assignment: str) -> dict[str, Any]:
        """What the server knows of a page: `resume` of docs/collect-protocol.md §4."""
        batches = self._store.read(lambda tx: log.batches_of(tx, assignment))
        if not batches:
            return {"fresh": True}
        page = fold(batches, until_submit=False)
        last: dict[str, int] = {}
        for batch in batches:
            last[batch.tab] = max(last.get(batch.tab, -1), batch.number)
        replaced = {str(index): by for index, by in page.replaced.items()}
        return {
            "fresh": False,
            **page.state(),
            "replaced": replaced,
            "batches": last,
            "elapsed_ms": round(page.duration_ms or 0),
        }

    def append(self, session: Session, batch: Batch, body: bytes, now_ms: int, sent_ms: int) -> Future[Appended]:
        """Stores a batch. The future ends after the commit, with `NotYoursError`, `PageFullError` or `DeniedError`."""

        def job(tx: Tx) -> Appended:
            worker = find_worker(tx, session)
            if worker.consent_version is None:
                raise DeniedError("no_consent", "agree to the terms first")
            if worker.state in ("withdrawn", "forgotten"):
                raise DeniedError("withdrawn", "you have withdrawn from this project")
            return log.append(tx, session.worker, batch, body, now_ms, sent_ms, self.rule.lease_ms, self._limits)

        return self._store.write(job)

    def refuse(
        self, session: Session, assignment: str, tab: str, number: int, body: bytes, why: str, now_ms: int
    ) -> None:
        """Keeps a batch that was refused, if the page is this annotator's."""

        def job(tx: Tx) -> None:
            tx.run(
                "INSERT INTO meta (name, value) VALUES ('refused', '1') ON CONFLICT (name) DO UPDATE SET value ="
                " CAST(CAST(meta.value AS INTEGER) + 1 AS TEXT)"
            )
            owner = value(tx, "SELECT worker FROM assignment WHERE id = ?", assignment) if assignment else None
            if owner == session.worker:
                log.set_aside(tx, assignment, tab, number, now_ms, why[:500], body)

        self._store.do(job)

    def submit(self, session: Session, assignment: str, tab: str, number: int, now_ms: int) -> Submitted:
        """Closes a page once everything up to its submit event is stored. A repeated submit gets the same answer."""
        while True:
            answer = self._submit(session, assignment, tab, number, now_ms)
            if answer is not None:
                return answer

    def _submit(self, session: Session, assignment: str, tab: str, number: int, now_ms: int) -> Submitted | None:
        """`None` if more was stored meanwhile, so that it must be looked at again."""

        def look(tx: Tx) -> tuple[Any, ...] | None:
            find_worker(tx, session)
            return row(
                tx,
                "SELECT a.worker, a.task, a.state, a.counts, a.num_batches, w.state FROM assignment a JOIN worker w ON"
                " w.id = a.worker WHERE a.id = ?",
                assignment,
            )

        found = self._store.read(look)
        if found is None or found[0] != session.worker or found[2] == "practice":
            raise NotYoursError("this page is not yours")
        if found[5] in ("withdrawn", "forgotten"):
            raise DeniedError("withdrawn", "you have withdrawn from this project")
        if found[2] == "submitted":
            return Submitted(True, surplus=not found[3])
        numbers = self._store.read(lambda tx: log.numbers_of(tx, assignment)).get(tab, [])
        if missing := missing_numbers(numbers, number):
            return Submitted(False, missing=missing)
        batches = self._store.read(lambda tx: log.batches_of(tx, assignment))
        page = fold(batches)
        if page.submit is None:
            return Submitted(False, missing=[[number, number]])
        if differs_from_submit(page):
            state = fold(batches, until_submit=False).state()
            return Submitted(False, state=state)
        task = self._store.read(lambda tx: self._task(tx, found[1]))
        summary = summarise(task, page)

        def finish(tx: Tx) -> Submitted | None:
            leases.lock(tx, assignment)
            now = tx.rows("SELECT state, counts, num_batches FROM assignment WHERE id = ?", assignment)[0]
            if now[0] == "submitted":
                return Submitted(True, surplus=not now[1])
            if now[2] != found[4]:
                return None
            counts = leases.finish(tx, assignment, found[1], now_ms)
            tx.run(
                "UPDATE assignment SET summary = ?, num_pictures = ?, duration_ms = ?, submitted_batches = num_batches"
                " WHERE id = ?",
                *(json.dumps(summary), len(task.pictures), round(page.duration_ms or 0), assignment),
            )
            self._count_controls(tx, session.worker, summary.get("controls", (0, 0)), now_ms)
            return Submitted(True, surplus=not counts)

        return self._store.do(finish)

    def _count_controls(self, tx: Tx, worker: int, controls: tuple[int, int], now_ms: int) -> None:
        """Holds an annotator who fails too many."""
        tx.run(
            "UPDATE worker SET controls = controls + ?, controls_right = controls_right + ?, last_ms = ? WHERE id = ?",
            *(controls[1], controls[0], now_ms, worker),
        )
        rule = self.config.quality
        total, right = tx.rows("SELECT controls, controls_right FROM worker WHERE id = ?", worker)[0]
        if rule.min_control_score and total >= rule.after_controls and right < rule.min_control_score * total:
            tx.run("UPDATE worker SET state = 'held', reason = '' WHERE id = ? AND state = 'active'", worker)

    def give_back(self, session: Session, assignment: str) -> None:
        """Frees a page."""

        def job(tx: Tx) -> None:
            find_worker(tx, session)
            found = row(tx, "SELECT worker, task FROM assignment WHERE id = ?", assignment)
            if found is None or found[0] != session.worker:
                raise NotYoursError("this page is not yours")
            leases.give_back(tx, assignment, found[1])

        self._store.do(job)

    # Practice

    def practise(
        self,
        session: Session,
        assignment: str,
        selected: list[int],
        icons: list[dict[str, Any]],
        now_ms: int,
        *,
        gone: Callable[[Task], Collection[int]] = lambda _: (),
    ) -> dict[str, Any]:
        """Judges the practice page: `passed`, `tries` and `feedback` of docs/collect-protocol.md §3.

        gone: the indices of pictures that cannot be shown, which are not asked for.
        """
        task = self._store.read(lambda tx: self._practice_of(tx, session, assignment))
        feedback = judge_icons(task, icons) if not task.class_id else judge_selection(task, selected)
        hidden = gone(task)
        feedback = [entry for entry in feedback if entry.get("index") not in hidden]
        right = sum(entry["expected"] == entry["got"] and entry.get("inside") is not False for entry in feedback)
        passed = right >= self.config.quality.practice_pass * len(feedback)

        def job(tx: Tx) -> int:
            tx.run("UPDATE worker SET practice_tries = practice_tries + 1 WHERE id = ?", session.worker)
            tries = value(tx, "SELECT practice_tries FROM worker WHERE id = ?", session.worker)
            most = self.config.quality.practice_tries
            if passed:
                tx.run("UPDATE worker SET practice_ms = ? WHERE id = ? AND practice_ms IS NULL", now_ms, session.worker)
            elif most and tries >= most:
                tx.run(
                    "UPDATE worker SET state = 'held', reason = 'practice' WHERE id = ? AND state = 'active'",
                    session.worker,
                )
            return tries

        return {"passed": passed, "tries": self._store.do(job), "feedback": feedback}

    def _practice_of(self, tx: Tx, session: Session, assignment: str) -> Task:
        self._check(find_worker(tx, session))
        found = row(tx, "SELECT worker, task, state FROM assignment WHERE id = ?", assignment)
        if found is None or found[0] != session.worker or found[2] != "practice":
            raise NotYoursError("this is no practice page of yours")
        return self._task(tx, found[1])

    def withdraw(self, session: Session, now_ms: int) -> None:
        """Ends the work of an annotator, and keeps it out of exports."""

        def job(tx: Tx) -> None:
            worker = find_worker(tx, session)
            leases.free_worker(tx, worker.id)
            tx.run("UPDATE worker SET state = 'withdrawn', last_ms = ? WHERE id = ?", now_ms, worker.id)

        self._store.do(job)

    # Progress

    def progress(self, session: Session, now: float | None = None) -> dict[str, Any]:
        """`PROGRESS` of docs/collect-protocol.md §3."""

        def job(tx: Tx) -> tuple[int, int, list[tuple[Any, ...]], str]:
            pages, pictures = tx.rows(
                "SELECT COUNT(*), COALESCE(SUM(num_pictures), 0) FROM assignment WHERE visit = ? AND state ="
                " 'submitted'",
                session.visit,
            )[0]
            recent = tx.rows(
                "SELECT duration_ms FROM assignment WHERE worker = ? AND state = 'submitted' AND duration_ms IS NOT"
                f" NULL ORDER BY submitted_ms DESC LIMIT {_RECENT}",
                session.worker,
            )
            return pages, int(pictures), recent, value(tx, "SELECT platform FROM visit WHERE id = ?", session.visit)

        pages, pictures, recent, platform = self._store.read(job)
        target = self.config.quota(platform or "none")
        per_page = sum(ms for (ms,) in recent) / len(recent) if recent else None
        left = None if per_page is None or target is None else round(max(target - pages, 0) * per_page)
        return {
            "pages_done": pages,
            "pages_target": target,
            "pictures_done": pictures,
            "ms_per_page": None if per_page is None else round(per_page),
            "ms_left": left,
            "project_done": self._project_done(time.monotonic() if now is None else now),
        }

    def _project_done(self, now: float) -> float:
        share, until = self._done
        if now >= until:
            done, left = self._store.read(leases.done_and_left)
            share = done / (done + left) if done else 0.0
            self._done = (share, now + _PROJECT_DONE_S)
        return round(share, 4)
