"""What is drawn stands where its numbers say, and numbers that cannot be drawn do no harm."""

from __future__ import annotations

import itertools
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luab_jax.report.page.groups import Kind, parse
from luab_jax.report.page.plots import Line, Point, bar_plot, line_plot, ticks
from luab_jax.results.score import FRACTION


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_ticks_are_even_and_hold_the_values(low: float, extent: float) -> None:
    found = ticks(low, low + extent)
    tolerance = 1e-6 * max(1.0, abs(low), extent)
    assert found[0] <= low + tolerance and found[-1] >= low + extent - tolerance
    assert 2 <= len(found) <= 12
    steps = [b - a for a, b in itertools.pairwise(found)]
    assert min(steps) > 0 and max(steps) == pytest.approx(min(steps), rel=1e-3)


@pytest.mark.parametrize("other", [0.6, math.nextafter(0.6, 1), 0.6 + 1e-13])
def test_values_that_differ_by_rounding_only_can_be_drawn(other: float) -> None:
    assert "<path" in line_plot([Line(0, "x", [Point(1.0, 0.6), Point(2.0, other)])], x_label="size", unit=FRACTION)


def test_bars_are_as_high_as_their_values() -> None:
    svg = bar_plot(["a", "b"], [Line(0, "x", [Point(0.0, 0.2), Point(1.0, 0.4)])], unit=FRACTION)
    low, high = (float(height) for height in re.findall(r' height="([\d.]+)"><title>', svg))
    assert high == pytest.approx(2 * low, abs=0.1)


def test_a_curve_goes_through_its_points_and_leaves_out_what_is_not_finite() -> None:
    points = [Point(1.0, 0.1), Point(2.0, math.nan), Point(3.0, 0.3), Point(5.0, 0.5)]
    svg = line_plot([Line(0, "x", points)], x_label="size", unit=FRACTION)
    (path,) = re.findall(r'class="line" d="M([^"]*)"', svg)
    (x1, y1), (x3, y3), (x5, y5) = (tuple(map(float, place.split())) for place in path.split("L"))
    assert x3 - x1 == pytest.approx(x5 - x3, abs=0.2) and y1 - y3 == pytest.approx(y3 - y5, abs=0.2)
    assert y1 > y3 > y5  # up is more
    assert line_plot([Line(0, "x", [Point(1.0, math.nan)])], x_label="", unit=FRACTION) == ""


@pytest.mark.parametrize(
    ("groups", "kind"),
    [
        (["size=0.20", "size=0.30"], Kind.CURVE),
        (["x=0.25,y=0.50", "x=0.75,y=0.50"], Kind.GRID),
        (["fog,severity=1", "snow,severity=1"], Kind.SEVERITIES),
        (["wood", "stone"], Kind.NAMES),
        (["size=0.20", "wood"], Kind.NAMES),
        (["size=small", "size=large"], Kind.NAMES),
        (["size=nan", "size=inf"], Kind.NAMES),
    ],
)
def test_the_form_of_the_groups_names_the_figure(groups: list[str], kind: Kind) -> None:
    assert parse(groups).kind is kind


def test_names_below_bars_are_inside_the_drawing() -> None:
    """As ImageNet-C's are, fifteen and long; a letter is at most 6 units wide."""
    names = ["gaussian_noise", *(f"kind_{i}" for i in range(13)), "jpeg_compression"]
    svg = bar_plot(names, [Line(0, "x", [Point(i, 0.5) for i in range(15)])], unit=FRACTION)
    (height,) = re.findall(r'viewBox="0 0 [\d.]+ ([\d.]+)"', svg)
    slanted = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="end" transform="rotate\((-?\d+) [^>]*>([^<]*)<', svg)
    assert [words.replace(" ", "_") for *_, words in slanted] == names
    for x, y, angle, words in slanted:
        turn = math.radians(-float(angle))
        assert float(x) - 6 * len(words) * math.cos(turn) > -6
        assert float(y) + 6 * len(words) * math.sin(turn) < float(height) + 6


def shown(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)<", svg)


def test_a_curve_of_one_point_has_numbers_on_both_axes() -> None:
    svg = line_plot([Line(0, "x", [Point(1200.0, 0.25)])], x_label="step", unit=FRACTION)
    assert "1,200" in shown(svg) and "25" in shown(svg) and len(shown(svg)) > 4
    (place,) = re.findall(r'<circle cx="([\d.]+)"', svg)
    assert float(place) == pytest.approx((46 + 430 - 14) / 2, abs=1), "in the middle"


@pytest.mark.parametrize(("points", "labelled"), [(3, True), (8, True), (9, False), (40, False)])
def test_curves_of_few_points_have_their_numbers_beside_them(points: int, labelled: bool) -> None:
    line = Line(0, "x", [Point(float(i), 0.111 + i / 100) for i in range(points)])
    svg = line_plot([line], x_label="step", unit=FRACTION)
    assert ("11.1" in shown(svg)) is labelled
    assert ('class="middle value own"' in svg) is labelled


def test_numbers_beside_points_do_not_cover_each_other() -> None:
    lines = [Line(i, str(i), [Point(float(x), 0.5 + i / 1000) for x in range(4)]) for i in range(5)]
    svg = line_plot(lines, x_label="x", unit=FRACTION)
    places = [
        (float(x), float(y)) for x, y in re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="middle value own"', svg)
    ]
    assert places
    for (x1, y1), (x2, y2) in itertools.combinations(places, 2):
        assert abs(x1 - x2) > 30 or abs(y1 - y2) > 11
