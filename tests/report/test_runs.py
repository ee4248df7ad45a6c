"""Files become experiments: seeds together, and the reference first whatever the order of the files."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luab_jax.errors import UserError
from luab_jax.foreign.inputs import InputFormat
from luab_jax.foreign.model import Outputs
from luab_jax.report.runs import USUAL, compare, experiment_name, read_run
from luab_jax.results.answers import Answered, Answers, Kind, Sample, answers_path, write_answers
from luab_jax.results.foreign import Foreign
from luab_jax.results.format import to_json
from tests.report import made

NONE, CLICK, RANDOM = made.run("none"), made.run("click_last"), made.run("random")


def test_one_run_given_twice_is_no_second_seed() -> None:
    with pytest.raises(UserError, match="two results of one experiment with seed 0"):
        compare([NONE, CLICK, NONE])


def test_runs_that_differ_in_their_seed_are_one_experiment() -> None:
    seeds = [made.run("none", 0), made.run("click_last", 0), made.run("none", 1), made.run("none", 2)]
    assert [len(of.runs) for of in compare(seeds).experiments] == [3, 1]
    assert [of.title for of in compare(seeds).experiments] == [
        "resnet18 baseline (3 seeds)",
        "resnet18 LUAB click_last λ=20",
    ]


@pytest.mark.parametrize("order", list(itertools.permutations((NONE, CLICK, RANDOM))))
def test_the_run_without_a_target_is_the_reference_in_every_order(order: tuple) -> None:
    found = compare(order)
    assert found.reference.runs == [NONE] and not found.notes
    assert [of.runs[0] for of in found.experiments[1:]] == [run for run in order if run is not NONE]


@pytest.mark.parametrize(
    "name",
    ["resnet18 Rand λ=20", "RANDOM", "rand λ", "runs/random-0/results.json", "runs/random-0/", "nowhere/random-0"],
)
def test_another_reference_is_chosen_by_any_of_its_names(name: str) -> None:
    assert compare([NONE, CLICK, RANDOM], name).reference.runs == [RANDOM]


def test_a_name_of_none_or_of_several_is_answered_with_all_names() -> None:
    with pytest.raises(UserError, match="baseline='box': no such experiment; there are: resnet18 baseline; resnet18"):
        compare([NONE, CLICK], "box")
    with pytest.raises(UserError, match="baseline='resnet': names 2 experiments"):
        compare([NONE, CLICK], "resnet")


def test_what_is_ambiguous_is_said() -> None:
    (note,) = compare([CLICK, RANDOM]).notes
    assert "No run has target=none" in note and "resnet18 LUAB click_last" in note
    found = compare([CLICK, NONE, made.run("none", model="resnet50", experiment={"model": "resnet50"})])
    assert found.reference.runs == [NONE]
    assert "2 experiments have target=none (resnet18 baseline, resnet50 baseline)" in found.notes[0]
    assert compare([CLICK]).notes == []


@pytest.mark.parametrize(
    ("target", "weight", "name"),
    [
        ("none", 10.0, "baseline"),
        ("random_in_image", 1.0, "Rand λ=1"),
        ("click_first", 0.5, "LUAB click_first λ=0.5"),
        ("box", 10.0, "LUAB box λ=10"),
    ],
)
def test_experiments_are_called_as_in_the_paper(target: str, weight: float, name: str) -> None:
    assert experiment_name(made.run(target, weight=weight).checkpoint) == name


@pytest.mark.parametrize("kind", Foreign)
def test_what_was_trained_elsewhere_is_named_by_how_it_was_given(kind: Foreign) -> None:
    assert experiment_name(made.run(kind.value, weight=0.0).checkpoint) == kind.value


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"weights_hash": "b"}, ("weights_hash=a", "weights_hash=b")),
        ({"input": {"dtype": "uint8", "layout": "nhwc", "channels": "bgr"}}, ("input=uint8 nhwc rgb", "nhwc bgr")),
        ({"outputs": "probabilities"}, ("outputs=logits", "outputs=probabilities")),
        ({"columns": "1,000 of 1,001"}, ("columns=-", "columns=1,000 of 1,001")),
        ({"classifier_hash": "c"}, ("classifier_hash=-", "classifier_hash=c")),
        ({"source_hash": "s"}, ("source_hash=-", "source_hash=s")),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
@pytest.mark.parametrize("kind", Foreign)
def test_what_was_trained_elsewhere_is_told_apart_by_what_it_is(
    kind: Foreign, changes: dict[str, Any], told: tuple[str, str]
) -> None:
    """Of one file name, one kind and seed 0 all of them."""
    stated: dict[str, Any] = {"weight": 0.0, "weights_hash": "a"}
    first, other = made.run(kind.value, **stated), made.run(kind.value, **(stated | changes))
    for of, text in zip(compare([first, other]).experiments, told, strict=True):
        assert of.name.startswith(f"resnet18 {kind.value} ") and of.name.endswith(text)
    with pytest.raises(UserError, match="two results of one experiment"):
        compare([first, first])


def test_the_usual_input_of_a_foreign_model_is_that_of_no_format() -> None:
    assert USUAL["input"] == " ".join(InputFormat().facts().values())
    assert USUAL["outputs"] == Outputs.LOGITS.value


def test_two_trainings_of_one_seed_are_no_two_experiments() -> None:
    with pytest.raises(UserError, match="two results of one experiment with seed 0"):
        compare([made.run("none", weights_hash="a"), made.run("none", weights_hash="b")])


def test_random_is_named_by_what_it_meant_when_the_run_was_evaluated() -> None:
    matched = {"byproduct.target": "random", "byproduct.random_point": "per_crop"}
    assert experiment_name(made.run("random", experiment=matched).checkpoint) == "matched Rand λ=20"
    before = made.run("random")
    assert experiment_name(before.checkpoint) == "Rand λ=20"
    assert before.file.checkpoint["target"] == "random", "by which its answers are found"


def test_experiments_of_one_name_are_told_apart_by_what_differs() -> None:
    others = [made.run("none", experiment={"optim.learning_rate": rate, "epochs": 90}) for rate in (0.1, 0.2)]
    assert [of.name for of in compare(others).experiments] == [
        "resnet18 baseline optim.learning_rate=0.1",
        "resnet18 baseline optim.learning_rate=0.2",
    ]


RECIPE = {"batch_size": 256, "epochs": 90, "optim.learning_rate": 0.1, "augmentation.mixup": 0.0, "seeded": "a"}


def test_as_many_fields_are_named_as_it_takes_to_tell_experiments_apart() -> None:
    """Three fields tell the second from the others, not these from each other."""
    longer = {"batch_size": 1024, "epochs": 300, "optim.learning_rate": 0.4, "seeded": "b"}
    configs = [RECIPE, RECIPE | longer, RECIPE | {"augmentation.mixup": 0.8}]
    names = [of.name for of in compare([made.run("none", experiment=config) for config in configs]).experiments]
    three = "batch_size=256 epochs=90 optim.learning_rate=0.1"
    assert names == [
        f"resnet18 baseline {three} augmentation.mixup=0.0",
        "resnet18 baseline batch_size=1024 epochs=300 optim.learning_rate=0.4 augmentation.mixup=0.0",
        f"resnet18 baseline {three} augmentation.mixup=0.8",
    ]
    runs = [made.run("none", experiment=config) for config in configs]
    assert [compare(runs, baseline=name).reference.runs[0] for name in names] == runs


def test_experiments_that_no_text_tells_apart_are_named_by_their_files() -> None:
    """A number and its text."""
    runs = [made.run("none", experiment={"a": value}, workdir=f"w/{i}") for i, value in enumerate((1, "1"))]
    runs = [dataclasses.replace(run, path=path) for run, path in zip(runs, ("r/0.json", ""), strict=True)]
    assert [of.name for of in compare(runs).experiments] == ["resnet18 baseline r/0.json", "resnet18 baseline w/1"]


def test_another_preprocessing_type_or_weights_is_another_experiment() -> None:
    changed = made.run("none", preprocessing_override={"resize_side": 232})
    average = made.run("none", weights="ema")
    half = made.run("none")
    half.file.dtype = "bfloat16"
    names = [of.name for of in compare([NONE, changed, average, half]).experiments]
    assert len(names) == 4 and "resnet18 baseline resize_side=232" in names and "resnet18 baseline average" in names
    assert any("dtype=bfloat16" in name for name in names)
    unstated = made.run("none")
    unstated.file.dtype = ""  # as in results of version 1
    assert [of.name for of in compare([unstated, half]).experiments] == [
        "resnet18 baseline dtype=-",
        "resnet18 baseline dtype=bfloat16",
    ]


def test_names_cannot_break_a_line_or_turn_it_round() -> None:
    hostile = made.run("none", model="a\nb\x1b[31m\u202ec\u2028d")
    assert compare([hostile]).reference.name == r"a\nb\x1b[31m\u202ec\u2028d baseline"


def test_a_run_is_read_with_the_answers_beside_it(tmp_path: Path) -> None:
    sample = Answered(Sample(Kind.RIGHT, np.array([True, False]), ["a", "b"]), {"val": "f"})
    path = tmp_path / "results.json"
    path.write_text(to_json(NONE.file))
    assert read_run(str(tmp_path)).answers is None
    write_answers(answers_path(path), Answers(NONE.file.checkpoint, {"imagenet": {"top1": sample}}))
    found = read_run(str(tmp_path)).answered("imagenet", "top1")
    assert found is not None and found.sample.values.tolist() == [True, False]
    write_answers(answers_path(path), Answers({**NONE.file.checkpoint, "step": 4}, {"imagenet": {"top1": sample}}))
    assert read_run(str(path)).answers is None, "of another checkpoint"


def test_damaged_answers_are_one_error(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(to_json(NONE.file))
    answers_path(path).write_bytes(b"torn")
    with pytest.raises(UserError, match=r"results\.answers\.npz: not the answers .*; remove it"):
        read_run(str(path))


def test_a_run_cannot_be_changed_by_accident() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        NONE.path = "x"  # type: ignore[misc]
