"""How quickly, how surely and by whom an image was selected; and what weight that gives it."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.annotations.imagenet_ab import read_annotation
from data_prep.problems import Problems
from luab_jax.byproducts import geometry
from luab_jax.byproducts.kinds import TargetSettings
from luab_jax.byproducts.records import Action, ActionKind, Point, Showing
from luab_jax.byproducts.responses import (
    Response,
    SampleWeight,
    annotators,
    class_log_corrections,
    log_corrections,
    log_time_to_click,
    sample_weight,
)
from luab_jax.byproducts.statistics import Scale, TargetStatistics
from luab_jax.byproducts.targets import Target, head_shape, make_target, target_shape
from tests.byproducts.annotated import columns, showing

MINI = Path(os.environ.get("LUAB_JAX_TEST_DATA", "../shared/data")) / "imagenet_ab_mini"


def seconds(*showings: Showing) -> float | None:
    value = log_time_to_click(columns(*showings))
    return None if value is None else pytest.approx(math.exp(value) / 1000)


# --- time to click


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (showing(entered=[1000], clicks=[3000]), 2.0),
        (showing(entered=[1000], clicks=[3000, 9000]), 2.0),
        (showing(entered=[1000, 2500], clicks=[3000]), 0.5),
        (showing(entered=[1000, 4000], clicks=[3000]), 2.0),
        (showing(trace=[(0, 0, 1500), (0, 0, 2500)], clicks=[3000]), 1.5),
        (showing(entered=[None], trace=[(0, 0, 1500)], clicks=[3000]), 1.5),
        (showing(entered=[3000], clicks=[3000]), 0.001),
    ],
    ids=[
        "from entry to click",
        "the first click",
        "the last entry before it",
        "an entry after it does not count",
        "without an entry the first sample of the trace",
        "nor with one without a time",
        "at least a millisecond",
    ],
)
def test_from_when_to_when(seen: Showing, expected: float) -> None:
    assert seconds(seen) == expected


@pytest.mark.parametrize(
    "seen",
    [
        showing(entered=[1000]),
        showing(clicks=[3000]),
        showing(entered=[1000], clicks=[None]),
        showing(entered=[5000], clicks=[3000]),
        showing(entered=[1000], clicks=[3000], selected=False),
    ],
    ids=["never clicked", "never came", "click without a time", "came after the click", "not selected"],
)
def test_what_has_no_time(seen: Showing) -> None:
    assert seconds(seen) is None
    assert seconds(seen, showing(entered=[0], clicks=[7000])) == 7.0


def test_showings_are_averaged_as_logarithms() -> None:
    assert seconds(showing(entered=[0], clicks=[1000]), showing(entered=[0], clicks=[4000])) == 2.0


@pytest.mark.skipif(not MINI.exists(), reason=f"{MINI} is not there")
def test_of_a_visit_that_ends_in_one_click_it_is_the_time_that_the_release_states() -> None:
    checked = 0
    for path in sorted((MINI / "train_xml").rglob("*.xml"))[::7]:
        name = f"{path.parent.name}/{path.stem}"
        for seen in read_annotation(path.read_bytes(), name, Problems()).showings:
            entries = [hover for hover in seen.hovers if hover.entered]
            if seen.selected and len(entries) == len(seen.clicks) == 1 and seen.time_spent_ms:
                assert log_time_to_click(columns(seen)) == pytest.approx(math.log(seen.time_spent_ms))
                checked += 1
    assert checked > 50


# --- corrections


@pytest.mark.parametrize(("clicks", "corrections"), [([1], 0), ([1, 2], 1), ([1, None, 3, 4], 3)])
def test_every_click_after_the_first_is_a_correction(clicks: list[int | None], corrections: int) -> None:
    assert log_corrections(columns(showing(clicks=clicks))) == pytest.approx(math.log(1 + corrections))


def test_corrections_of_selected_showings_with_a_click_only() -> None:
    assert log_corrections(columns(showing(), showing(clicks=[1, 2], selected=False))) is None
    seen = [showing(), showing(clicks=[1, 2, 3, 4]), showing(clicks=[1])]
    assert log_corrections(columns(*seen)) == pytest.approx(math.log(4) / 2)


def test_a_class_is_corrected_by_moves_and_removes_of_its_icon() -> None:
    here = Point(0.5, 0.5)

    def action(kind: ActionKind, label: int) -> Action:
        return Action(kind, "icon", None, None if kind is ActionKind.REMOVE else here, 1, label)

    add, move, remove = ActionKind.ADD, ActionKind.MOVE, ActionKind.REMOVE
    actions = [action(add, 0), action(move, 0), action(remove, 0), action(add, 0), action(add, 1), action(move, 3)]
    data = columns(showing(), labels=(0, 1, 2), actions=actions)
    expected = [math.log(3), 0.0, math.nan, math.nan]  # 2 was not pointed at, 3 is not on the image
    assert class_log_corrections(data, 4).tolist() == pytest.approx(expected, nan_ok=True)
    settings = TargetSettings(statistics=TargetStatistics(scales={Response.NUM_CORRECTIONS: Scale(0.5, 2.0)}))
    for view in (geometry.identity(), geometry.crop(0.9, 0.9, 1.0, 1.0)):
        made = make_target(Target.NUM_CORRECTIONS, data, view, seed=0, num_classes=4, settings=settings)
        assert made.valid.tolist() == [True, True, False, False]
        assert made.values[:, 0].tolist() == pytest.approx([(math.log(3) - 0.5) / 2, -0.25, 0.0, 0.0])


# --- as targets


STATISTICS = TargetStatistics(
    scales={Response.TIME_TO_CLICK: Scale(math.log(1000), 0.5), Response.NUM_CORRECTIONS: Scale(0.25, 0.125)},
    annotators=("anna", "otto"),
)
SEEN = showing(entered=[0], clicks=[2000, 2500], worker="otto")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Target.TIME_TO_CLICK, math.log(2) / 0.5),
        (Target.NUM_CORRECTIONS, (math.log(2) - 0.25) / 0.125),
        (Target.ANNOTATOR, 1.0),
    ],
)
def test_what_has_no_place_is_the_same_in_every_crop_and_flip(target: Target, expected: float) -> None:
    flip = geometry.flip_horizontal()
    for view in (geometry.identity(), flip, geometry.crop(0.9, 0.9, 1.0, 1.0).then(flip)):
        made = make_target(target, columns(SEEN), view, seed=0, settings=TargetSettings(statistics=STATISTICS))
        assert made.valid.tolist() == [True]
        assert made.values.tolist() == [[pytest.approx(expected)]]


@pytest.mark.parametrize("target", [Target.TIME_TO_CLICK, Target.NUM_CORRECTIONS])
def test_a_number_without_its_scale_is_refused(target: Target) -> None:
    with pytest.raises(ValueError, match=f"{target.value} needs its mean and standard deviation"):
        make_target(target, columns(SEEN), geometry.identity(), seed=0)


# --- annotators


def test_annotators_are_those_who_selected_each_once() -> None:
    seen = [showing(worker=w, selected=s) for w, s in [("b", True), ("a", False), ("", True), ("c", True), ("b", True)]]
    assert annotators(columns(*seen)) == ["b", "c"]


@pytest.mark.parametrize(
    ("workers", "expected"), [(["otto"], 1), (["hans", "anna"], 0), (["otto", "anna"], 1), (["hans"], None), ([], None)]
)
def test_the_class_is_that_of_the_first_known_annotator(workers: list[str], expected: int | None) -> None:
    data = columns(*(showing(worker=worker) for worker in workers))
    made = make_target(
        Target.ANNOTATOR, data, geometry.identity(), seed=0, settings=TargetSettings(statistics=STATISTICS)
    )
    assert made.valid.tolist() == [expected is not None]
    assert made.values.tolist() == [[float(expected or 0)]]


def test_the_head_has_a_logit_for_every_annotator_though_the_target_is_one_number() -> None:
    settings = TargetSettings(statistics=STATISTICS)
    assert target_shape(Target.ANNOTATOR, None, settings) == (1, 1)
    assert head_shape(Target.ANNOTATOR, None, settings) == (1, 2)
    with pytest.raises(ValueError, match="needs the annotators of the training split"):
        head_shape(Target.ANNOTATOR)


# --- weights


@pytest.mark.parametrize(("corrections", "weight"), [(0, 1.0), (1, 0.5), (3, 0.25)])
def test_a_weight_falls_with_the_corrections(corrections: int, weight: float) -> None:
    value = math.log(1 + corrections)
    assert sample_weight(Response.NUM_CORRECTIONS, value, 9.0) == pytest.approx(weight)


@pytest.mark.parametrize(("seconds", "weight"), [(0.5, 0.8), (2.0, 0.5), (6.0, 0.25)])
def test_a_weight_falls_with_the_time_and_is_a_half_at_its_geometric_mean(seconds: float, weight: float) -> None:
    made = sample_weight(Response.TIME_TO_CLICK, math.log(1000 * seconds), math.log(2000))
    assert made == pytest.approx(weight)


@given(st.sampled_from(Response), st.floats(0, 20), st.floats(0, 20), st.floats(0, 20))
def test_quicker_and_less_corrected_answers_never_weigh_less(
    response: Response, one: float, other: float, mean: float
) -> None:
    weights = [sample_weight(response, value, mean) for value in sorted((one, other))]
    assert 1 >= weights[0] >= weights[1] > 0


def test_an_image_without_a_response_has_the_weight_that_the_loss_takes_for_none() -> None:
    assert sample_weight(Response.TIME_TO_CLICK, None, 5.0) == 0.0


def test_every_weight_but_none_has_its_response() -> None:
    assert {weight.response for weight in SampleWeight} == {None, *Response}
