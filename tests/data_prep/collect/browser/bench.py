"""A project of small pictures made by the tests, served by a process of its own, and pages of Chromium on it."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from data_prep.collect import config as configs
from data_prep.collect import log
from data_prep.collect.classes import ClassInfo, coco_classes, write_classes
from data_prep.collect.config import Config
from data_prep.collect.fold import Page, fold
from data_prep.collect.plan import PlanOptions, plan
from data_prep.collect.project import Project
from data_prep.collect.store import get_meta
from data_prep.collect.tasks import PageRule
from data_prep.collect.web.tokens import Tokens, hash_password

REPOSITORY = Path(__file__).resolve().parents[4]
PASSWORD = "correct horse"
SIZES = ((500, 375), (375, 500), (500, 333), (333, 500), (500, 500), (64, 64))
"""Those whose displayed sizes on the published page are known (collection.md §1.1)."""
_SERVE = """
import sys
from data_prep.collect.project import open_project
from data_prep.collect.web.server import serve
serve(open_project(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), public_url=sys.argv[3], trusted_proxies="")
"""


def photo(seed: int, size: tuple[int, int], *, turned: bool = False) -> bytes:
    """A JPEG of a plain colour with a disc; `turned`: stored on its side, with the EXIF tag that rights it."""
    rng = np.random.default_rng(seed)
    colour, disc = (tuple(int(v) for v in rng.integers(40, 220, 3)) for _ in range(2))
    image = Image.new("RGB", size, colour)
    x, y = (int(side * rng.uniform(0.3, 0.7)) for side in size)
    r = min(size) // 6
    ImageDraw.Draw(image).ellipse((x - r, y - r, x + r, y + r), disc)
    buffer = io.BytesIO()
    if turned:
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was turned by a quarter: shown clockwise by 90 degrees
        image.transpose(Image.Transpose.ROTATE_90).save(buffer, "JPEG", quality=70, exif=exif)
    else:
        image.save(buffer, "JPEG", quality=70)
    return buffer.getvalue()


def write_photos(root: Path, classes: dict[str, int], *, sizes: tuple[tuple[int, int], ...] = SIZES) -> None:
    """`classes`: folder to number of pictures. The second of each folder is stored turned."""
    for k, (name, number) in enumerate(classes.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for n in range(number):
            data = photo(1000 * k + n, sizes[n % len(sizes)], turned=n == 1)
            (root / name / f"{name}_{n}.jpg").write_bytes(data)


def make_project(
    folder: Path,
    task: str,
    *,
    pictures: int = 12,
    page_size: int = 12,
    controls: tuple[int, int] = (0, 0),
    overlap: int = 1,
    sizes: tuple[tuple[int, int], ...] = SIZES,
    classes: tuple[str, ...] = ("cat", "dog"),
    **settings: Any,
) -> Project:
    """A planned project of `pictures` of each class (ImageNet page), or in all (COCO page)."""
    images = folder / "images"
    if task == "imagenet":
        write_photos(images, dict.fromkeys(classes, pictures), sizes=sizes)
        infos = [ClassInfo(name, name, gloss=f"a domestic {name}") for name in classes]
    else:
        write_photos(images, {"train2014": pictures}, sizes=sizes)
        for n, path in enumerate(sorted((images / "train2014").iterdir())):
            path.rename(path.with_name(f"COCO_train2014_{n + 1:012d}.jpg"))
        images, infos = images / "train2014", coco_classes()
    home = folder / "project"
    home.mkdir(parents=True)
    settings = {"practice": False, "instructions": ("Two minutes a page.",), "contact": "owner@example.org"} | settings
    kind = "coco" if task == "coco" else "own"
    config = Config(title="Pets", task=task, images=str(images), classes=kind, **settings)  # pyright: ignore[reportArgumentType]
    project = Project(home, config)
    project.config_path.write_text(configs.dumps(config), encoding="utf-8")
    write_classes(infos, project.classes_path)
    project.write_secrets(owner_hash=hash_password(PASSWORD))
    project.engine().create()
    rule = PageRule(page_size=page_size, positive=controls[0], negative=controls[1], reserve=2)
    with project.open_store() as store:
        plan(project, store, PlanOptions(overlap=overlap, rule=rule, pages_per_hit=10))
    return project


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return bound.getsockname()[1]


class Server:
    """`collect serve` in a process of its own, which can be killed and started again on the same port."""

    def __init__(self, project: Project):
        self.project = project
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._links = 0

    def start(self) -> None:
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        arguments = [str(self.project.folder), str(self.port), self.url]
        self._process = subprocess.Popen([sys.executable, "-c", _SERVE, *arguments], env=environment)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/healthz", timeout=5):
                return
            time.sleep(0.05)
        raise RuntimeError(f"the server did not start: exit status {self._process.poll()}")

    def kill(self) -> None:
        """As a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=30)
            self._process = None

    @property
    def process_id(self) -> int:
        assert self._process is not None
        return self._process.pid

    def link(self, name: str = "") -> str:
        """A new invitation, or that of a name."""
        self._links += 1
        tokens = Tokens(self.project.secret, link_days=1)
        return f"{self.url}/#t={tokens.invitation(name or f'invitation-{self._links}')}"

    def owner_token(self) -> str:
        """The value of a logged-in owner's cookie."""
        with self.project.open_store() as store:
            epoch = store.read(lambda tx: get_meta(tx, "owner_epoch", "0"))  # counts the logouts
        return Tokens(self.project.secret, link_days=1).owner(self.project.owner_hash, epoch)

    # What was stored

    def assignments(self) -> list[str]:
        """Of all pages that were given out, in that order."""
        with self.project.open_store() as store:
            rows = store.read(
                lambda tx: tx.rows("SELECT id FROM assignment WHERE state <> 'practice' ORDER BY leased_ms")
            )
        return [row[0] for row in rows]

    def state(self, assignment: str) -> str:
        with self.project.open_store() as store:
            return store.read(lambda tx: tx.rows("SELECT state FROM assignment WHERE id = ?", assignment))[0][0]

    def page(self, assignment: str) -> Page:
        """The fold of its log."""
        with self.project.open_store() as store:
            return fold(store.read(lambda tx: log.batches_of(tx, assignment)))

    def events(self, assignment: str, *kinds: str) -> list[dict[str, Any]]:
        """The stored events of some kinds, or all, in the order of their numbers."""
        with self.project.open_store() as store:
            batches = store.read(lambda tx: log.batches_of(tx, assignment))
        events = [event for batch in sorted(batches, key=lambda b: (b.tab, b.number)) for event in batch.events]
        return [event for event in events if not kinds or event["k"] in kinds]


