"""Differences and their intervals, against scipy, against McNemar's test, and by how often they hold the truth."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from luab_jax.evaluation.scores import intervals
from luab_jax.report.comparison import (
    PAIRED,
    PAIRED_SEEDS,
    RESAMPLED,
    TANGO,
    UNPAIRED,
    WELCH,
    Score,
    best,
    difference,
    other_data,
    score_of,
    seed_notes,
    tango,
)
from luab_jax.report.runs import Run, compare
from luab_jax.results.answers import Answered, Kind, Sample
from luab_jax.results.score import FRACTION, Direction
from tests.report import made


def share(right: np.ndarray, answered: Answered | None = None) -> Score:
    return Score((float(right.mean()),), (0,), FRACTION, Direction.HIGHER, intervals.wilson(right), answered=answered)


def seeds(values: list[float], first: int = 0) -> Score:
    return Score(tuple(values), tuple(range(first, first + len(values))), FRACTION, Direction.HIGHER)


def of_sample(values: np.ndarray, kind: Kind, images: list[str] | None = None, data: str = "f") -> Score:
    answered = Answered(Sample(kind, values, images or []), {"val": data})
    value = float(values.mean())
    return Score((value,), (0,), FRACTION, Direction.HIGHER, (value - 0.5, value + 0.5), answered=answered)


@pytest.mark.parametrize(("a", "b"), [(3, 7), (0, 10), (10, 10), (5, 4)])
def test_without_answers_the_interval_of_two_shares_is_newcombes(a: int, b: int) -> None:
    first, other = (np.arange(10) < count for count in (a, b))
    found = difference(share(first), share(other))
    assert found.value == pytest.approx((b - a) / 10) and found.method == UNPAIRED
    assert found.interval == pytest.approx(tuple(intervals.difference(other, first)))


def test_accuracies_on_the_same_images_are_paired() -> None:
    rng = np.random.default_rng(0)
    first = rng.random(1000) < 0.6
    other = np.where(rng.random(1000) < 0.05, ~first, first)
    a, b = (of_sample(right, Kind.RIGHT) for right in (first, other))
    found = difference(a, b)
    assert found.method == TANGO and found.value == pytest.approx(other.mean() - first.mean())
    unpaired = difference(share(first), share(other))
    assert found.interval is not None and unpaired.interval is not None
    assert np.ptp(found.interval) < 0.5 * np.ptp(unpaired.interval)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 60), st.integers(0, 60))
def test_tangos_interval_excludes_0_where_mcnemars_test_rejects(b: int, c: int, both: int, neither: int) -> None:
    if not b + c + both + neither:
        return
    first = np.repeat([False, True, True, False], [b, c, both, neither])
    other = np.repeat([True, False, True, False], [b, c, both, neither])
    low, high = tango(first, other)
    assert -1 <= low <= (b - c) / len(first) <= high <= 1
    chi2 = (b - c) ** 2 / (b + c) if b + c else 0.0
    if abs(chi2 - stats.chi2.ppf(0.95, 1)) > 1e-6:
        assert (low > 0 or high < 0) == (chi2 > stats.chi2.ppf(0.95, 1))


def test_tangos_interval_of_no_difference_is_that_of_his_formula() -> None:
    """With no discordant pair the ends are ±z²/(n + z²) (Tango 1998, §3.3)."""
    same = np.arange(50) < 20
    bound = stats.norm.ppf(0.975) ** 2 / (50 + stats.norm.ppf(0.975) ** 2)
    assert tango(same, same) == pytest.approx((-bound, bound), abs=1e-9)


@pytest.mark.parametrize("n", [40, 200])
def test_tangos_interval_holds_the_difference_95_times_of_100(n: int) -> None:
    rng = np.random.default_rng(1)
    chances = [0.12, 0.05, 0.5, 0.33]  # only other, only first, both, neither
    held = 0
    for _ in range(1000):
        kinds = rng.choice(4, n, p=chances)
        low, high = tango(np.isin(kinds, (1, 2)), np.isin(kinds, (0, 2)))
        held += low <= 0.07 <= high
    assert 0.93 <= held / 1000 <= 0.975


def test_answers_are_matched_by_the_names_of_images() -> None:
    right = np.array([True, True, False, False])
    names = ["a", "b", "c", "d"]
    first = of_sample(right, Kind.RIGHT, names)
    turned = of_sample(right[::-1], Kind.RIGHT, names[::-1])
    found = difference(first, turned)
    assert found.method == TANGO and found.interval == pytest.approx(tango(right, right))
    assert difference(first, of_sample(right, Kind.RIGHT, ["a", "b", "c", "x"])).method == UNPAIRED
    assert difference(first, of_sample(right[:3], Kind.RIGHT, names[:3])).method == UNPAIRED


@pytest.mark.parametrize("kind", Kind)
def test_equal_names_in_other_data_are_other_images(kind: Kind) -> None:
    right = np.array([True, True, False, False])
    values, names = right if kind is Kind.RIGHT else right * 1.0, ["a", "b", "c", "d"]
    first, other = of_sample(values, kind, names), of_sample(values[::-1], kind, names, data="g")
    assert difference(first, other).method == UNPAIRED
    assert difference(first, of_sample(values[::-1], kind, names)).method != UNPAIRED


@pytest.mark.parametrize("names", [["a", "b", "c"], []])
def test_data_without_a_fingerprint_are_not_known_to_be_the_same(names: list[str]) -> None:
    """Results of older versions on what TFDS prepared."""
    right = np.array([True, False, False])
    first, other = (of_sample(values, Kind.RIGHT, names, data="") for values in (right, ~right))
    assert difference(first, other).method == UNPAIRED
    runs = [made.run("none"), made.run("box")]
    runs[0].file.suites["imagenet"].data.identity = {"val": ""}
    assert not other_data(*compare(runs).experiments, "demo")


def test_without_names_the_data_must_be_the_same() -> None:
    right = np.array([True, False, False])
    assert difference(of_sample(right, Kind.RIGHT), of_sample(~right, Kind.RIGHT)).method == TANGO
    assert difference(of_sample(right, Kind.RIGHT), of_sample(~right, Kind.RIGHT, data="g")).method == UNPAIRED


@pytest.mark.parametrize("identity", [{"val": "g"}, None])
def test_answers_of_other_data_than_the_score_are_not_paired(identity: dict[str, str] | None) -> None:
    """An evaluation that was killed between its two files, after the data were prepared anew."""
    right = np.arange(100) < 50
    runs = [made.answered(made.run("none"), right), made.answered(made.run("box"), right[::-1])]
    first, other = (score_of(of, "demo", "top1") for of in compare(runs).experiments)
    assert first.answered is not None and difference(first, other).method == TANGO
    for run in runs:
        run.file.suites["imagenet"].data.identity = identity
    first, other = (score_of(of, "demo", "top1") for of in compare(runs).experiments)
    assert first.answered is None and difference(first, other).method == UNPAIRED


@pytest.mark.parametrize("kind", Kind)
def test_a_paired_interval_without_its_difference_is_not_shown(kind: Kind) -> None:
    rng = np.random.default_rng(7)
    first = rng.random(400) < 0.5
    other = first | (rng.random(400) < 0.1)
    samples = [of_sample(right if kind is Kind.RIGHT else right * 1.0, kind) for right in (first, other)]
    if kind is Kind.RESAMPLES:
        resamples = rng.normal(0.5, 0.01, (2, 400)).astype(np.float32)
        samples = [of_sample(values, kind) for values in resamples]
    assert difference(samples[0], samples[1]).method in (TANGO, PAIRED, RESAMPLED)
    high = dataclasses.replace(samples[1], values=(0.9,), interval=(0.85, 0.95))
    found = difference(samples[0], high)
    assert found.method == UNPAIRED and found.interval is not None
    assert found.interval[0] < found.value < found.interval[1]


def test_parts_of_a_score_are_paired_by_students_t() -> None:
    rng = np.random.default_rng(2)
    first = rng.normal(size=60)
    other = first + rng.normal(0.1, 0.2, 60)
    found = difference(of_sample(first, Kind.MEANS), of_sample(other, Kind.MEANS))
    expected = stats.ttest_rel(other, first).confidence_interval(0.95)
    assert found.method == PAIRED and found.interval == pytest.approx((expected.low, expected.high))


def test_resamples_are_paired_one_by_one() -> None:
    """The medians of the same resamples: what is common to both cancels."""
    rng = np.random.default_rng(3)
    values = rng.exponential(size=400)
    moved = values + rng.normal(0.05, 0.01, 400)
    rows = [rng.integers(400, size=400) for _ in range(1000)]
    first, other = (np.array([np.median(v[row]) for row in rows]) for v in (values, moved))
    found = difference(of_sample(first, Kind.RESAMPLES), of_sample(other, Kind.RESAMPLES))
    assert found.method == RESAMPLED and found.is_certain and found.interval is not None
    assert found.interval[0] <= found.value <= found.interval[1] and np.ptp(found.interval) < 0.03


@pytest.mark.parametrize("shift", [0.0, 0.1])
@pytest.mark.parametrize("kind", [Kind.MEANS, Kind.RESAMPLES])
def test_parts_that_differ_by_the_same_in_all_images_claim_no_certainty(kind: Kind, shift: float) -> None:
    """As with accuracies, where Tango's interval of two equal runs on 50 images is ±7 points."""
    values = np.random.default_rng(4).random(50)
    found = difference(of_sample(values, kind), of_sample(values + shift, kind))
    assert found.value == pytest.approx(shift) and found.method == UNPAIRED
    assert found.interval is not None and found.interval[0] < shift < found.interval[1]


