"""What was computed comes back after an interruption: whole, in order, once, and for the same question only."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from etils import epath

from luab_jax.byproducts.targets import Target
from luab_jax.checkpoints.load import LoadedModel
from luab_jax.config import MeshConfig
from luab_jax.data.class_lists import imagenet
from luab_jax.data.dataset import PreparedSplit, manifest_path, open_split
from luab_jax.data.pipeline import Reading
from luab_jax.distributed import sharding
from luab_jax.errors import CheckpointError, DataError
from luab_jax.evaluation import columns, procedures, resume, runner
from luab_jax.evaluation.answers import ARGMAX, Doubts
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.predictor import Predictor
from luab_jax.evaluation.procedures import adversarial_backgrounds
from luab_jax.evaluation.results import Results
from luab_jax.evaluation.resume import Unfinished, Work
from luab_jax.results.format import Suite
from tests import tiny
from tests.evaluation.test_saved_predictions import predicted
from tools.miniatures import Miniatures, tiny_model

Procedure = Callable[[Work], Mapping[str, object]]


class StoppedWork(Work):
    """Ctrl-C after so many steps; counts them."""

    def __init__(self, folder: Path, at: int | None = None):
        super().__init__(epath.Path(folder))
        self._at, self.num_added = at, 0

    def add(self, count: int, columns: Mapping[str, np.ndarray]) -> None:
        super().add(count, columns)
        self.num_added += 1
        if self.num_added == self._at:
            raise KeyboardInterrupt


# --- files


def steps(folder: Path) -> list[tuple[int, int, list[int]]]:
    return [(step.start, step.stop, step.columns["x"].tolist()) for step in Work(epath.Path(folder)).done()]


def test_steps_come_back_joined_as_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Work(epath.Path(tmp_path / "w")) as work:
        work.add(2, {"x": np.arange(2)})
        work.add(1, {"x": np.arange(1)})
    monkeypatch.setattr(resume, "FLUSH_S", 0.0)
    with Work(epath.Path(tmp_path / "w")) as work:
        assert [step.stop for step in work.done()] == [3]
        work.add(4, {"x": np.arange(4)})
        assert steps(tmp_path / "w") == [(0, 3, [0, 1, 0]), (3, 7, [0, 1, 2, 3])], "before it is left"
    work.remove()
    assert steps(tmp_path / "w") == []


def test_suites_that_are_done_leave_the_begun_work_of_others(tmp_path: Path) -> None:
    results = epath.Path(tmp_path / "results.json")

    def begun() -> Unfinished:
        return Unfinished(results, {"checkpoint": "a"})

    for name in ("long", "short"):
        with begun().work(name, {}) as work:
            work.add(2, {"x": np.arange(2)})
    later = begun()
    later.work("short", {}).remove()
    later.tidy()
    assert [len(list(begun().work(name, {}).done())) for name in ("long", "short")] == [1, 0]
    last = begun()
    last.work("long", {}).remove()
    last.tidy()
    assert list(tmp_path.iterdir()) == []


def test_half_a_file_and_what_comes_after_it_are_computed_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "FLUSH_S", 0.0)
    with Work(epath.Path(tmp_path)) as work:
        for _ in range(3):
            work.add(5, {"x": np.arange(5)})
    file = tmp_path / "5-10.npz"
    file.write_bytes(file.read_bytes()[:100])
    assert [stop for _, stop, _ in steps(tmp_path)] == [5]
    assert "5-10.npz: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["answers", "doubts", "all"])
def test_what_a_suite_keeps_is_the_same_as_columns(kind: str) -> None:
    whole = predicted()
    rows = [i for i, truth in enumerate(whole.truths) if truth.label >= 0]
    known = Predictions(whole.logits[rows], whole.byproduct[rows], [whole.truths[i] for i in rows], Target.CLICK_LAST)
    kept = {"answers": ARGMAX(known), "doubts": Doubts(np.arange(3.0)), "all": known}[kind]
    again = columns.as_kept(columns.of_kept(kept), Target.CLICK_LAST)
    assert type(again) is type(kept)
    for field in dataclasses.fields(kept):
        ours, theirs = (repr(getattr(of, field.name)) for of in (again, kept))
        assert ours == theirs, field.name


def test_seconds_are_those_of_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0.0)  # every look at it takes a second
    monkeypatch.setattr(resume, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    for before in (0.0, 2.0):
        with Work(epath.Path(tmp_path)) as work:
            taken_up = [step.columns.keys() for step in work.done()]
            assert work.seconds == before and all(names == {"x"} for names in taken_up)
            work.add(1, {"x": np.arange(1)})
            work.add(1, {"x": np.arange(1)})


def test_work_on_what_is_no_good_as_a_whole_is_not_kept(tmp_path: Path) -> None:
    for error in (CheckpointError("diverged"), DataError("no image has a box")):
        with pytest.raises(type(error), match=f"^{error}$"), Work(epath.Path(tmp_path / "w"), "", 2) as work:
            work.add(2, {"x": np.arange(2)})
            raise error
        assert not (tmp_path / "w").exists()


# --- procedures


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return tiny_model()


@pytest.fixture(scope="module")
def miniatures(loaded: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Miniatures:
    return Miniatures(tmp_path_factory.mktemp("raw"), loaded)


@pytest.fixture(scope="module")
def predictor(loaded: LoadedModel) -> Predictor:
    return Predictor(loaded, sharding.make_mesh(MeshConfig()), 8, Reading(num_threads=2))


def opened(miniatures: Miniatures, directory: str, *splits: str) -> dict[str, PreparedSplit]:
    return {split: open_split(miniatures.data / directory, split) for split in splits}


@pytest.mark.parametrize("name", ["bgc_accuracy", "localisation", "generated"])
def test_a_procedure_goes_on_after_its_last_step(
    name: str, miniatures: Miniatures, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adversarial_backgrounds, "FOREGROUNDS_AT_A_TIME", 5)
    in9 = opened(miniatures, "backgrounds_challenge", "original", "only_bg_t")
    boxed, val = (opened(miniatures, f"imagenet{end}", "val") for end in ("_localisation", ""))
    procedure: Procedure = {
        "bgc_accuracy": lambda work: procedures.bgc_accuracy(predictor, in9, work),
        "localisation": lambda work: procedures.localisation(predictor, boxed, work),
        "generated": lambda work: procedures.generated_corruptions_of(("contrast",), (1, 2))(predictor, val, work),
    }[name]
    expected = procedure(whole := StoppedWork(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt), StoppedWork(tmp_path / "stopped", at=2) as work:
        procedure(work)
    with StoppedWork(tmp_path / "stopped") as work:
        assert procedure(work) == expected
    assert 0 < work.num_added == whole.num_added - 2


def test_object_removal_goes_on_after_its_last_step(tmp_path: Path, miniatures: Miniatures) -> None:
    base = tiny_model()
    of_sets = dataclasses.replace(base, label_sets=True)
    predictor = Predictor(of_sets, sharding.make_mesh(MeshConfig()), 8, Reading(num_threads=2))
    coco = opened(miniatures, "coco", "val")
    expected = procedures.context_dependence(predictor, coco, whole := StoppedWork(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt), StoppedWork(tmp_path / "stopped", at=1) as work:
        procedures.context_dependence(predictor, coco, work)
    with StoppedWork(tmp_path / "stopped") as work:
        assert procedures.context_dependence(predictor, coco, work) == expected
    assert 0 < work.num_added == whole.num_added - 1


# --- suites that share a source


class Stopped(Predictor):
    """Ctrl-C before the given batch of all; tells from which image on sources were read."""

    def __init__(self, loaded: LoadedModel, at: int | None = None):
        super().__init__(loaded, sharding.make_mesh(MeshConfig()), 8, Reading(num_threads=2))
        self._at, self._seen = at, 0
        self.starts: list[tuple[str, int]] = []

    def stream(self, split, views, stored, start):  # type: ignore[no-untyped-def,override]
        self.starts.append((split.manifest.dataset, start))
        for batch in super().stream(split, views, stored, start):
            self._seen += 1
            if self._seen == self._at:
                raise KeyboardInterrupt
            yield batch


def evaluate(
    predictor: Predictor, data: Path, suites: str, out: Path, save_to: Path | None = None
) -> tuple[dict[str, Suite], dict[str, str]]:
    results = Results(out, predictor.loaded)
    missing = runner.evaluate(predictor.loaded, predictor, data, runner.choose_suites(suites), results, save_to)
    scores = {name: msgspec.structs.replace(suite, seconds=None) for name, suite in results.suites.items()}
    return scores, {entry.suite.name: entry.reason for entry in missing}


SHARED = "imagenet_o,imagenet_r,imagenet"
"""All three read ImageNet's validation set, the first two also a set of their own."""


