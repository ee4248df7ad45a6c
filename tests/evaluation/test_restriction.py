"""A model of some of ImageNet's classes on suites of ImageNet: the images of its classes, marked as no whole suite."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from data_prep.__main__ import main as data_prep
from luab_jax.checkpoints.load import LoadedModel
from luab_jax.config import MeshConfig
from luab_jax.data.class_lists import ClassList, imagenet
from luab_jax.data.label_tables import IMAGENET_A
from luab_jax.data.pipeline import Reading, Truth
from luab_jax.distributed import sharding
from luab_jax.evaluation.answers import ARGMAX, Answer, first_label, label_set
from luab_jax.evaluation.label_spaces import IMAGENET, IN9, OF_THE_MODEL, WHOLE_IMAGENET
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.predictor import Predictor
from luab_jax.evaluation.restriction import Restriction, apply, restriction
from luab_jax.evaluation.results import Results
from luab_jax.evaluation.runner import choose_suites, evaluate
from luab_jax.models.functional import create_model
from tests.data_prep.conftest import image_bytes
from tools.miniatures import random_params, tiny_model

INDICES = (13, 6, 700, 11)
"""Of the model's outputs: three of ImageNet-A's classes, in an order that is not ImageNet's."""
SOME = ClassList(tuple(imagenet().ids[i] for i in INDICES), ("a", "b", "c", "d"))


def truth(label: int, *labels: int) -> Truth:
    return Truth(file_name=f"{label}.png", label=label, labels=labels, group="", click=None, box=None)


def test_an_answer_is_the_largest_logit_among_the_models_classes_that_the_suite_lets_choose() -> None:
    restricted = restriction(SOME)
    assert restricted is not None and restricted.indices == INDICES
    logits = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    truths = [truth(label) for label in (13, 6, 999, 700, 11, 5)]  # two of no class of the model
    answers = ARGMAX(apply(restricted, Predictions(logits, None, truths), ARGMAX))
    rows, own = [0, 1, 3, 4], [0, 1, 2, 3]
    assert answers.right.tolist() == (logits[rows].argmax(axis=-1) == own).tolist()
    expected = np.exp(logits[rows]).max(axis=-1) / np.exp(logits[rows]).sum(axis=-1)
    np.testing.assert_allclose(answers.confidence, expected, rtol=1e-5)
    of_a = Answer(IMAGENET_A, only_these=True)
    rows = [0, 1, 4]
    answers = of_a(apply(restricted, Predictions(logits, None, truths), of_a))
    best = np.asarray([0, 1, 3])[logits[rows][:, [0, 1, 3]].argmax(axis=-1)]
    assert answers.right.tolist() == (best == [0, 1, 3]).tolist()
    assert re.fullmatch(r"3 of 200 classes, [0-9a-f]{8}", restricted.in_words(IMAGENET_A))
    assert re.fullmatch(r"4 of 1,000 classes, [0-9a-f]{8}", restricted.in_words(None))


def of_indices(*indices: int) -> Restriction:
    found = restriction(ClassList(tuple(imagenet().ids[i] for i in indices), ("",) * len(indices)))
    assert found is not None
    return found


def test_only_results_on_the_same_classes_have_the_same_mark() -> None:
    assert of_indices(6, 11).in_words(None) == of_indices(11, 6).in_words(None) != of_indices(6, 13).in_words(None)
    assert of_indices(6, 0).in_words(IMAGENET_A) == of_indices(6, 1).in_words(IMAGENET_A)  # 0 and 1 are not in it


def test_all_classes_in_another_order_are_no_restriction() -> None:
    order = np.random.default_rng(0).permutation(1000)
    turned = of_indices(*order)
    assert turned.in_words(None) == turned.in_words(IMAGENET_A) == ""
    logits = np.random.default_rng(1).normal(size=(3, 1000)).astype(np.float32)
    given = apply(turned, Predictions(logits, None, [truth(i) for i in (5, 6, 7)]), ARGMAX)
    np.testing.assert_array_equal(given.logits[:, order], logits)