def test_over_the_same_seeds_the_interval_is_a_paired_t() -> None:
    first, other = [0.70, 0.72, 0.71], [0.75, 0.76, 0.755]
    found = difference(seeds(first), seeds(other))
    expected = stats.ttest_rel(other, first).confidence_interval(0.95)
    assert found.method == PAIRED_SEEDS and found.interval == pytest.approx((expected.low, expected.high))


def test_over_other_seeds_the_interval_is_welchs() -> None:
    first, other = [0.70, 0.72, 0.71], [0.75, 0.73]
    expected = stats.ttest_ind(other, first, equal_var=False).confidence_interval(0.95)
    for there in (seeds(other), seeds(other, first=7)):
        found = difference(seeds(first), there)
        assert found.method == WELCH and found.interval == pytest.approx((expected.low, expected.high))


def test_without_intervals_or_a_second_seed_nothing_is_claimed() -> None:
    alone = Score((0.7,), (0,), FRACTION, Direction.HIGHER)
    assert difference(alone, seeds([0.7, 0.8])).interval is None
    assert difference(seeds([0.7, 0.7]), seeds([0.8, 0.8])).interval is None
    assert not difference(alone, alone).is_certain
    assert math.isnan(difference(alone, Score(())).value)


def of_value(value: float, half: float, direction: Direction = Direction.HIGHER) -> Score:
    return Score((value,), (0,), FRACTION, direction, (value - half, value + half))


