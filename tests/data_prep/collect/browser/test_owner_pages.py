"""The owner's pages in Chromium: login, five views, and what their buttons do."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest

from data_prep.collect.simulate.browser import StoredTruth
from data_prep.collect.simulate.visitor import Annotator, Ledger, Manner
from tests.data_prep.collect.browser.bench import (
    PASSWORD,
    Server,
    accept,
    assignment_of,
    make_project,
    serving,
    wait_for,
)
from tests.data_prep.collect.browser.test_coco_page import drag, icon


@pytest.fixture(scope="module")
def worked(tmp_path_factory, browser) -> Iterator[tuple[Server, list[Ledger]]]:
    """Two annotators have done both pages of a class, one of them with controls."""
    project = make_project(
        tmp_path_factory.mktemp("worked"), "imagenet", pictures=12, page_size=12, controls=(0, 2), overlap=3
    )
    ledgers: list[Ledger] = []
    with serving(project) as server:
        for number in range(2):
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            with project.open_store() as store:
                annotator = Annotator(context.new_page(), StoredTruth(store), seed=number, manner=Manner(steps=3))
                annotator.work(server.link(f"worker-{number}"), ledgers.append, pages=2)
            context.close()
        yield server, ledgers


@pytest.fixture
def owner(page, worked) -> Any:
    """Logged in, on the overview."""
    server, _ = worked
    page.context.add_cookies([{"name": "collect_owner", "value": server.owner_token(), "url": f"{server.url}/owner"}])
    page.goto(f"{server.url}/owner/")
    page.wait_for_selector(".stats")
    return page


def test_login_takes_the_password_alone(page, worked):
    server, _ = worked
    page.goto(f"{server.url}/owner/")
    assert page.url.endswith("/owner/login")
    page.fill("#password", "wrong")
    page.click("button[type=submit]")
    assert "Wrong password" in page.inner_text("#login-error")
    page.fill("#password", PASSWORD)
    page.click("button[type=submit]")
    page.wait_for_selector(".stats")
    page.click("#logout")
    page.wait_for_selector("#password")
    assert page.request.get(f"{server.url}/owner/api/progress").status == 401


def go(page: Any, name: str, ready: str) -> None:
    page.evaluate("name => (location.hash = name)", name)
    page.wait_for_selector(ready)


def test_overview_counts_what_was_done(owner, worked):
    server, ledgers = worked
    assert len(ledgers) == 4
    assert owner.inner_text(".stat >> nth=0").split("\n")[1] == f"4 of {3 * _pages(server)}"
    assert owner.is_visible(".chart .bar")
    assert owner.inner_text("#project-state") == "running"


def _pages(server: Server) -> int:
    with server.project.open_store() as store:
        return store.read(lambda tx: tx.rows("SELECT COUNT(*) FROM task WHERE practice = 0"))[0][0]


def test_pause_and_resume_reach_annotators(owner, worked, context):
    server, _ = worked
    owner.fill("#pause-message", "Back soon")
    owner.click("#pause")
    owner.wait_for_selector("#project-state:has-text('paused')")
    annotator = context.new_page()
    annotator.goto(server.link())
    annotator.check("#agree")
    annotator.click("#consent-agree")
    annotator.wait_for_selector("[data-screen=paused]:has-text('Back soon')")
    owner.bring_to_front()
    owner.click("#pause")
    owner.wait_for_selector("#project-state:has-text('running')")


def test_invitations_work(owner, context):
    owner.fill("#invite-number", "3")
    owner.click("text=Make links")
    owner.wait_for_selector("#invite-links:visible")
    links = owner.input_value("#invite-links").splitlines()
    assert len(set(links)) == 3
    accept(context.new_page(), links[0])


def test_overlap_can_be_raised(owner, worked):
    server, _ = worked
    owner.fill("#overlap", "4")
    owner.click("aside >> text=Save")
    wait_for(lambda: _overlap(server) == 4)


def _overlap(server: Server) -> int:
    with server.project.open_store() as store:
        return store.read(lambda tx: tx.rows("SELECT MAX(overlap) FROM task WHERE practice = 0"))[0][0]


def test_annotators_are_listed_sorted_blocked_and_unblocked(owner):
    go(owner, "annotators", "table[aria-label=Annotators]")
    rows = owner.query_selector_all("tbody tr")
    assert len(rows) >= 2
    owner.click("th button:has-text('Time per page')")
    owner.wait_for_selector("th[aria-sort=descending]:has-text('Time per page')")
    owner.click("tr:has-text('active') >> nth=0 >> button:has-text('Block')")
    owner.fill("#reason", "a test")
    owner.click("dialog button.danger")
    owner.wait_for_selector("tr:has-text('blocked'):has-text('a test')")
    owner.click("tr:has-text('blocked') >> button:has-text('Unblock')")
    owner.wait_for_selector("tr:has-text('blocked')", state="detached")


def test_agreement_of_two_annotators(owner):
    go(owner, "agreement", "h2:has-text('Agreement')")
    alpha = float(owner.inner_text(".stat >> nth=0").split("\n")[1])
    assert 0.3 < alpha <= 1
    assert owner.query_selector("table[aria-label='Pairs of annotators'] tbody tr")


def test_replay_shows_the_trace_and_the_choices_as_they_came(owner, worked):
    _, ledgers = worked
    ledger = ledgers[0]
    go(owner, f"replay/{ledger.assignment}", ".replay-bar")
    final = next(event.facts["selected"] for event in ledger.events if event.k == "final")
    chosen = "() => document.querySelectorAll('.shot.chosen').length"
    assert owner.evaluate(chosen) == len(final)
    slider = owner.locator(".replay-bar input")
    slider.fill("0")
    assert owner.evaluate(chosen) == 0
    assert owner.query_selector(".trace .path") is None
    owner.click("#play")
    owner.wait_for_selector(".trace .path", state="attached")
    slider.fill(slider.get_attribute("max"))
    assert owner.evaluate(chosen) == len(final)
    # The first trace begins where the pointer was first, and a pin marks the first choice.
    move = next(event for event in ledger.events if event.k == "move")
    path = owner.get_attribute(f".shot >> nth={move.facts['i']} >> .trace .path >> nth=0", "d")
    x, y = re.findall(r"-?[\d.]+", path)[:2]
    assert (float(x), float(y)) == pytest.approx((move.facts["x"], move.facts["y"]), abs=1e-3)
    click = next(event for event in ledger.events if event.k == "select")
    left = owner.evaluate(
        "i => document.querySelectorAll('.shot')[i].querySelector('.pin').style.left", click.facts["i"]
    )
    assert float(left.removesuffix("%")) == pytest.approx(100 * click.facts["x"], abs=1e-2)


def test_showings_lead_to_replays(owner):
    go(owner, "showings", "table[aria-label=Showings]")
    assert len(owner.query_selector_all("tbody tr")) == 4
    owner.click("tbody a >> nth=0")
    owner.wait_for_selector(".replay-bar")


def test_heat_map_has_the_clicks(owner):
    go(owner, "clicks?class=cat", ".heat .chart")
    total = owner.inner_text(".heat h3 >> nth=0")
    assert re.fullmatch(r"All photos: \d+ clicks", total)
    assert len(owner.query_selector_all(".heat .chart .cell")) > 3
    owner.click(".thumb >> nth=0")
    owner.wait_for_selector(".heat-board img")


def test_the_clicks_and_the_replay_of_a_coco_project_know_its_classes(page, coco):
    accept(page, coco.link())
    assignment = assignment_of(page)
    page.click("#set-1")
    drag(page, icon("giraffe"), 0.5, 0.5)
    for number in range(2, 11):
        page.click(f"#set-{number}")
    page.click("#submit")
    wait_for(lambda: coco.state(assignment) == "submitted")
    page.context.add_cookies([{"name": "collect_owner", "value": coco.owner_token(), "url": f"{coco.url}/owner"}])
    page.goto(f"{coco.url}/owner/#clicks?class=giraffe")
    page.wait_for_selector(".heat .chart")
    assert page.inner_text(".heat h3 >> nth=0") == "All photos: 1 click"
    assert len(page.query_selector_all("#heat-class option")) == 80
    go(page, f"replay/{assignment}", ".replay-bar")
    assert page.get_attribute(".icon-pin img", "src").endswith("/icons/giraffe.svg")


def test_the_export_is_downloaded(owner, tmp_path):
    with owner.expect_download() as download:
        owner.click("text=Download export")
    path = tmp_path / "export.zip"
    download.value.save_as(path)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        assert any(name.endswith(".xml") for name in names)
        manifest = next(name for name in names if name.endswith("manifest.json"))
        assert json.loads(archive.read(manifest))


@pytest.mark.parametrize("view", ["overview", "annotators", "agreement", "showings", "clicks"])
def test_no_view_is_wider_than_a_phone(owner, view):
    owner.set_viewport_size({"width": 375, "height": 760})
    go(owner, view, f"h2:has-text('{view.capitalize()}')")
    owner.wait_for_timeout(300)
    assert owner.evaluate("() => document.documentElement.scrollWidth") <= 375