@contextlib.contextmanager
def serving(project: Project) -> Iterator[Server]:
    server = Server(project)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def wait_for(condition: Any, *, seconds: float = 20, what: str = "", page: Any = None) -> Any:
    """Polls until `condition()` is true; fails with what was waited for. `page`: goes on answering its routes."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or condition}")
        if page is None:
            time.sleep(0.05)
        else:
            page.wait_for_timeout(50)


def accept(page: Any, link: str, *, ready: str = "[data-screen=task]") -> None:
    """Opens a link, agrees, and waits for the first page with all its pictures."""
    page.goto(link)
    page.check("#agree")
    page.click("#consent-agree")
    page.wait_for_selector(ready)
    loaded(page)


def loaded(page: Any) -> None:
    """Waits until every picture has loaded, or failed for good, and the page takes a submit."""
    page.wait_for_function(
        "() => document.querySelectorAll('[data-state]').length"
        " >= Math.max(1, document.querySelectorAll('.cell').length)"
    )
    page.wait_for_timeout(750)


def assignment_of(page: Any) -> str:
    return page.get_attribute("[data-assignment]", "data-assignment")


def saved(page: Any) -> None:
    """Waits until nothing is left to send: what is no choice is written once a second.

    By the page's own clock, whose timers come in order: on a busy machine the page may be late with that second.
    """
    page.evaluate("() => new Promise(done => setTimeout(done, 1100))")
    page.wait_for_selector("#saved.is-good")


def kinds_of(events: list[dict[str, Any]]) -> list[str]:
    """In their order. A pause of a busy machine splits a stroke into several moves, which count as one."""
    runs = itertools.groupby(event["k"] for event in events)
    return [kind for kind, run in runs for _ in ([kind] if kind in ("move", "drag_move") else run)]


def samples(events: list[dict[str, Any]]) -> list[list[float]]:
    """[t, x, y] of the pointer in the order of its moves, whether or not a pause split the stroke."""
    return [sample for event in events if event["k"] in ("move", "drag_move") for sample in event["p"]]


def glide(page: Any, start: tuple[float, float], end: tuple[float, float], *, steps: int) -> None:
    """The mouse from `start`, where it is, to `end` in a straight line, each step in a frame of its own.

    Chromium joins the moves that reach it within one frame: a busy machine would leave one of them all.
    """
    for k in range(1, steps + 1):
        page.mouse.move(*(a + (b - a) * k / steps for a, b in zip(start, end, strict=True)))
        page.evaluate("() => new Promise(requestAnimationFrame)")


def dump(value: Any) -> str:
    return json.dumps(value, indent=1)
