"""The browse-and-select page in Chromium: what people do on it, and what the log then says."""

from __future__ import annotations

import pytest

from tests.data_prep.collect.browser.bench import (
    SIZES,
    accept,
    assignment_of,
    glide,
    kinds_of,
    loaded,
    make_project,
    samples,
    saved,
    serving,
    wait_for,
)

PUBLISHED_SIZES = {(500, 375): (324, 243), (375, 500): (255, 340), (500, 333): (324, 216), (333, 500): (226, 340)} | {
    (500, 500): (324, 324),
    (64, 64): (64, 64),
}
"""Natural to displayed size on the published page (collection.md §1.1)."""


def photo_at(page, place: int) -> dict[str, float]:
    page.locator(f"[data-place='{place}']").scroll_into_view_if_needed()
    return page.locator(f"[data-place='{place}'] img").bounding_box()


def click(page, place: int, x: float = 0.5, y: float = 0.5) -> tuple[float, float]:
    """A press at a fraction of a photo; returns the viewport point."""
    box = photo_at(page, place)
    point = box["x"] + x * box["width"], box["y"] + y * box["height"]
    page.mouse.click(*point)
    return point


def index_of(page, place: int) -> int:
    return int(page.get_attribute(f"[data-place='{place}']", "data-index"))


def pressed(page, place: int) -> bool:
    return page.get_attribute(f"[data-place='{place}']", "aria-pressed") == "true"


@pytest.fixture
def ready(page, imagenet):
    """A fresh annotator on a first page."""
    accept(page, imagenet.link())
    return page


def test_photos_have_the_published_sizes(ready):
    sizes = ready.evaluate(
        "() => [...document.querySelectorAll('.photo img')].map(i => {const r = i.getBoundingClientRect();"
        " return [i.naturalWidth, i.naturalHeight, r.width, r.height];})"
    )
    assert {(w, h) for w, h, _, _ in sizes} <= set(SIZES)
    for natural_width, natural_height, width, height in sizes:
        assert (width, height) == PUBLISHED_SIZES[natural_width, natural_height]


def test_select_and_deselect_both_have_a_point_and_a_time(ready, imagenet):
    before = ready.evaluate("() => performance.timeOrigin + performance.now()")
    click(ready, 3, 0.25, 0.75)
    assert pressed(ready, 3)
    click(ready, 3, 0.6, 0.3)
    assert not pressed(ready, 3)
    saved(ready)
    events = imagenet.events(assignment_of(ready), "select", "deselect")
    assert [event["k"] for event in events] == ["select", "deselect"]
    for event, point in zip(events, [(0.25, 0.75), (0.6, 0.3)], strict=True):
        assert (event["x"], event["y"]) == pytest.approx(point, abs=1e-5)
        assert before <= event["t"] <= ready.evaluate("() => performance.timeOrigin + performance.now()")
    assert events[0]["t"] < events[1]["t"]


def test_undo_takes_the_last_choice_back_by_key_and_by_button(ready, imagenet):
    click(ready, 0)
    click(ready, 1)
    ready.keyboard.press("Control+z")
    assert [pressed(ready, place) for place in (0, 1)] == [True, False]
    ready.click("#undo")
    assert not pressed(ready, 0)
    assert ready.is_disabled("#undo")
    saved(ready)
    events = imagenet.events(assignment_of(ready), "select", "deselect")
    assert [(event["k"], event.get("undo", False)) for event in events] == [
        ("select", False),
        ("select", False),
        ("deselect", True),
        ("deselect", True),
    ]
    assert not any("x" in event for event in events if event.get("undo"))


def test_hover_and_trace_are_inside_the_photo(ready, imagenet):
    box = photo_at(ready, 2)
    y = box["y"] + box["height"] / 2
    left, right = (box["x"] - 30, y), (box["x"] + box["width"] + 30, y)
    ready.mouse.move(*left)
    glide(ready, left, right, steps=11)
    ready.mouse.move(5, 400)
    ready.wait_for_timeout(1200)
    saved(ready)
    index = index_of(ready, 2)
    events = [e for e in imagenet.events(assignment_of(ready), "enter", "leave", "move") if e["i"] == index]
    assert kinds_of(events) == ["enter", "move", "leave"]
    xs = [x for _, x, _ in samples(events)]
    assert xs == sorted(xs)
    assert 0 <= xs[0] < xs[-1] < 1
    assert all(0 <= e["x"] < 1 for e in (events[0], events[-1]))