@pytest.mark.parametrize(
    ("values", "half", "direction", "winner"),
    [
        ([0.5, 0.6, 0.4], 0.02, Direction.HIGHER, 1),
        ([0.5, 0.6, 0.4], 0.02, Direction.LOWER, 2),
        ([0.294, 0.314], 0.04, Direction.HIGHER, None),  # 31.4 over 29.4 with an interval around 0
        ([0.5, 0.6, 0.59], 0.02, Direction.HIGHER, None),  # better than the reference, not than the third
        ([0.5], 0.02, Direction.HIGHER, None),
        ([0.5, 0.6], 0.02, Direction.NONE, None),
    ],
)
def test_the_best_is_better_than_every_other_beyond_doubt(
    values: list[float], half: float, direction: Direction, winner: int | None
) -> None:
    assert best([of_value(value, half, direction) for value in values]) == winner


def test_a_best_without_an_interval_is_none() -> None:
    assert best([seeds([0.5, 0.51]), Score((0.9,), (0,), FRACTION, Direction.HIGHER)]) is None
    assert best([Score(()), of_value(0.5, 0.1)]) is None


def test_there_is_no_best_across_other_data() -> None:
    def on(data: str, value: float) -> Score:
        known = frozenset({(("val", data),)}) if data else frozenset()
        return dataclasses.replace(of_value(value, 0.01), data=known)

    assert best([on("f", 0.5), on("f", 0.6)]) == 1
    assert best([on("f", 0.5), on("g", 0.6)]) is None
    assert best([on("f", 0.5), on("f", 0.6), on("g", 0.4)]) is None
    assert best([on("f", 0.5), on("", 0.6)]) == 1, "nothing is known of the second"


def test_an_interval_over_images_is_of_one_run() -> None:
    several = compare([made.run("none", 0, 0.7), made.run("none", 1, 0.8)]).reference
    found = score_of(several, "demo", "top1")
    assert found.values == (0.7, 0.8) and found.interval is None and found.seeds == (0, 1)
    single = compare([made.run("none", 0, 0.7)]).reference
    assert score_of(single, "demo", "top1").interval == pytest.approx((0.6, 0.8))
    assert score_of(single, "demo", "nothing").values == ()


