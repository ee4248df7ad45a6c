"""`collect simulate`: a crowd against a server, its own or one that runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from data_prep.collect.project import Project
from data_prep.collect.simulate.annotator import Annotator, Counts, Ledger
from data_prep.collect.store import Store, value
from data_prep.collect.summary import EXPECTED
from data_prep.collect.tasks import read_task
from data_prep.collect.web.site import Site
from luab_jax.errors import UserError
from luab_jax.io.atomic import atomic_file

FAULTS: tuple[str, ...] = ("lost", "repeat", "reorder", "tabs", "abandon", "skew", "garbage")
_START_S = 30.0
_SERVING = re.compile(r"serving .* at (\S+) ")


def simulate(
    project: Project,
    *,
    annotators: int,
    pages: int | None,
    url: str,
    faults: set[str],
    speed: float,
    ledger: Path | None,
    seed: int,
) -> str:
    """Lets a crowd work and returns a summary; the ledger gets a line for each page that was begun.

    Simulated annotators look into the plan: they select candidates and positive controls, with mistakes.
    """
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(project.open_store())
        address = url or stack.enter_context(running_server(project.folder))
        links = Site(project, store, public_url=address).invite_simulated(annotators)
        tokens = [link.partition("#t=")[2] for link in links]
        lines: list[str] = []
        crowd = Crowd(address, tokens, seed=seed, faults=faults, speed=speed, truth=Truth(store))
        crowd.record = lambda found: lines.append(found.line())
        started = time.monotonic()
        asyncio.run(crowd.work(pages))
        elapsed = time.monotonic() - started
    if ledger is not None:
        with atomic_file(ledger) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return crowd.text(elapsed)


class Truth:
    """Which pictures of a page are of the class that is asked, from the plan."""

    def __init__(self, store: Store):
        self._store = store
        self._known: dict[str, dict[int, bool]] = {}

    def __call__(self, assignment: str, index: int) -> bool | None:
        if assignment not in self._known:
            body = self._store.read(
                lambda tx: value(
                    tx, "SELECT t.body FROM assignment a JOIN task t ON t.id = a.task WHERE a.id = ?", assignment
                )
            )
            task = read_task(body)
            self._known = {
                assignment: {
                    i: EXPECTED.get(shown.role, shown.source.class_id == task.class_id) for i, shown in task.all()
                }
            } | dict(list(self._known.items())[-200:])
        return self._known[assignment].get(index)


class Crowd:
    """Several annotators at once, in one event loop."""

    def __init__(
        self,
        url: str,
        tokens: list[str],
        *,
        seed: int = 0,
        faults: set[str] | None = None,
        speed: float = 0.0,
        truth: Callable[[str, int], bool | None] | None = None,
        pause_s: float = 0.0,
        batch_events: int = 40,
    ):
        self.counts = Counts()
        self.record: Callable[[Ledger], None] | None = None
        self._annotators = [
            Annotator(
                number,
                url,
                token,
                self.counts,
                seed=seed,
                faults=faults or set(),
                speed=speed,
                truth=truth,
                record=lambda ledger: self.record(ledger) if self.record else None,
                pause_s=pause_s,
                batch_events=batch_events,
            )
            for number, token in enumerate(tokens)
        ]

    async def work(self, pages: int | None) -> None:
        """Until each has done so many pages, or there are none."""
        async with asyncio.TaskGroup() as group:
            for annotator in self._annotators:
                group.create_task(annotator.work(pages))

    def text(self, elapsed_s: float) -> str:
        c = self.counts
        times = sorted(c.latencies_ms) or [0.0]
        return (
            f"{len(self._annotators)} simulated annotators, {c.pages} pages submitted in {elapsed_s:.1f} s\n"
            f"{c.batches} batches acknowledged ({c.duplicates} were there already), {c.retries} repeated requests,"
            f" {c.server_errors} answers of 5xx, {c.failures} failed connections, {c.garbage} batches of garbage,"
            f" {c.abandoned} pages returned\n"
            f"acknowledgement: median {times[len(times) // 2]:.0f} ms, p99 {times[int(len(times) * 0.99)]:.0f} ms"
        )


@contextlib.contextmanager
def running_server(folder: Path, *, port: int = 0, on_start: Callable[[int], None] | None = None) -> Iterator[str]:
    """A server of the project in a process of its own, on a free port of this machine; yields its address."""
    command = [sys.executable, "-m", "data_prep", "collect", "serve", str(folder), f"--port={port}"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ, start_new_session=True)
    assert server.stdout is not None
    try:
        line = server.stdout.readline()
        found = _SERVING.match(line)
        if found is None:
            raise UserError(f"{folder}: the server did not start; its message is above")
        if on_start is not None:
            on_start(server.pid)
        yield found[1]
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(_START_S)
        if server.poll() is None:
            server.kill()
        server.stdout.close()
