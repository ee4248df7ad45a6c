"""`config.init_from`: what is taken, interpolated, left fresh; said, recorded, and not read again."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from data_prep.writing.shards import Outcome
from luab_jax.byproducts.targets import Target
from luab_jax.checkpoints import store as checkpoint_lib
from luab_jax.checkpoints.store import available_steps, describe
from luab_jax.config import ByproductConfig, Config, MeshConfig
from luab_jax.data.class_lists import ClassList, imagenet
from luab_jax.data.transforms import Preprocessing
from luab_jax.distributed import sharding
from luab_jax.errors import CheckpointError, ConfigError, ExitCode, UserError
from luab_jax.models.config import Dtype, ModelConfig
from luab_jax.models.functional import create_model
from luab_jax.models.timm_weights import save_timm
from luab_jax.training.init_from import Pretrained, read, split_source
from luab_jax.training.loop import train
from luab_jax.training.setup import set_up
from tests import tiny
from tools.miniatures import random_params


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def source(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a finished run of 4 steps."""
    workdir = tmp_path_factory.mktemp("source") / "first"
    assert train(tiny.experiment(data, total_steps=4), workdir) is ExitCode.DONE
    return workdir


def saved(workdir: Path, config: Config) -> dict[str, np.ndarray]:
    """The latest parameters and batch statistics, by name."""
    abstract = set_up(config, workdir).abstract_state._asdict()
    state = checkpoint_lib.restore(
        workdir, max(available_steps(workdir)), {k: abstract[k] for k in ("params", "batch_stats")}
    )
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("runs/a", ("runs/a", "latest", None)),
        ("runs/a:120", ("runs/a", "120", None)),
        ("runs/a:best:raw", ("runs/a", "best", "raw")),
        ("gs://bucket/a:ema", ("gs://bucket/a", "latest", "ema")),
        ("gs://bucket/a", ("gs://bucket/a", "latest", None)),
        ("timm:resnet18:w:1", ("timm:resnet18:w:1", "latest", None)),
    ],
)
def test_a_source_is_a_place_a_step_and_a_kind_of_weights(text: str, parts: tuple[str, str, str | None]) -> None:
    assert split_source(text) == parts


# --- a run's own weights


