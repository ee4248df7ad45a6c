"""Several checkpoints in one pass: each image decoded once, one program for each architecture, the same scores."""

from __future__ import annotations

import dataclasses
import inspect
import shutil
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import luab_jax
from luab_jax import api
from luab_jax import evaluate as evaluate_command
from luab_jax.checkpoints.loaded import LoadedModel
from luab_jax.config import MeshConfig
from luab_jax.data.transforms import Preprocessing
from luab_jax.distributed import sharding
from luab_jax.errors import CheckpointError, ExitCode, ShardError, StorageError, UsageError, UserError, WriteError
from luab_jax.evaluate import main as evaluate
from luab_jax.evaluation import predictor as predictor_lib
from luab_jax.evaluation import resume
from luab_jax.evaluation.checkpoint_list import expand, names_of, outs_of
from luab_jax.evaluation.predictor import BatchPredictor
from luab_jax.evaluation.procedures.by_image import ByImage, Items
from luab_jax.evaluation.suite import Part, Procedure, Suite
from luab_jax.foreign.model import FunctionModel
from luab_jax.io.lease import LeaseLostError
from luab_jax.training.loop import train
from tests import tiny
from tests.foreign.made import PREPROCESSING, native

SUITES = "imagenet,cocc"
OTHERS_SEE_NOT = Preprocessing(image_size=16, resize_side=20)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare_split(tmp_path_factory.mktemp("data"), "val", 27)


def model_of(loaded: LoadedModel) -> luab_jax.Model:
    return luab_jax.Model(loaded, sharding.make_mesh(MeshConfig()))


def of_others(function: Callable[[np.ndarray], np.ndarray], name: str) -> luab_jax.ForeignModel:
    return luab_jax.ForeignModel(FunctionModel(function, PREPROCESSING, name, tiny.CLASSES))


