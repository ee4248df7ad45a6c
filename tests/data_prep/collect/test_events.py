"""What a batch may hold: everything that a page of ours writes, and nothing else."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep.collect.events import (
    KINDS,
    MAX_BATCH_BYTES,
    MAX_BATCH_EVENTS,
    MAX_BATCH_SAMPLES,
    BadBatch,
    read_batch,
)

T = 1_764_000_000_000.5


def batch(events: list[Any], **other: Any) -> bytes:
    fixed = {"v": 1, "assignment": "a" * 32, "tab": "0" * 16, "n": 0, "wrote_ms": 1_764_000_000_000}
    return json.dumps(fixed | {"events": events} | other).encode()


SELECT = {"k": "select", "t": T, "i": 3, "x": 0.5, "y": 0.25, "in": "mouse"}
MOVE = {"k": "move", "t": T, "i": 3, "in": "mouse", "p": [[0, 0.1, 0.2], [16.6, 0.3, 0.4]]}
ADD = {"k": "add", "t": T, "c": "cat", "x": 0.5, "y": 0.25, "in": "touch"}
MOVED = {"k": "move_icon", "t": T, "c": "cat", "fx": 0.5, "fy": 0.5, "x": 0.6, "y": 0.6, "in": "mouse"}
REMOVE = {"k": "remove", "t": T, "c": "cat", "fx": 0.5, "fy": 0.5, "in": "mouse", "why": "key"}
SUBMIT = {"k": "submit", "t": T, "icons": [{"c": "cat", "x": 0.5, "y": 0.25}]}
CLASSES = {"cat", "traffic light"}


def test_a_page_of_ours_is_taken() -> None:
    found = read_batch(batch([SELECT, MOVE, {"k": "heartbeat", "t": T}]), "imagenet")
    assert (len(found.events), found.num_samples, found.num_acts) == (3, 2, 2)
    assert read_batch(batch([ADD]), "coco", CLASSES).events == [ADD]
    without_point = {name: value for name, value in SELECT.items() if name not in "xy"}
    assert read_batch(batch([without_point]), "imagenet").events == [without_point]


@pytest.mark.parametrize(
    ("event", "at"),
    [
        (SELECT | {"x": math.nan}, ""),
        (SELECT | {"x": math.inf}, ""),
        (SELECT | {"x": 1.6}, "events[0].x"),
        (SELECT | {"x": "0.5"}, "events[0].x"),
        (SELECT | {"x": True}, "events[0].x"),
        (SELECT | {"i": -1}, "events[0].i"),
        (SELECT | {"i": 1.5}, "events[0].i"),
        (SELECT | {"in": "thought"}, "events[0].in"),
        (SELECT | {"t": -T}, "events[0].t"),
        (SELECT | {"t": None}, "events[0].t"),
        (SELECT | {"worker": "A"}, "events[0].worker"),
        ({name: value for name, value in SELECT.items() if name != "y"}, "events[0]"),
        ({name: value for name, value in SELECT.items() if name != "i"}, "events[0].i"),
        (MOVE | {"p": []}, "events[0].p"),
        (MOVE | {"p": [[-1, 0, 0]]}, "events[0].p"),
        (MOVE | {"p": [[0, 0]]}, "events[0].p"),
        (MOVE | {"p": [[0, 10**400, 0]]}, "events[0].p"),
        (MOVE | {"p": [[0, 0.1, 0.1]] * (MAX_BATCH_SAMPLES + 1)}, "events[0].p"),
        (ADD, "events[0].k"),
        ({"k": ["select"], "t": T}, "events[0].k"),
        ("select", "events[0]"),
        (None, "events[0]"),
        ({"k": "submit", "t": T, "selected": [3, 1]}, "events[0].selected"),
        ({"k": "submit", "t": T, "selected": [1, 1]}, "events[0].selected"),
    ],
)
def test_anything_else_is_refused_with_the_field(event: Any, at: str) -> None:
    with pytest.raises(BadBatch) as e:
        read_batch(batch([event]), "imagenet")
    assert e.value.at == at


@pytest.mark.parametrize(
    ("event", "at"),
    [
        (ADD | {"c": "nonsense"}, "events[0].c"),
        (ADD | {"c": ""}, "events[0].c"),
        (REMOVE | {"c": "Cat"}, "events[0].c"),
        ({"k": "drag_cancel", "t": T, "c": "nonsense", "in": "mouse"}, "events[0].c"),
        (SUBMIT | {"icons": [{"c": "nonsense", "x": 0.5, "y": 0.25}]}, "events[0].icons"),
        (ADD | {"x": 1.3}, "events[0].x"),
        (ADD | {"y": -0.11}, "events[0].y"),
        (MOVED | {"fx": 1.2}, "events[0].fx"),
        (MOVED | {"y": 1.2}, "events[0].y"),
        (REMOVE | {"fy": -0.2}, "events[0].fy"),
        (SUBMIT | {"icons": [{"c": "cat", "x": 1.2, "y": 0.25}]}, "events[0].icons"),
        (SUBMIT | {"icons": [{"c": "cat", "x": 0.1, "y": 0.25}] * 2}, "events[0].icons"),
    ],
)
def test_an_act_with_an_icon_that_no_export_could_hold_is_refused(event: Any, at: str) -> None:
    """Its class is one of the project, and its point one that the reader of the release takes."""
    for good in (ADD | {"x": 1.1, "y": -0.1}, MOVED, REMOVE, SUBMIT, ADD | {"c": "traffic light"}):
        assert read_batch(batch([good]), "coco", CLASSES).events == [good]
    with pytest.raises(BadBatch) as e:
        read_batch(batch([event]), "coco", CLASSES)
    assert e.value.at == at


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (batch([SELECT]).decode().encode("utf-16"), "not JSON"),
        (batch([SELECT]).decode().encode("utf-32"), "not JSON"),
        (b"\xef\xbb\xbf" + batch([SELECT]), "not JSON"),
        (batch([{"k": "key", "t": T, "key": "\ud800"}]), "lone surrogate"),
        (batch([SELECT | {"\udfff": 1}]), "lone surrogate"),
        (batch([SELECT], **{"\ud800": 1}), "lone surrogate"),
        (b'{"v": 1, ' + batch([SELECT])[1:], "stands twice"),
        (batch([SELECT | {"\0": 1}]), r"events\[0\]\.\\x00: unknown key"),
    ],
)
def test_bytes_that_another_reader_would_understand_otherwise_are_refused(body: bytes, part: str) -> None:
    with pytest.raises(BadBatch, match=part) as e:
        read_batch(body, "imagenet")
    assert str(e.value).isprintable() and e.value.at.isprintable(), "it is stored, logged and answered"


def test_characters_beyond_the_first_plane_are_taken_however_they_are_written() -> None:
    for text in ("🐈", "\\ud83d\\udc08", "\\\\ud800"):
        body = batch([{"k": "key", "t": T, "key": "@"}]).replace(b"@", text.encode())
        assert read_batch(body, "imagenet").events[0]["key"] in ("🐈", "\\ud800")


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"v": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"[]", "expected an object"),
        (batch([], v=2), "v: 2"),
        (batch([], n=-1), "n: -1"),
        (batch([], n=True), "n: True"),
        (batch([], tab="../../etc"), "tab"),
        (batch([], assignment="A" * 32), "assignment"),
        (batch([], admin=True), "admin: unknown key"),
        (batch([], wrote_ms=-5), "wrote_ms"),
        (batch([SELECT] * (MAX_BATCH_EVENTS + 1)), "events"),
        (b" " * (MAX_BATCH_BYTES + 1), "bytes"),
    ],
)
def test_an_envelope_that_is_none_is_refused(body: bytes, part: str) -> None:
    with pytest.raises(BadBatch, match=part):
        read_batch(body, "imagenet")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_whatever_a_field_holds_it_is_taken_or_refused(data: st.DataObject) -> None:
    """Never another exception: a hostile value in every field of every kind."""
    task = data.draw(st.sampled_from(sorted(KINDS)))
    name = data.draw(st.sampled_from(sorted(KINDS[task])))
    fields = [*KINDS[task][name].required, *KINDS[task][name].optional, "k", "t", "other"]
    event: dict[str, Any] = {"k": name, "t": T}
    for field in data.draw(st.lists(st.sampled_from(fields), max_size=4)):
        event[field] = data.draw(json_values)
    with contextlib.suppress(BadBatch):
        read_batch(batch([event]), task, CLASSES)


@given(st.binary(max_size=200))
def test_whatever_bytes_come_they_are_taken_or_refused(body: bytes) -> None:
    with pytest.raises(BadBatch):
        read_batch(body, "coco")
