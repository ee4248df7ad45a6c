"""A check of accessibility, by Chromium's own accessibility tree and computed styles, over every page.

    python -m tests.data_prep.collect.browser.accessibility [--axe=axe.min.js]

prints what it finds; `--axe` adds the findings of axe-core (npm package `axe-core`), not part of the repository.

Rules: every control has a name and a role; contrast of text is at least 4.5:1 (3:1 where it is large); targets are at
least 24 x 24 px; ids are unique and references to them resolve; one h1 and no level skipped; the Tab key goes through
all of the document in its order, and the focus can be seen; nothing moves for those who want less motion.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.collect.simulate.browser import StoredTruth, chromium
from data_prep.collect.simulate.visitor import Annotator, Manner
from tests.data_prep.collect.browser.bench import Server, loaded, make_project, serving

CONTROLS = {"button", "link", "textbox", "checkbox", "combobox", "slider", "spinbutton", "tab", "menuitem", "radio"}
SCHEMES = ("light", "dark")
_SCRIPT = "(" + Path(__file__).with_suffix(".js").read_text(encoding="utf-8").partition("(")[2].strip()
"""An expression: the object of functions, without the comment above it."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    page: str
    rule: str
    what: str


def _run(page: Any, name: str) -> Any:
    return page.evaluate(f"() => {_SCRIPT}.{name}()")


def check(page: Any, name: str, axe: str = "") -> list[Finding]:
    """All findings on what the tab shows when its transitions have ended."""
    _run(page, "settle")
    found = [Finding(name, rule, what) for rule, what in _run(page, "styles")]
    found += [Finding(name, "name", what) for what in _unnamed(page)]
    found += [Finding(name, "tab order", what) for what in _tab_order(page)]
    page.emulate_media(reduced_motion="reduce")
    found += [Finding(name, "motion", what) for what in _run(page, "motion")]
    page.emulate_media(reduced_motion="no-preference")
    if axe:
        page.evaluate(axe)
        for violation in page.evaluate("() => axe.run(document)")["violations"]:
            nodes = [" ".join(node["target"]) for node in violation["nodes"]]
            found.append(Finding(name, f"axe {violation['id']}", f"{violation['help']}: {', '.join(nodes[:4])}"))
    return found


def _unnamed(page: Any) -> Iterator[str]:
    """Controls without a name, by the tree that assistive technology gets."""
    client = page.context.new_cdp_session(page)
    for node in client.send("Accessibility.getFullAXTree")["nodes"]:
        role = node.get("role", {}).get("value", "")
        if not node.get("ignored") and role in CONTROLS | {"image", "img"} and not node.get("name", {}).get("value"):
            yield f"{role} without a name"
    client.detach()


def _tab_order(page: Any) -> Iterator[str]:
    """Presses Tab through the page."""
    number = _run(page, "focusable")
    _run(page, "fromTheTop")
    reached = []
    for _ in range(number + 2):
        page.keyboard.press("Tab")
        index, shown, what = _run(page, "focused")
        if index < 0:
            if reached:
                break
            continue
        if reached and index <= reached[-1]:
            break
        reached.append(index)
        if not shown:
            yield f"{what}: the focus cannot be seen"
    if missing := set(range(number)) - set(reached):
        names = [page.evaluate("k => window.order_[k].outerHTML.slice(0, 80)", k) for k in sorted(missing)[:3]]
        yield f"{len(missing)} of {number} focusable elements are not reached in order: {names}"


@contextlib.contextmanager
def _tab(browser: Any, scheme: str) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme, bypass_csp=True)
    yield context.new_page()
    context.close()


