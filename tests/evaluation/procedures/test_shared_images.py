"""Suites that make their images: decoded and corrupted once for all checkpoints, with the scores of each alone."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

import luab_jax
from luab_jax.checkpoints.loaded import LoadedModel
from luab_jax.config import MeshConfig
from luab_jax.data import decoding
from luab_jax.data.class_lists import imagenet, in9
from luab_jax.data.dataset import open_split
from luab_jax.data.label_tables import IMAGENET_O, PERTURBATIONS
from luab_jax.data.pipeline import Reading
from luab_jax.data.transforms import Preprocessing
from luab_jax.distributed import sharding
from luab_jax.errors import CheckpointError, DataError, StorageError, UserError, WriteError
from luab_jax.evaluation import predictor as predictor_lib
from luab_jax.evaluation import resume, runner
from luab_jax.evaluation.function_predictor import FunctionPredictor
from luab_jax.evaluation.predictor import BatchPredictor, Predictor
from luab_jax.evaluation.procedures import adversarial_backgrounds, corrupting, generated_corruptions_of
from luab_jax.evaluation.procedures.backgrounds import SQUARES, accuracy_on
from luab_jax.evaluation.procedures.by_image import ByImage, Splits
from luab_jax.evaluation.procedures.neighbours import detection_by_neighbours
from luab_jax.evaluation.procedures.perturbations import flip_rates
from luab_jax.evaluation.programs import Programs
from luab_jax.evaluation.resume import Work
from luab_jax.evaluation.suite import Procedure, Suite
from luab_jax.foreign.model import FunctionModel
from tests.evaluation.procedures.test_procedures import png, record, write
from tests.evaluation.test_more_suites import model as of_quarters
from tests.evaluation.test_resume import StoppedWork
from tools.miniatures import tiny_model

PROCEDURES: dict[str, ByImage] = {
    "bgc_accuracy": accuracy_on(SQUARES, lambda num_classes: np.arange(num_classes, dtype=np.int32) % 3),
    "imagenet_c_generated": generated_corruptions_of(("contrast", "brightness"), (1, 3)),
    "imagenet_p": flip_rates,
    "imagenet_o_knn": detection_by_neighbours,
}
BATCH_SIZES = {"imagenet_p": 16}
"""Two videos at a time; of the others batches of 8."""
NUM_DECODED = {"bgc_accuracy": 10 + 9 + 3, "imagenet_c_generated": 20, "imagenet_p": 5, "imagenet_o_knn": 9 + 6 + 10}
"""Images, and masks."""
of_each = pytest.mark.parametrize("name", PROCEDURES)


def squares(rng: np.random.Generator, height: int = 224) -> np.ndarray:
    return np.kron(rng.integers(0, 256, (height // 32, 7, 3), np.uint8), np.ones((32, 32, 1), np.uint8))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    masks = [(png(squares(rng)[..., 0] > 20, "1"),) if i else () for i in range(10)]
    original = [record(f"c/{i}.png", squares(rng), label=i % 3, foreground_masks=mask) for i, mask in enumerate(masks)]
    write(root / "backgrounds_challenge", "backgrounds_challenge", "original", in9(), original)
    backgrounds = [record(f"b/{i}.png", squares(rng), label=0) for i in range(3)]
    write(root / "backgrounds_challenge", "backgrounds_challenge", "only_bg_t", in9(), backgrounds)

    def photos(count: int, is_known: Callable[[int], bool] = lambda _: True) -> list[Any]:
        pixels = [rng.integers(0, 256, (40, 44, 3), np.uint8) for _ in range(count)]
        return [
            record(f"p/{i}_{count}.png", of, label=IMAGENET_O[i] if is_known(i) else 0) for i, of in enumerate(pixels)
        ]

    write(root / "imagenet", "imagenet", "val", imagenet(), photos(20, lambda i: i % 2 == 0))
    write(root / "imagenet", "imagenet", "train", imagenet(), photos(9))
    write(root / "imagenet_o", "imagenet_o", "test", imagenet(), photos(6))
    for kind, count in (("gaussian_noise", 2), ("brightness", 3)):
        strips = [record(f"{kind}/{i}.png", squares(rng, 224 * PERTURBATIONS[kind]), label=i) for i in range(count)]
        write(root / "imagenet_p", "imagenet_p", kind, imagenet(), strips)
    return root


def splits_of(name: str, data: Path) -> Splits:
    (suite,) = runner.choose_suites(name)
    found = {part: runner.find_part(data, of) for part, of in suite.parts.items()}
    return {part: open_split(at, suite.parts[part].split) for part, at in found.items() if at is not None}


def drawn(seed: int) -> LoadedModel:
    """Of one architecture, with weights of its own."""
    loaded, rng = tiny_model(), np.random.default_rng(seed)
    params = jax.tree.map(lambda leaf: leaf + 0.1 * rng.standard_normal(leaf.shape).astype(np.float32), loaded.params)
    place = sharding.replicated(sharding.make_mesh(MeshConfig()))
    identity = loaded.identity | {"seed": seed, "workdir": f"none/{seed}"}
    return dataclasses.replace(loaded, params=jax.device_put(params, place), identity=identity)


@pytest.fixture(scope="module")
def predictors() -> Callable[[str, int], list[BatchPredictor[Any]]]:
    """So many models for a suite: networks of one architecture, and a function if the suite takes one."""
    networks, programs = [drawn(seed) for seed in range(3)], Programs()
    function = FunctionModel(lambda images: of_quarters(images)[:, ::-1], Preprocessing(), "quarters", imagenet())

    def of(name: str, count: int) -> list[BatchPredictor[Any]]:
        mesh, size = sharding.make_mesh(MeshConfig()), BATCH_SIZES.get(name, 8)
        found: list[BatchPredictor[Any]] = [
            Predictor(loaded, mesh, size, Reading(num_threads=2), programs) for loaded in networks
        ]
        if name != "imagenet_o_knn":
            found[2] = FunctionPredictor(function, size, Reading(num_threads=2))
        return found[:count]

    return of


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[bytes]:
    """How often each file was opened."""
    counts: Counter[bytes] = Counter()
    open_image = decoding.open_image

    def counted(encoded: bytes) -> Any:
        counts[encoded] += 1
        return open_image(encoded)

    monkeypatch.setattr(decoding, "open_image", counted)
    monkeypatch.setattr(adversarial_backgrounds, "FOREGROUNDS_AT_A_TIME", 3)
    return counts


@pytest.fixture
def corrupted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done to batches."""
    calls: list[str] = []
    corrupt = corrupting.corrupt

    def counted(images: Any, keys: Any, *, name: str, severity: int, **options: Any) -> Any:
        calls.append(f"{name} {severity}")
        return corrupt(images, keys, name=name, severity=severity, **options)

    monkeypatch.setattr(corrupting, "corrupt", counted)
    return calls


