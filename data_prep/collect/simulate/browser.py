"""Simulated annotators in real browsers: Chromium opens an annotator's link and is driven through the pages.

What is sent to a page is written to a ledger, page by page, before anything of it is read back, so that the log, the
export and what `data_prep` reads can be compared with it. Playwright is imported here only: `pip install playwright`,
and a Chromium, such as Debian's package `chromium`.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_prep.collect.project import Project
from data_prep.collect.simulate.mouse import Ledger
from data_prep.collect.simulate.run import running_server
from data_prep.collect.simulate.visitor import Annotator, Manner, Truth
from data_prep.collect.store import Store
from data_prep.collect.tasks import Task, read_task
from data_prep.collect.web.site import Site
from luab_jax.errors import UserError
from luab_jax.io.atomic import append_line

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class BrowserMissingError(UserError):
    """Playwright or Chromium is not installed."""


class StoredTruth:
    """Truth from the plan: a candidate shows the class of its folder, a control what it is there for."""

    def __init__(self, store: Store):
        self._store = store

    def task(self, assignment: str) -> Task:
        body = self._store.read(
            lambda tx: tx.rows(
                "SELECT t.body FROM assignment a JOIN task t ON t.id = a.task WHERE a.id = ?", assignment
            )
        )[0][0]
        return read_task(body)

    def selected(self, assignment: str) -> dict[int, tuple[float, float]]:
        shows = {"candidate": True, "positive": True}
        return {i: (0.5, 0.5) for i, shown in self.task(assignment).all() if shows.get(shown.role)}

    def icons(self, assignment: str) -> dict[str, tuple[float, float]] | None:
        gold = self.task(assignment).gold
        return {c: ((b[0][0] + b[0][2]) / 2, (b[0][1] + b[0][3]) / 2) for c, b in gold.items()} if gold else None


@contextlib.contextmanager
def chromium(*, executable: str = CHROMIUM) -> Iterator[Any]:
    """A browser of its own; raises `BrowserMissingError`."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as e:
        raise BrowserMissingError("`--browser` needs playwright: pip install playwright") from e
    if not (os.path.exists(executable) or shutil.which(executable)):
        raise BrowserMissingError(f"{executable} does not exist: install Chromium (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=executable, headless=True, args=ARGUMENTS)
        except Error as e:
            raise BrowserMissingError(f"{executable} cannot be started: {str(e).splitlines()[0]}") from e
        try:
            yield browser
        finally:
            browser.close()


def simulate(
    links: Sequence[str],
    ledger: Path | None,
    truth: Truth,
    *,
    seed: int = 0,
    pages: int | None = None,
    executable: str = CHROMIUM,
    viewport: tuple[int, int] = (1280, 900),
    scale: float = 1.0,
    manner: Manner | None = None,
) -> list[int]:
    """One browser for each link, at the same time; returns the pages that each did. Appends to the ledger's file."""
    if ledger is not None:
        ledger.parent.mkdir(parents=True, exist_ok=True)
    lock = threading.Lock()

    def write(page: Ledger) -> None:
        if ledger is not None:
            with lock:
                append_line(ledger, page.line())

    def one(number: int) -> int:
        with chromium(executable=executable) as browser:
            size = {"width": viewport[0], "height": viewport[1]}
            context = browser.new_context(viewport=size, device_scale_factor=scale)
            annotator = Annotator(context.new_page(), truth, seed=seed * 1000 + number, manner=manner)
            return annotator.work(links[number], write, pages=pages)

    with concurrent.futures.ThreadPoolExecutor(len(links)) as pool:
        return list(pool.map(one, range(len(links))))


def rehearse(project: Project, *, annotators: int, pages: int | None, url: str, ledger: Path | None, seed: int) -> str:
    """`collect simulate --browser`: starts a server unless there is one, lets them work, and says what was done."""
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(project.open_store())
        address = url or stack.enter_context(running_server(project.folder))
        links = Site(project, store, public_url=address).invite_simulated(annotators)
        started = time.monotonic()
        done = simulate(links, ledger, StoredTruth(store), seed=seed, pages=pages)
        elapsed = time.monotonic() - started
    return f"{annotators} browsers, {sum(done)} pages submitted in {elapsed:.1f} s ({', '.join(map(str, done))})"


def read_ledger(path: Path) -> list[dict[str, Any]]:
    """The pages of a ledger."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
