"""Whatever a results file may say and still be one, every format shows it."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luab_jax.errors import UserError
from luab_jax.report.render import Format, render
from luab_jax.report.runs import Run, compare
from luab_jax.results.format import File, Suite, to_json
from luab_jax.results.read import parse
from tests.report import made
from tests.report.test_page import Read
from tests.results.test_read import JSON, PLACES, version_1

MORE_PLACES = [
    *PLACES,
    *(("suites", "demo_size", "groups"), ("suites", "imagenet", "data", "skipped"), ("command",), ("architecture",)),
    *(("suites", "imagenet", "data", field) for field in ("identity", "parts", "notes", "left_out", "dataset")),
    *(("checkpoint", "preprocessing_override"), ("checkpoint", "weights"), ("compilations",), ("date",), ("dtype",)),
]


def check_every_format(file: File) -> None:
    """Beside a run that is as usual."""
    for runs in ([Run(file)], [Run(made.file("box", 7)), Run(file)]):
        try:
            comparison = compare(runs)
        except UserError:
            return
        for format in Format:
            text = render(comparison, format, with_paper=format.shows_paper)
            hidden = [char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp") and char != "\n"]
            assert not hidden, (format, hidden)
            if format is Format.HTML:
                assert not Read(text).tags & {"script", "img", "iframe"}


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(MORE_PLACES), JSON, st.sampled_from([1, 2]))
def test_any_json_in_any_place_is_refused_or_shown(place: tuple[str, ...], value: Any, version: int) -> None:
    content = version_1() if version == 1 else json.loads(to_json(made.file("none")))
    inner = content
    for name in place[:-1]:
        inner = inner.setdefault(name, {})
    inner[place[-1]] = value
    try:
        file = parse(json.dumps(content).encode(), "there")
    except UserError:
        return
    check_every_format(file)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.text(max_size=12), st.floats(-1, 1), max_size=6), st.text(max_size=12), st.text(max_size=12))
def test_any_names_are_shown(groups: dict[str, float], suite: str, score: str) -> None:
    file = made.file("none")
    file.suites = {suite: made.grouped(groups), "other": made.grouped({"a": 0.5})}
    file.suites[suite].scores = {score: made.share(0.5, 0.1)}
    check_every_format(parse(to_json(file).encode(), "there"))


@pytest.mark.parametrize(
    "suites",
    [
        {},
        {"empty": Suite(n=0, scores={})},
        {"counts": Suite(n=0, scores={"n_x": made.Entry(value=3, unit="count", role=made.Role.COUNT)})},
        {"huge": Suite(n=2**60, scores={"x": made.Entry(value=1e12), "y": made.Entry(value=-1e-300)})},
        {"one": made.grouped({"size=1e11": 0.5}), "same": made.grouped({"a,severity=1": 0.0, "a,severity=2": 0.0})},
    ],
    ids=["no suite", "no score", "counts", "huge", "degenerate groups"],
)
def test_what_is_hardly_a_result_is_shown(suites: dict[str, Suite]) -> None:
    file = made.file("none")
    file.suites = suites
    check_every_format(parse(to_json(file).encode(), "there"))
