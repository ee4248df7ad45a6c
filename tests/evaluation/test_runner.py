"""Suites on a trained checkpoint: exact counts, one program, nothing run twice, nothing read as the wrong class."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath
from PIL import Image

import luab_jax
from data_prep.writing.publish import prepare
from data_prep.writing.shards import Outcome, Plan
from luab_jax.byproducts.targets import Target
from luab_jax.checkpoints.load import LoadedModel, load
from luab_jax.config import ByproductConfig, MeshConfig
from luab_jax.data.class_lists import ClassList
from luab_jax.data.dataset import manifest_path, open_split
from luab_jax.data.features import Example
from luab_jax.data.pipeline import Reading
from luab_jax.distributed import sharding
from luab_jax.errors import CheckpointError, ExitCode, UserError
from luab_jax.evaluation import runner
from luab_jax.evaluation.predictor import Predictor
from luab_jax.evaluation.programs import occlusion
from luab_jax.evaluation.results import Results
from luab_jax.evaluation.suite import View
from luab_jax.results.format import Suite
from luab_jax.results.read import read_results
from luab_jax.training.loop import train
from tests import tiny

VAL_SUITES = "imagenet,cocc,byproduct"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def workdir(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("run")
    train(tiny.experiment(data), workdir)
    return workdir


@pytest.fixture(scope="module")
def loaded(workdir: Path) -> LoadedModel:
    return load(workdir, "latest", sharding.make_mesh(MeshConfig()))


@pytest.fixture(scope="module")
def predictor(loaded: LoadedModel) -> Predictor:
    return Predictor(loaded, sharding.make_mesh(MeshConfig()), 8, Reading(num_threads=2))


def run(
    loaded: LoadedModel, predictor: Predictor, data: Path, suites: str, out: Path
) -> tuple[dict[str, Suite], list[runner.Missing]]:
    results = Results(out, loaded)
    missing = runner.evaluate(loaded, predictor, data, runner.choose_suites(suites), results)
    return results.suites, missing


def test_scores_are_those_of_a_plain_loop(
    loaded: LoadedModel, predictor: Predictor, data: Path, tmp_path: Path
) -> None:
    """Every image by itself: Pillow, the documented constants, the model; no pipeline, no batch, no mask."""
    apply = jax.jit(lambda images: loaded.model.apply(loaded.params, loaded.batch_stats, images, train=False)[0])
    right, distances = {"plain": 0, "mean": 0, "black": 0}, []
    split = open_split(data, "val")
    for i in range(len(split.records)):
        record = Example(split.records[i]).record()
        image = Image.open(io.BytesIO(record.image)).convert("RGB").resize((20, 16), Image.Resampling.BICUBIC)
        pixels = np.asarray(image.crop((2, 0, 18, 16)), np.float32) / 255
        mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        black = pixels.copy()
        black[4:12, 4:12] = 0
        normalised = (pixels - mean) / std
        hidden = normalised.copy()
        hidden[4:12, 4:12] = 0
        views = {"plain": normalised, "mean": hidden, "black": (black - mean) / std}
        outputs = apply(np.stack(list(views.values())).astype(np.float32))
        for name, logits in zip(views, np.asarray(outputs.logits), strict=True):
            right[name] += int(logits.argmax() == record.label)
        click = record.showings[0].clicks[0]
        seen = np.array([(click.x * 20 - 2) / 16, click.y])
        if np.all((seen >= 0) & (seen <= 1)):
            distances.append(np.linalg.norm(np.asarray(outputs.byproduct)[0, 0] - seen))
    suites, _ = run(loaded, predictor, data, VAL_SUITES, tmp_path / "results.json")
    assert suites["imagenet"]["top1"] == pytest.approx(right["plain"] / 13)
    assert suites["cocc"]["top1"] == pytest.approx(right["mean"] / 13)
    assert suites["cocc"]["top1_black"] == pytest.approx(right["black"] / 13)
    assert suites["byproduct"]["n_clicked"] == len(distances)
    assert suites["byproduct"]["median_distance"] == pytest.approx(np.median(distances), rel=1e-4)


def test_all_suites_and_views_share_one_compiled_program(
    loaded: LoadedModel, predictor: Predictor, data: Path, tmp_path: Path
) -> None:
    run(loaded, predictor, data, VAL_SUITES, tmp_path / "results.json")
    assert predictor.num_programs == 1


def test_the_batch_size_changes_nothing(loaded: LoadedModel, predictor: Predictor, data: Path) -> None:
    other = Predictor(loaded, sharding.make_mesh(MeshConfig()), 16, Reading(num_threads=1))
    split = open_split(data, "val")
    a, b = predictor(split, [View.PLAIN])[View.PLAIN], other(split, [View.PLAIN])[View.PLAIN]
    assert len(a) == len(b) == 13
    np.testing.assert_allclose(a.logits, b.logits, rtol=1e-5, atol=1e-6)
    assert [truth.file_name for truth in a.truths] == [truth.file_name for truth in b.truths]


def test_finished_suites_are_kept_and_not_run_again(
    loaded: LoadedModel, predictor: Predictor, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "results.json"
    first, _ = run(loaded, predictor, data, "imagenet", out)

    def refuse(*_: object) -> None:
        raise AssertionError("ran again")

    monkeypatch.setattr(Predictor, "stream", refuse)
    again, missing = run(loaded, predictor, data, "imagenet", out)
    assert again == first and not missing


def test_a_result_of_other_data_is_computed_again(loaded: LoadedModel, predictor: Predictor, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    first, _ = run(loaded, predictor, tiny.prepare_split(tmp_path / "a", "val", 9), "imagenet", out)
    assert first["imagenet"]["n"] == 9
    second, _ = run(loaded, predictor, tiny.prepare_split(tmp_path / "b", "val", 10), "imagenet", out)
    assert second["imagenet"]["n"] == 10


def test_a_result_of_other_data_stays_where_this_data_lacks_the_suite(
    loaded: LoadedModel, predictor: Predictor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results.json"
    first, _ = run(loaded, predictor, tiny.prepare_split(tmp_path / "data", "val", 6), "imagenet", out)
    (tmp_path / "nothing").mkdir()
    capsys.readouterr()
    second, missing = run(loaded, predictor, tmp_path / "nothing", "imagenet", out)
    assert second == first and "running it again" not in "".join(capsys.readouterr())
    assert missing[0].reason.startswith("its earlier result is kept; no data for val; get it with: ")


def test_a_result_of_other_data_stays_where_the_suite_is_not_for_the_model(
    loaded: LoadedModel, predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / "results.json"
    first, _ = run(loaded, predictor, tiny.prepare_split(tmp_path / "a", "val", 6), "imagenet", out)
    of_sets, other = dataclasses.replace(loaded, label_sets=True), tiny.prepare_split(tmp_path / "b", "val", 7)
    second, missing = run(of_sets, predictor, other, "imagenet", out)
    assert second == first
    assert missing[0].reason.startswith("its earlier result, from other data, is kept; the checkpoint was trained on")


def test_a_result_stays_where_data_is_damaged(loaded: LoadedModel, predictor: Predictor, tmp_path: Path) -> None:
    out, data = tmp_path / "results.json", tiny.prepare_split(tmp_path / "data", "val", 6)
    first, _ = run(loaded, predictor, data, "imagenet", out)
    manifest_path(data, "val").write_text("{")
    second, missing = run(loaded, predictor, data, "imagenet", out)
    assert second == first
    assert missing[0].reason.startswith(f"its earlier result is kept; {manifest_path(data, 'val')}")


def test_results_of_another_checkpoint_are_not_mixed_in(
    loaded: LoadedModel, predictor: Predictor, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results.json"
    run(loaded, predictor, data, "imagenet", out)
    other = dataclasses.replace(loaded, identity=loaded.identity | {"step": 3})
    with pytest.raises(UserError, match="holds results of another checkpoint or preprocessing"):
        Results(out, other)
    assert Results(out, other, overwrite=True).suites == {}


def test_a_run_trained_anew_in_the_same_place_is_another_checkpoint(tmp_path: Path) -> None:
    """Path, step and config are the same, the images that it was trained on are not."""
    mesh = sharding.make_mesh(MeshConfig())
    identities = []
    for num_train in (32, 24):
        root = tiny.prepare_data(tmp_path / "data", num_train=num_train)
        assert train(tiny.experiment(root, total_steps=1), tmp_path / "run") is ExitCode.DONE
        loaded = load(tmp_path / "run", "latest", mesh)
        assert loaded.identity == load(tmp_path / "run", "latest", mesh).identity
        identities.append(loaded.identity)
        shutil.rmtree(tmp_path / "run")
        shutil.rmtree(root)
    first, other = identities
    assert {name for name in first if first[name] != other[name]} == {"weights_hash"}


def test_what_cannot_run_is_listed_with_the_remedy(
    loaded: LoadedModel, predictor: Predictor, data: Path, tmp_path: Path
) -> None:
    suites, missing = run(loaded, predictor, data, "all", tmp_path / "results.json")
    assert set(suites) == {"imagenet", "cocc", "byproduct", "localisation"}
    reasons = {entry.suite.name: entry.reason for entry in missing}
    assert "data_prep demo" in reasons["demo_backgrounds"]
    for suite, command in {
        "own_backgrounds": "backgrounds --from=DATA",
        "own_corruptions": "corruptions --from=DATA",
        "own_size": "grids --from=DATA",
        "own_groups": "folder --source=PHOTOS --annotations=TABLE.csv --groups=A,B --split=test",
    }.items():
        assert f"python -m data_prep {command}" in reasons[suite], "what makes it, not what prepares the photos"
    assert "no image of this set has ReaL labels" in reasons["imagenet_real"]
    assert {entry.data_found for entry in missing if entry.suite.name == "demo_backgrounds"} == {False}
    assert {entry.data_found for entry in missing if entry.suite.name == "imagenet_real"} == {True}


def test_photos_of_ones_own_are_asked_for_where_they_do(
    loaded: LoadedModel, predictor: Predictor, tmp_path: Path
) -> None:
    """Of classes that are not ImageNet's; what a suite of one's own says stands, whatever its words."""
    (imagenet,) = runner.choose_suites("imagenet")
    own = dataclasses.replace(imagenet, name="own", of_any_photos=False)
    missing = runner.evaluate(loaded, predictor, tmp_path, [imagenet, own], Results(None, loaded))
    told = {entry.suite.name: entry.reason.partition("get it with: ")[2] for entry in missing}
    assert told["imagenet"].startswith("python -m data_prep folder --source=PHOTOS")
    assert told["own"].startswith("python -m data_prep suite imagenet ")


@pytest.mark.parametrize("labelled", [False, True])
def test_what_the_preparation_did_not_give_is_refused_before_any_image_is_predicted(
    loaded: LoadedModel, tmp_path: Path, labelled: bool
) -> None:
    """Else a finished evaluation would predict the whole set again, only to be refused again."""
    items = [tiny.Drawn(i, labels=(0,) if labelled else ()) for i in range(5)]
    data = tiny.prepare_split(tmp_path / "data", "val", 5, items=items)
    path = manifest_path(data, "val")
    manifest = json.loads(path.read_text())
    manifest["counts"] = {"images": 5}
    path.write_text(json.dumps(manifest))

    class Asked(Predictor):
        def stream(self, *args):  # type: ignore[no-untyped-def,override]
            asked.append(args)
            return super().stream(*args)

    asked: list[object] = []
    predictor = Asked(loaded, sharding.make_mesh(MeshConfig()), 8, Reading(num_threads=2))
    suites, missing = run(loaded, predictor, data, "imagenet_real", tmp_path / "results.json")
    assert ("imagenet_real" in suites, len(asked)) == ((True, 1) if labelled else (False, 0))
    assert labelled or "--real=real.json" in missing[0].reason


def test_real_labels_and_groups_come_through_the_same_road(
    loaded: LoadedModel, predictor: Predictor, tmp_path: Path
) -> None:
    items = [tiny.Drawn(i, group=f"size={i % 2}", labels=(0, 1, 2) if i < 5 else ()) for i in range(11)]
    tiny.prepare_split(tmp_path / "imagenet", "val", 11, items=items)
    tiny.prepare_split(tmp_path / "suites" / "size", "test", 11, items=items)
    suites, _ = run(loaded, predictor, tmp_path, "imagenet_real,demo_size", tmp_path / "results.json")
    scores = suites["imagenet_real"]
    assert (scores["top1"], scores["n"], scores["n_left_out"]) == (1.0, 5, 6)
    assert set(suites["demo_size"].groups) == {"size=0", "size=1"}


def test_a_result_repeats_what_its_data_is_not(loaded: LoadedModel, predictor: Predictor, tmp_path: Path) -> None:
    """A set that was generated, made smaller or lacks images is no set as published."""
    data = tiny.prepare_split(tmp_path / "data", "val", 6)
    path = manifest_path(data, "val")
    manifest = json.loads(path.read_text())
    manifest["source"] |= {"generated": "generated by x", "images": "elsewhere"}
    manifest["skipped"] = [{"file": f"{i}.png", "reason": "broken", "detail": ""} for i in range(2)]
    manifest["expected_records"] = 8
    path.write_text(json.dumps(manifest))
    suites, _ = run(loaded, predictor, data, "imagenet", tmp_path / "results.json")
    assert suites["imagenet"].data.partial and suites["imagenet"].n == 6
    data = suites["imagenet"].data
    assert (data.generated, data.skipped) == ("generated by x", {"broken": 2})


def test_a_complete_copy_of_a_set_is_preferred_to_a_partial_one(tmp_path: Path) -> None:
    for name, expected in (("imagenet_real", 9), ("imagenet", 6)):
        path = manifest_path(tiny.prepare_split(tmp_path / name, "val", 6), "val")
        path.write_text(json.dumps(json.loads(path.read_text()) | {"expected_records": expected}))
    part = runner.choose_suites("imagenet")[0].parts["val"]
    assert runner.find_part(tmp_path, part) == epath.Path(tmp_path / "imagenet")
    shutil.rmtree(tmp_path / "imagenet")
    assert runner.find_part(tmp_path, part) == epath.Path(tmp_path / "imagenet_real")


def test_data_of_another_class_list_is_refused(
    loaded: LoadedModel, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny, "CLASSES", ClassList(("blue", "green", "red"), ("blue", "green", "red")))
    data = tiny.prepare_split(tmp_path / "data", "val", 6)
    suites, missing = run(loaded, predictor, data, "imagenet", tmp_path / "results.json")
    assert not suites
    assert "read as wrong classes" in missing[0].reason


def test_a_baseline_is_evaluated_without_the_byproduct_suite(data: Path, tmp_path: Path) -> None:
    config = tiny.experiment(data, byproduct=ByproductConfig(target=Target.NONE), total_steps=1)
    train(config, tmp_path / "run")
    mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:1])  # trained on eight devices
    loaded = load(tmp_path / "run", "best", mesh)
    predictor = Predictor(loaded, mesh, 5, Reading())
    suites, missing = run(loaded, predictor, data, "imagenet,byproduct", tmp_path / "results.json")
    assert suites["imagenet"]["n"] == 13
    assert [entry.reason for entry in missing] == ["the checkpoint has no byproduct head"]


def test_unknown_names_are_answered_with_what_there_is(workdir: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"did you mean imagenet\? there are all, imagenet, imagenet_real"):
        runner.choose_suites("imagent")
    with pytest.raises(UserError, match="no suite nothing_like_it; there are all, imagenet"):
        runner.choose_suites("imagenet,nothing_like_it")
    mesh = sharding.make_mesh(MeshConfig())
    with pytest.raises(CheckpointError, match="no checkpoint '5'; there are"):
        load(workdir, "5", mesh)
    with pytest.raises(CheckpointError, match="is it the workdir of a run"):
        load(tmp_path, "best", mesh)
    (tmp_path / "results.json").write_text(json.dumps({"results_version": 99, "suites": {}, "checkpoint": {}}))
    with pytest.raises(UserError, match="results version 99"):
        read_results(tmp_path / "results.json")


def test_the_occluded_centre_is_rows_and_columns_56_to_167_of_224() -> None:
    hidden, black = occlusion(View.CENTRE_BLACK, 224)
    rows, columns = np.nonzero(hidden)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (56, 167, 56, 167)
    assert hidden.sum() == 112 * 112 and black
    assert not occlusion(View.PLAIN, 224)[0].any()


def test_images_stored_smaller_mark_their_result(loaded: LoadedModel, predictor: Predictor, tmp_path: Path) -> None:
    data = tiny.prepare_split(tmp_path / "data", "val", 9)
    path = Path(manifest_path(data, "val"))
    manifest = json.loads(path.read_text())
    manifest["source"]["stored_smaller"] = "at most 20 pixels a side, JPEG quality 90"
    path.write_text(json.dumps(manifest))
    suites, _ = run(loaded, predictor, data, "imagenet", tmp_path / "results.json")
    assert suites["imagenet"].data.stored_smaller == "at most 20 pixels a side, JPEG quality 90"


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "another byte": (lambda shard: shard.write_bytes(flipped(shard.read_bytes())), "CRC"),
    "cut off": (lambda shard: shard.write_bytes(shard.read_bytes()[:-40]), "tiny-val.tfrecord-00001-of-00002"),
    "no file": (lambda shard: shard.unlink(), "tiny-val.tfrecord-00001-of-00002"),
}


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_shard_costs_the_suites_on_it_and_names_the_file(
    damage: str, loaded: LoadedModel, predictor: Predictor, tmp_path: Path
) -> None:
    data = tiny.prepare_split(tmp_path / "imagenet", "val", 20)
    tiny.prepare_split(tmp_path / "suites" / "size", "test", 8)
    spoil, told = DAMAGE[damage]
    spoil(data / "tiny-val.tfrecord-00001-of-00002")
    names = "imagenet,demo_size,cocc,localisation"
    suites, missing = run(loaded, predictor, tmp_path, names, tmp_path / "results.json")
    assert suites.keys() == {"demo_size"}
    assert {entry.suite.name for entry in missing} == {"imagenet", "cocc", "localisation"}
    assert all(told in entry.reason and "tiny-val" in entry.reason for entry in missing), missing


def test_a_broken_manifest_costs_its_own_suites_only(loaded: LoadedModel, predictor: Predictor, tmp_path: Path) -> None:
    """Also where there is another copy, of which one cannot say that it is the more complete."""
    for name in ("imagenet", "imagenet_real"):
        tiny.prepare_split(tmp_path / name, "val", 9)
    manifest_path(tmp_path / "imagenet_real", "val").write_text("{")
    tiny.prepare_split(tmp_path / "suites" / "size", "test", 8)
    suites, missing = run(loaded, predictor, tmp_path, "imagenet,demo_size", tmp_path / "results.json")
    assert suites.keys() == {"demo_size"}
    assert [entry.suite.name for entry in missing] == ["imagenet"]
    assert "imagenet_real/val.manifest.json: not a manifest" in missing[0].reason


def test_an_image_that_is_no_jpeg_or_png_is_named(loaded: LoadedModel, predictor: Predictor, tmp_path: Path) -> None:
    """data_prep leaves such files out and counts them; this is a set that something else wrote."""
    items = [tiny.Drawn(i) for i in range(9)]
    whole = tiny.draw

    def spoiled(item: tiny.Drawn) -> Outcome:
        outcome = whole(item)
        if item.index != 5:
            return outcome
        assert outcome.record is not None
        return outcome._replace(record=dataclasses.replace(outcome.record, image=outcome.record.image[:60]))

    plan = Plan(
        directory=tmp_path / "imagenet", dataset="tiny", split="val", classes=tiny.CLASSES, items=items,
        read=spoiled, num_shards=1, source={},
    )  # fmt: skip
    prepare(plan, workers=1, strict=True)
    suites, missing = run(loaded, predictor, tmp_path, "imagenet", tmp_path / "results.json")
    assert not suites and missing[0].reason.count("0005.png") == 1, missing


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_checkpoint_that_is_cut_off_is_one_error(workdir: Path, tmp_path: Path, share: float) -> None:
    copy = tmp_path / "run"
    shutil.copytree(workdir, copy)
    step = max((copy / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    largest = max((path for path in step.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: int(share * largest.stat().st_size)])
    with pytest.raises(CheckpointError, match=f"{step}: damaged \\(.*; undamaged: "):
        load(copy, "latest", sharding.make_mesh(MeshConfig()))


def test_a_set_without_images_costs_its_suites_only(tmp_path: Path) -> None:
    """As TFDS leaves a split of no examples."""
    version = tmp_path / "imagenet" / "1.0.0"
    version.mkdir(parents=True)
    splits = [{"name": "validation", "shardLengths": ["0"]}]
    (version / "dataset_info.json").write_text(json.dumps({"name": "drawn", "splits": splits}))
    (version / "label.labels.txt").write_text("".join(f"{name}\n" for name in tiny.CLASSES.names))
    (version / "drawn-validation.tfrecord-00000-of-00001").write_bytes(b"")
    preprocessing = luab_jax.Preprocessing(image_size=16, resize_side=16)
    with pytest.raises(UserError, match=r"imagenet, localisation: .*the split 'val' holds no record"):
        luab_jax.run_suites(
            lambda images: np.ones((len(images), 3)), tmp_path, ["imagenet", "localisation"], maps="rise:4",
            preprocessing=preprocessing, classes=tiny.CLASSES,
        )  # fmt: skip