def test_keyboard_cross_hair_gives_a_real_point(ready, imagenet):
    ready.focus("[data-place='1']")
    ready.keyboard.press("Enter")
    for key in ["ArrowRight"] * 3 + ["Shift+ArrowDown"] * 2 + ["ArrowUp"]:
        ready.keyboard.press(key)
    ready.keyboard.press("Enter")
    assert pressed(ready, 1)
    assert ready.evaluate("() => document.activeElement.dataset.place") == "1"
    saved(ready)
    (event,) = imagenet.events(assignment_of(ready), "select")
    box = ready.locator("[data-place='1'] img").bounding_box()
    assert event["in"] == "keyboard"
    assert event["x"] * box["width"] == pytest.approx(box["width"] / 2 + 3, abs=1e-3)
    assert event["y"] * box["height"] == pytest.approx(box["height"] / 2 + 19, abs=1e-3)
    # The same photo again: the cross-hair starts where it was selected, Escape leaves without a change.
    ready.keyboard.press("Enter")
    ready.keyboard.press("Escape")
    assert pressed(ready, 1)
    assert ready.query_selector(".crosshair") is None


def test_assistive_technology_selects_without_a_point(ready, imagenet):
    ready.evaluate("() => document.querySelector(\"[data-place='4']\").click()")
    assert pressed(ready, 4)
    saved(ready)
    (event,) = imagenet.events(assignment_of(ready), "select")
    assert "x" not in event


def test_touch_selects_with_the_finger_s_point(browser, imagenet):
    context = browser.new_context(viewport={"width": 375, "height": 760}, has_touch=True, is_mobile=True)
    page = context.new_page()
    accept(page, imagenet.link())
    box = photo_at(page, 2)
    page.touchscreen.tap(box["x"] + 0.3 * box["width"], box["y"] + 0.8 * box["height"])
    assert pressed(page, 2)
    saved(page)
    (event,) = imagenet.events(assignment_of(page), "select")
    assert event["in"] == "touch"
    assert (event["x"], event["y"]) == pytest.approx((0.3, 0.8), abs=1e-3)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 375
    context.close()


@pytest.mark.parametrize("scale", [1.0, 1.25, 2.0])
def test_points_do_not_depend_on_zoom_and_pixel_ratio(browser, imagenet, scale):
    """A browser's zoom of 125 % makes CSS px larger: fewer of them in the window, at a larger device pixel ratio."""
    size = {"width": int(1280 / min(scale, 1.25)), "height": int(900 / min(scale, 1.25))}
    context = browser.new_context(viewport=size, device_scale_factor=scale)
    page = context.new_page()
    accept(page, imagenet.link())
    click(page, 5, 0.2, 0.4)
    page.evaluate("() => (document.body.style.zoom = 1.25)")  # between load and press
    click(page, 1, 0.7, 0.9)
    saved(page)
    events = imagenet.events(assignment_of(page), "select")
    for event, point in zip(events, [(0.2, 0.4), (0.7, 0.9)], strict=True):
        assert (event["x"], event["y"]) == pytest.approx(point, abs=2e-3)
    context.close()


def test_points_do_not_depend_on_scrolling(ready, imagenet):
    ready.mouse.move(3, 300)
    ready.mouse.wheel(0, 700)
    ready.wait_for_timeout(300)
    place = next(k for k in range(12) if 100 < ready.locator(f"[data-place='{k}'] img").bounding_box()["y"] < 500)
    box = ready.locator(f"[data-place='{place}'] img").bounding_box()
    ready.mouse.click(box["x"] + 0.35 * box["width"], box["y"] + 0.15 * box["height"])
    saved(ready)
    (event,) = imagenet.events(assignment_of(ready), "select")
    assert (event["x"], event["y"]) == pytest.approx((0.35, 0.15), abs=1e-4)
    left, top, width, height = event["r"]
    assert (left, width, height) == pytest.approx((box["x"], box["width"], box["height"]), abs=0.01)
    assert top == pytest.approx(box["y"] + ready.evaluate("() => scrollY"), abs=0.6)
    assert imagenet.events(assignment_of(ready), "scroll")


