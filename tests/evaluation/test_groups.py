"""The worst group and its gaps, against loops."""

from __future__ import annotations

import numpy as np
import pytest

from luab_jax.errors import DataError
from luab_jax.evaluation.answers import ARGMAX
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


def test_without_groups_there_is_no_worst_one() -> None:
    with pytest.raises(DataError, match=NO_GROUPS[:30]):
        worst_group(ARGMAX(guesses(0, [truth(0), truth(1)], 2)))
