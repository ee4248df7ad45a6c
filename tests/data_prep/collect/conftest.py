"""Small projects, both stores, and a client of the application that needs no socket."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from PIL import Image

from data_prep.collect.config import Config
from data_prep.collect.plan import PlanOptions, plan
from data_prep.collect.project import Project
from data_prep.collect.setup_project import initialise
from data_prep.collect.store import Store
from data_prep.collect.tasks import PageRule
from data_prep.collect.web.app import build
from data_prep.collect.web.site import Site
from tests.data_prep.conftest import image_bytes

T = TypeVar("T")
URL = "http://127.0.0.1:8000"
NOW = 1_764_000_000_000
ORIENTATION = 0x0112


def run(job: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(job)


def write_pictures(folder: Path, classes: dict[str, int], *, size: tuple[int, int] = (40, 30)) -> Path:
    """Class folders of pictures; the first of each class is a photograph that lies on its side (EXIF 6)."""
    for label, (name, count) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True)
        for k in range(count):
            exif = {}
            if k == 0:
                turned = Image.Exif()
                turned[ORIENTATION] = 6
                exif = {"exif": turned}
            data = image_bytes(100 * label + k, size=size, **exif)
            (folder / name / f"{name}_{k}.jpg").write_bytes(data)
    return folder


Make = Callable[..., tuple[Project, Store]]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures", {"cat": 9, "dog": 8, "bird": 7})


@pytest.fixture
def make_project(tmp_path: Path, pictures: Path) -> Iterator[Make]:
    """A planned project with its store open."""
    stores = []

    def make(
        name: str = "project",
        *,
        task: str = "imagenet",
        images: Path | None = None,
        db: str = "sqlite",
        overlap: int = 1,
        rule: PageRule | None = None,
        class_file: Path | None = None,
        **fields: Any,
    ) -> tuple[Project, Store]:
        where = images or (pictures if task == "imagenet" else pictures / "cat")
        config = Config(title="Test", task=task, images=str(where), classes="own", db=db, **fields)  # type: ignore[arg-type]
        project, _ = initialise(tmp_path / name, config, class_file=class_file)
        store = project.open_store()
        stores.append(store)
        small = PageRule(page_size=5, positive=1, negative=1, reserve=1)
        plan(project, store, PlanOptions(overlap=overlap, rule=rule or small, pages_per_hit=2))
        return project, store

    yield make
    for store in stores:
        store.close()


class Annotator:
    """Speaks the protocol to an application, one request at a time."""

    def __init__(self, client: httpx.AsyncClient, token: str, *, tab: str = "0123456789abcdef"):
        self.client, self.token, self.tab = client, token, tab
        self.headers: dict[str, str] = {}
        self.t = float(NOW)

    async def post(self, path: str, value: Any, **headers: str) -> httpx.Response:
        content = value if isinstance(value, bytes) else json.dumps(value)
        kind = {"Content-Type": "application/json"}
        return await self.client.post(path, content=content, headers=kind | self.headers | headers)

    async def arrive(self, params: dict[str, str] | None = None) -> dict[str, Any]:
        answer = await self.post("/api/session", {"token": self.token, "params": params or {}, "tab": self.tab})
        assert answer.status_code == 200, answer.text
        value = answer.json()
        self.headers["Authorization"] = f"Bearer {value['session']}"
        return value

    async def start(self) -> dict[str, Any]:
        """Arrives, agrees, passes the practice page; the first page."""
        value = await self.arrive()
        await self.post("/api/consent", {"version": value["consent"]["version"], "agreed": True})
        return await self.next()

    async def next(self) -> dict[str, Any]:
        value = (await self.post("/api/next", {"tab": self.tab})).json()
        if value.get("state") == "practice":
            sent = {"tab": self.tab, "assignment": value["assignment"], "selected": [], "icons": []}
            told = (await self.post("/api/practice", sent)).json()
            sent["selected"] = [entry["index"] for entry in told["feedback"] if entry["expected"]]
            assert (await self.post("/api/practice", sent)).json()["passed"]
            return await self.next()
        return value

    def time(self, ms: float = 50.0) -> float:
        self.t += ms
        return self.t

    def batch(self, page: dict[str, Any], number: int, events: list[dict[str, Any]], **other: Any) -> dict[str, Any]:
        fixed = {"v": 1, "assignment": page["assignment"], "tab": self.tab, "n": number, "wrote_ms": int(self.t)}
        return fixed | {"events": events} | other

    def loads(self, page: dict[str, Any]) -> list[dict[str, Any]]:
        """What a page sends first."""
        view = {"vw": 1280, "vh": 900, "dpr": 1, "touch": False, "restored": False}
        events: list[dict[str, Any]] = [{"k": "page", "t": self.time(), **view}]
        for picture in page["pictures"]:
            w, h = picture["width"], picture["height"]
            events.append(
                {"k": "image_loaded", "t": self.time(1), "i": picture["index"], "r": [10, 20, w, h], "nw": w, "nh": h}
            )
        return events

    def click(self, index: int, x: float = 0.25, y: float = 0.75, kind: str = "select") -> dict[str, Any]:
        return {"k": kind, "t": self.time(), "i": index, "x": x, "y": y, "in": "mouse"}

    async def do(self, page: dict[str, Any], selected: list[int]) -> dict[str, Any]:
        """Selects pictures and submits."""
        events = [*self.loads(page), *(self.click(index) for index in selected)]
        events.append({"k": "submit", "t": self.time(), "selected": sorted(selected)})
        answer = await self.post("/api/batch", self.batch(page, 0, events))
        assert answer.status_code == 200, answer.text
        sent = {"assignment": page["assignment"], "tab": self.tab, "n": 0}
        return (await self.post("/api/submit", sent)).json()


class App:
    """An application in this process."""

    def __init__(self, project: Project, store: Store, url: str = URL):
        self.site = Site(project, store, public_url=url)
        self.project, self.store = project, store
        self.transport = httpx.ASGITransport(app=build(self.site), raise_app_exceptions=False)  # type: ignore[arg-type]

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=self.transport, base_url=self.site.origin)

    def token(self) -> str:
        return self.site.invite(1)[0].partition("#t=")[2]

    def annotator(self, client: httpx.AsyncClient, **other: Any) -> Annotator:
        return Annotator(client, self.token(), **other)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of Debian's PostgreSQL on loopback, started in a temporary folder by a user that is not root."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    pytest.importorskip("psycopg", reason="the extra [collect] is not installed")
    root = Path(tempfile.mkdtemp(prefix="luab-postgres-"))  # pytest's own folders are closed to other users
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = {"user": "postgres", "group": "postgres"}
        shutil.chown(root, "postgres")
    data, port = root / "data", _free_port()
    settings = f"-p {port} -k {root} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=60"

    def tool(name: str, *arguments: str) -> None:
        command = [str(folders[-1] / name), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, **user)
        assert done.returncode == 0, done.stdout + done.stderr

    tool("initdb", "-D", str(data), "-A", "trust", "-U", "collect", "--no-sync", "-E", "UTF8", "--locale=C")
    tool("pg_ctl", "-D", str(data), "-l", str(root / "log"), "-o", settings, "-w", "start")
    yield f"postgresql://collect@127.0.0.1:{port}"
    tool("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
    shutil.rmtree(root)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


_databases = iter(range(10_000))


def new_database(address: str) -> str:
    """An empty database of the server."""
    import psycopg

    name = f"test_{next(_databases)}"
    with psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
    return f"{address}/{name}"


@pytest.fixture(params=["sqlite", "postgresql"])
def db(request: pytest.FixtureRequest) -> str:
    """Both databases, one after the other."""
    return "sqlite" if request.param == "sqlite" else new_database(request.getfixturevalue("postgres"))
