"""Which run a workdir that holds one already resumes, which it extends, and by what it is refused."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from etils import epath

from luab_jax.augmentation.config import AugmentationConfig
from luab_jax.byproducts.targets import Target
from luab_jax.config import (
    Byproduct,
    ByproductConfig,
    CheckpointConfig,
    Config,
    MeshConfig,
    OptimConfig,
    config_hash,
    differences,
    several,
    to_dict,
)
from luab_jax.config.flags import set_field
from luab_jax.config.versions import as_begun, from_stored, updated
from luab_jax.distributed.stop import StopSignal
from luab_jax.errors import CheckpointError, ConfigError, ExitCode, ShardError, UserError, options_are_flags
from luab_jax.metrics.history import read_metrics
from luab_jax.models.config import BatchNorm, Head
from luab_jax.training.loop import train
from luab_jax.training.optim import schedule_of
from luab_jax.training.resumption import extended_config, refuse_another, resumed_config, same_replicas
from tests import tiny
from tests.training.test_loop import assert_same_bits, parameters

NEW = {
    "optim": ("schedule", "warmup_learning_rate"),
    "model": ("batch_norm_images", "batch_norm_unbiased", "classifier_init", "patch_embed_init"),
    "byproduct": ("random_point",),
    "augmentation": ("mix_draws",),
}


def earlier(config: Config) -> dict[str, Any]:
    """What the version before these fields wrote for it."""
    stored = json.loads(json.dumps(to_dict(config)))
    for group, names in NEW.items():
        for name in names:
            del stored[group][name]
    del stored["extended_at"]
    return stored


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare_data(tmp_path_factory.mktemp("data"))


# --- earlier versions


def test_a_run_of_an_earlier_version_goes_on_by_the_values_it_ran_with() -> None:
    config = Config()
    resumed, lines = as_begun(config, earlier(config))
    assert resumed.optim.warmup_learning_rate == 0.0
    assert lines == ["  config.optim.warmup_learning_rate=0.0"]
    assert differences(updated(earlier(config)), resumed) == {}
    assert config_hash(resumed) == config_hash(from_stored(earlier(config)))


def test_what_somebody_has_set_is_not_taken_back() -> None:
    config = Config(optim=OptimConfig(warmup_learning_rate=1e-4))
    resumed, lines = as_begun(config, earlier(Config()))
    assert resumed == config and not lines


def test_the_random_points_of_an_earlier_version_lie_in_the_image() -> None:
    config = Config(byproduct=ByproductConfig(target=Target.RANDOM))
    assert from_stored(earlier(config)).byproduct.target is Target.RANDOM_IN_IMAGE
    resumed, lines = as_begun(config, earlier(config))
    assert resumed.byproduct.target is Target.RANDOM_IN_IMAGE
    assert "  config.byproduct.target=random_in_image" in lines
    assert as_begun(config, to_dict(config)) == (config, [])
    assert config_hash(config) != config_hash(resumed)


def test_a_refusal_says_how_to_resume_what_is_there(data: Path, tmp_path: Path) -> None:
    config = tiny.experiment(data)
    other = dataclasses.replace(config, data=dataclasses.replace(config.data, crop_scale=(0.25, 1.0)))
    (tmp_path / "config.json").write_text(json.dumps(to_dict(other)))
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    with pytest.raises(UserError) as error, options_are_flags():
        train(config, tmp_path)
    assert "data.crop_scale: [0.25, 1.0] there, [0.5, 1.0] here" in str(error.value)
    assert "To resume the run that is there:\n  --config.data.crop_scale='(0.25, 1.0)'" in str(error.value)


CLICK, HEAT = Byproduct(), Byproduct(target=Target.TRACE_HEAT_MAP)
HEAVY_BOX = Byproduct(target=Target.BOX, weight=3.0, head=Head.DENSE, heat_sigma=0.05)


@pytest.mark.parametrize(
    ("stored", "now", "printed"),
    [
        ((CLICK, HEAT), (CLICK, Byproduct(target=Target.BOX)), ["--config.byproduct.more=trace_heat_map"]),
        ((CLICK, HEAT), (CLICK,), ["--config.byproduct.more=trace_heat_map"]),
        ((CLICK,), (CLICK, HEAVY_BOX), ["--config.byproduct.more="]),
        ((), (CLICK, HEAT), ["--config.byproduct.target=none", "--config.byproduct.more="]),
        (
            (CLICK, HEAVY_BOX, HEAT),
            (CLICK, HEAVY_BOX),
            [
                "--config.byproduct.more=box,trace_heat_map",
                "--config.byproduct.more.box.head=dense",
                "--config.byproduct.more.box.heat_sigma=0.05",
                "--config.byproduct.more.box.weight=3.0",
            ],
        ),
        (
            (CLICK, HEAVY_BOX),
            (CLICK, dataclasses.replace(HEAVY_BOX, weight=1.0)),
            ["--config.byproduct.more.box.weight=3.0"],
        ),
        (
            (CLICK,),
            (Byproduct(target=Target.RANDOM),),
            ["--config.byproduct.random_point=per_image", "--config.byproduct.target=click_last"],
        ),
    ],
)
def test_what_a_refusal_prints_gives_the_config_that_is_there_when_it_is_pasted(
    stored: tuple[Byproduct, ...], now: tuple[Byproduct, ...], printed: list[str], tmp_path: Path
) -> None:
    there, here = (dataclasses.replace(Config(), byproduct=several(*entries)) for entries in (stored, now))
    assert pasted(there, here, tmp_path) == printed


def test_other_values_are_pasted_too(tmp_path: Path) -> None:
    there = Config(loss="python:my losses.py:fn", augmentation=AugmentationConfig(mixup=0.5))
    assert "--config.loss=python:my losses.py:fn" in pasted(there, Config(init_from="RUNS/a"), tmp_path)


def pasted(there: Config, here: Config, workdir: Path) -> list[str]:
    """What is printed where `there` is repeated as `here`, as a shell reads it."""
    (workdir / "checkpoints" / "3").mkdir(parents=True)
    old = json.loads(json.dumps(to_dict(there)))
    with pytest.raises(UserError, match="To resume the run that is there:") as error, options_are_flags():
        refuse_another(epath.Path(workdir), differences(old, here), old)
    words = shlex.split(str(error.value).rpartition("To resume the run that is there:\n")[2])
    again = copy.deepcopy(here)
    for word in words:
        set_field(again, *word.removeprefix("--config.").split("=", 1))
    assert again == there
    return words


def test_a_run_that_ended_before_its_first_checkpoint_is_no_run_to_resume_or_extend(data: Path, tmp_path: Path) -> None:
    config = tiny.experiment(data)
    shorter = dataclasses.replace(config, total_steps=1)
    (tmp_path / "config.json").write_text(json.dumps(to_dict(shorter)))
    with pytest.raises(UserError, match=r"ended before its first checkpoint.*delete the folder, or choose") as error:
        train(config, tmp_path)
    assert "total_steps: 1 there" in str(error.value) and "extend" not in str(error.value)


@pytest.mark.parametrize("text", ["[]", "{", '{"optim": 3}', "[" * 100_000])
def test_a_config_that_no_run_wrote_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config.json: .* choose another workdir"):
        resumed_config(Config(), epath.Path(tmp_path))


# --- more epochs


@pytest.fixture
def finished(data: Path, tmp_path: Path) -> tuple[Config, Path]:
    config = tiny.experiment(data, total_steps=2)
    assert train(config, tmp_path) is ExitCode.DONE
    return config, tmp_path


def test_a_finished_run_is_extended_by_name_and_then_resumes(
    finished: tuple[Config, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, workdir = finished
    longer = dataclasses.replace(config, total_steps=6)
    with pytest.raises(UserError, match=r"total_steps: 2 there, 6 here\n.*extend=True continues .*config.init_from"):
        train(longer, workdir)
    capsys.readouterr()
    with monkeypatch.context() as patched:
        patched.setattr(StopSignal, "at_step", lambda self, step: step == 4)
        assert train(longer, workdir, extend=True) is ExitCode.STOPPED_RESUMABLE
    rate = float(schedule_of(longer, 32)(2))
    said = capsys.readouterr().err
    assert (
        f"from 2 to 6 steps: from step 2 on the learning rate follows the schedule of the longer run and is {rate:.3g}"
        in said
    )
    assert train(longer, workdir, extend=True) is ExitCode.DONE
    stored = json.loads((workdir / "config.json").read_text())
    assert stored["total_steps"] == 6 and stored["extended_at"] == [2]
    assert config_hash(from_stored(stored)) != config_hash(longer)  # a run of six steps from the start is another
    rates = {line["step"]: line["train/learning_rate"] for line in read_metrics(workdir) if "train/loss" in line}
    assert rates[4] == pytest.approx(float(schedule_of(longer, 32)(3))) and max(rates) == 6
    assert train(longer, workdir) is ExitCode.DONE  # nothing is left to do, and no flag is needed for that


def test_a_run_is_extended_from_its_latest_undamaged_checkpoint(data: Path, tmp_path: Path) -> None:
    config = tiny.experiment(data, total_steps=8, checkpoint=CheckpointConfig(keep_last=2))
    assert train(config, tmp_path) is ExitCode.DONE
    longer, damaged = dataclasses.replace(config, total_steps=9), tmp_path / "checkpoints" / "8"
    array = max(damaged.rglob("d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(array.read_bytes())
    content[len(content) // 2] ^= 1
    array.write_bytes(content)
    extended, _ = extended_config(longer, epath.Path(tmp_path), 32)
    assert extended.extended_at == (4,), "an epoch has four steps"
    (tmp_path / "checkpoints" / "4").rename(tmp_path / "4")
    with pytest.raises(CheckpointError, match=r"extend=True.*holds no undamaged checkpoint to continue from"):
        extended_config(longer, epath.Path(tmp_path), 32)


def test_what_cannot_be_extended_says_why(
    finished: tuple[Config, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    config, workdir = finished
    place = epath.Path(workdir)
    for changes, told in (
        ({"total_steps": 1}, "has 2 steps, and this config only 1"),
        ({"total_steps": 4, "seed": 1}, r"seed: 0 there, 1 here"),
    ):
        with pytest.raises(UserError, match=told):
            train(dataclasses.replace(config, **changes), workdir, extend=True)
    with pytest.raises(UserError, match="holds no run yet"):
        extended_config(config, epath.Path(tmp_path_factory.mktemp("new")), 32)
    assert extended_config(config, place, 32) == (config, [])


# --- devices, shards, and everything at once


def test_statistics_per_device_refuse_another_number_of_devices(data: Path, tmp_path: Path) -> None:
    config = tiny.experiment(data, total_steps=1, mesh=MeshConfig(data=-1))
    config.model.batch_norm = BatchNorm.PER_REPLICA
    assert train(config, tmp_path) is ExitCode.DONE
    path = tmp_path / "data.json"
    stored = json.loads(path.read_text())
    devices = stored["batch_norm_replicas"]
    path.write_text(json.dumps(stored | {"batch_norm_replicas": 2 * devices}))
    with pytest.raises(ConfigError, match=rf"began on {2 * devices} devices, and here are {devices}"):
        train(config, tmp_path)
    del stored["batch_norm_replicas"]  # a run of an earlier version says nothing
    path.write_text(json.dumps(stored))
    assert train(config, tmp_path) is ExitCode.DONE
    same_replicas({"batch_norm_replicas": 4}, None)


def test_accumulation_augmentation_and_average_resume_to_the_same_bits(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny.experiment(
        data,
        total_steps=4,
        batch_size=16,
        accumulation_steps=2,
        augmentation=AugmentationConfig(lighting=0.1, erasing=0.5, cutmix=1.0, mix_draws=2, repeats=2),
        byproduct=ByproductConfig(target=Target.RANDOM, weight=2.0),
        optim=OptimConfig(learning_rate=0.05, warmup_epochs=0.5, ema_decay=0.9),
    )
    config.model.batch_norm, config.model.batch_norm_images = BatchNorm.GROUPS, 2
    config.model.batch_norm_unbiased = True
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(config, whole) is ExitCode.DONE
    for stop in (1, 3):
        with monkeypatch.context() as patched:
            patched.setattr(StopSignal, "at_step", lambda self, step, stop=stop: step == stop)
            assert train(config, parts) is ExitCode.STOPPED_RESUMABLE
    assert train(config, parts) is ExitCode.DONE
    saved = parameters(config, whole)
    assert any(name.startswith("['ema']") for name in saved)
    assert_same_bits(saved, parameters(config, parts))
    assert not any(np.isnan(leaf).any() for leaf in saved.values())


@pytest.mark.parametrize("replaced", [False, True], ids=["deleted", "replaced"])
def test_a_shard_that_goes_while_a_run_reads_it_is_named_in_one_error(
    replaced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny.prepare_data(tmp_path / "data")
    config = tiny.experiment(root, total_steps=60)
    shards = sorted(root.glob("tiny-train.tfrecord-*"))

    def at_step(self: StopSignal, step: int) -> bool:
        if step == 2:
            content = shards[0].read_bytes()
            for shard in shards:
                shard.unlink()
                if replaced:
                    shard.write_bytes(content[:-100] + bytes(100))
        return False

    monkeypatch.setattr(StopSignal, "at_step", at_step)
    with pytest.raises(ShardError) as error:
        train(config, tmp_path / "run")
    assert re.search(r"tiny-train\.tfrecord-0000\d-of-00002", str(error.value)) and "\n" not in str(error.value)
