"""The table of suites is well-formed: every row can be found, read, scored and shown."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

import numpy as np
import pytest

from luab_jax.data.pipeline import Truth
from luab_jax.errors import UserError
from luab_jax.evaluation import suite_names
from luab_jax.evaluation.answers import ARGMAX, Answer, Doubt, Doubts
from luab_jax.evaluation.decisions import Decisions, decide
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.runner import choose_suites
from luab_jax.evaluation.suite import Need, Part, Scored, Suite, View
from luab_jax.evaluation.suites import SUITES
from luab_jax.results.score import NUMBER, Direction, Score

BY_NAME = {suite.name: suite for suite in SUITES}
SCORED = [suite for suite in SUITES if isinstance(suite.method, Scored)]
every_suite = pytest.mark.parametrize("suite", SCORED, ids=lambda suite: suite.name)


def test_names_are_unique_and_can_be_typed() -> None:
    assert len(BY_NAME) == len(SUITES)
    assert all(re.fullmatch(r"[a-z0-9_]+", name) and name != "all" for name in BY_NAME)


def test_help_has_the_names_of_all() -> None:
    assert list(suite_names.ALL) == [suite.name for suite in SUITES if not suite.only_if_named]
    assert list(suite_names.BY_NAME_ONLY) == [suite.name for suite in SUITES if suite.only_if_named]


def test_the_suites_of_the_first_release_are_there() -> None:
    assert {"imagenet", "imagenet_real", "cocc", "byproduct"} <= BY_NAME.keys()


def test_suites_are_chosen_by_name_in_the_order_asked_for() -> None:
    dear = ("imagenet_c_generated", "imagenet_p")
    assert choose_suites("all") == [suite for suite in SUITES if suite.name not in dear]
    assert [suite.name for suite in choose_suites("cocc, imagenet,cocc")] == ["cocc", "imagenet"]
    for names, unknown in (("imagenet,imagenett", "imagenett"), ("", "named"), ("ALL", "ALL")):
        with pytest.raises(UserError, match=rf"no suite {unknown};( did you mean imagenet\?)? there are all, imagenet"):
            choose_suites(names)


@every_suite
def test_parts_are_places_below_the_data_folder(suite: Suite) -> None:
    assert suite.parts
    for part in suite.parts.values():
        assert part.directories
        for directory in part.directories:
            path = PurePosixPath(directory)
            assert not path.is_absolute() and ".." not in path.parts
        assert re.fullmatch(r"[a-z0-9_]+", part.split)
        assert not part.datasets or set(part.directories) <= set(part.datasets)
        assert isinstance(part.view, View)
    assert len(set(suite.parts.values())) == len(suite.parts)  # no part is computed twice


@every_suite
def test_a_user_is_told_how_to_get_the_data(suite: Suite) -> None:
    assert suite.how_to_get.startswith("python -m data_prep ")


class Recorded(dict):
    """Which parts a score looked up."""

    def __init__(self, parts: Mapping[str, object]):
        super().__init__(parts)
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> object:
        self.used.add(name)
        return super().__getitem__(name)

    def values(self):
        self.used |= self.keys()
        return super().values()

    def items(self):
        self.used |= self.keys()
        return super().items()


def predictions(right: int, n: int = 4) -> Predictions:
    """The first `right` of `n` images classified well, every point predicted at the click."""
    truths = [
        Truth(
            file_name=f"{i}.png",
            label=i % 8,
            labels=(i % 8,),
            group=f"fog,severity={1 + i % 2}",
            click=np.array([0.5, 0.25], np.float32),
            box=np.array([0.0, 0.0, 1.0, 0.5], np.float32),
        )
        for i in range(n)
    ]
    logits = np.eye(8, dtype=np.float32)[[(i if i < right else i + 1) % 8 for i in range(n)]]
    return Predictions(logits, np.full((n, 1, 2), (0.5, 0.25), np.float32), truths)


def reduced(part: Part, given: Predictions) -> object:
    """What a suite's score gets of a part; protocols with classes of their own are tested by their own tests."""
    if part.reduce is decide:
        return Decisions(np.arange(4), np.array([0, 1, 5, 5]), np.array([1, 1, 2, 3]), list("abcd"))
    if part.directories == ("imagenet_x",):
        given = dataclasses.replace(given, truths=[dataclasses.replace(t, group="pose") for t in given.truths])
    if isinstance(part.reduce, Doubt):
        return Doubts(np.arange(4.0))
    return (Answer() if isinstance(part.reduce, Answer) else part.reduce)(given)


