"""The study: intervals that hold what they promise, runs in the order of their worth, data that differ as stated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import luab_jax
from benchmarks.study import arms, figures, photos, plan, report, runs
from benchmarks.study.effects import IMAGES_ALONE, effect
from benchmarks.study.photos import Clicks
from benchmarks.study.plan import Question
from benchmarks.study.seeds import time_step
from luab_jax.byproducts.targets import Target
from luab_jax.errors import ExitCode, UserError
from luab_jax.models import gpu


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("of_seeds", "of_images"), [(0.0, 1.0), (0.3, 0.3), (0.5, 0.0), (0.1, 0.1), (0.0, 0.0)])
def test_intervals_hold_the_effect_in_about_95_of_100_studies(of_seeds: float, of_images: float, seeds: int) -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        apart, shared = rng.normal(size=(seeds, 1)), rng.normal(size=(1, 60))
        d = 0.2 + of_seeds * apart + of_images * shared + rng.normal(size=(seeds, 60))
        found = effect(d)
        assert found.low <= found.value <= found.high
        held += found.low <= 0.2 <= found.high
    assert 0.92 <= held / 400 <= 0.995


def test_images_taken_as_independent_seeds_would_miss_it() -> None:
    """Why both are in the interval: a seed's shift is no part of what images alone show."""
    rng = np.random.default_rng(1)
    alone = both = 0
    for _ in range(200):
        d = 0.5 * rng.normal(size=(5, 1)) + rng.normal(size=(5, 400))
        of_images = d.mean(0)
        alone += abs(of_images.mean()) < 1.96 * of_images.std(ddof=1) / np.sqrt(400)
        both += effect(d).low <= 0 <= effect(d).high
    assert alone / 200 < 0.6 < 0.92 <= both / 200


def test_one_seed_is_said_to_be_over_images_alone() -> None:
    found = effect(np.asarray([[0.0, 1.0, 1.0, 0.0, 1.0]]))
    assert found.over == IMAGES_ALONE and found.value == pytest.approx(0.6) and found.num_seeds == 1
    assert not effect(np.zeros((3, 7))).is_certain


def test_the_headline_comes_first_and_no_run_twice() -> None:
    runs = plan.ordered()
    assert len({run.name for run in runs}) == len(runs)
    first = [run.name for run in runs[:6]]
    assert first == [f"{model}/{arm}-seed0" for model in ("resnet", "vit") for arm in ("none", "click", "random")]
    assert not set(runs) & set(plan.choosing())
    headline = {(run.model, run.seed) for run in runs[:24]}
    assert headline == {("resnet", seed) for seed in range(5)} | {("vit", seed) for seed in range(3)}
    assert [run.model for run in runs[24:]] == ["resnet"] * (len(runs) - 33) + ["vit"] * 9


def test_the_click_is_trained_once_at_the_chosen_weight() -> None:
    run = plan.Run("resnet", arms.CLICK, 0)
    assert run.at(10.0) == plan.Run("resnet", arms.click_at(10.0), 0) in plan.choosing()
    assert plan.Run("resnet", arms.RANDOM, 0).at(10.0).arm == arms.NO_PLACE


@pytest.mark.parametrize("weight", arms.LAMBDAS)
def test_what_several_questions_ask_for_is_trained_once(weight: float) -> None:
    trained = [*plan.choosing(), *plan.ordered(weight)]
    settings = [(run.model, run.seed, run.arm.target, run.arm.weight or weight, run.arm) for run in trained]
    as_trained = [
        (model, seed, target, of_loss if target is not Target.NONE else 0, arm.clicks, arm.head, arm.length)
        for model, seed, target, of_loss, arm in settings
    ]
    assert len(set(as_trained)) == len(trained)


