"""Sums over a split: exact, and the same however the records are divided."""

from __future__ import annotations

import json
import math
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luab_jax.byproducts.responses import Response
from luab_jax.byproducts.statistics import Scale, Sums, TargetStatistics
from tests.byproducts.annotated import columns, showing

BOTH = tuple(Response)


def summed(times: list[int], workers: list[str] | None = None) -> Sums:
    sums = Sums(BOTH, count_annotators=workers is not None)
    for index, time in enumerate(times):
        worker = workers[index] if workers else ""
        sums.add(columns(showing(entered=[0], clicks=[time] * (1 + time % 3), worker=worker)), None)
    return sums


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 100_000), min_size=1, max_size=20))
def test_mean_and_deviation_are_those_of_the_logarithms(times: list[int]) -> None:
    scale = summed(times).scale(Response.TIME_TO_CLICK)
    logs = [math.log(time) for time in times]
    assert scale is not None
    assert scale.mean == pytest.approx(statistics.fmean(logs), rel=1e-9)
    assert scale.std == pytest.approx(statistics.pstdev(logs), rel=1e-6, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 100_000), min_size=2, max_size=12), st.randoms(use_true_random=False), st.integers(1, 4))
def test_order_and_division_among_hosts_change_no_bit(times: list[int], random, num_hosts: int) -> None:
    workers = [f"w{time % 4}" for time in times]
    whole = summed(times, workers)
    order = list(range(len(times)))
    random.shuffle(order)
    together = Sums()
    for host in range(num_hosts):
        mine = order[host::num_hosts]
        part = summed([times[i] for i in mine], [workers[i] for i in mine])
        together.merge(Sums.from_text(part.to_text()))
    for response in BOTH:
        assert together.scale(response) == whole.scale(response)
    assert together.vocabulary(1, 99) == whole.vocabulary(1, 99)


def test_equal_values_have_no_deviation_at_all_and_no_value_has_no_scale() -> None:
    scale = summed([700] * 9).scale(Response.TIME_TO_CLICK)
    assert scale is not None and scale.std == 0.0
    nothing = Sums(BOTH)
    nothing.add(columns(showing()), None)
    assert nothing.scale(Response.TIME_TO_CLICK) is None


def test_the_vocabulary_has_those_with_most_images_first_and_ties_by_id() -> None:
    sums = summed([1] * 9, ["c", "b", "b", "a", "a", "a", "d", "", "c"])
    assert sums.vocabulary(1, 99) == ("a", "b", "c", "d")
    assert sums.vocabulary(2, 99) == ("a", "b", "c")
    assert sums.vocabulary(1, 2) == ("a", "b")
    assert sums.vocabulary(4, 99) == ()


def test_an_annotator_counts_once_for_an_image() -> None:
    sums = Sums(count_annotators=True)
    sums.add(columns(showing(worker="a"), showing(worker="b"), showing(worker="a")), None)
    assert sums.images == {"a": 1, "b": 1}


def test_statistics_survive_their_json_to_the_last_bit() -> None:
    made = TargetStatistics(scales={Response.TIME_TO_CLICK: Scale(1 / 3, math.pi)}, annotators=("ä", "b"))
    assert TargetStatistics.from_json(json.loads(json.dumps(made.to_json()))) == made
    assert made and not TargetStatistics()
