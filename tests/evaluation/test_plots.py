"""What is drawn stands where its numbers say, and numbers that cannot be drawn do no harm."""

from __future__ import annotations

import itertools
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luab_jax.evaluation.page.groups import Kind, parse
from luab_jax.evaluation.page.plots import Line, Point, bar_plot, line_plot, ticks


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
    assert "<path" in line_plot([Line(0, "x", [Point(1.0, 0.6), Point(2.0, other)])], x_label="size", score="top1")


def test_bars_are_as_high_as_their_values() -> None:
    svg = bar_plot(["a", "b"], [Line(0, "x", [Point(0.0, 0.2), Point(1.0, 0.4)])], score="top1")
    low, high = (float(height) for height in re.findall(r' height="([\d.]+)"><title>', svg))
    assert high == pytest.approx(2 * low, abs=0.1)


def test_a_curve_goes_through_its_points_and_leaves_out_what_is_not_finite() -> None:
    points = [Point(1.0, 0.1), Point(2.0, math.nan), Point(3.0, 0.3), Point(5.0, 0.5)]
    svg = line_plot([Line(0, "x", points)], x_label="size", score="top1")
    (path,) = re.findall(r'class="line" d="M([^"]*)"', svg)
    (x1, y1), (x3, y3), (x5, y5) = (tuple(map(float, place.split())) for place in path.split("L"))
    assert x3 - x1 == pytest.approx(x5 - x3, abs=0.2) and y1 - y3 == pytest.approx(y3 - y5, abs=0.2)
    assert y1 > y3 > y5  # up is more
    assert line_plot([Line(0, "x", [Point(1.0, math.nan)])], x_label="", score="top1") == ""


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
    svg = bar_plot(names, [Line(0, "x", [Point(i, 0.5) for i in range(15)])], score="top1")
    (height,) = re.findall(r'viewBox="0 0 [\d.]+ ([\d.]+)"', svg)
    slanted = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="end" transform="rotate\((-?\d+) [^>]*>([^<]*)<', svg)
    assert [words.replace(" ", "_") for *_, words in slanted] == names
    for x, y, angle, words in slanted:
        turn = math.radians(-float(angle))
        assert float(x) - 6 * len(words) * math.cos(turn) > -6
        assert float(y) + 6 * len(words) * math.sin(turn) < float(height) + 6
