"""A crowd at work while its server is killed again and again; and what must be true afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from data_prep.collect import log
from data_prep.collect.fold import fold
from data_prep.collect.merge import StoredBatch
from data_prep.collect.project import Project
from data_prep.collect.simulate.annotator import Ledger
from data_prep.collect.simulate.run import Crowd, Truth
from data_prep.collect.store import Store, value
from data_prep.collect.web.site import Site


@dataclass(slots=True)
class Verdict:
    """Compared after the last page."""

    kills: int = 0
    pages: int = 0
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    """Batches that were acknowledged and are not in the log as they were sent."""
    over_overlap: int = 0
    twice: int = 0
    """Annotators who had a page twice."""
    differing: list[str] = field(default_factory=list)
    """Submitted pages whose log gives another state than was meant."""
    not_submitted: list[str] = field(default_factory=list)
    """Pages that were told to be submitted and are not."""
    server_errors: int = 0

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.over_overlap or self.twice or self.differing or self.not_submitted)

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.pages} pages, {self.acknowledged} batches acknowledged: {len(self.lost)} lost,"
            f" {self.over_overlap} pages over their overlap, {self.twice} given twice to one annotator,"
            f" {len(self.differing)} with another state than was meant, {len(self.not_submitted)} submits forgotten"
        )


class Server:
    """A server process that can be killed and started again on the same port."""

    def __init__(self, folder: Path, port: int):
        self._command = [sys.executable, "-m", "data_prep", "collect", "serve", str(folder), f"--port={port}"]
        self._process: subprocess.Popen[str] | None = None

    async def start(self) -> None:
        self._process = await asyncio.to_thread(
            lambda: subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        )
        assert self._process.stdout is not None
        line = await asyncio.to_thread(self._process.stdout.readline)
        if not line.startswith("serving"):
            raise RuntimeError("the server did not start")

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None


async def work_and_kill(
    project: Project,
    store: Store,
    port: int,
    *,
    annotators: int,
    pages: int | None,
    kills: int,
    seed: int = 0,
    faults: set[str] | None = None,
    between_s: tuple[float, float] = (0.2, 1.5),
) -> tuple[Verdict, list[Ledger]]:
    """Lets a crowd work and kills the server at random moments until `kills` of them or the end of the work."""
    rng = random.Random(seed)
    server = Server(project.folder, port)
    await server.start()
    url = f"http://127.0.0.1:{port}"
    tokens = [link.partition("#t=")[2] for link in Site(project, store, public_url=url).invite(annotators)]
    ledgers: list[Ledger] = []
    crowd = Crowd(url, tokens, seed=seed, faults=faults, truth=Truth(store), pause_s=0.05)
    crowd.record = ledgers.append
    verdict = Verdict()
    task = asyncio.create_task(crowd.work(pages))
    try:
        while verdict.kills < kills and not task.done():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(task), rng.uniform(*between_s))
            if not task.done():
                await asyncio.to_thread(server.kill)
                verdict.kills += 1
                await server.start()
        await task
    finally:
        task.cancel()
        server.kill(signal.SIGINT)
    verdict.server_errors = crowd.counts.server_errors
    judge(store, ledgers, verdict)
    return verdict, ledgers


def judge(store: Store, ledgers: list[Ledger], verdict: Verdict) -> None:
    """Compares the store with what the annotators were told and meant."""
    for ledger in ledgers:
        there = {
            (batch.tab, batch.number): batch
            for batch in store.read(lambda tx, a=ledger.assignment: log.batches_of(tx, a))
        }
        for tab, numbers in ledger.acknowledged.items():
            verdict.acknowledged += len(numbers)
            verdict.lost += [f"{ledger.assignment} {tab} {n}" for n in numbers if (tab, n) not in there]
        for tab, meant in ledger.events.items():
            stored = [event for (t, _), batch in sorted(there.items()) if t == tab for event in batch.events]
            if stored != json.loads(json.dumps(meant)):
                verdict.lost.append(f"{ledger.assignment} {tab}: the stored events are not those that were sent")
        verdict.pages += ledger.submitted
        _judge_state(store, ledger, list(there.values()), verdict)
    verdict.over_overlap = store.read(
        lambda tx: value(
            tx,
            "SELECT COUNT(*) FROM task t WHERE t.practice = 0 AND (SELECT COUNT(*) FROM assignment a WHERE a.task ="
            " t.id AND a.counts = 1) > t.overlap",
        )
    )
    verdict.twice = store.read(
        lambda tx: value(
            tx, "SELECT COUNT(*) FROM (SELECT 1 FROM assignment GROUP BY task, worker HAVING COUNT(*) > 1) AS twice"
        )
    )


def _judge_state(store: Store, ledger: Ledger, batches: list[StoredBatch], verdict: Verdict) -> None:
    state = store.read(lambda tx: value(tx, "SELECT state FROM assignment WHERE id = ?", ledger.assignment))
    if ledger.submitted and state != "submitted":
        verdict.not_submitted.append(ledger.assignment)
    page = fold(batches)
    if ledger.submitted and (page.selected != sorted(ledger.selected) or page.icons != ledger.icons):
        verdict.differing.append(ledger.assignment)
