"""From a log to showings: the rules of the published page, without its faults."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.collect.fold import (
    TRACE_INTERVAL_MS,
    Page,
    Point,
    differs_from_submit,
    fold,
    missing_numbers,
)
from data_prep.collect.merge import StoredBatch, ordered

T = 1_764_000_000_000.0
Event = dict[str, Any]


def page_of(*events: Event, **other: Any) -> Page:
    return fold([StoredBatch("a", 0, events)], **other)


def select(t: float, x: float = 0.5, y: float = 0.5, i: int = 0, **other: Any) -> Event:
    return {"k": "select", "t": T + t, "i": i, "x": x, "y": y, "in": "mouse"} | other


def deselect(t: float, i: int = 0, **other: Any) -> Event:
    return {"k": "deselect", "t": T + t, "i": i, "x": 0.5, "y": 0.5, "in": "mouse"} | other


def hover(kind: str, t: float, i: int = 0, by: str = "mouse") -> Event:
    return {"k": kind, "t": T + t, "i": i, "x": 0.0, "y": 0.0, "in": by}


def moves(t: float, count: int, dt: float = 20.0, i: int = 0, by: str = "mouse") -> Event:
    samples = [[0 if k == 0 else dt, k / 100, k / 100] for k in range(count)]
    return {"k": "move", "t": T + t, "i": i, "in": by, "p": samples}


def test_selecting_again_keeps_every_click_and_counts_them() -> None:
    picture = page_of(select(0, 0.1), deselect(10), select(20, 0.9)).pictures[0]
    assert picture.selected and picture.select_count == 2
    assert picture.clicks == [Point(T, 0.1, 0.5), Point(T + 20, 0.9, 0.5)]
    assert picture.deselects == [Point(T + 10, 0.5, 0.5)], "which the published page forgets"


def test_undo_of_a_deselect_brings_the_click_back_and_adds_none() -> None:
    undone = {"k": "select", "t": T + 20, "i": 0, "in": "keyboard", "undo": True}
    picture = page_of(select(0, 0.1), deselect(10), undone).pictures[0]
    assert picture.selected and picture.select_count == 1 and len(picture.clicks) == 1


def test_a_select_without_a_point_selects() -> None:
    picture = page_of({"k": "select", "t": T, "i": 4, "in": "keyboard"}).pictures[4]
    assert picture.selected and picture.select_count == 1 and picture.clicks == []


def test_the_trace_stops_while_selected_and_goes_on_after_a_deselect() -> None:
    picture = page_of(moves(0, 3), select(100), moves(200, 3), deselect(400), moves(500, 2)).pictures[0]
    assert [p.t - T for p in picture.trace] == [0, 20, 40, 500, 520]


def test_the_trace_is_as_sparse_as_the_published_one() -> None:
    trace = page_of(moves(0, 100, dt=2)).pictures[0].trace
    gaps = [later.t - earlier.t for earlier, later in itertools.pairwise(trace)]
    assert min(gaps) >= TRACE_INTERVAL_MS and len(trace) == 12


def test_time_counts_from_the_first_move_and_not_while_selected() -> None:
    events = (hover("enter", 0), moves(100, 2), select(300), deselect(1000), moves(1100, 1), hover("leave", 1500))
    assert page_of(*events).pictures[0].time_ms == pytest.approx(200 + 400)


def test_time_stops_when_the_page_is_hidden() -> None:
    events = ({"k": "hidden", "t": T + 150}, {"k": "visible", "t": T + 9000}, hover("leave", 9001))
    page = page_of(hover("enter", 0), moves(100, 2), *events)
    assert page.pictures[0].time_ms == pytest.approx(50) and page.hidden_ms == pytest.approx(8850)


def test_fingers_click_and_do_not_hover() -> None:
    events = (hover("enter", 0, by="touch"), moves(1, 3, by="touch"), select(50, **{"in": "touch"}))
    picture = page_of(*events, hover("leave", 60, by="touch")).pictures[0]
    assert picture.hovers == [] and picture.trace == [] and picture.inputs == ["touch"]


def test_a_picture_that_failed_is_never_not_selected() -> None:
    page = page_of({"k": "image_failed", "t": T, "i": 2, "tries": 2}, {"k": "replace", "t": T, "i": 2, "by": 48})
    assert page.pictures[2].state == "replaced" and page.replaced == {2: 48}
    assert page_of({"k": "image_failed", "t": T, "i": 2, "tries": 2}).pictures[2].state == "failed"


def test_what_follows_the_submit_is_not_counted() -> None:
    submit = {"k": "submit", "t": T + 50, "selected": [0]}
    page = page_of(select(0), submit, deselect(60))
    assert page.selected == [0] and page.end_ms == T + 50
    assert page_of(select(0), submit, deselect(60), until_submit=False).selected == []


def test_a_submit_that_shows_another_state_differs() -> None:
    assert not differs_from_submit(page_of(select(0), {"k": "submit", "t": T + 1, "selected": [0]}))
    assert differs_from_submit(page_of(select(0), {"k": "submit", "t": T + 1, "selected": []}))
    assert differs_from_submit(page_of(select(0)))


def icon(kind: str, t: float, c: str = "cat", **other: Any) -> Event:
    return {"k": kind, "t": T + t, "c": c, "in": "mouse"} | other


def test_icons_are_added_moved_and_removed() -> None:
    page = page_of(
        icon("add", 0, x=0.1, y=0.2),
        icon("add", 1, "tie", x=0.1, y=0.2),
        icon("move_icon", 2, fx=0.1, fy=0.2, x=0.105, y=0.2),
        icon("remove", 3, "tie", fx=0.1, fy=0.2, why="outside"),
    )
    assert page.icons == {"cat": (0.105, 0.2)}
    assert [a.kind for a in page.actions] == ["add", "add", "move", "remove"]


def test_one_class_has_one_icon_even_from_two_tabs() -> None:
    two = [StoredBatch(tab, 0, [icon("add", t, x=t / 10, y=0.5)]) for tab, t in (("a", 1.0), ("b", 2.0))]
    page = fold(two)
    assert page.icons == {"cat": (0.2, 0.5)} and [a.kind for a in page.actions] == ["add", "move"]
    assert page.actions[1].start == (0.1, 0.5)


def test_a_drag_that_a_reload_cut_leaves_no_action() -> None:
    page = page_of(icon("drag_start", 0, x=0.5, y=1.2, **{"from": "panel"}), icon("drag_move", 1, p=[[0, 0.4, 0.9]]))
    assert page.actions == [] and len(page.drag_paths) == 1


def test_two_tabs_are_merged_by_time_and_keep_their_own_order() -> None:
    a = StoredBatch("a", 0, [select(0, i=0), select(40, i=1)])
    b = StoredBatch("b", 0, [select(10, i=2), select(5, i=3)])  # its clock went back
    assert [event["i"] for event, _ in ordered([a, b])] == [0, 2, 3, 1]


AHEAD = 600_000
"""By how many ms the clock of the first device is ahead."""


def on_two_devices(*first: Event, then: tuple[Event, ...], ahead: int = AHEAD) -> list[StoredBatch]:
    """The first device's batch took 40 ms, and the second one's 300."""
    early = [event | {"t": event["t"] + ahead} for event in first]
    return [StoredBatch("b", 0, early, 40 - ahead), StoredBatch("a", 0, list(then), 300)]


LATE = 300 - 40
"""As much longer as the batches of the second device were under way."""


@pytest.mark.parametrize("ahead", [AHEAD, -AHEAD])
def test_two_devices_are_merged_by_the_servers_time_and_have_one_clock(ahead: int) -> None:
    submit = {"k": "submit", "t": T + 60_020, "selected": [0]}
    then = (deselect(60_000), select(60_010, 0.8), submit)
    page = fold(on_two_devices(select(0, 0.2), select(10, i=1), deselect(20, i=1), then=then, ahead=ahead))
    assert page.num_events == 6 and page.selected == [0] and not differs_from_submit(page)
    assert page.pictures[0].clicks == [Point(T + ahead, 0.2, 0.5), Point(T + ahead + LATE + 60_010, 0.8, 0.5)]


@pytest.mark.parametrize("ahead", [AHEAD, -AHEAD])
def test_no_time_is_measured_between_two_clocks(ahead: int) -> None:
    first = (hover("enter", 0), moves(0, 3))
    then = (hover("leave", 1000), hover("enter", 2000), moves(2000, 3), hover("leave", 2500))
    page = fold(on_two_devices(*first, then=then, ahead=ahead))
    assert len(page.pictures[0].trace) == 6, "no sample of the second device is too near to one of the first"
    assert page.pictures[0].time_ms == pytest.approx(1500 + LATE) and page.duration_ms == pytest.approx(2500 + LATE)


def test_a_slow_network_does_not_reorder_the_tabs_of_one_clock() -> None:
    delays = {"a": 4_000, "b": 20, "c": 8_000}
    batches = [StoredBatch(tab, 0, [select(k * 10, i=k)], ms) for k, (tab, ms) in enumerate(delays.items())]
    batches.append(StoredBatch("b", 1, [select(40, i=3)], 90_000))  # was late, as its browser was offline
    assert [(event["i"], behind) for event, behind in ordered(batches)] == [(k, 0) for k in range(4)]


acts = st.lists(
    st.tuples(
        st.sampled_from(["select", "deselect", "enter", "leave", "move"]), st.integers(0, 3), st.integers(0, 300)
    ),
    max_size=30,
)


@given(acts, st.randoms())
def test_how_a_log_is_cut_and_in_which_order_it_arrives_changes_nothing(steps: Any, rng: Any) -> None:
    events: list[Event] = []
    t = 0.0
    for kind, i, dt in steps:
        t += dt
        if kind == "move":
            events.append(moves(t, 3, i=i))
            t += 40
        elif kind in ("enter", "leave"):
            events.append(hover(kind, t, i))
        else:
            events.append({"k": kind, "t": T + t, "i": i, "x": 0.5, "y": 0.5, "in": "mouse"})
    whole = page_of(*events)
    cuts = sorted(rng.sample(range(len(events) + 1), min(3, len(events) + 1)))
    parts = [events[a:b] for a, b in zip([0, *cuts], [*cuts, len(events)], strict=True)]
    batches = [StoredBatch("a", number, part, rng.randrange(10**6)) for number, part in enumerate(parts)]
    twice = [*batches, *batches]
    rng.shuffle(twice)
    again = fold(twice)
    assert again == whole
    assert all(picture.time_ms >= 0 for picture in whole.pictures.values())
    state: dict[int, bool] = {}
    for event in events:
        if event["k"] in ("select", "deselect"):
            state[event["i"]] = event["k"] == "select"
    assert whole.selected == sorted(i for i, on in state.items() if on)


@given(st.sets(st.integers(0, 40)), st.integers(0, 40))
def test_the_missing_numbers_are_what_is_not_there(there: set[int], last: int) -> None:
    gaps = missing_numbers(there, last)
    named = [n for start, end in gaps for n in range(start, end + 1)]
    assert named == sorted(set(range(last + 1)) - there)