@of_each
def test_scores_are_those_of_each_alone_and_images_are_made_once(
    name: str, data: Path, predictors: Any, decoded: Counter[bytes], corrupted: list[str]
) -> None:
    models, splits, procedure = predictors(name, 3), splits_of(name, data), PROCEDURES[name]
    apart = [procedure(model, splits) for model in models]
    assert len({repr(scores) for scores in apart}) == 3, "they must differ"
    assert set(decoded.values()) == {3}
    decoded.clear()
    corrupted.clear()
    assert procedure.together([(model, Work()) for model in models], splits) == apart
    assert len(decoded) == NUM_DECODED[name] and set(decoded.values()) == {1}
    times = set(Counter(corrupted).values())
    assert times == ({3} if name == "imagenet_c_generated" else set()), "batches"


@of_each
def test_each_goes_on_where_it_was(
    name: str, data: Path, predictors: Any, decoded: Counter[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first has kept two steps when all are killed, the second one, the third nothing."""
    monkeypatch.setattr(resume, "FLUSH_S", 0.0)
    models, splits, procedure = predictors(name, 3), splits_of(name, data), PROCEDURES[name]
    whole = [StoppedWork(tmp_path / f"whole {i}") for i in range(3)]
    expected = [procedure(model, splits, work) for model, work in zip(models, whole, strict=True)]
    for i, at in enumerate((2, 1)):
        with pytest.raises(KeyboardInterrupt):
            procedure(models[i], splits, StoppedWork(tmp_path / str(i), at))
    decoded.clear()
    works = [StoppedWork(tmp_path / str(i)) for i in range(3)]
    assert procedure.together(list(zip(models, works, strict=True)), splits) == expected
    assert [work.num_added for work in works] == [of.num_added - n for of, n in zip(whole, (2, 1, 0), strict=True)]
    assert len(decoded) == NUM_DECODED[name] and set(decoded.values()) == {1}
    again = [StoppedWork(tmp_path / str(i)) for i in range(3)]
    assert procedure.together(list(zip(models, again, strict=True)), splits) == expected
    assert not any(work.num_added for work in again)


@of_each
def test_an_interruption_in_the_middle_of_a_pass_loses_nothing_that_was_kept(
    name: str, data: Path, predictors: Any, decoded: Counter[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reaches the second model: the first has taken the same images, and has a step of its own at least."""
    monkeypatch.setattr(resume, "FLUSH_S", 0.0)
    models, splits, procedure = predictors(name, 2), splits_of(name, data), PROCEDURES[name]
    whole = [StoppedWork(tmp_path / f"whole {i}") for i in range(2)]
    expected = [procedure(model, splits, work) for model, work in zip(models, whole, strict=True)]
    with pytest.raises(KeyboardInterrupt):
        procedure.together(
            [(models[0], StoppedWork(tmp_path / "0")), (models[1], StoppedWork(tmp_path / "1", at=2))], splits
        )
    kept = [len(list(Work(epath.Path(tmp_path / str(i))).done())) for i in range(2)]
    assert kept[0] >= 1
    assert kept[1] == 2
    works = [StoppedWork(tmp_path / str(i)) for i in range(2)]
    assert procedure.together(list(zip(models, works, strict=True)), splits) == expected
    assert [n + work.num_added for n, work in zip(kept, works, strict=True)] == [work.num_added for work in whole]


def test_corruptions_go_on_within_the_short_last_batch(
    data: Path, predictors: Any, corrupted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 images are two batches of 8 and one of 4, each under four corruptions."""
    monkeypatch.setattr(resume, "FLUSH_S", 0.0)
    name = "imagenet_c_generated"
    procedure, splits, (first,) = PROCEDURES[name], splits_of(name, data), predictors(name, 1)
    expected = procedure(first, splits)
    with pytest.raises(KeyboardInterrupt):
        procedure(first, splits, StoppedWork(tmp_path / "0", at=2 * 4 + 1))
    corrupted.clear()
    assert procedure(first, splits, work := StoppedWork(tmp_path / "0")) == expected
    assert corrupted == ["contrast 3", "brightness 1", "brightness 3"] and work.num_added == 3


class Diverged(Predictor):
    """Its features too; those of a network are finite here if only its classifier is not."""

    def features(self, images: np.ndarray) -> np.ndarray:
        return super().features(images) * np.float32(np.nan)


class FullWork(Work):
    """Of a disk on which nothing can be written."""

    def add(self, count: int, columns: Mapping[str, np.ndarray]) -> None:
        self.failed = WriteError("no space left")
        raise self.failed


@of_each
def test_a_model_that_fails_ends_alone(name: str, data: Path, predictors: Any, decoded: Counter[bytes]) -> None:
    """One whose outputs are NaN, and one whose work cannot be kept."""
    first, second, _ = predictors(name, 3)
    expected = PROCEDURES[name](second, splits_of(name, data))
    classifier = {name: values * jnp.nan for name, values in first.loaded.params["classifier"].items()}
    nan = dataclasses.replace(first.loaded, params=first.loaded.params | {"classifier": classifier})
    broken = Diverged(nan, first.mesh, first.batch_size, first.reading)
    decoded.clear()
    works = [(broken, Work()), (first, FullWork()), (second, Work())]
    diverged, full, scored = PROCEDURES[name].together(works, splits_of(name, data))
    assert isinstance(diverged, CheckpointError) and "NaN or infinite, first for" in str(diverged)
    assert isinstance(full, StorageError) and "no space left" in str(full)
    assert scored == expected and set(decoded.values()) == {1}


def test_a_model_of_another_input_costs_the_corruptions_of_the_others_nothing(data: Path, predictors: Any) -> None:
    name = "imagenet_c_generated"
    procedure, splits, (first, *_) = PROCEDURES[name], splits_of(name, data), predictors(name, 1)
    small = Preprocessing(image_size=32, resize_side=32)
    other = FunctionPredictor(FunctionModel(of_quarters, small, "small", imagenet()), 8, Reading(num_threads=2))
    assert procedure.alike(other) == procedure.alike(first)
    refused, scored = procedure.together([(other, Work()), (first, Work())], splits)
    assert isinstance(refused, DataError) and "made at 224 pixels" in str(refused)
    assert scored == procedure(first, splits)


def test_the_command_shares_them(
    data: Path, predictors: Any, decoded: Counter[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From checkpoints to the results of each; those of one architecture share every program."""
    compiled: list[str] = []
    compiling = predictor_lib.compiling

    def told(what: str, **options: bool):  # type: ignore[no-untyped-def]
        compiled.append(what)
        return compiling(what, **options)

    suites: list[Suite] = [
        dataclasses.replace(suite, method=Procedure(PROCEDURES[suite.name]))
        for suite in runner.choose_suites(",".join(PROCEDURES))
    ]
    models = {str(seed): luab_jax.Model(drawn(seed), sharding.make_mesh(MeshConfig())) for seed in range(2)}
    alone = {name: PROCEDURES[name](predictors(name, 2)[1], splits_of(name, data)) for name in PROCEDURES}
    monkeypatch.setattr(predictor_lib, "compiling", told)
    decoded.clear()
    outs = {name: tmp_path / name / "results.json" for name in models}
    cache = str(tmp_path / "cache")
    found = luab_jax.run_suites_together(models, data, suites, outs, batch_size=8, examples=0, cache=cache)
    assert sum(decoded.values()) == sum(NUM_DECODED.values())
    assert sorted(what.split(" of ")[0] for what in compiled) == ["the features", "the prediction", "the prediction"]
    assert not any(isinstance(outcome, UserError) for outcome in found.values())
    kept = {name: luab_jax.read_results(out).suites for name, out in outs.items()}
    assert all(of.keys() == PROCEDURES.keys() for of in kept.values())
    for suite in suites:
        assert kept["1"][suite.name][suite.headline] == float(alone[suite.name][suite.headline]), suite.name


@pytest.mark.parametrize("name", ["imagenet_c_generated", "imagenet_o_knn"])
def test_work_on_data_that_turns_out_to_have_no_score_is_not_kept(
    name: str, data: Path, predictors: Any, tmp_path: Path
) -> None:
    """Its units are corrupted images, or the images that are compared, and not the records of the splits."""
    (first,), splits = predictors(name, 1), splits_of(name, data)
    work = Work(epath.Path(tmp_path / "work"), "", 1 + sum(len(split.records) for split in splits.values()))
    with pytest.raises(DataError, match="no label"), work:
        PROCEDURES[name](first, splits, work)
        work.flush()
        assert (tmp_path / "work").exists()
        raise DataError("no label")
    assert not (tmp_path / "work").exists()


def test_work_of_a_search_is_kept_whatever_its_count(data: Path, predictors: Any, tmp_path: Path) -> None:
    """How many composites it needs is not known before, and may be the number of records by chance."""
    name = "bgc_accuracy"
    (first,), splits = predictors(name, 1), splits_of(name, data)
    num_composites = PROCEDURES[name](first, splits)["forward_passes"]
    work = Work(epath.Path(tmp_path / "work"), "", num_composites)
    with pytest.raises(DataError, match="of another suite"), work:
        PROCEDURES[name](first, splits, work)
        raise DataError("of another suite")
    assert (tmp_path / "work").exists()
