"""The drag-and-drop page in Chromium: what people do on it, and what the log then says."""

from __future__ import annotations

import pytest

from tests.data_prep.collect.browser.bench import (
    accept,
    assignment_of,
    glide,
    kinds_of,
    make_project,
    samples,
    saved,
    serving,
    wait_for,
)


@pytest.fixture
def ready(page, coco):
    """A fresh annotator on a first page, on the set of animals."""
    accept(page, coco.link())
    page.click("#set-1")
    return page


def centre(page, selector: str) -> tuple[float, float]:
    box = page.locator(selector).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def spot(page, x: float, y: float) -> tuple[float, float]:
    box = page.locator("img.scene").bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def drag(page, source: str, x: float, y: float) -> None:
    """An icon to a fraction of the photo."""
    page.evaluate("() => window.scrollTo(0, 0)")
    start, end = centre(page, source), spot(page, x, y)
    page.mouse.move(*start)
    page.mouse.down()
    glide(page, start, end, steps=6)
    page.mouse.up()


def icon(c: str) -> str:
    return f"#icons .icon[data-c='{c}'] .tile"


def placed(c: str) -> str:
    return f".placed[data-c='{c}']"


def actions(page, server) -> list[tuple]:
    saved(page)
    log = server.page(assignment_of(page))
    return [(a.kind, a.icon, a.why) for a in log.actions]


def test_the_board_is_450_px_high_and_keeps_the_aspect_ratio(ready):
    width, height, natural = ready.evaluate(
        "() => { const i = document.querySelector('img.scene'); const r = i.getBoundingClientRect();"
        " return [r.width, r.height, i.naturalWidth / i.naturalHeight]; }"
    )
    assert height == 450
    assert width / height == pytest.approx(natural, abs=0.005)


def test_eleven_sets_and_eighty_icons(ready, coco):
    names = []
    for number in range(11):
        ready.click(f"#set-{number}")
        names += ready.eval_on_selector_all("#icons .icon", "icons => icons.map(icon => icon.dataset.c)")
        loaded = ready.eval_on_selector_all(
            "#icons img",
            "async i => { await Promise.all(i.map(x => x.decode())); return i.every(x => x.naturalWidth > 0); }",
        )
        assert loaded
    assert len(names) == len(set(names)) == 80
    assert ready.inner_text(".palette-head h2").endswith("11 / 11")


def test_add_move_and_remove_leave_the_whole_path(ready, coco):
    drag(ready, icon("cat"), 0.3, 0.4)
    drag(ready, placed("cat"), 0.6, 0.7)
    drag(ready, placed("cat"), -0.3, 0.5)
    assert actions(ready, coco) == [("add", "cat", ""), ("move", "cat", ""), ("remove", "cat", "outside")]
    events = coco.events(assignment_of(ready), "drag_start", "drag_move", "drop", "add", "move_icon", "remove")
    drag_of = ["drag_start", "drag_move", "drop"]
    assert kinds_of(events) == [*drag_of, "add", *drag_of, "move_icon", *drag_of, "remove"]
    added, moved = (next(e for e in events if e["k"] == kind) for kind in ("add", "move_icon"))
    assert (added["x"], added["y"]) == pytest.approx((0.3, 0.4), abs=1e-4)
    assert (moved["fx"], moved["x"]) == pytest.approx((0.3, 0.6), abs=1e-4)
    assert [e["from"] for e in events if e["k"] == "drag_start"] == ["panel", "board", "board"]
    assert len(samples(events)) >= 3 * 3
    assert [e["inside"] for e in events if e["k"] == "drop"] == [True, True, False]


def test_two_classes_share_a_spot(ready, coco):
    """On the published page a drop on a placed icon counts as a drop outside."""
    drag(ready, icon("cat"), 0.5, 0.5)
    drag(ready, icon("dog"), 0.5, 0.5)
    assert actions(ready, coco) == [("add", "cat", ""), ("add", "dog", "")]
    assert coco.page(assignment_of(ready)).icons["dog"] == pytest.approx((0.5, 0.5), abs=1e-4)


@pytest.mark.parametrize("distance", [4, 17, 24])
def test_a_small_move_is_a_move(ready, coco, distance):
    """On the published page a move of less than half an icon removes it."""
    drag(ready, icon("cat"), 0.5, 0.5)
    x, y = spot(ready, 0.5, 0.5)
    ready.mouse.move(x, y)
    ready.mouse.down()
    ready.mouse.move(x + distance, y, steps=3)
    ready.mouse.up()
    assert actions(ready, coco) == [("add", "cat", ""), ("move", "cat", "")]
    width = ready.locator("img.scene").bounding_box()["width"]
    assert coco.page(assignment_of(ready)).icons["cat"][0] == pytest.approx(0.5 + distance / width, abs=1e-4)