def brightest(images: np.ndarray) -> np.ndarray:
    return images.max(axis=(1, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def models() -> dict[str, luab_jax.Model | luab_jax.ForeignModel]:
    """Two of one architecture, one that sees other pixels, and one of others."""
    other = dataclasses.replace(PREPROCESSING, resize_side=24)
    third = native(seed=2)
    third = dataclasses.replace(third, preprocessing=other, identity=third.identity | {"preprocessing_override": {}})
    return {
        "a": model_of(native(seed=0)),
        "b": model_of(native(seed=1)),
        "c": model_of(third),
        "d": of_others(brightest, "brightest"),
    }


@pytest.fixture(scope="module")
def apart(models: dict[str, luab_jax.Model], data: Path) -> dict[str, dict[str, float]]:
    """The scores of each by itself."""
    found = {name: luab_jax.run_suites(model, data, SUITES, batch_size=8) for name, model in models.items()}
    return {name: scores(results) for name, results in found.items()}


def scores(results: luab_jax.SuiteResults | UserError) -> dict[str, float]:
    assert isinstance(results, luab_jax.SuiteResults), results
    return {f"{suite} {name}": entry.value for suite, of in results.suites.items() for name, entry in of.scores.items()}


def test_scores_are_those_of_each_by_itself_and_images_are_decoded_once(
    models: dict[str, luab_jax.Model],
    apart: dict[str, dict[str, float]],
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passes: list[Preprocessing] = []
    compiled: list[str] = []
    batches, compiling = BatchPredictor.batches, predictor_lib.compiling

    def counted(self, split, preprocessing, *arguments):  # type: ignore[no-untyped-def]
        passes.append(preprocessing)
        return batches(self, split, preprocessing, *arguments)

    def told(what: str, **options: bool):  # type: ignore[no-untyped-def]
        compiled.append(what)
        return compiling(what, **options)

    monkeypatch.setattr(BatchPredictor, "batches", counted)
    monkeypatch.setattr(predictor_lib, "compiling", told)
    together = luab_jax.run_suites_together(models, data, SUITES, batch_size=8)
    assert {name: scores(results) for name, results in together.items()} == apart
    assert len({tuple(of_model.items()) for of_model in apart.values()}) == len(models), "they must differ"
    assert sorted(p.resize_side for p in passes if p.resize_side) == [18, 24]
    assert len(compiled) == 1


def test_a_model_that_fails_costs_the_others_nothing(
    models: dict[str, luab_jax.Model], apart: dict[str, dict[str, float]], data: Path, tmp_path: Path
) -> None:
    """One cannot be loaded, one breaks on its second batch, one returns no logits, alone or beside others, one has NaN,
    one's results are another's."""
    calls: list[int] = []

    def breaks(images: np.ndarray) -> np.ndarray:
        calls.append(len(images))
        if len(calls) > 1:
            raise CheckpointError("out of order")
        return brightest(images)

    def odd(images: np.ndarray) -> np.ndarray:
        return images[:, 0, 0, :2]

    def no_such() -> luab_jax.Model | luab_jax.ForeignModel:
        return luab_jax.load(tmp_path / "nowhere")

    outs = {name: tmp_path / f"{name}.json" for name in ("a", "b", "taken")}
    luab_jax.run_suites(models["b"], data, "imagenet", outs["taken"], batch_size=8, examples=0)
    found = luab_jax.run_suites_together(
        {
            "missing": no_such,
            "a": models["a"],
            "breaks": of_others(breaks, "breaks"),
            "nan": of_others(lambda images: np.full((len(images), 3), np.nan), "nan"),
            "odd": of_others(odd, "odd"),
            "odd_alone": luab_jax.ForeignModel(FunctionModel(odd, OTHERS_SEE_NOT, "odd_alone", tiny.CLASSES)),
            "taken": lambda: models["d"],
            "b": models["b"],
        },
        data,
        SUITES,
        outs,
        maps="rise:2",  # for models of others; networks have their own
        batch_size=8,
        examples=0,
    )
    assert list(found) == ["missing", "a", "breaks", "nan", "odd", "odd_alone", "taken", "b"]
    for name in ("a", "b"):
        assert scores(found[name]) == apart[name]
        assert set(luab_jax.read_results(outs[name]).suites) == {"imagenet", "cocc"}
    for name, told in (
        ("missing", "nowhere"),
        ("breaks", "out of order"),
        ("nan", "NaN or infinite"),
        ("odd", "returned uint8 (8, 2)"),
        ("odd_alone", "returned uint8 (8, 2)"),
        ("taken", "holds results of another checkpoint"),
    ):
        assert isinstance(found[name], UserError) and told in str(found[name]), name
    assert len(calls) == 2, "it was asked no more"


def test_the_error_of_a_model_keeps_no_images_in_memory_while_others_go_on(data: Path) -> None:
    given: list[weakref.ref[np.ndarray]] = []
    held: list[bool] = []

    def odd(images: np.ndarray) -> np.ndarray:
        given.append(weakref.ref(images))
        return images[:, 0, 0, :2]

    def noting(images: np.ndarray) -> np.ndarray:
        held.append(any(batch() is not None for batch in given))
        return brightest(images)

    models = {"odd": of_others(odd, "odd"), "noting": of_others(noting, "noting")}
    found = luab_jax.run_suites_together(models, data, "imagenet", batch_size=8, examples=0)
    assert isinstance(found["odd"], UserError) and scores(found["noting"])
    assert len(given) == 1 and len(held) == 4 and not any(held[1:])


@pytest.mark.parametrize("error", [WriteError("full.json: no space left"), LeaseLostError("full.json: taken over")])
def test_a_model_whose_work_cannot_be_written_costs_the_others_nothing(
    error: StorageError, apart: dict[str, dict[str, float]], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "FLUSH_S", 0.0)
    write = resume.Work._write

    def full(work: resume.Work, name: str, columns: Any) -> None:
        if "full.json" in str(work._folder):
            raise error
        write(work, name, columns)

    monkeypatch.setattr(resume.Work, "_write", full)
    models = {name: of_others(brightest, name) for name in ("full", "d")}
    outs = {name: tmp_path / f"{name}.json" for name in models}
    found = luab_jax.run_suites_together(models, data, SUITES, outs, batch_size=8, examples=0)
    assert found["full"] is error and scores(found["d"]) == apart["d"]
    assert not outs["full"].exists()


def test_a_record_that_stops_a_procedure_of_several_models_is_told_of_each_once(data: Path, tmp_path: Path) -> None:
    class Keeps:
        def __init__(self, work: resume.Work):
            self.done, self._work = 0, work

        def take(self, item: int) -> None:
            self._work.add(1, {"x": np.full(1, item)})

        def scores(self) -> dict[str, float]:
            raise AssertionError("the last record was not read")

    def after(_: int) -> Iterator[int]:
        yield from range(2)
        raise ShardError("s-0: record 2 fails its CRC")

    of_all = ByImage("broken", lambda _, __: Items(3, after, lambda _, work: Keeps(work)), lambda _: 0)
    suite = Suite("broken", {"val": Part((".",), "val")}, Procedure(of_all), "top1", protocol="")
    models = {name: of_others(brightest, name) for name in ("a", "b", "c")}
    outs = {name: tmp_path / f"{name}.json" for name in models}
    found = luab_jax.run_suites_together(models, data, [suite], outs, batch_size=8, examples=0)
    for name, told in found.items():
        assert isinstance(told, UserError)
        assert "s-0: record 2 fails its CRC. What was computed of the 2 images before is kept: once" in str(told)
        assert str(told).count("is kept") == 1
        assert [path.name for path in (tmp_path / f"{name}.json.unfinished").glob("broken-*/*")] == ["0-2.npz"]


def test_an_interrupted_pass_goes_on_where_each_of_them_was(
    apart: dict[str, dict[str, float]], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C reaches the second model in the third batch: the first has kept more."""
    monkeypatch.setattr(resume, "FLUSH_S", 0.0)
    seen: list[int] = []

    def interrupted(images: np.ndarray) -> np.ndarray:
        seen.append(1)
        if len(seen) == 7:  # three views of two batches, and the first of the third
            raise KeyboardInterrupt
        return brightest(images)

    def run(second: Callable[[np.ndarray], np.ndarray]) -> dict[str, luab_jax.SuiteResults | UserError]:
        both = {"a": model_of(native(seed=0)), "d": of_others(second, "brightest")}
        outs = {name: tmp_path / f"{name}.json" for name in both}
        return luab_jax.run_suites_together(both, data, SUITES, outs, batch_size=8, examples=0)

    with pytest.raises(KeyboardInterrupt):
        run(interrupted)
    asked: list[int] = []

    def counted(images: np.ndarray) -> np.ndarray:
        asked.append(1)
        return brightest(images)

    found = run(counted)
    assert {name: scores(results) for name, results in found.items()} == {name: apart[name] for name in ("a", "d")}
    assert 0 < len(asked) < 3 * 4, "what was kept is not predicted again"
    asked.clear()
    run(counted)
    assert not asked


def test_the_command_takes_patterns_and_leaves_results_beside_each_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tiny.prepare_data(tmp_path / "data")
    runs = tmp_path / "runs"
    train(tiny.experiment(data, total_steps=2), runs / "one")
    shutil.copytree(runs / "one", runs / "two")
    (runs / "no_run").mkdir()
    arguments = [f"--checkpoint={runs}/*", f"--data={data}", "--suites=imagenet", "--batch_size=8"]
    assert evaluate(arguments) == ExitCode.DONE
    told = capsys.readouterr()
    assert "left out, for they hold no checkpoint" in told.err and "no_run" in told.err
    assert told.err.count("compiled the prediction") == 1
    first, second = (luab_jax.read_results(runs / name / "results.json") for name in ("one", "two"))
    assert first.suites["imagenet"].scores == second.suites["imagenet"].scores
    assert "one\n" in told.out and f"results in {runs / 'two' / 'results.json'}" in told.out

    shutil.rmtree(next(path for path in (runs / "two" / "checkpoints").iterdir() if path.is_dir()))
    out = tmp_path / "out"
    arguments = [f"--checkpoint={runs}/one", f"--checkpoint={runs}/two", f"--data={data}", f"--out={out}"]
    assert evaluate([*arguments, "--suites=imagenet", "--batch_size=8"]) == ExitCode.FAILED
    assert "error: two: " in capsys.readouterr().err
    assert [path.name for path in sorted(out.glob("*.json"))] == ["one.json"]


def test_several_checkpoints_have_every_option_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that only one of the two calls passes on would be taken, and do nothing."""
    of_one, of_several = (
        {name for name, one in inspect.signature(call).parameters.items() if one.kind is one.KEYWORD_ONLY}
        for call in (luab_jax.run_suites, luab_jax.run_suites_together)
    )
    assert of_one - of_several == {"preprocessing", "classes", "name"}, "which are those of a function"
    assert of_several <= of_one
    passed: dict[str, set[str]] = {}

    def noted(call: str) -> Callable[..., Any]:
        def note(*arguments: object, **options: object) -> Any:
            passed[call] = set(options)
            raise UserError("enough")

        return note

    for call in ("run_suites", "run_suites_together"):
        monkeypatch.setattr(api, call, noted(call))
    tiny.prepare_data(tmp_path)
    for checkpoints in (["python:tests.tiny:none"], ["a", "b"]):
        monkeypatch.setattr(api, "load", lambda *arguments, **options: None)
        flags = [f"--checkpoint={checkpoint}" for checkpoint in checkpoints]
        assert evaluate([*flags, f"--data={tmp_path}", f"--out={tmp_path}/out"]) == ExitCode.FAILED
    assert passed == {"run_suites": of_several, "run_suites_together": of_several}


def test_outs_of_no_model_are_refused_before_anything_is_loaded(data: Path, tmp_path: Path) -> None:
    """Else hours of evaluation would be kept nowhere."""

    def loaded() -> luab_jax.Model:
        raise AssertionError("loaded")

    def run(outs: Any) -> None:
        luab_jax.run_suites_together({"luab": loaded, "baseline": loaded}, data, "imagenet", outs)

    with pytest.raises(UserError, match=r"^outs: no model is named 'laub'; did you mean 'luab'\?$"):
        run({"baseline": tmp_path / "b.json", "laub": tmp_path / "a.json"})
    with pytest.raises(UserError, match=r"^outs: no model is named 'x'; they are luab, baseline$"):
        run({"x": tmp_path / "a.json"})


def test_a_model_may_be_named_as_load_takes_it(
    models: dict[str, luab_jax.Model], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = luab_jax.run_suites_together({"a": tmp_path / "nowhere", "b": "predictions:DIR"}, data, "imagenet")
    assert "nowhere" in str(found["a"]) and "predictions are no model to load" in str(found["b"])
    asked: list[str] = []
    monkeypatch.setattr(api, "load", lambda checkpoint: asked.append(str(checkpoint)) or models["a"])
    found = luab_jax.run_suites_together({"a": "onnx:a.onnx", "b": Path("RUNS/b")}, data, "imagenet", batch_size=8)
    assert asked == ["onnx:a.onnx", "RUNS/b"] and scores(found["a"]) == scores(found["b"])


@pytest.mark.parametrize(
    ("option", "value", "lowest"),
    [("batch_size", 0, 1), ("num_threads", -1, 0), ("workers", -2, -1), ("examples", -1, 0)],
)
def test_numbers_have_the_bounds_of_the_commands_flags(
    models: dict[str, luab_jax.Model], data: Path, option: str, value: int, lowest: int
) -> None:
    flag = evaluate_command._COMMAND.flags[option]
    assert flag.parser.lower_bound == lowest  # type: ignore[attr-defined]
    numbers: dict[str, Any] = {option: value}
    with pytest.raises(UserError, match=f"^{option}={value}: expected {lowest} or more$"):
        luab_jax.run_suites(models["a"], data, "imagenet", **numbers)
    with pytest.raises(UserError, match=f"^{option}={value}: expected {lowest} or more$"):
        luab_jax.run_suites_together(models, data, "imagenet", **numbers)


def test_names_tell_checkpoints_apart() -> None:
    assert list(names_of(["R/a/s0", "R/b/s0", "onnx:M/c.onnx"])) == ["a_s0", "b_s0", "M_c"]
    assert list(names_of(["R/a", "python:mine.models:tower"])) == ["a", "tower"]
    with pytest.raises(UsageError, match="are the same"):
        names_of(["R/a", "R/a"])
    assert outs_of({"a": "R/a", "m": "onnx:m.onnx"}, "OUT") == {"a": "OUT/a.json", "m": "OUT/m.json"}
    assert outs_of({"a": "gs://b/a"}, None) == {"a": "gs://b/a/results.json"}
    for named, out, told in (
        ({"a": "R/a"}, "r.json", "it is a folder"),
        ({"m": "onnx:m"}, None, "--out=DIR is missing"),
    ):
        with pytest.raises(UsageError, match=told):
            outs_of(named, out)


def test_patterns_that_match_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").touch()
    assert expand([f"onnx:{tmp_path}/*.onnx", "R/a", "R/a"]) == [f"onnx:{tmp_path}/a.onnx", "R/a"]
    with pytest.raises(UserError, match="nothing matches that is the workdir of a run"):
        expand([f"{tmp_path}/*"])