def test_data_of_another_fingerprint_is_marked() -> None:
    moved = made.run("random")
    moved.file.suites["imagenet"].data.identity = {"val": "other"}
    first, same, other = compare([made.run("none"), made.run("box"), moved]).experiments
    assert other_data(first, other, "demo") and not other_data(first, same, "demo")
    assert not other_data(first, other, "demo_size")  # nothing is known of either
    assert score_of(first, "demo", "top1").data != score_of(other, "demo", "top1").data


def test_another_font_or_kind_of_map_is_as_other_data() -> None:
    def run(target: str, settings: dict[str, str]) -> Run:
        made_so = made.run(target)
        made_so.file.suites["imagenet"].details = settings
        return made_so

    runs = [run("none", {"map": "rise_8"}), run("box", {"map": "rise_8", "font": "a"}), run("random", {"map": "cam"})]
    first, same, other = compare(runs).experiments
    assert other_data(first, other, "demo") and not other_data(first, same, "demo")
    assert not other_data(first, other, "demo_size")
    scores = [score_of(of, "demo", "top1") for of in (first, same, other)]
    certain = [dataclasses.replace(score, interval=(score.mean - 1e-3, score.mean)) for score in scores]
    better = [dataclasses.replace(score, values=(0.9,), interval=(0.89, 0.91)) for score in scores]
    assert best([certain[0], better[1]]) == 1 and best([certain[0], better[2]]) is None
    right = np.arange(100) < 50
    paired = [dataclasses.replace(of_sample(right, Kind.RIGHT), settings=score.settings) for score in scores]
    assert [difference(paired[0], score).method for score in paired[1:]] == [TANGO, UNPAIRED]


def on(target: str, seed: int, data: str, top1: float = 0.5, settings: dict[str, str] | None = None) -> Run:
    """A run whose first suite is of some data."""
    run = made.run(target, seed, top1)
    run.file.suites["imagenet"].data.identity = {"val": data} if data else None
    run.file.suites["imagenet"].details = settings or {}
    return run


def test_seeds_on_other_data_make_every_difference_one_of_data_too() -> None:
    """Both experiments have seeds on f and on g, so that all of a difference may be that of the data."""
    crossed = [on("none", 0, "g", 0.8), *(on("none", seed, "f", 0.5 + seed / 1000) for seed in (1, 2, 3))]
    crossed += [on("box", 0, "f", 0.5), *(on("box", seed, "g", 0.8 + seed / 1000) for seed in (1, 2, 3))]
    first, other = compare(crossed).experiments
    assert other_data(first, other, "demo") and not other_data(first, other, "demo_size")
    better = [seeds([0.5, 0.501, 0.502]), seeds([0.8, 0.802, 0.801])]
    assert best(better) == 1
    data = [score_of(of, "demo", "top1").data for of in (first, other)]
    assert best([dataclasses.replace(score, data=of) for score, of in zip(better, data, strict=True)]) is None
    unknown, mixed = compare([on("none", 0, ""), on("box", 0, "f"), on("box", 1, "g")]).experiments
    assert other_data(unknown, mixed, "demo"), "of the second's own seeds one at least is on other data"


def test_seeds_with_other_fonts_are_as_on_other_data() -> None:
    fonts = [on("box", seed, "f", settings={"font": font}) for seed, font in enumerate("ab")]
    first, other = compare([on("none", 0, "f"), *fonts]).experiments
    assert other_data(first, other, "demo") and not other_data(first, first, "demo")
    known_of_one = [on("box", 0, "f", settings={"font": "a"}), on("box", 1, "f")]
    first, other = compare([on("none", 0, "f"), *known_of_one]).experiments
    assert not other_data(first, other, "demo")


def test_an_experiment_whose_own_seeds_are_on_other_data_is_named() -> None:
    runs = [on("none", 0, "f"), on("none", 1, "g"), on("box", 0, "f"), on("box", 1, "f")]
    assert seed_notes(compare(runs).experiments) == [
        "resnet18 baseline: its seeds are not all on the same data, or have another font or kind of map: demo."
    ]
    assert seed_notes(compare(runs[2:]).experiments) == seed_notes(compare([runs[0]]).experiments) == []


def test_units_that_differ_are_not_subtracted() -> None:
    assert math.isnan(difference(of_value(0.5, 0.1), Score((0.4,), (0,), "nats", Direction.LOWER)).value)
