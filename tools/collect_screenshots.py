"""Screenshots of every page of `collect`: annotator and owner, desktop and phone, light and dark.

    python -m tools.collect_screenshots --out=docs/collect

The pictures on the pages are drawn by the browser from the project's own icons, so nothing in the screenshots belongs
to others. Simulated annotators fill the owner's pages. Needs Chromium and `pip install playwright`.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from data_prep.collect.config import Config
from data_prep.collect.plan import PlanOptions, plan
from data_prep.collect.project import Project
from data_prep.collect.setup_project import initialise
from data_prep.collect.simulate.browser import CHROMIUM, StoredTruth, chromium, simulate
from data_prep.collect.simulate.run import running_server
from data_prep.collect.simulate.run import simulate as simulate_requests
from data_prep.collect.tasks import PageRule, Task
from data_prep.collect.web.site import Site
from tools.collect_scenes import CLASSES, Painter, Things, paint_classes, paint_coco

VARIANTS = {
    f"{device}-{scheme}": {"viewport": size, "color_scheme": scheme}
    for device, size in (("desktop", {"width": 1280, "height": 860}), ("phone", {"width": 375, "height": 760}))
    for scheme in ("light", "dark")
}
COLOURS = 200
"""Of a PNG: enough for drawn pages, at a third of the size."""


@dataclass
class Collection:
    """A project with a server."""

    project: Project
    password: str
    things: Things
    url: str = ""

    def page(self, page: Any) -> Task:
        """What the tab shows."""
        with self.project.open_store() as store:
            return StoredTruth(store).task(page.get_attribute("[data-screen]", "data-assignment"))

    def link(self) -> str:
        with self.project.open_store() as store:
            return Site(self.project, store, public_url=self.url).invite(1)[0]


def make(folder: Path, config: Config, rule: PageRule, classes: str, things: Things) -> Collection:
    """A planned project; `classes`: lines of its own class list, or nothing."""
    listed = folder.with_suffix(".txt")
    listed.write_text(classes, encoding="utf-8")
    project, password = initialise(folder, config, class_file=listed if classes else None)
    with project.open_store() as store:
        plan(project, store, PlanOptions(overlap=12, rule=rule, pages_per_hit=10))
    return Collection(project, password, things)


class Camera:
    """Takes a picture of each page in each variant."""

    def __init__(self, out: Path):
        self._out = out
        self.names: list[str] = []

    def take(self, page: Any, variant: str, name: str) -> None:
        page.wait_for_timeout(350)
        image = Image.open(io.BytesIO(page.screenshot()))
        path = self._out / f"{name}-{variant}.png"
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
        self.names.append(path.name)


def show_imagenet(page: Any, collection: Collection, shot: Callable[[str], None]) -> None:
    """Consent, practice with feedback, a page at work, offline, the end of a wrong link."""
    page.goto(collection.link())
    page.wait_for_selector("#agree")
    shot("annotator-consent")
    page.check("#agree")
    page.click("#consent-agree")
    page.wait_for_selector("[data-screen=practice]")
    _wait_for_photos(page)
    right = [i for i, shown in collection.page(page).all() if shown.role == "positive"]
    wrong = next(i for i in range(8) if i not in right)
    for index in (*right[:-1], wrong):
        _press(page, collection, index)
    page.click("#submit")
    page.wait_for_selector(".practice-note.bad")
    shot("annotator-practice")
    for index in (right[-1], wrong):
        page.click(f"[data-index='{index}']")
    page.click("#submit")
    page.wait_for_selector(".practice-note.good")
    page.click("#submit")
    page.wait_for_selector("[data-screen=task]")
    _wait_for_photos(page)
    chosen = [i for i, shown in collection.page(page).all() if shown.role == "candidate"]
    for index in chosen[:3]:
        _press(page, collection, index)
    page.evaluate("() => window.scrollTo(0, 0)")
    shot("annotator-imagenet")
    page.context.set_offline(True)
    _press(page, collection, chosen[3])
    page.wait_for_selector("[data-banner=away]")
    page.evaluate("() => window.scrollTo(0, 0)")
    shot("annotator-offline")
    page.context.set_offline(False)


def show_coco(page: Any, collection: Collection, shot: Callable[[str], None]) -> None:
    """The board with icons, one of them in the hand."""
    page.goto(collection.link())
    page.check("#agree")
    page.click("#consent-agree")
    page.wait_for_selector("#board[data-state=loaded]")
    page.wait_for_timeout(800)
    if page.query_selector("[data-screen=practice]"):
        _place(page, _on_it(page, collection))
        page.click("#submit")
        page.wait_for_selector(".practice-note.good")
        page.click("#submit")
        page.wait_for_selector("[data-screen=task] #board[data-state=loaded]")
    _place(page, _on_it(page, collection))
    page.click("#set-1")
    page.evaluate("() => window.scrollTo(0, 0)")
    page.mouse.move(5, 300)
    shot("annotator-coco")
    for number in range(len(page.query_selector_all(".tab"))):
        page.click(f"#set-{number}")
    page.click("#submit")
    page.wait_for_selector("[data-screen=done], [data-screen=task]")


def _press(page: Any, collection: Collection, index: int) -> None:
    """On the animal."""
    shown = collection.page(page).shown(index)
    assert shown is not None
    ((x, y),) = collection.things[Path(shown.source.path).name].values()
    box = page.locator(f"[data-index='{index}'] img").bounding_box()
    page.click(f"[data-index='{index}']", position={"x": x * box["width"], "y": y * box["height"]})


def _on_it(page: Any, collection: Collection) -> dict[str, tuple[float, float]]:
    """What is on the picture that is shown."""
    return collection.things[Path(collection.page(page).pictures[0].source.path).name]


def _place(page: Any, icons: dict[str, tuple[float, float]]) -> None:
    """By a press on the icon and a press on the photo, which works on every screen."""
    for number in range(len(page.query_selector_all(".tab"))):
        page.click(f"#set-{number}")
        for c, (x, y) in icons.items():
            if page.query_selector(f"#icons .icon[data-c='{c}']"):
                page.click(f"#icons .icon[data-c='{c}']")
                box = page.locator("img.scene").bounding_box()
                page.click("img.scene", position={"x": x * box["width"], "y": y * box["height"]}, force=True)


def _wait_for_photos(page: Any) -> None:
    page.wait_for_function(
        "() => document.querySelectorAll('.cell[data-state]').length == document.querySelectorAll('.cell').length"
    )
    page.wait_for_timeout(800)


def show_end(page: Any, collection: Collection, shot: Callable[[str], None]) -> None:
    """What a platform's worker sees last, and a link that is not valid."""
    page.goto(f"{collection.url}/#t=incomplete")
    page.wait_for_selector("[data-screen=problem]")
    shot("annotator-problem")


