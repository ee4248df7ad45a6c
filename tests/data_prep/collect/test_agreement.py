"""Kappa and alpha against independent ways of computing them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from data_prep.collect.agreement import Agreement, cohen
from data_prep.collect.reports import Done, _click_distances, judgements
from data_prep.collect.tasks import Shown, Source, Task

matrices = st.lists(st.lists(st.sampled_from([None, False, True]), min_size=4, max_size=4), min_size=3, max_size=25)


def agreement_of(matrix: list[list[bool | None]]) -> Agreement:
    found = Agreement()
    for unit in matrix:
        found.add({f"w{i}": judged for i, judged in enumerate(unit) if judged is not None})
    return found


@given(matrices)
def test_cohen_is_that_of_scikit_learn(matrix: list[list[bool | None]]) -> None:
    found = agreement_of(matrix)
    for i, j in itertools.combinations(range(4), 2):
        both = [(unit[i], unit[j]) for unit in matrix if unit[i] is not None and unit[j] is not None]
        if not both:
            continue
        kappa = cohen(found.pairs[f"w{i}", f"w{j}"])
        a, b = zip(*both, strict=True)
        if len(set(a) | set(b)) < 2:
            assert kappa is None, "where chance alone would agree"
        else:
            assert kappa == pytest.approx(cohen_kappa_score(a, b), abs=1e-9)


@given(matrices)
def test_krippendorff_is_one_minus_observed_over_expected_disagreement(matrix: list[list[bool | None]]) -> None:
    """Over all ordered pairs of values of a unit, and of all units together: the definition, written out."""
    units = [[judged for judged in unit if judged is not None] for unit in matrix]
    units = [unit for unit in units if len(unit) > 1]
    values = [judged for unit in units for judged in unit]
    alpha = agreement_of(matrix).krippendorff
    if len(set(values)) < 2:
        assert alpha is None
        return
    observed = sum(sum(a != b for a, b in itertools.permutations(unit, 2)) / (len(unit) - 1) for unit in units)
    expected = sum(a != b for a, b in itertools.permutations(values, 2)) / (len(values) - 1)
    assert alpha == pytest.approx(1 - observed / expected)


def test_fleiss_gives_the_published_example() -> None:
    """Fleiss 1971 for two categories, by its formulas over a table of counts."""
    counts = np.array([[3, 0], [2, 1], [0, 3], [1, 2], [3, 0], [0, 3]])
    found = Agreement()
    for yes, no in counts:
        found.add({f"w{k}": k < yes for k in range(yes + no)})
    n = counts.sum(1)[0]
    observed = ((counts**2).sum(1) - n) / (n * (n - 1))
    chance = ((counts.sum(0) / counts.sum()) ** 2).sum()
    assert found.fleiss == pytest.approx((observed.mean() - chance) / (1 - chance))


def test_the_majority_of_the_others_is_what_each_is_compared_with() -> None:
    found = Agreement()
    found.add({"a": True, "b": True, "c": False})
    found.add({"a": True, "b": True, "c": True})
    assert found.majority == {"a": [1, 1], "b": [1, 1], "c": [2, 1]}, "a tie of the others is no majority"


def test_a_photo_that_did_not_load_is_no_judgement_on_any_class() -> None:
    """On the COCO page as on the other one: who did not see it did not say no."""
    photo = Shown(Source("a.jpg", "", 1, 0), "candidate")
    done = [
        Done("1", "t", "A", {"shown": [0], "icons": {"cat": [0.5, 0.5]}}, 1, 1),
        Done("2", "t", "B", {"shown": [0], "icons": {"cat": [0.5, 0.7]}}, 1, 1),
        Done("3", "t", "C", {"shown": [], "failed": [0], "icons": {"cat": [0.1, 0.1]}}, 1, 1),
    ]
    units = dict(judgements(Task("", (photo,)), done, ["cat", "dog"]))
    assert units == {"cat": {"A": True, "B": True}, "dog": {"A": False, "B": False}}
    assert _click_distances(done) == [pytest.approx(0.2)]
