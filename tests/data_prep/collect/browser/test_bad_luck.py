"""Lost networks, killed servers and browsers, two tabs, reloads, double presses, broken pictures: nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from data_prep.collect.simulate.browser import ARGUMENTS, CHROMIUM
from tests.data_prep.collect.browser.bench import (
    REPOSITORY,
    accept,
    assignment_of,
    loaded,
    make_project,
    photo,
    saved,
    serving,
    wait_for,
)
from tests.data_prep.collect.browser.test_coco_page import centre, drag, icon, spot
from tests.data_prep.collect.browser.test_imagenet_page import click, index_of, pressed


def selected(page) -> list[int]:
    return page.eval_on_selector_all(
        ".photo[aria-pressed=true]", "photos => photos.map(photo => Number(photo.dataset.index))"
    )


def stored(page) -> int:
    """Batches that this browser keeps."""
    return page.evaluate(
        """() => new Promise(done => { const open = indexedDB.open('luab-collect', 1); open.onsuccess = () => {
        const count = open.result.transaction('batches').objectStore('batches').count();
        count.onsuccess = () => { open.result.close(); done(count.result); }; }; })"""
    )


def test_a_batch_is_kept_until_it_is_acknowledged(page, context, imagenet):
    accept(page, imagenet.link())
    saved(page)
    wait_for(lambda: stored(page) == 0)
    page.route("**/api/batch", lambda route: route.abort())
    click(page, 0)
    wait_for(lambda: stored(page) > 0)
    assert not imagenet.events(assignment_of(page), "select")
    page.unroute("**/api/batch")
    saved(page)
    wait_for(lambda: stored(page) == 0)
    assert len(imagenet.events(assignment_of(page), "select")) == 1


def test_an_answer_that_is_lost_is_no_second_event(page, imagenet):
    """The batch arrives, its acknowledgement does not: the same batch is posted again and counts once."""
    accept(page, imagenet.link())
    lost = []

    def lose(route) -> None:
        route.fetch()
        lost.append(route.request.post_data)
        route.abort()

    page.route("**/api/batch", lose, times=2)
    click(page, 0)
    saved(page)
    assert lost
    assert len(imagenet.events(assignment_of(page), "select")) == 1


def test_offline_and_back(page, context, imagenet):
    accept(page, imagenet.link())
    saved(page)
    context.set_offline(True)
    for place in range(3):
        click(page, place)
    page.wait_for_selector("[data-banner=away]")
    assert "kept in this browser" in page.inner_text("[data-banner=away]")
    assert "kept here" in page.inner_text("#saved")
    context.set_offline(False)
    saved(page)
    page.wait_for_selector("[data-banner=away]", state="detached")
    assert len(imagenet.events(assignment_of(page), "select")) == 3


def test_a_page_submitted_while_offline_goes_through_later(page, context, imagenet):
    accept(page, imagenet.link())
    assignment = assignment_of(page)
    click(page, 2)
    context.set_offline(True)
    page.click("#submit")
    page.wait_for_timeout(500)
    assert page.is_disabled("#submit")
    assert imagenet.state(assignment) == "leased"
    context.set_offline(False)
    wait_for(lambda: imagenet.state(assignment) == "submitted", seconds=40)


def test_the_server_is_killed_and_comes_back(page, tmp_path):
    project = make_project(tmp_path, "imagenet", pictures=12, classes=("cat",))
    with serving(project) as server:
        accept(page, server.link())
        assignment = assignment_of(page)
        click(page, 0)
        saved(page)
        server.kill()
        click(page, 1)
        page.wait_for_selector("[data-banner=away]")
        click(page, 2)
        server.start()
        saved(page)
        assert len(server.events(assignment, "select")) == 3
        page.click("#submit")
        wait_for(lambda: server.state(assignment) == "submitted", seconds=40)


def test_a_reload_restores_the_page(page, imagenet):
    accept(page, imagenet.link())
    assignment = assignment_of(page)
    for place in (0, 3, 5):
        click(page, place)
    chosen = selected(page)
    page.reload()  # at once: nothing is waited for
    page.wait_for_selector("[data-screen=task]")
    loaded(page)
    assert assignment_of(page) == assignment
    assert selected(page) == chosen
    click(page, 3)
    page.click("#submit")
    wait_for(lambda: imagenet.state(assignment) == "submitted")
    log = imagenet.page(assignment)
    assert log.submit is not None
    assert log.submit["selected"] == log.selected
    assert [e["restored"] for e in imagenet.events(assignment, "page")].count(True) == 1


def test_a_reload_in_a_drag_loses_only_the_drag(page, coco):
    accept(page, coco.link())
    assignment = assignment_of(page)
    page.click("#set-1")
    drag(page, icon("dog"), 0.3, 0.3)
    page.mouse.move(*centre(page, icon("cat")))
    page.mouse.down()
    page.mouse.move(*spot(page, 0.5, 0.5), steps=5)
    page.reload()
    page.mouse.up()
    page.wait_for_selector("[data-screen=task]")
    loaded(page)
    assert assignment_of(page) == assignment
    assert page.eval_on_selector_all(".placed", "icons => icons.map(icon => icon.dataset.c)") == ["dog"]
    saved(page)
    assert list(coco.page(assignment).icons) == ["dog"]


def test_a_double_press_submits_one_page(page, imagenet):
    """On the published page the second press submitted the next page, unseen."""
    accept(page, imagenet.link())
    first = assignment_of(page)
    click(page, 1)
    page.dblclick("#submit")
    page.wait_for_function("a => document.querySelector('[data-assignment]')?.dataset.assignment !== a", arg=first)
    loaded(page)
    page.wait_for_timeout(500)
    second = assignment_of(page)
    assert second != first
    assert imagenet.state(first) == "submitted"
    assert imagenet.state(second) == "leased"


def test_two_tabs_on_one_page(context, imagenet):
    link = imagenet.link()
    first, second = context.new_page(), context.new_page()
    accept(first, link)
    click(first, 0)
    saved(first)
    second.goto(link)
    second.wait_for_selector("[data-screen=task]")
    loaded(second)
    assignment = assignment_of(first)
    assert assignment_of(second) == assignment
    assert selected(second) == selected(first)
    first.bring_to_front()
    click(first, 1)
    first.wait_for_selector("[data-banner=holder]")
    # What the second tab does not know of is shown before it is submitted.
    second.bring_to_front()
    click(second, 2)
    second.click("#submit")
    second.wait_for_selector("[data-banner=differs]")
    assert len(selected(second)) == 3
    second.click("#submit")
    wait_for(lambda: imagenet.state(assignment) == "submitted")
    assert len(imagenet.page(assignment).selected) == 3
    # The first tab takes over again and gets the next page.
    first.bring_to_front()
    first.click("[data-banner=holder] button")
    first.wait_for_function(
        "a => document.querySelector('[data-assignment]')?.dataset.assignment !== a", arg=assignment
    )


_PUPPET = """
import sys
from playwright.sync_api import sync_playwright
with sync_playwright() as p:
    context = p.chromium.launch_persistent_context(
        sys.argv[1], executable_path=sys.argv[3], args=sys.argv[4:], viewport={"width": 1280, "height": 900}
    )
    page = context.new_page()
    page.goto(sys.argv[2])
    page.check("#agree"); page.click("#consent-agree")
    page.wait_for_selector("[data-screen=task]"); page.wait_for_timeout(1500)
    context.set_offline(True)
    for place in range(3):
        page.click(f"[data-place='{place}'] img")
    page.wait_for_timeout(400)
    print("ready", flush=True)
    page.wait_for_timeout(60000)