def test_a_turned_photo_is_shown_upright_and_its_point_is_where_it_is_seen(page, tmp_path):
    """The photo is stored on its side; page, header of the task and point agree on how the browser shows it."""
    project = make_project(tmp_path, "imagenet", pictures=2, page_size=2, sizes=((500, 375),), classes=("cat",))
    with serving(project) as server:
        accept(page, server.link())
        shown = page.evaluate(
            "() => [...document.querySelectorAll('.photo img')].map(i => [i.naturalWidth, i.naturalHeight])"
        )
        assert shown == [[500, 375], [500, 375]]
        for place in range(2):
            click(page, place, 0.9, 0.2)
        saved(page)
        events = server.events(assignment_of(page), "select")
        assert [(e["x"], e["y"]) for e in events] == [pytest.approx((0.9, 0.2), abs=1e-4)] * 2


def test_a_page_with_nothing_selected_asks_once_if_half_was_never_seen(page, imagenet):
    accept(page, imagenet.link())
    assignment = assignment_of(page)
    page.click("#submit")
    page.click("dialog >> text=Look again")
    assert assignment_of(page) == assignment
    page.click("#submit")  # asked once
    wait_for(lambda: imagenet.state(assignment) == "submitted")


def test_the_log_says_what_the_window_was(ready, imagenet):
    ready.set_viewport_size({"width": 1100, "height": 800})
    ready.wait_for_timeout(1300)
    saved(ready)
    events = imagenet.events(assignment_of(ready))
    assert events[0]["k"] == "page"
    assert (events[0]["vw"], events[0]["vh"], events[0]["dpr"]) == (1280, 900, 1)
    assert (1100, 800) in [(e["vw"], e["vh"]) for e in events if e["k"] == "resize"]


def test_progress_and_consent_are_shown(page, imagenet):
    page.goto(imagenet.link())
    page.wait_for_selector("[data-screen=consent]")
    page.click("#consent-agree")
    assert page.is_visible("[data-screen=consent]"), "nothing starts before the box is ticked"
    page.click("#consent-decline")
    page.wait_for_selector("[data-screen=declined]")
    page.reload()
    page.check("#agree")
    page.click("#consent-agree")
    page.wait_for_selector("[data-screen=task]")
    loaded(page)
    assert page.inner_text("#progress-text").startswith("Page 1")
    assert "min for this page" in page.inner_text("#lease")


def test_the_next_page_s_pictures_are_there_already(page, tmp_path):
    """They are fetched while the annotator works, and not once more when their page is shown."""
    project = make_project(tmp_path, "imagenet", pictures=104, page_size=2, sizes=((64, 64),), classes=("cat",))
    with serving(project) as server:
        client = page.context.new_cdp_session(page)
        client.send("Network.enable")
        fetched = []

        def note(event) -> None:
            response = event["response"]
            if "/i/" in response["url"] and not response.get("fromDiskCache"):
                fetched.append(response["url"])

        client.on("Network.responseReceived", note)
        accept(page, server.link())
        wait_for(lambda: len(fetched) == 4, page=page)
        first = assignment_of(page)
        click(page, 0)
        page.click("#submit")
        page.wait_for_function("a => document.querySelector('[data-assignment]')?.dataset.assignment !== a", arg=first)
        loaded(page)
        shown = page.eval_on_selector_all(".photo img", "images => images.map(image => image.src)")
        assert set(shown) <= set(fetched[:4])
        assert not set(shown) & set(fetched[4:])


def test_no_message_moves_the_photos(ready, imagenet):
    """A press must hit what was aimed at, whatever appears meanwhile."""
    place = "() => document.querySelector(\"[data-place='4'] img\").getBoundingClientRect().top"
    before = ready.evaluate(place)
    ready.context.set_offline(True)
    click(ready, 0)
    ready.wait_for_selector("[data-banner=away]")
    assert ready.evaluate(place) == before
    ready.context.set_offline(False)
    ready.wait_for_selector("[data-banner=away]", state="detached")
    assert ready.evaluate(place) == before