@every_suite
def test_a_score_uses_all_its_parts_and_gives_its_headline_n_and_intervals(suite: Suite) -> None:
    parts = Recorded({n: reduced(p, predictions(i % 5)) for i, (n, p) in enumerate(suite.parts.items(), start=2)})
    scores = suite.method.score(parts)
    assert parts.used == set(suite.parts)
    assert scores["n"] == {"imagenet_o": 8, "imagenet_d": 12}.get(suite.name, 4)
    headline = scores[suite.headline]
    assert isinstance(headline, Score) and headline.direction is not Direction.NONE and headline.unit != NUMBER
    if suite.name != "byproduct":
        assert headline.interval is not None and headline.method.endswith("95 %") and headline.sample is not None


@every_suite
def test_a_suite_runs_without_its_optional_parts_and_not_without_all(suite: Suite) -> None:
    needed = {name: part for name, part in suite.parts.items() if not part.optional}
    assert needed
    scores = suite.method.score({name: reduced(part, predictions(2)) for name, part in needed.items()})
    assert isinstance(scores[suite.headline], Score)


def test_only_the_suite_that_scores_points_needs_the_head() -> None:
    """Robustness is measured without the head, as inference runs without it."""
    with_head = predictions(2)
    headless = Predictions(with_head.logits, None, with_head.truths)
    for suite in SCORED:
        if not suite.needs:
            suite.method.score({name: reduced(part, headless) for name, part in suite.parts.items()})
    assert [suite.name for suite in SUITES if Need.BYPRODUCT_HEAD in suite.needs] == ["byproduct"]


def test_centre_occlusion_reports_both_readings_of_zero() -> None:
    suite = BY_NAME["cocc"]
    assert {name: part.view for name, part in suite.parts.items()} == {
        "mean": View.CENTRE_MEAN,
        "black": View.CENTRE_BLACK,
    }
    scores = suite.method.score({"mean": ARGMAX(predictions(3)), "black": ARGMAX(predictions(1))})
    assert (scores["top1"], scores["top1_black"], scores["n"]) == (0.75, 0.25, 4)


def test_the_background_gap_is_mixed_same_minus_mixed_rand() -> None:
    rights = {"mixed_same": 4, "mixed_rand": 1, "only_bg": 2}
    scores = BY_NAME["demo_backgrounds"].method.score(
        {name: ARGMAX(predictions(right)) for name, right in rights.items()}
    )
    shares = {name: value for name, value in scores.items() if isinstance(value, Score) and name != "ece"}
    assert shares == {"gap": 0.75, "mixed_same": 1.0, "mixed_rand": 0.25, "only_bg": 0.5}
    directions = {name: value.direction.value for name, value in shares.items()}
    assert directions == {"gap": "lower", "mixed_same": "higher", "mixed_rand": "higher", "only_bg": "none"}


def test_suites_of_one_archive_or_of_val_read_it_from_one_place() -> None:
    """So that an image is decoded once for all of them."""
    of_val = {part.directories for suite in SCORED for part in suite.parts.values() if part.split == "val"}
    of_val -= {BY_NAME["coco"].parts["val"].directories, BY_NAME["byproduct"].parts["val"].directories}
    of_val -= {BY_NAME["imagenet_x"].parts["val"].directories}  # images with annotations alone
    assert len(of_val) == 1


@pytest.mark.parametrize("name", ["imagenet_c", "backgrounds_challenge"])
def test_what_is_stored_at_the_size_of_the_input_is_not_resized(name: str) -> None:
    assert {part.stored.side for part in BY_NAME[name].parts.values()} == {224}


def test_the_border_of_objectnet_is_two_pixels_and_its_indices_are_125() -> None:
    parts = BY_NAME["objectnet"].parts
    assert {part.stored.border for part in parts.values()} == {2}
    assert len(parts["of_125"].reduce.outputs) == 125 and parts["template"].reduce.outputs is None