"""


def test_a_killed_browser_sends_its_work_when_it_is_opened_again(tmp_path, browser, imagenet):
    """Three choices are made without a network, then the browser is killed: IndexedDB has them on the next visit."""
    link, profile = imagenet.link(), tmp_path / "profile"
    puppet = subprocess.Popen(
        [sys.executable, "-c", _PUPPET, str(profile), link, CHROMIUM, *ARGUMENTS],
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
    )
    assert puppet.stdout is not None
    assert puppet.stdout.readline().strip() == b"ready"
    _kill_browser_of(profile)
    puppet.kill()
    puppet.communicate()
    assignment = imagenet.assignments()[-1]
    assert not imagenet.events(assignment, "select")
    context = browser.browser_type.launch_persistent_context(
        profile, executable_path=CHROMIUM, args=ARGUMENTS, viewport={"width": 1280, "height": 900}
    )
    page = context.new_page()
    page.goto(link)
    page.wait_for_selector("[data-screen=task]")
    loaded(page)
    assert assignment_of(page) == assignment
    assert len(selected(page)) == 3
    saved(page)
    context.close()
    assert len(imagenet.events(assignment, "select")) == 3


def _kill_browser_of(profile) -> None:
    """SIGKILL for the browser that has this profile, found by its lock (`host-pid`)."""
    lock = profile / "SingletonLock"
    process = int(str(lock.readlink()).rpartition("-")[2])
    os.kill(process, signal.SIGKILL)
    lock.unlink(missing_ok=True)


def test_a_picture_that_fails_twice_is_reported_and_replaced(page, imagenet):
    failures = []

    def fail(route) -> None:
        failures.append(route.request.url)
        route.abort()

    link = imagenet.link()
    page.route("**/i/*/4", fail)
    page.route("**/i/*/4?retry=1", fail)
    accept(page, link)
    assignment = assignment_of(page)
    assert len(failures) == 2
    assert index_of(page, 4) == 12, "a picture of the reserve took its place"
    click(page, 4)
    page.click("#submit")
    wait_for(lambda: imagenet.state(assignment) == "submitted")
    log = imagenet.page(assignment)
    assert log.pictures[4].state == "replaced"
    assert log.selected == [12]


def test_a_picture_that_fails_without_a_reserve_is_not_an_answer(page, tmp_path):
    project = make_project(tmp_path, "imagenet", pictures=4, page_size=4, classes=("cat",))
    with serving(project) as server:
        page.route("**/i/*/1*", lambda route: route.abort())
        accept(page, server.link())
        assignment = assignment_of(page)
        assert "could not be loaded" in page.inner_text(".failed")
        assert page.is_hidden("[data-place='1']")
        click(page, 0)
        page.click("#submit")
        wait_for(lambda: server.state(assignment) == "submitted")
        assert server.page(assignment).pictures[1].state == "failed"


def test_a_picture_that_fails_once_is_fetched_again(page, imagenet):
    page.route("**/i/*/3", lambda route: route.abort(), times=1)
    accept(page, imagenet.link())
    assert index_of(page, 3) == 3
    saved(page)
    assert imagenet.page(assignment_of(page)).pictures[3].state == "loaded"


def test_a_coco_picture_that_fails_can_be_passed_over(page, coco):
    page.route("**/i/**", lambda route: route.abort())
    accept(page, coco.link())
    assignment = assignment_of(page)
    assert "could not be loaded" in page.inner_text("#board")
    page.click("#submit")
    wait_for(lambda: coco.state(assignment) == "submitted")
    assert coco.page(assignment).pictures[0].state == "failed"


def test_without_indexeddb_work_goes_on_in_memory_and_that_is_said(browser, imagenet):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.add_init_script(
        "delete window.indexedDB; Object.defineProperty(window, 'indexedDB', {get() { throw new Error('off'); }})"
    )
    page = context.new_page()
    accept(page, imagenet.link())
    assert "does not keep data" in page.inner_text("[data-banner=memory]")
    click(page, 0)
    saved(page)
    assert len(imagenet.events(assignment_of(page), "select")) == 1
    context.close()


def test_a_refused_batch_is_replaced_by_a_note_of_the_loss(page, imagenet):
    """A batch that the server will never take must not block those behind it."""
    accept(page, imagenet.link())
    saved(page)
    page.route(
        "**/api/batch",
        lambda route: route.fulfill(
            status=400, json={"error": {"code": "bad_batch", "message": "no", "at": "events[0].x"}}
        ),
        times=1,
    )
    click(page, 0)
    saved(page)
    (lost,) = imagenet.events(assignment_of(page), "lost")
    assert lost["count"] >= 1
    # The log then lacks the choice; the page shows what was stored and asks to look again.
    page.click("#submit")
    page.wait_for_selector("[data-banner=differs]")
    assert selected(page) == []


@pytest.mark.parametrize(("status", "code", "text"), [(507, "disk_full", "no space left"), (503, "busy", "busy")])
def test_a_server_that_cannot_store_is_asked_again(page, imagenet, status, code, text):
    accept(page, imagenet.link())
    saved(page)
    page.route(
        "**/api/batch",
        lambda route: route.fulfill(
            status=status, headers={"Retry-After": "1"}, json={"error": {"code": code, "message": ""}}
        ),
        times=2,
    )
    click(page, 0)
    page.wait_for_selector("[data-banner=away]")
    assert text in page.inner_text("[data-banner=away]")
    saved(page)
    assert len(imagenet.events(assignment_of(page), "select")) == 1


def test_a_clock_that_is_an_hour_off_does_not_end_the_lease(browser, imagenet):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.add_init_script("const now = Date.now; Date.now = () => now() + 3600000;")
    page = context.new_page()
    accept(page, imagenet.link())
    click(page, 0)
    saved(page)
    assert "30 min" in page.inner_text("#lease") or "29 min" in page.inner_text("#lease")
    context.close()


def test_an_expired_session_is_renewed(page, imagenet):
    """Both routes stay: as one with `times` ends, Playwright may miss the request that follows at once."""
    accept(page, imagenet.link())
    saved(page)
    expired: list[str] = []
    renewals: list[str] = []

    def expire_once(route) -> None:
        if expired:
            route.continue_()
            return
        expired.append(route.request.post_data)
        route.fulfill(status=401, json={"error": {"code": "expired_token", "message": "too old"}})

    def count(route) -> None:
        renewals.append(route.request.url)
        route.continue_()

    page.route("**/api/batch", expire_once)
    page.route("**/api/session", count)
    click(page, 0)
    wait_for(lambda: imagenet.events(assignment_of(page), "select"), page=page, what="the choice was stored")
    saved(page)
    assert len(expired) == len(renewals) == 1
    assert len(imagenet.events(assignment_of(page), "select")) == 1


def test_a_blocked_annotator_is_told_so(page, imagenet):
    from data_prep.collect import control

    link = imagenet.link()
    accept(page, link)
    saved(page)
    with imagenet.project.open_store() as store:
        rows = store.read(
            lambda tx: tx.rows(
                "SELECT w.public_id FROM assignment a JOIN worker w ON w.id = a.worker WHERE a.id = ?",
                assignment_of(page),
            )
        )
        control.act_on(store, rows[0][0], "block", "test", int(time.time() * 1000))
    page.reload()
    page.wait_for_selector("[data-screen=problem]")
    assert "cannot take part" in page.inner_text("h1")


def test_a_wrong_link_is_explained(page, imagenet):
    page.goto(f"{imagenet.url}/")
    page.wait_for_selector("[data-screen=problem]")
    assert "not complete" in page.inner_text("h1")
    page.goto(f"{imagenet.url}/#t=nonsense")
    page.wait_for_selector("h1:has-text('not valid')")


def test_a_paused_project_waits_and_goes_on_by_itself(page, tmp_path):
    from data_prep.collect import control

    project = make_project(tmp_path, "imagenet", pictures=4, page_size=4, classes=("cat",))
    with serving(project) as server:
        with project.open_store() as store:
            control.pause(store, True, "Back at noon", int(time.time() * 1000))
        page.goto(server.link())
        page.check("#agree")
        page.click("#consent-agree")
        page.wait_for_selector("[data-screen=paused]")
        assert "Back at noon" in page.inner_text("[data-screen=paused]")
        with project.open_store() as store:
            control.pause(store, False, "", int(time.time() * 1000))
        page.click("text=Check again")
        page.wait_for_selector("[data-screen=task]")


def test_giving_a_page_back_and_withdrawing(page, imagenet):
    accept(page, imagenet.link())
    first = assignment_of(page)
    page.click(".exits summary")
    page.click("text=Give this page back")
    page.click("dialog >> text=Give back")
    page.wait_for_function("a => document.querySelector('[data-assignment]')?.dataset.assignment !== a", arg=first)
    assert imagenet.state(first) == "returned"
    loaded(page)
    page.click(".exits summary")
    page.click(".exits >> text=Withdraw")
    page.click("dialog button.danger")
    page.wait_for_selector("h1:has-text('You have withdrawn')")


def test_the_end_shows_a_thank_you(page, tmp_path):
    project = make_project(tmp_path, "imagenet", pictures=2, page_size=2, classes=("cat",))
    with serving(project) as server:
        accept(page, server.link())
        click(page, 0)
        assert pressed(page, 0)
        page.click("#submit")
        page.wait_for_selector("[data-screen=done]")
        assert page.is_hidden("#topbar")


def test_photos_are_what_the_tests_think_they_are():
    """The bench's own pictures: one of them turned by EXIF."""
    assert photo(1, (50, 40)) != photo(1, (50, 40), turned=True)