def test_a_run_begins_with_anothers_weights_and_says_so(
    source: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One step at a learning rate of almost 0 leaves the parameters where they began."""
    config = tiny.experiment(data, total_steps=1, init_from=str(source))
    config.optim.learning_rate = 1e-12
    assert train(config, tmp_path / "second") is ExitCode.DONE
    began, ended = saved(source, tiny.experiment(data, total_steps=4)), saved(tmp_path / "second", config)
    assert began.keys() == ended.keys()
    for name in (n for n in began if n.startswith("['params']")):
        np.testing.assert_allclose(ended[name], began[name], atol=1e-6, err_msg=name)
    said = capsys.readouterr().err
    assert "begins with first, step 4" in said
    assert "taken: backbone (" in said and "classifier (27 parameters), byproduct head (18 parameters)" in said
    assert "batch statistics (" in said and "afresh" not in said
    record = describe(tmp_path / "second", 1)["initial_weights"]
    assert record["step"] == 4 and record["taken"] == ["backbone", "classifier", "byproduct_head"]
    assert record["from"] == str(source) and record["fresh"] == {}


def test_a_run_that_resumes_needs_the_source_no_more(
    source: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "source"
    shutil.copytree(source, copy)
    config = tiny.experiment(data, total_steps=4, init_from=str(copy))
    assert train(config, tmp_path / "whole") is ExitCode.DONE
    monkeypatch.setattr("luab_jax.distributed.stop.StopSignal.at_step", lambda self, step: step == 2)
    assert train(config, tmp_path / "stopped") is ExitCode.STOPPED_RESUMABLE
    monkeypatch.undo()
    shutil.rmtree(copy)
    capsys.readouterr()
    assert train(config, tmp_path / "stopped") is ExitCode.DONE
    assert "begins with" not in capsys.readouterr().err
    first, second = saved(tmp_path / "whole", config), saved(tmp_path / "stopped", config)
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name], err_msg=name)
    records = [describe(tmp_path / name, 4)["initial_weights"] for name in ("whole", "stopped")]
    assert records[0] == records[1] and records[0]["step"] == 4


def test_a_source_that_is_none_is_told_before_the_workdir_is_claimed(source: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    for init_from, error, told in (
        (str(tmp_path / "nothing"), CheckpointError, "no such folder; is it the workdir"),
        (str(tmp_path / "empty"), CheckpointError, "no complete checkpoint yet"),
        (f"{source}:3", CheckpointError, "no checkpoint '3'; there are .*4"),
        (f"{source}:ema", UserError, "config.init_from=.* keeps no moving average"),
        ("timm:resnet18", UserError, "config.init_from=timm:resnet18: expected timm:NAME:FILE"),
        ("w.safetensors", UserError, "config.init_from=w.safetensors: .* write timm:NAME:FILE"),
        ("timm:resnet81:w.safetensors", UserError, "config.init_from=timm:resnet81.*did you mean"),
        (f"timm:resnet18:{tmp_path}/w.safetensors", CheckpointError, r"w\.safetensors: cannot be read \(No such file"),
    ):
        with pytest.raises(error, match=told):
            train(tiny.experiment(data, init_from=init_from), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_architecture_is_told(source: Path, data: Path, tmp_path: Path) -> None:
    config = tiny.experiment(data, init_from=str(source))
    config.model = dataclasses.replace(config.model, width=6)
    with pytest.raises(
        ConfigError, match=r"is a resnet18 of another architecture than config\.model \(resnet18\): 30 arr"
    ):
        train(config, tmp_path / "run")


def finished(workdir: Path, data: Path, **byproduct: Any) -> str:
    """A run of one step."""
    config = tiny.experiment(data, total_steps=1, byproduct=ByproductConfig(min_annotator_images=2, **byproduct))
    assert train(config, workdir) is ExitCode.DONE
    return str(workdir)


def head_of(init_from: str, data: Path, **byproduct: Any) -> str:
    """Why a run that begins there has a byproduct head of its own; empty if it takes the one there."""
    run = set_up(
        tiny.experiment(data, init_from=init_from, byproduct=ByproductConfig(min_annotator_images=2, **byproduct)),
        Path(init_from).parent / "second",
    )
    annotators = run.target_settings.statistics.annotators
    found = read(run.config, run.model, run.train_split.manifest.classes, run.mesh, annotators)
    assert ("byproduct_head" in found.given[0]) == ("byproduct_head" not in found.record["fresh"])
    return found.record["fresh"].get("byproduct_head", "")


def test_a_head_of_other_annotators_is_not_taken(data: Path, tmp_path: Path) -> None:
    def others(item: tiny.Drawn) -> Outcome:
        drawn = tiny.draw(item)
        showings = tuple(dataclasses.replace(s, worker_id=f"{s.worker_id}_NEW") for s in drawn.record.showings)
        return drawn._replace(record=dataclasses.replace(drawn.record, showings=showings))

    first = finished(tmp_path / "first", data, target=Target.ANNOTATOR)
    for split, num_images in (("train", 32), ("val", 13)):
        tiny.prepare_split(tmp_path / "data", split, num_images, read=others)
    assert head_of(first, data, target=Target.ANNOTATOR) == ""
    assert head_of(first, tmp_path / "data", target=Target.ANNOTATOR) == "other annotators there"


def test_a_head_of_another_number_or_of_other_features_is_not_taken(source: Path, data: Path, tmp_path: Path) -> None:
    assert head_of(str(source), data, target=Target.CLICK_LAST) == ""
    assert head_of(str(source), data, target=Target.CLICK_FIRST) == "", "a place in the image too"
    told = head_of(str(source), data, target=Target.CLICK_LAST, block=1)
    assert told == "another kind of head, or one of other features, there"
    first = finished(tmp_path / "first", data, target=Target.TIME_TO_CLICK)
    told = head_of(first, data, target=Target.NUM_CORRECTIONS)
    assert told == "target num_corrections here, time_to_click there"


# --- weights of timm, without training


@pytest.fixture(scope="module")
def timm_vit(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Random weights for ImageNet's classes, 224 px."""
    model = create_model(ModelConfig(name="vit_ti"), num_classes=1000, image_size=224, byproduct_shape=None)
    path = tmp_path_factory.mktemp("timm") / "vit.safetensors"
    save_timm(path, model, *random_params(model))
    return f"timm:deit_tiny_patch16_224:{path}"


def taken(init_from: str, classes: ClassList, *, image_size: int = 224, **fields: Any) -> Pretrained:
    config = Config(init_from=init_from, model=ModelConfig(**{"name": "vit_ti"} | fields))
    config.data.preprocessing = Preprocessing(image_size=image_size, resize_side=image_size)
    config.byproduct = ByproductConfig(target=Target.CLICK_LAST)
    model = create_model(config.model, num_classes=len(classes), image_size=image_size, byproduct_shape=(1, 2))
    return read(config, model, classes, sharding.make_mesh(MeshConfig()))


def test_imagenets_classifier_is_taken_for_imagenets_classes(timm_vit: str) -> None:
    found = taken(timm_vit, imagenet(), compute_dtype=Dtype.BFLOAT16)
    assert found.record["taken"] == ["backbone", "classifier"]
    assert found.record["fresh"] == {"byproduct_head": "the weights have none"}
    assert found.record["model"] == "deit_tiny_patch16_224.fb_in1k" and len(found.record["weights_hash"]) == 12
    assert "interpolated" not in "".join(found.told)


def test_for_other_classes_and_another_size_the_classifier_is_fresh_and_positions_are_interpolated(
    timm_vit: str,
) -> None:
    found = taken(timm_vit, tiny.CLASSES, image_size=96)
    assert set(found.given[0]) == {"backbone"}
    assert found.given[0]["backbone"]["position_embed"].shape == (1, 1 + 36, 192)
    assert found.record["fresh"]["classifier"] == "3 classes here, 1000 there"
    assert found.record["position_embeddings_resampled"] == [14, 6]
    assert any("interpolated: position embeddings, 14x14 to 6x6" in line for line in found.told)


def test_as_many_classes_in_another_order_are_other_classes(timm_vit: str) -> None:
    ids = imagenet().ids[::-1]
    assert taken(timm_vit, ClassList(ids, ids)).record["fresh"]["classifier"] == "another list of 1000 classes there"


def test_a_normalisation_that_the_weights_did_not_see_is_noted(timm_vit: str) -> None:
    same = taken(timm_vit, tiny.CLASSES)
    augreg = taken(timm_vit.replace("deit_tiny_patch16_224", "vit_tiny_patch16_224"), tiny.CLASSES)
    assert not any("normalised" in line for line in same.told)
    assert any("saw images normalised by mean (0.5, 0.5, 0.5)" in line for line in augreg.told)


def test_a_file_of_another_network_or_a_torn_one_is_told(timm_vit: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a vit_ti of another architecture than config\.model \(vit_s\)"):
        taken(timm_vit, imagenet(), name="vit_s")
    with pytest.raises(ConfigError, match="it has 3 attention heads where 6 are needed"):
        taken(timm_vit, imagenet(), num_heads=6)
    with pytest.raises(CheckpointError, match=r"read as resnet18\.a1_in1k: .*missing"):
        taken(timm_vit.replace("deit_tiny_patch16_224", "resnet18"), imagenet())
    whole = Path(timm_vit.split(":", 2)[2])
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(whole.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match=r"torn\.safetensors is not a readable safetensors file"):
        taken(f"timm:deit_tiny_patch16_224:{torn}", imagenet())