def broken_record(source: Path, to: Path, split: str, index: int) -> tuple[Path, Callable[[], object]]:
    """A copy of prepared data, one byte of a record changed; and what mends it."""
    shutil.copytree(source, to)
    opened = open_split(to, split)
    (shard,) = (to / shard.file_name for shard in opened.manifest.shards)
    offset = int(opened.records.places[0][index])
    whole = shard.read_bytes()
    shard.write_bytes(whole[: offset + 40] + bytes([whole[offset + 40] ^ 1]) + whole[offset + 41 :])
    return shard, lambda: shard.write_bytes(whole)


def test_what_came_before_a_broken_record_is_not_computed_again(
    loaded: LoadedModel, miniatures: Miniatures, tmp_path: Path
) -> None:
    """Nor what its suite has of another set, though the other suites of that are done."""
    data, out = tmp_path / "data", tmp_path / "out.json"
    data.mkdir()
    for name in ("imagenet_o", "imagenet_real"):
        (data / name).symlink_to(miniatures.data / name)
    shard, mend = broken_record(miniatures.data / "imagenet_r", data / "imagenet_r", "test", index=10)
    found, reasons = evaluate(Stopped(loaded), data, SHARED, out)
    assert found.keys() == {"imagenet_o", "imagenet"} and reasons.keys() == {"imagenet_r"}
    assert f"{shard}: record 10 at byte" in reasons["imagenet_r"] and "fails its CRC" in reasons["imagenet_r"]
    assert reasons["imagenet_r"].endswith(
        "the 8 images before is kept: once the shard is whole again, the same command goes on after them"
    )
    mend()
    found, _ = evaluate(again := Stopped(loaded), data, SHARED, out)
    assert again.starts == [("imagenet_r", 8)]
    assert found["imagenet_r"] == evaluate(Stopped(loaded), data, "imagenet_r", tmp_path / "o.json")[0]["imagenet_r"]
    assert not out.with_name("out.json.unfinished").exists()


