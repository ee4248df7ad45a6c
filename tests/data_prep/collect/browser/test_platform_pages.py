"""The pages as crowdsourcing platforms show them: previews, and how a visit ends."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs

import pytest

from data_prep.collect.config import Platform
from data_prep.collect.store import set_meta
from data_prep.collect.web.tokens import Tokens
from tests.data_prep.collect.browser.bench import Server, accept, loaded, make_project, serving
from tests.data_prep.collect.browser.test_imagenet_page import click


@pytest.fixture(scope="module")
def crowd(tmp_path_factory) -> Iterator[Server]:
    """One page a visit, with a practice page for the preview."""
    project = make_project(
        tmp_path_factory.mktemp("crowd"),
        "imagenet",
        pictures=12,
        page_size=6,
        controls=(0, 1),
        overlap=9,
        pages_per_visit=1,
        practice=True,
        platform=Platform(prolific_code="C0FFEE"),
    )
    with project.open_store() as store:
        store.do(lambda tx: set_meta(tx, "platforms", "mturk,prolific"))
    with serving(project) as server:
        yield server


def entrance(server: Server, platform: str, **parameters: str) -> str:
    token = Tokens(server.project.secret, link_days=1).entrance(platform)
    return f"{server.url}/?k={token}" + "".join(f"&{name}={value}" for name, value in parameters.items())


def work(page, server: Server, link: str) -> None:
    """Consent, practice and the one page of the visit."""
    from tests.data_prep.collect.browser.accessibility import _pass_practice

    accept(page, link, ready="[data-screen=practice]")
    _pass_practice(page, server)
    click(page, 0)
    page.click("#submit")
    page.wait_for_selector("[data-screen=done]")


def test_a_preview_shows_a_page_and_sends_nothing(page, crowd):
    sent = []
    page.on("request", lambda request: sent.append(request.url) if "/api/" in request.url else None)
    link = entrance(crowd, "mturk", assignmentId="ASSIGNMENT_ID_NOT_AVAILABLE", hitId="H")
    page.goto(link)
    page.wait_for_selector("[data-screen=preview]")
    loaded(page)
    assert "preview" in page.inner_text("[data-banner=preview]")
    click(page, 0)
    page.keyboard.press("Control+z")
    page.wait_for_timeout(1300)
    assert page.get_attribute("[data-place='0']", "aria-pressed") == "false"
    assert page.query_selector("#submit") is None
    assert [url.rpartition("/api/")[2] for url in sent] == ["session"]


def test_a_visit_from_mturk_s_frame_ends_with_its_form(page, crowd):
    ids = {"assignmentId": "A1", "hitId": "H1", "workerId": "W1", "turkSubmitTo": "https://workersandbox.mturk.com"}
    posted = []

    def take(route) -> None:
        posted.append((route.request.url, parse_qs(route.request.post_data)))
        route.fulfill(body="taken")

    page.route("https://workersandbox.mturk.com/**", take)
    work(page, crowd, entrance(crowd, "mturk", **ids))
    page.click("#completion-form button")
    page.wait_for_selector("text=taken")
    ((url, fields),) = posted
    assert url == "https://workersandbox.mturk.com/mturk/externalSubmit"
    assert fields["assignmentId"] == ["A1"]
    assert len(fields) >= 2, "MTurk wants one more field than the assignment"


def test_a_visit_by_link_ends_with_a_code(page, crowd):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=crowd.url)
    work(page, crowd, entrance(crowd, "mturk", assignmentId="A2", hitId="H2", workerId="W2"))
    code = page.inner_text("#completion-code")
    assert len(code) == 10
    page.click("text=Copy code")
    page.wait_for_selector("text=Copied.")
    assert page.evaluate("() => navigator.clipboard.readText()") == code
    page.reload()
    page.wait_for_selector("#completion-code")
    assert page.inner_text("#completion-code") == code


def test_a_visit_from_prolific_goes_back_there(page, crowd):
    work(page, crowd, entrance(crowd, "prolific", PROLIFIC_PID="P1", STUDY_ID="S1", SESSION_ID="E1"))
    link = page.get_attribute("#completion-link", "href")
    assert link == "https://app.prolific.com/submissions/complete?cc=C0FFEE"
