"""What the routes share: the project, its store and pictures, tokens, limits, and documents of pages."""

from __future__ import annotations

import functools
import importlib.metadata
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import quote

import anyio.to_thread
import jinja2
from starlette.requests import Request

from data_prep.collect.classes import sets_of
from data_prep.collect.pictures import PictureGoneError, Pictures
from data_prep.collect.project import Project, now_ms
from data_prep.collect.service import Leased, Service
from data_prep.collect.store import Store, Tx, get_meta, set_meta
from data_prep.collect.tasks import Task
from data_prep.collect.visits import Session
from data_prep.collect.web.answers import ApiError, may_be_file
from data_prep.collect.web.limits import ARRIVALS, BATCHES, LOGINS, Addresses, Limiter
from data_prep.collect.web.tokens import TokenError, Tokens

T = TypeVar("T")
_TASKS_KEPT = 1000
try:
    VERSION = importlib.metadata.version("luab_jax")
except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed
    VERSION = "0"
PACKAGE = Path(str(resources.files("data_prep.collect")))


class Site:
    """One server process of one project."""

    def __init__(self, project: Project, store: Store, *, public_url: str):
        self.project, self.store = project, store
        self.public_url = public_url.rstrip("/")
        self.origin = "/".join(self.public_url.split("/", 3)[:3])
        self.base = self.public_url.removeprefix(self.origin)
        self.tokens = Tokens(project.secret, link_days=project.config.link_days)
        self.service = Service(project.config, project.secret, store)
        self.requests, self.arrivals, self.logins = Limiter(BATCHES), Limiter(ARRIVALS), Limiter(LOGINS)
        self.addresses = Addresses()
        self.templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(PACKAGE / "pages"), autoescape=True, undefined=jinja2.StrictUndefined
        )
        self.started_ms = now_ms()
        self._tasks: OrderedDict[str, Task] = OrderedDict()
        self._paused = (False, 0.0)

    @functools.cached_property
    def pictures(self) -> Pictures:
        """Raises `DataError` for pictures that were moved since they were planned."""
        return Pictures(self.store.read(lambda tx: get_meta(tx, "images")), self.project.scratch)

    @property
    def platforms(self) -> set[str]:
        """Those whose links were given out."""
        return set(filter(None, self.store.read(lambda tx: get_meta(tx, "platforms")).split(",")))

    async def is_paused(self) -> bool:
        """Looked up once a second."""
        paused, until = self._paused
        if time.monotonic() >= until:
            paused = await self.threaded(lambda: self.store.read(lambda tx: get_meta(tx, "paused") == "1"))
            self._paused = (paused, time.monotonic() + 1.0)
        return paused

    async def threaded(self, job: Callable[[], T]) -> T:
        """Runs what waits for the store or the disk without holding up other requests."""
        return await anyio.to_thread.run_sync(job)

    def render(self, name: str, **context: Any) -> str:
        config = self.project.config
        fixed = {"base": self.base, "title": config.title, "task": config.task, "version": VERSION}
        return self.templates.get_template(name).render(**fixed, **context)

    def session(self, request: Request) -> Session:
        """Who asks, within the limit; raises `ApiError`."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise ApiError(401, "no_token", "the session's token is missing")
        try:
            session = self.tokens.read_session(token.strip())
        except TokenError as e:
            raise ApiError(401, e.code, str(e)) from e
        limit(self.requests, str(session.worker))
        return session

    def address(self, request: Request) -> str:
        return self.addresses.key(request.client.host if request.client else "")

    def cached_task(self, assignment: str) -> Task:
        """The page of an assignment; raises `ApiError` (404)."""
        if assignment in self._tasks:
            self._tasks.move_to_end(assignment)
            return self._tasks[assignment]
        task = self.service.task_of(assignment)
        if task is None:
            raise ApiError(404, "not_found", "no such page")
        self._remember(assignment, task)
        return task

    def _remember(self, assignment: str, task: Task) -> None:
        self._tasks[assignment] = task
        while len(self._tasks) > _TASKS_KEPT:
            self._tasks.popitem(last=False)

    def broken(self, path: str, reason: str) -> None:
        """Notes a picture that cannot be shown, for the owner."""
        self.store.write(
            lambda tx: tx.run(
                "INSERT INTO broken (path, reason, ms, times) VALUES (?, ?, ?, 1) ON CONFLICT (path, reason) DO UPDATE"
                " SET times = broken.times + 1, ms = excluded.ms",
                *(path, reason[:200], now_ms()),
            )
        )

    # Documents of pages

    def document(self, leased: Leased, resume: dict[str, Any], of: int | None) -> dict[str, Any]:
        """TASK of docs/collect-protocol.md §4. Reads the pictures' headers, and replaces those that cannot be read.

        It has no pictures if none of them can be read.
        """
        now = now_ms()
        replaced = {int(index): by for index, by in resume.get("replaced", {}).items()}
        facts = self.page_facts(leased.assignment, leased.task, replaced)
        return {
            "assignment": leased.assignment,
            "practice": leased.task.practice,
            "task": self.project.config.task,
            "lease": {"expires_ms": leased.expires_ms, "left_ms": max(leased.expires_ms - now, 0)},
            "page": {"number": leased.number, "of": of},
            **facts,
            "resume": resume,
        }

    def addresses_of(self, assignment: str, task: Task) -> list[str]:
        """Of the pictures of a page that will come next; nothing of them is read yet."""
        self._remember(assignment, task)
        token = self.tokens.pictures(assignment)
        return [f"{self.base}/i/{token}/{index}" for index in range(len(task.pictures))]

    def page_facts(
        self, assignment: str, task: Task, replaced: Mapping[int, int] = MappingProxyType({})
    ) -> dict[str, Any]:
        """Class or sets, pictures and reserve. A picture that was replaced is the stand-in, readable or not itself."""
        self._remember(assignment, task)
        token = self.tokens.pictures(assignment)
        places = [_stand_in(index, replaced) for index in range(len(task.pictures))]
        spare = [index for index, _ in task.all() if index >= len(task.pictures) and index not in set(places)]
        reserve = [entry for index in spare if (entry := self._entry(task, token, index)) is not None]
        pictures = []
        for index in places:
            entry = self._entry(task, token, index)
            if entry is None and reserve:
                entry = reserve.pop(0)
            pictures += [] if entry is None else [entry]
        facts: dict[str, Any] = {"pictures": pictures, "reserve": reserve}
        if task.class_id:
            info = self.project.class_of[task.class_id]
            facts["class"] = {"name": info.name, "synonyms": list(info.synonyms), "gloss": info.gloss}
        else:
            facts["sets"] = self.sets
        return facts

    def _entry(self, task: Task, token: str, index: int) -> dict[str, Any] | None:
        shown = task.shown(index)
        assert shown is not None
        try:
            width, height = self.pictures.size(shown.source)
        except PictureGoneError as e:
            self.broken(shown.source.path, str(e).removeprefix(f"{shown.source.path}: "))
            return None
        return {"index": index, "width": width, "height": height, "url": f"{self.base}/i/{token}/{index}"}

    def unreadable(self, task: Task) -> set[int]:
        """Pictures of a page that cannot be shown."""
        return {index for index, _ in task.all() if self._entry(task, "", index) is None}

    @functools.cached_property
    def sets(self) -> list[dict[str, Any]]:
        """The sets of the COCO page with the addresses of their icons."""
        return [
            {
                "name": name,
                "classes": [{"c": info.id, "name": info.name, "icon": self._icon(info.id)} for info in infos],
            }
            for name, infos in sets_of(self.project.classes)
        ]

    @property
    def icons(self) -> list[dict[str, Any]]:
        """The classes of the COCO page, as they are listed, with the addresses of their icons; none for ImageNet."""
        if self.project.config.task != "coco":
            return []
        address = {entry["c"]: entry["icon"] for group in self.sets for entry in group["classes"]}
        return [{"id": info.id, "name": info.name, "icon": address[info.id]} for info in self.project.classes]

    def _icon(self, class_id: str) -> str | None:
        if self.own_icon(class_id) is not None:
            number = [info.id for info in self.project.classes].index(class_id)
            return f"{self.base}/icons/own/{number}"
        name = f"{class_id.replace(' ', '-')}.svg"
        if "/" not in name and may_be_file(name) and (PACKAGE / "icons" / name).is_file():
            return f"{self.base}/icons/{quote(name)}"
        return None

    def own_icon(self, class_id: str) -> Path | None:
        """The owner's picture of a class, if there is one."""
        if "/" in class_id or class_id.startswith(".") or not may_be_file(f"{class_id}.svg"):
            return None
        folder = self.project.folder / "icons"
        return next((p for s in ("svg", "png") if (p := folder / f"{class_id}.{s}").is_file()), None)

    def invite(self, number: int) -> list[str]:
        """Links for so many new annotators."""
        first = self.store.do(lambda tx: _next_invitations(tx, "invited", number))
        return [f"{self.public_url}/#t={self.tokens.invitation(str(first + k))}" for k in range(number)]

    def invite_simulated(self, number: int) -> list[str]:
        """Links whose annotators are marked as simulated in the database; counted apart from those of people."""
        first = self.store.do(lambda tx: _next_invitations(tx, "invited_simulated", number))
        return [f"{self.public_url}/#t={self.tokens.rehearsal(str(first + k))}" for k in range(number)]


def _stand_in(index: int, replaced: Mapping[int, int]) -> int:
    """The picture that has the place now; a log that a faulty page wrote may go round in a circle."""
    seen = {index}
    while (following := replaced.get(index)) is not None and following not in seen:
        index = following
        seen.add(index)
    return index


def _next_invitations(tx: Tx, counter: str, number: int) -> int:
    first = int(get_meta(tx, counter, "0")) + 1
    set_meta(tx, counter, str(first + number - 1))
    return first


def limit(limiter: Limiter, key: str) -> None:
    """Raises `ApiError` (429)."""
    if wait := limiter.wait_s(key):
        raise ApiError(429, "slow_down", "too many requests", retry_s=wait)