def annotator_pages(browser: Any, imagenet: Server, coco: Server, see: Callable[[Any, str], None]) -> None:
    """Calls `see` with every state of the annotator's pages, in both colour schemes."""
    for scheme in SCHEMES:
        with _tab(browser, scheme) as page:
            page.goto(imagenet.link())
            page.wait_for_selector("#agree")
            see(page, f"consent, {scheme}")
            page.check("#agree")
            page.click("#consent-agree")
            page.wait_for_selector("[data-screen=practice]")
            loaded(page)
            page.click("[data-place='0']")
            page.click("#submit")
            page.wait_for_selector(".practice-note.bad, .practice-note.good")
            see(page, f"practice with feedback, {scheme}")
            _pass_practice(page, imagenet)
            page.click("[data-place='1']")
            page.click(".help summary >> nth=0")
            page.click(".exits summary")
            see(page, f"imagenet page, {scheme}")
            page.context.set_offline(True)
            page.click("[data-place='2']")
            page.wait_for_selector("[data-banner=away]")
            see(page, f"offline, {scheme}")
            page.context.set_offline(False)
            page.click("text=Give this page back")
            page.wait_for_selector("dialog[open]")
            see(page, f"question, {scheme}")
        with _tab(browser, scheme) as page:
            page.goto(coco.link())
            page.check("#agree")
            page.click("#consent-agree")
            page.wait_for_selector("[data-screen=task]")
            loaded(page)
            page.click("#set-1")
            page.click("#icons .icon[data-c='cat']")
            page.click("img.scene", position={"x": 100, "y": 100}, force=True)
            page.click("#icons .icon[data-c='dog']")
            see(page, f"coco page, {scheme}")
            page.goto(f"{coco.url}/#t=wrong")
            page.wait_for_selector("[data-screen=problem]")
            see(page, f"problem, {scheme}")


def _pass_practice(page: Any, server: Server) -> None:
    assignment = page.get_attribute("[data-screen]", "data-assignment")
    with server.project.open_store() as store:
        right = StoredTruth(store).selected(assignment)
    for button in page.query_selector_all("button.photo"):
        if (int(button.get_attribute("data-index")) in right) != (button.get_attribute("aria-pressed") == "true"):
            button.click()
    page.click("#submit")
    page.wait_for_selector(".practice-note.good")
    page.click("#submit")
    page.wait_for_selector("[data-screen=task]")
    loaded(page)


def owner_pages(browser: Any, server: Server, see: Callable[[Any, str], None]) -> None:
    """Login and every view, after an annotator has done a page."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    with server.project.open_store() as store:
        worker = Annotator(context.new_page(), StoredTruth(store), seed=1, manner=Manner(steps=2))
        worker.work(server.link(), lambda _: None, pages=1)
    context.close()
    done = next(name for name in server.assignments() if server.state(name) == "submitted")
    for scheme in SCHEMES:
        with _tab(browser, scheme) as page:
            page.goto(f"{server.url}/owner/login")
            see(page, f"login, {scheme}")
            cookie = {"name": "collect_owner", "value": server.owner_token(), "url": f"{server.url}/owner"}
            page.context.add_cookies([cookie])
            page.goto(f"{server.url}/owner/")
            for name in ("overview", "annotators", "agreement", "showings", "clicks", f"replay/{done}"):
                page.evaluate("name => (location.hash = name)", name)
                title = name.partition("/")[0]
                page.wait_for_selector(f"h2:has-text('{title.capitalize()}')")
                page.wait_for_timeout(400)
                see(page, f"owner's {title}, {scheme}")


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[tuple[Server, Server]]:
    """One project of each page; the first has a practice page."""
    imagenet = make_project(
        folder / "a", "imagenet", pictures=12, page_size=12, controls=(0, 2), overlap=9, practice=True
    )
    coco = make_project(folder / "b", "coco", pictures=3, overlap=9)
    with serving(imagenet) as a, serving(coco) as b:
        yield a, b


def main() -> None:
    """Prints the findings of every page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axe", type=Path, help="axe.min.js of the npm package axe-core")
    arguments = parser.parse_args()
    axe = arguments.axe.read_text(encoding="utf-8") if arguments.axe else ""
    seen: list[str] = []
    findings: list[Finding] = []

    def see(page: Any, name: str) -> None:
        seen.append(name)
        findings.extend(check(page, name, axe))

    with tempfile.TemporaryDirectory() as folder, servers(Path(folder)) as (imagenet, coco), chromium() as browser:
        annotator_pages(browser, imagenet, coco, see)
        owner_pages(browser, imagenet, see)
    for finding in findings:
        print(f"{finding.page}: {finding.rule}: {finding.what}")
    print(f"{len(seen)} pages checked, {len(findings)} findings")
    raise SystemExit(int(bool(findings)))


if __name__ == "__main__":
    main()