def test_the_click_at_the_chosen_weight_is_among_the_heads_that_learn_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the second model too, which has no curve of λ of its own."""
    trained = {plan.Run(model, arms.click_at(10.0), seed) for model in ("resnet", "vit") for seed in (0, 1)}
    score = SimpleNamespace(value=0.25)
    found = SimpleNamespace(suites={"place": SimpleNamespace(scores=dict.fromkeys(report.PLACES, score))})
    monkeypatch.setattr(report, "is_finished", lambda _, run: run in trained)
    monkeypatch.setattr(luab_jax, "read_results", lambda _: found)
    rows = [line.split(" | ")[:3] for line in report._places(tmp_path, 10.0).splitlines()[2:]]
    assert rows == [["| resnet", "lambda-10", "2"], ["| vit", "lambda-10", "2"]]


@pytest.mark.parametrize("model", arms.MODELS)
@pytest.mark.parametrize("arm", arms.ARMS.values(), ids=arms.ARMS)
def test_arms_differ_from_the_click_in_what_they_say_alone(model: str, arm: arms.Arm) -> None:
    of = lambda which: arms.config(model, which, 3, weight=7.0, epochs=4.0, data="DATA")  # noqa: E731
    config, click = of(arm), of(arms.CLICK)
    assert config.model == click.model and config.batch_size == click.batch_size and config.seed == click.seed == 3
    assert config.epochs == 4.0 * arm.length and config.byproduct.weight == (arm.weight or 7.0)
    assert (
        config.byproduct.target is arm.target
        and config.byproduct.head is arm.head
        and config.data.root == f"DATA/{arm.clicks.name}"
    )


def test_fewer_clicks_are_part_of_more_and_noise_moves_clicks_alone(tmp_path: Path) -> None:
    source = tmp_path / "xml"
    for i in range(200):
        path = source / "n1" / f"n1_{i}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            "<annotation><metadata><mouseTracking><x>0.1</x><y>0.2</y></mouseTracking>"
            "<selectedRecord><time>5</time><x>0.5</x><y>0.5</y></selectedRecord></metadata></annotation>"
        )
    kept = {}
    for clicks in (Clicks(0.1), Clicks(0.3), Clicks(jitter=0.2)):
        photos._change(source, tmp_path / clicks.name, clicks)
        kept[clicks.name] = {path.name: path.read_text() for path in (tmp_path / clicks.name).rglob("*.xml")}
    assert kept["clicks_10"].items() < kept["clicks_30"].items() and 40 <= len(kept["clicks_30"]) <= 80
    moved = kept["clicks_jitter_20"]
    assert len(moved) == 200 and all(
        "<x>0.1</x><y>0.2</y>" in text and "<time>5</time>" in text for text in moved.values()
    )
    at = np.asarray([float(text.split("<time>5</time><x>")[1].split("<")[0]) for text in moved.values()])
    assert 0.15 < at.std() < 0.25 and at.min() >= 0 and at.max() <= 1 and len(set(at)) > 100


def test_other_photos_need_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(photos, "_unpack", lambda source, raw: raw.mkdir(parents=True))
    monkeypatch.setattr(photos, "data_prep", lambda arguments: made.append(arguments[0]))
    for name, size in (("a", 100), ("b", 200)):
        (tmp_path / name).mkdir()
        for archive in photos.ARCHIVES:
            (tmp_path / name / archive).write_bytes(bytes(size))
    for _ in range(2):
        photos.prepare(tmp_path / "a", tmp_path / "out", [])
    made.clear()
    with pytest.raises(UserError, match=r"out: it has other photos than those of --photos=.*/b; choose another --out"):
        photos.prepare(tmp_path / "b", tmp_path / "out", [])
    assert not made
    photos.prepare(tmp_path / "gone", tmp_path / "out", [])


def test_a_run_that_lacks_a_suite_is_not_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be left out of every later start, and end the report."""
    run = plan.choosing()[0]
    monkeypatch.setattr(luab_jax, "train", lambda config, workdir: ExitCode.DONE)
    found = SimpleNamespace(missing={"own_backgrounds": "shard 3 is damaged"})
    monkeypatch.setattr(luab_jax, "run_suites", lambda *arguments, **options: found)
    with pytest.raises(UserError, match=f"{run.name}: own_backgrounds: shard 3 is damaged"):
        runs.carry_out(run, tmp_path, weight=1.0, epochs=1.0)
    assert not runs.is_finished(tmp_path, run)


def test_in_short_there_is_one_row_for_a_comparison_that_two_questions_make() -> None:
    """As of the click and the point of the curve of λ that it is: that of more seeds, under the first one's name."""
    title = next(iter(report.IN_SHORT))
    trained = (arms.click_at(1.0), arms.NONE)
    rows = [
        report.Row(Question(arm.name, "?", (arm,), arms.NONE, range(3)), "resnet", arm, trained, title, effect(value))
        for arm, value in (
            (arms.CLICK, np.full((3, 50), 0.25)),
            (arms.click_at(1.0), np.tile([0.0, 0.5], (2, 25))),
        )
    ]
    (line,) = report._in_short(rows).splitlines()[2:]
    assert line.startswith("| resnet | click - none | 3 | +25.0 [+25.0, +25.0] * | - |")


def test_a_figure_draws_every_effect_on_its_side_of_zero() -> None:
    better, worse = effect(np.full((2, 9), 0.1) + 0.01 * np.eye(2, 9)), effect(np.full((2, 9), -0.1))
    drawn = figures.forest("a & b", [("better", better), ("worse", worse)])
    assert "a &amp; b" in drawn and drawn.count("<circle") == 2
    xs = [float(part.split('"')[0]) for part in drawn.split('<circle cx="')[1:]]
    assert xs[0] > xs[1]


def test_a_curve_goes_up_where_the_effect_does() -> None:
    points = [(name, effect(np.full((2, 9), value))) for name, value in (("1", -0.1), ("10", 0.0), ("100", 0.2))]
    drawn = figures.curve("top-1", "λ", points)
    ys = [float(part.split('cy="')[1].split('"')[0]) for part in drawn.split("<circle")[1:]]
    assert ys[0] > ys[1] > ys[2] and ">100</text>" in drawn


def test_seeds_in_one_program_take_the_options_of_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that a transformer's step has on a GPU, which no jit inside of another may have."""
    monkeypatch.setattr(gpu, "compiler_options", lambda: {"xla_backend_optimization_level": 1})
    monkeypatch.setitem(arms.MODELS, "vit", replace(arms.MODELS["vit"], embed_dim=24, depth=1))
    step = time_step("vit", seeds=2, rounds=1, batch_size=2)
    assert step.apart > 0 and step.together > 0