def test_a_press_on_a_placed_icon_or_its_twin_removes_it_and_undo_brings_it_back(ready, coco):
    drag(ready, icon("cat"), 0.5, 0.5)
    ready.click(placed("cat"))
    ready.click("#undo")
    ready.click("#icons .icon[data-c='cat']")
    ready.keyboard.press("Control+z")
    drag(ready, placed("cat"), 0.2, 0.2)
    ready.keyboard.press("Control+z")
    found = actions(ready, coco)
    assert [(kind, why) for kind, _, why in found] == [
        ("add", ""),
        ("remove", "click"),
        ("add", ""),
        ("remove", "click"),
        ("add", ""),
        ("move", ""),
        ("move", ""),
    ]
    assert coco.page(assignment_of(ready)).icons["cat"] == pytest.approx((0.5, 0.5), abs=1e-4)
    undone = [e for e in coco.events(assignment_of(ready), "add", "move_icon") if e.get("undo")]
    assert len(undone) == 3


def test_press_the_icon_then_the_photo(ready, coco):
    """The road without a drag."""
    ready.click("#icons .icon[data-c='horse']")
    ready.mouse.click(*spot(ready, 0.25, 0.65))
    assert actions(ready, coco) == [("add", "horse", "")]
    assert coco.page(assignment_of(ready)).icons["horse"] == pytest.approx((0.25, 0.65), abs=1e-4)


def test_keyboard_places_moves_and_removes_with_real_points(ready, coco):
    ready.focus("#icons .icon[data-c='bird']")
    ready.keyboard.press("Enter")
    for _ in range(4):
        ready.keyboard.press("Shift+ArrowLeft")
    ready.keyboard.press("Enter")
    width = ready.locator("img.scene").bounding_box()["width"]
    ready.focus(placed("bird"))
    ready.keyboard.press("Enter")
    ready.keyboard.press("ArrowDown")
    ready.keyboard.press("Enter")
    saved(ready)
    log = coco.page(assignment_of(ready))
    assert [a.kind for a in log.actions] == ["add", "move"]
    assert log.actions[0].end == pytest.approx((0.5 - 40 / width, 0.5), abs=1e-4)
    assert log.icons["bird"] == pytest.approx((0.5 - 40 / width, 0.5 + 1 / 450), abs=1e-4)
    ready.focus(placed("bird"))
    ready.keyboard.press("Delete")
    assert actions(ready, coco)[-1] == ("remove", "bird", "key")
    inputs = {e["in"] for e in coco.events(assignment_of(ready), "add", "move_icon", "remove")}
    assert inputs == {"keyboard"}


def test_arrow_keys_turn_the_sets_without_a_wrap_and_every_set_is_logged(page, coco):
    accept(page, coco.link())
    page.keyboard.press("ArrowLeft")
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    saved(page)
    shown = coco.events(assignment_of(page), "set_shown")
    assert [e["s"] for e in shown] == [*range(11), 9]
    assert [e["kb"] for e in shown] == [False, *[True] * 11]


def test_submit_needs_every_set_looked_at_but_no_icon(page, coco):
    accept(page, coco.link())
    assignment = assignment_of(page)
    page.wait_for_timeout(800)
    assert page.is_disabled("#submit")
    assert "10 of 11 left" in page.inner_text("#hint")
    for number in range(1, 11):
        page.click(f"#set-{number}")
    page.click("#submit")
    wait_for(lambda: coco.state(assignment) == "submitted")


def test_escape_ends_a_drag_and_nothing_is_placed(ready, coco):
    ready.mouse.move(*centre(ready, icon("cat")))
    ready.mouse.down()
    ready.mouse.move(*spot(ready, 0.5, 0.5), steps=4)
    ready.keyboard.press("Escape")
    assert ready.query_selector(".ghost") is None
    ready.mouse.up()
    wait_for(lambda: coco.events(assignment_of(ready), "drag_cancel"))
    assert actions(ready, coco) == []


def test_touch_drags_an_icon(browser, coco):
    context = browser.new_context(viewport={"width": 375, "height": 900}, has_touch=True, is_mobile=True)
    page = context.new_page()
    accept(page, coco.link())
    page.locator("#set-1").tap()
    page.locator(icon("cat")).scroll_into_view_if_needed()
    client = context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})

    start, end = centre(page, icon("cat")), spot(page, 0.4, 0.6)
    touch("touchStart", start)
    for k in range(1, 9):
        touch("touchMove", (start[0] + (end[0] - start[0]) * k / 8, start[1] + (end[1] - start[1]) * k / 8))
    touch("touchEnd")
    wait_for(lambda: coco.page(assignment_of(page)).icons)
    log = coco.page(assignment_of(page))
    assert [a.kind for a in log.actions] == ["add"]
    assert log.icons["cat"] == pytest.approx((0.4, 0.6), abs=2e-3)
    assert {e["in"] for e in coco.events(assignment_of(page), "add", "drag_start", "drop")} == {"touch"}
    # And by two taps.
    page.locator("#icons .icon[data-c='dog']").tap()
    page.touchscreen.tap(*spot(page, 0.8, 0.75))
    wait_for(lambda: "dog" in coco.page(assignment_of(page)).icons)
    assert coco.page(assignment_of(page)).icons["dog"] == pytest.approx((0.8, 0.75), abs=2e-3)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 375
    context.close()


def test_a_panorama_is_not_squashed(page, tmp_path):
    project = make_project(tmp_path, "coco", pictures=1, sizes=((2000, 500),))
    with serving(project) as server:
        accept(page, server.link())
        box = page.locator("img.scene").bounding_box()
        assert box["width"] / box["height"] == pytest.approx(4, abs=0.02)