def show_owner(page: Any, collection: Collection, shot: Callable[[str], None]) -> None:
    """Login and the five views."""
    page.goto(f"{collection.url}/owner/login")
    shot("owner-login")
    page.fill("#password", collection.password)
    page.click("button[type=submit]")
    page.wait_for_selector(".stats")
    page.wait_for_timeout(500)
    shot("owner-overview")
    for name in ("annotators", "agreement", "showings", "clicks"):
        page.goto(f"{collection.url}/owner/#{name}")
        page.wait_for_selector(f"h2:has-text('{name.capitalize()}')")
        page.wait_for_timeout(500)
        shot(f"owner-{name}")
    page.goto(f"{collection.url}/owner/#showings")
    page.wait_for_selector("tbody a")
    page.click("tbody tr:last-child a")
    page.wait_for_selector(".replay-bar")
    slider = page.locator(".replay-bar input[type=range]")
    slider.fill(str(int(float(slider.get_attribute("max") or 0) * 0.6)))
    page.evaluate("() => window.scrollTo(0, 0)")
    page.wait_for_timeout(500)
    shot("owner-replay")


def main() -> None:
    """Writes the PNG files and prints how many there are and how large they are together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--chromium", default=CHROMIUM, help="the browser")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    camera = Camera(arguments.out)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        animals, things = _collections(folder, arguments.chromium)
        with running_server(animals.project.folder) as a, running_server(things.project.folder) as b:
            animals.url, things.url = a, b
            _fill(animals, folder, arguments.chromium)
            with chromium(executable=arguments.chromium) as browser:
                for variant, options in VARIANTS.items():
                    for show, collection in (
                        (show_imagenet, animals),
                        (show_coco, things),
                        (show_end, animals),
                        (show_owner, animals),
                    ):
                        context = browser.new_context(**options, reduced_motion="reduce")
                        page = context.new_page()
                        show(page, collection, lambda what, v=variant, p=page: camera.take(p, v, what))
                        context.close()
    size = sum((arguments.out / name).stat().st_size for name in camera.names)
    print(f"{arguments.out}: {len(camera.names)} screenshots, {size / 1e6:.2f} MB")


def _collections(folder: Path, executable: str) -> tuple[Collection, Collection]:
    """Draws the pictures and plans one project of each page."""
    with chromium(executable=executable) as browser:
        painter = Painter(browser)
        where = paint_classes(painter, folder / "animals", 40)
        instances, on_it = paint_coco(painter, folder / "things", 12)
    classes = "".join(f"{name}\t{name}\t{gloss}\n" for name, gloss in CLASSES.items())
    text = ("A page shows photos and asks for one kind of animal. It takes about two minutes.",)
    shared: dict[str, Any] = {"classes": "own", "contact": "owner@example.org", "instructions": text}
    animals = Config(title="Animals", task="imagenet", images=str(folder / "animals"), **shared)
    things = Config(title="Things", task="coco", images=str(folder / "things"), instances=str(instances), **shared)
    return (
        make(folder / "a", animals, PageRule(page_size=24, positive=2, negative=3, distractors=4), classes, where),
        make(folder / "b", things, PageRule(), "", on_it),
    )


def _fill(collection: Collection, folder: Path, executable: str) -> None:
    """Five simulated annotators by requests, one in a browser for the replay."""
    simulate_requests(
        collection.project,
        annotators=5,
        pages=None,
        url=collection.url,
        faults=set(),
        speed=0.0,
        ledger=None,
        seed=1,
    )
    with collection.project.open_store() as store:
        truth = StoredTruth(store)
        simulate([collection.link()], folder / "ledger.jsonl", truth, pages=1, executable=executable)


if __name__ == "__main__":
    main()
