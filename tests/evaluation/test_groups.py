"""The worst group and its gaps, against loops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from luab_jax.errors import DataError
from luab_jax.evaluation.answers import ARGMAX, Answers
from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.scores.factors import error_ratios
from luab_jax.evaluation.scores.groups import NO_GROUPS, worst_group
from tests.evaluation.drawn import guesses, truth


def test_the_worst_group_is_the_one_a_loop_finds() -> None:
    rng = np.random.default_rng(0)
    groups = [f"y={rng.integers(2)},place={rng.integers(3)}" for _ in range(300)]
    truths = [truth(int(g[2]), group=g if i % 10 else "", file_name=f"n/{i}.jpg") for i, g in enumerate(groups)]
    given = guesses(1, truths, 4)
    scores = worst_group(ARGMAX(given))
    right = given.logits.argmax(axis=1) == given.labels
    accuracy: dict[str, list[bool]] = {}
    for t, is_right in zip(truths, right.tolist(), strict=True):
        if t.group:
            accuracy.setdefault(t.group, []).append(is_right)
    of_group = {name: np.mean(values) for name, values in accuracy.items()}
    assert scores["worst_group"] == pytest.approx(min(of_group.values()))
    assert scores["name_of_worst_group"] == min(of_group, key=lambda name: of_group[name])
    assert scores["groups"] == pytest.approx(of_group) and len(of_group) == 6
    assert scores["top1"] == pytest.approx(right.mean())
    assert scores["gap"] == pytest.approx(right.mean() - min(of_group.values()))
    by_place = [np.mean([v for n, v in of_group.items() if n.endswith(str(p))]) for p in range(3)]
    assert scores["gap_place"] == pytest.approx(max(by_place) - min(by_place))
    low, high = scores["worst_group"].interval
    assert low < scores["worst_group"] < high and scores["n_without_group"] == 30


def answered(groups: Mapping[str, tuple[int, int]]) -> Answers:
    """Of each group how many are right, of how many."""
    right = [i < num for num, of in groups.values() for i in range(of)]
    names = [name for name, (_, of) in groups.items() for _ in range(of)]
    images = [f"n/{i}.jpg" for i in range(len(right))]
    return Answers(1 - np.asarray(right, np.int32), np.full(len(right), 0.5, np.float32), names, images)


@pytest.mark.parametrize("score", [lambda a: worst_group(a)["worst_group"], lambda a: error_ratios(a)["worst_factor"]])
@pytest.mark.parametrize("num", [1, 3, 300])
def test_the_interval_of_the_worst_does_not_depend_on_how_large_a_better_group_is(score: Any, num: int) -> None:
    worst = score(answered({"pose": (900, 1000), "smaller": (num, num)}))
    assert float(worst) == 0.9 and worst.interval == pytest.approx(intervals.wilson_of(0.9, 1000), abs=2e-3)


def test_without_groups_there_is_no_worst_one() -> None:
    with pytest.raises(DataError, match=NO_GROUPS[:30]):
        worst_group(ARGMAX(guesses(0, [truth(0), truth(1)], 2)))
