"""Faults of the published pages that reached their data (collection.md §1.1 and §1.2), one test each.

Those with a test elsewhere: deselects without a point or time, no keyboard, touch, undo (`test_imagenet_page`); lost
acknowledgements, a submit pressed twice, broken pictures, alerts instead of retries (`test_bad_luck`); two icons on one
spot, small moves, a squashed panorama, the first set (`test_coco_page`).
"""

from __future__ import annotations

import time

import pytest

from data_prep.collect import control
from data_prep.collect.simulate.mouse import Hand, Ledger, rects_of
from tests.data_prep.collect.browser.bench import (
    accept,
    assignment_of,
    glide,
    kinds_of,
    loaded,
    samples,
    saved,
    wait_for,
)
from tests.data_prep.collect.browser.test_coco_page import drag, icon, spot
from tests.data_prep.collect.browser.test_imagenet_page import click, index_of


def test_no_movement_is_missed(page, imagenet):
    """The published page renders all pictures anew at each movement: gaps of 36-161 ms between samples."""
    accept(page, imagenet.link())
    hand = Hand(page, Ledger(assignment_of(page), "imagenet"), rects_of(page, "imagenet"))
    index = index_of(page, 3)
    left, top, width, height = hand.look()[index]
    for k in range(60):
        hand.move(left + width * (0.1 + 0.8 * k / 60), top + height * 0.4)
    hand.park()
    saved(page)
    moves = [event for event in imagenet.events(assignment_of(page), "move") if event["i"] == index]
    samples = [x for event in moves for _, x, _ in event["p"]]
    assert samples == pytest.approx([0.1 + 0.8 * k / 60 for k in range(60)], abs=1e-4)


def test_late_pictures_do_not_move_others(page, imagenet):
    """The published page measures a picture when it has loaded, and later ones of its row then move it."""
    held = []
    page.route("**/i/**", lambda route: held.append(route))
    page.goto(imagenet.link())
    page.check("#agree")
    page.click("#consent-agree")
    page.wait_for_selector(".photo img")
    rects = "() => [...document.querySelectorAll('.photo img')].map(i => { const r = i.getBoundingClientRect();"
    rects += " return [r.left, r.top + scrollY, r.width, r.height]; })"
    before = page.evaluate(rects)
    wait_for(lambda: len(held) == 12, page=page)
    for route in held[::-1]:
        route.continue_()
    loaded(page)
    assert page.evaluate(rects) == before
    saved(page)
    events = {e["i"]: e["r"] for e in imagenet.events(assignment_of(page), "image_loaded")}
    for place, rect in enumerate(before):
        assert events[index_of(page, place)] == pytest.approx(rect, abs=1e-3)


def test_the_pixel_beside_a_picture_is_not_the_picture(page, imagenet):
    """Ratios of -1/h and slightly over 1: browsers report pointers up to a pixel beside an element."""
    accept(page, imagenet.link())
    hand = Hand(page, Ledger(assignment_of(page), "imagenet"), rects_of(page, "imagenet"))
    index = index_of(page, 1)
    left, top, width, height = hand.look()[index]
    for x in (-2, -0.9, -0.5, 1, width - 1, width + 0.5, width + 2):
        hand.move(left + x, top + height / 2)
    for y in (-2, -0.9, -0.5, 1, height - 1, height + 0.5, height + 2):
        hand.move(left + width / 2, top + y)
    hand.park()
    saved(page)
    events = [e for e in imagenet.events(assignment_of(page), "enter", "leave", "move") if e["i"] == index]
    assert kinds_of(events) == ["enter", "move", "leave"] * 2
    points = [p[1:] for e in events if e["k"] == "move" for p in e["p"]] + [
        [e["x"], e["y"]] for e in events if "x" in e
    ]
    assert all(0 <= value < 1 for point in points for value in point)


def test_a_new_page_takes_no_submit_at_once(page, imagenet):
    accept(page, imagenet.link())
    first = assignment_of(page)
    click(page, 0)
    page.click("#submit")
    page.wait_for_function("a => document.querySelector('[data-assignment]')?.dataset.assignment !== a", arg=first)
    assert page.is_disabled("#submit")
    wait_for(lambda: page.is_enabled("#submit"))


def test_a_page_is_not_submitted_before_its_pictures_are_there(page, imagenet):
    held = []
    page.route("**/i/*/5", lambda route: held.append(route))
    page.goto(imagenet.link())
    page.check("#agree")
    page.click("#consent-agree")
    page.wait_for_selector("#hint:has-text('Loading 1 photo')")
    page.wait_for_timeout(900)
    assert page.is_disabled("#submit")
    held[0].continue_()
    loaded(page)
    assert page.is_enabled("#submit")


def test_leaving_warns_of_nothing_when_nothing_can_be_lost(page, imagenet):
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.type), dialog.accept()))
    accept(page, imagenet.link())
    click(page, 0)
    page.goto("about:blank")
    assert dialogs == []


def test_work_of_somebody_who_is_turned_away_does_not_count(page, imagenet):
    accept(page, imagenet.link())
    assignment = assignment_of(page)
    click(page, 0)
    saved(page)
    with imagenet.project.open_store() as store:
        sql = "SELECT w.public_id FROM assignment a JOIN worker w ON w.id = a.worker WHERE a.id = ?"
        worker = store.read(lambda tx: tx.rows(sql, assignment))[0][0]
        control.act_on(store, worker, "block", "test", int(time.time() * 1000))
    page.click("#submit")
    page.wait_for_selector("[data-screen=problem]")
    with imagenet.project.open_store() as store:
        sql = "SELECT counts, excluded FROM assignment WHERE id = ?"
        assert store.read(lambda tx: tx.rows(sql, assignment))[0] == (0, 1)


def test_a_repeated_last_submit_makes_no_second_record(page, imagenet):
    """Pressing again after a failed request posts the record a second time on the published page."""
    accept(page, imagenet.link())
    assignment = assignment_of(page)
    click(page, 0)
    page.route("**/api/submit", lambda route: (route.fetch(), route.abort()), times=1)
    page.click("#submit")
    wait_for(lambda: imagenet.state(assignment) == "submitted", page=page)
    page.wait_for_function("a => document.querySelector('[data-assignment]')?.dataset.assignment !== a", arg=assignment)
    assert len(imagenet.events(assignment, "submit")) == 1


def test_the_pointer_is_followed_over_placed_icons_and_in_drags(page, coco):
    """No sample during a drag, and none over a placed icon, on the published page."""
    accept(page, coco.link())
    page.click("#set-1")
    drag(page, icon("cat"), 0.5, 0.5)
    x, y = spot(page, 0.5, 0.5)
    page.mouse.move(x - 60, y)
    glide(page, (x - 60, y), (x + 60, y), steps=12)
    saved(page)
    assignment = assignment_of(page)
    width = page.locator("img.scene").bounding_box()["width"]
    over = [p for p in samples(coco.events(assignment, "move")) if abs(p[1] - 0.5) * width < 15]
    assert len(over) >= 2
    assert len(samples(coco.events(assignment, "drag_move"))) >= 4


def test_a_replaced_picture_of_another_class_is_never_in_the_log_under_the_old_index(page, imagenet):
    page.route("**/i/*/2*", lambda route: route.abort())
    accept(page, imagenet.link())
    click(page, 2)
    saved(page)
    (select,) = imagenet.events(assignment_of(page), "select")
    assert select["i"] == int(page.get_attribute("[data-place='2']", "data-index")) >= 12