def test_an_image_with_several_labels_counts_if_one_is_known() -> None:
    reduce = Answer(right=label_set)
    logits = np.asarray([[0, 0, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0]], np.float32)
    truths = [truth(0, 5, 700), truth(0, 5, 700), truth(0, 5, 8)]
    answers = reduce(apply(restriction(SOME), Predictions(logits, None, truths), reduce))
    assert answers.right.tolist() == [True, False]


@pytest.mark.parametrize("order", [range(999, -1, -1), range(300, 900)], ids=["turned", "some"])
def test_the_first_of_several_labels_stays_the_first(order: range) -> None:
    """Of ObjectNet's classes with several indices (Barbu et al. 2019), by the order of its own table."""
    sets = [(559, 423), (868, 423), (518, 560), (826, 409, 531)]
    truths = [truth(0, *labels) for labels in sets]
    logits = np.zeros((4, 1000), np.float32)
    logits[range(4), [labels[0] for labels in sets]] = 1
    reduce = Answer(right=first_label)
    given = apply(of_indices(*order), Predictions(logits[:, order], None, truths), reduce)
    assert [of_image.labels for of_image in given.truths] == sets
    assert reduce(given).right.all()


@pytest.mark.parametrize("classes", [imagenet(), ClassList(("n01440764", "cat"), ("", "")), None])
def test_other_class_lists_are_none_of_some_of_its_classes(classes: ClassList | None) -> None:
    assert restriction(classes) is None


def some_classes() -> LoadedModel:
    whole = tiny_model()
    model = create_model(whole.config, num_classes=4, image_size=224, byproduct_shape=None)
    params, batch_stats = random_params(model)
    place = sharding.replicated(sharding.make_mesh(MeshConfig()))
    return dataclasses.replace(
        whole,
        model=model,
        params=sharding.put(params, place),
        batch_stats=sharding.put(batch_stats, place),
        class_list_hash=SOME.hash,
        classes=SOME,
        identity=whole.identity | {"class_list_hash": SOME.hash},
    )


def test_label_spaces_take_such_a_model_where_images_of_some_classes_make_sense() -> None:
    model = some_classes()
    assert IMAGENET.why_not(model) is None and OF_THE_MODEL.why_not(model) is None
    for space in (WHOLE_IMAGENET, IN9):
        assert "another list of 4 classes" in (space.why_not(model) or "")
    unknown = dataclasses.replace(model, classes=None)
    assert "another list of 4 classes" in (IMAGENET.why_not(unknown) or "")


def test_the_suites_run_on_the_images_of_its_classes_and_say_so(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for index in (6, 11, 13, 15, 17):
        (raw / imagenet().ids[index]).mkdir(parents=True)
        for number in range(3):
            (raw / imagenet().ids[index] / f"{index}_{number}.JPEG").write_bytes(image_bytes(index + number))
    for suite in ("imagenet_a", "imagenet_sketch"):
        arguments = ["suite", suite, f"--source={raw}", f"--out={tmp_path / 'data'}", "--workers=1"]
        assert data_prep(arguments) == 0
    model = some_classes()
    predictor = Predictor(model, sharding.make_mesh(MeshConfig()), 8, Reading(num_threads=2))
    results = Results(tmp_path / "r.json", model)
    missing = evaluate(
        model,
        predictor,
        tmp_path / "data",
        choose_suites("imagenet_a,imagenet_sketch,imagenet_o,effective_robustness"),
        results,
    )
    assert {entry.suite.name for entry in missing} == {"imagenet_o", "effective_robustness"}
    assert all(entry.reason.startswith("it scores ImageNet's 1,000 classes") for entry in missing)
    assert results.suites["imagenet_a"]["n"] == results.suites["imagenet_sketch"]["n"] == 9
    assert results.suites["imagenet_a"].data.restricted.startswith("3 of 200 classes, ")
    assert results.suites["imagenet_sketch"].data.restricted.startswith("4 of 1,000 classes, ")