def test_a_procedure_goes_on_after_a_broken_record_and_counts_the_seconds_of_both_runs(
    loaded: LoadedModel,
    miniatures: Miniatures,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, name, out = miniatures.data / "imagenet_localisation", "localisation", tmp_path / "out.json"
    shard, mend = broken_record(source, tmp_path / "data" / "imagenet_localisation", "val", index=29)
    with monkeypatch.context() as slow:
        clock = itertools.count(0.0, 1000.0)
        slow.setattr(resume, "time", SimpleNamespace(monotonic=lambda: next(clock)))
        found, reasons = evaluate(Stopped(loaded), tmp_path / "data", name, out)
    assert not found and f"{shard}: record 29" in reasons[name] and "is kept" in reasons[name]
    mend()
    results = Results(out, loaded)
    assert not runner.evaluate(loaded, Stopped(loaded), tmp_path / "data", runner.choose_suites(name), results)
    assert "localisation: going on after" in capsys.readouterr().err
    assert (results.suites[name].seconds or 0) > 1000
    expected = evaluate(Stopped(loaded), tmp_path / "data", name, tmp_path / "whole.json")[0][name]
    assert msgspec.structs.replace(results.suites[name], seconds=None) == expected


@pytest.mark.parametrize("save", [False, True], ids=["", "with predictions"])
def test_no_image_is_predicted_twice_by_suites_that_share_it(
    loaded: LoadedModel, miniatures: Miniatures, tmp_path: Path, save: bool
) -> None:
    expected, _ = evaluate(Stopped(loaded), miniatures.data, SHARED, tmp_path / "whole.json")
    out, save_to = tmp_path / "out.json", tmp_path / "predictions" if save else None
    with pytest.raises(KeyboardInterrupt):  # two batches of each 12 images, four of the 30 of the validation set
        evaluate(Stopped(loaded, at=4), miniatures.data, SHARED, out, save_to)
    with pytest.raises(KeyboardInterrupt):
        evaluate(second := Stopped(loaded, at=5), miniatures.data, SHARED, out, save_to)
    found, _ = evaluate(third := Stopped(loaded), miniatures.data, SHARED, out, save_to)
    assert found == expected
    assert [second.starts, third.starts] == [[("imagenet_real", 8), ("imagenet_r", 0)], [("imagenet_r", 8)]]
    assert not out.with_name("out.json.unfinished").exists()
    if save_to is not None:
        assert len(list(save_to.glob("*.npz"))) == 3


def test_another_question_begins_anew(loaded: LoadedModel, miniatures: Miniatures, tmp_path: Path) -> None:
    """Another checkpoint has no use of what is there, nor has a suite that was not asked for then."""
    out = tmp_path / "out.json"
    with pytest.raises(KeyboardInterrupt):
        evaluate(Stopped(loaded, at=3), miniatures.data, "imagenet", out)
    with pytest.raises(KeyboardInterrupt):
        evaluate(again := Stopped(loaded, at=2), miniatures.data, "imagenet", out)
    assert again.starts == [("imagenet_real", 16)]
    other = Stopped(dataclasses.replace(loaded, identity=loaded.identity | {"step": 7}))
    evaluate(other, miniatures.data, "imagenet", tmp_path / "other.json")
    more, _ = evaluate(both := Stopped(loaded), miniatures.data, "imagenet,cocc", out)
    assert other.starts == both.starts == [("imagenet_real", 0)]
    assert more == evaluate(Stopped(loaded), miniatures.data, "imagenet,cocc", tmp_path / "whole.json")[0]


def test_a_suite_that_the_data_was_not_for_is_not_asked_again(loaded: LoadedModel, tmp_path: Path) -> None:
    """ReaL's labels are missing from the third image on; what the other suite kept stays."""
    data = tiny.prepare_split(tmp_path / "data", "val", 20)
    path = manifest_path(data, "val")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"counts": {}}))  # else ReaL is refused at once
    own = dataclasses.replace(loaded, class_list_hash=tiny.CLASSES.hash)

    class Unlabelled(Stopped):
        def stream(self, split, views, stored, start):  # type: ignore[no-untyped-def,override]
            for batch in super().stream(split, views, stored, start):
                for of_view in batch.values():
                    of_view.truths[:] = [dataclasses.replace(truth, label=-1) for truth in of_view.truths]
                yield batch

    with pytest.raises(KeyboardInterrupt):
        evaluate(Unlabelled(own, at=2), data, "imagenet,cocc,imagenet_real", tmp_path / "out.json")
    _, reasons = evaluate(again := Unlabelled(own), data, "imagenet,cocc,imagenet_real", tmp_path / "out.json")
    assert again.starts == [("tiny", 8)]
    assert "has no label" in reasons["imagenet"] and "has no label" in reasons["cocc"]
    assert "ReaL labels" in reasons["imagenet_real"]


def test_an_optional_part_of_other_classes_is_left_out_alone(
    loaded: LoadedModel, miniatures: Miniatures, tmp_path: Path
) -> None:
    """ImageNet-R is scored, and told without the accuracy on clean images: those of --data are of another list."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "imagenet_r").symlink_to(miniatures.data / "imagenet_r")
    tiny.prepare_split(data / "imagenet", "val", 9)
    assert imagenet().hash != tiny.CLASSES.hash
    found, reasons = evaluate(Stopped(loaded), data, "imagenet_r,imagenet_o", tmp_path / "out.json")
    assert found["imagenet_r"]["n"] == 12 and "top1_clean" not in found["imagenet_r"]
    assert "read as wrong classes" in found["imagenet_r"].data.left_out["clean"]
    assert found["imagenet_r"].data.absent == ["clean"]
    assert "no data for out" in reasons["imagenet_o"]
    again = Stopped(loaded)
    evaluate(again, data, "imagenet_r", tmp_path / "out.json")
    assert again.starts == [], "it is in the results"
