"""Configs: what is in configs/, what is refused, and when two of them are the same experiment."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luab_jax.augmentation.config import AugmentationConfig
from luab_jax.byproducts.kinds import RandomPoint
from luab_jax.byproducts.responses import SampleWeight
from luab_jax.byproducts.targets import Target
from luab_jax.config import (
    ByproductConfig,
    CheckpointConfig,
    Config,
    DataConfig,
    DistributedConfig,
    EvalConfig,
    LogConfig,
    MeshConfig,
    OptimConfig,
    Optimizer,
    config_hash,
    differences,
    every_steps,
    flatten,
    from_dict,
    scientific_fields,
    steps_per_epoch,
    to_dict,
    total_steps,
    warmup_steps,
)
from luab_jax.data.gpu_jpeg import JpegDecoder
from luab_jax.data.transforms import Preprocessing
from luab_jax.errors import ConfigError
from luab_jax.models.config import BatchNorm, ModelConfig

FOLDER = Path(__file__).parents[2] / "configs"
EXPERIMENTS = sorted(path.name for path in FOLDER.glob("*.py") if path.name not in ("__init__.py", "base.py"))


def load(name: str) -> Config:
    return runpy.run_path(str(FOLDER / name))["get_config"]()


def test_the_experiments_of_the_first_release_are_there() -> None:
    assert {"demo.py", "resnet18.py", "resnet50.py", "vit_ti.py", "vit_s.py", "vit_b.py"} <= set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_file_gives_a_valid_config_of_its_model(name: str) -> None:
    config = load(name)
    config.validate()
    own_names = ("demo.py", "several_byproducts.py")
    assert name in own_names or config.model.name == name.removesuffix(".py").removeprefix("coco_")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_two_calls_share_nothing_so_an_override_cannot_leak(name: str) -> None:
    get_config = runpy.run_path(str(FOLDER / name))["get_config"]
    first, second = get_config(), get_config()
    first.optim.learning_rate = 123.0
    first.data.preprocessing.image_size = 7
    assert second == get_config()
    assert second != first


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_config_survives_its_json(name: str) -> None:
    config = load(name)
    assert from_dict(Config, json.loads(json.dumps(to_dict(config)))) == config


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(Target),
    st.sampled_from(Optimizer),
    st.none() | st.lists(st.integers(1, 4), min_size=1).map(tuple),
    st.none() | st.integers(1, 99),
    st.floats(0, 1),
)
def test_any_values_survive_their_json(
    target: Target, optimizer: Optimizer, stages: tuple[int, ...] | None, steps: int | None, weight: float
) -> None:
    config = Config(
        total_steps=steps,
        model=ModelConfig(stage_sizes=stages),
        byproduct=ByproductConfig(target=target, weight=weight),
        optim=OptimConfig(name=optimizer, clip_norm=None if steps is None else float(steps)),
    )
    assert from_dict(Config, json.loads(json.dumps(to_dict(config)))) == config


def test_fields_left_out_take_their_defaults() -> None:
    assert from_dict(Config, {}) == Config()
    assert from_dict(Config, {"optim": {"learning_rate": 0.5}}) == Config(optim=OptimConfig(learning_rate=0.5))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"learning_rate": 0.1}, "Config has no field learning_rate"),
        ({"optim": {"lr": 0.1}}, "OptimConfig has no field lr"),
        ({"data": {"preprocessing": {"sides": 3}}}, "Preprocessing has no field sides"),
        ({"byproduct": {"target": "gaze"}}, "gaze"),
    ],
)
def test_what_this_version_does_not_know_is_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        from_dict(Config, values)


# --- validation


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"batch_size": 0}, "batch_size", 0),
        ({"batch_size": -8}, "batch_size", -8),
        ({"epochs": 0.0}, "epochs", 0.0),
        ({"epochs": float("nan")}, "epochs", "nan"),
        ({"epochs": float("inf")}, "epochs", "inf"),
        ({"total_steps": 0}, "total_steps", 0),
        ({"label_smoothing": 1.0}, "label_smoothing", 1.0),
        ({"label_smoothing": -0.1}, "label_smoothing", -0.1),
        ({"log": LogConfig(every_steps=0)}, "log.every_steps", 0),
        ({"byproduct": ByproductConfig(weight=-1.0)}, "byproduct.weight", -1.0),
        ({"byproduct": ByproductConfig(weight=float("nan"))}, "byproduct.weight", "nan"),
        ({"byproduct": ByproductConfig(weight=float("inf"))}, "byproduct.weight", "inf"),
        ({"byproduct": ByproductConfig(smooth_l1_beta=0.0)}, "byproduct.smooth_l1_beta", 0.0),
        ({"byproduct": ByproductConfig(heat_map_side=1)}, "byproduct.heat_map_side", 1),
        ({"byproduct": ByproductConfig(max_annotators=1)}, "byproduct.max_annotators", 1),
        ({"byproduct": ByproductConfig(min_annotator_images=0)}, "byproduct.min_annotator_images", 0),
        ({"optim": OptimConfig(learning_rate=0.0)}, "optim.learning_rate", 0.0),
        ({"optim": OptimConfig(warmup_epochs=-1.0)}, "optim.warmup_epochs", -1.0),
        ({"optim": OptimConfig(weight_decay=-1.0)}, "optim.weight_decay", -1.0),
        ({"optim": OptimConfig(clip_norm=0.0)}, "optim.clip_norm", 0.0),
        ({"eval": EvalConfig(every_epochs=0.0)}, "eval.every_epochs", 0.0),
        ({"eval": EvalConfig(batch_size=0)}, "eval.batch_size", 0),
        ({"checkpoint": CheckpointConfig(every_epochs=-1.0)}, "checkpoint.every_epochs", -1.0),
        ({"checkpoint": CheckpointConfig(keep_last=0)}, "checkpoint.keep_last", 0),
        ({"checkpoint": CheckpointConfig(keep_best=-1)}, "checkpoint.keep_best", -1),
        ({"data": DataConfig(crop_scale=(0.0, 1.0))}, "data.crop_scale", (0.0, 1.0)),
        ({"data": DataConfig(crop_scale=(0.9, 0.1))}, "data.crop_scale", (0.9, 0.1)),
        ({"data": DataConfig(crop_scale=(0.5, 1.1))}, "data.crop_scale", (0.5, 1.1)),
        ({"data": DataConfig(num_threads=-1)}, "data.num_threads", -1),
        ({"data": DataConfig(workers=-2)}, "data.workers", -2),
        ({"data": DataConfig(workers=-1, decoder=JpegDecoder.NVJPEG)}, "data.workers", -1),
        ({"data": DataConfig(prefetch_examples=-1)}, "data.prefetch_examples", -1),
        ({"data": DataConfig(preprocessing=Preprocessing(image_size=0))}, "data.preprocessing.image_size", 0),
        (
            {"data": DataConfig(preprocessing=Preprocessing(image_size=64, resize_side=63))},
            "data.preprocessing.resize_side",
            63,
        ),
        (
            {"data": DataConfig(preprocessing=Preprocessing(std=(0.2, 0.0, 0.2)))},
            "data.preprocessing.std",
            (0.2, 0.0, 0.2),
        ),
        (
            {"data": DataConfig(preprocessing=Preprocessing(mean=(127.5, 127.5, 127.5)))},
            "data.preprocessing.mean",
            "(127.5, 127.5, 127.5) must be three numbers on [0, 1]: R, G, B; divide levels of 0 to 255 by 255",
        ),
        ({"data": DataConfig(preprocessing=Preprocessing(std=(58.0, 57.0, 57.0)))}, "data.preprocessing.std", "(58.0,"),
        ({"optim": OptimConfig(warmup_learning_rate=-1e-6)}, "optim.warmup_learning_rate", -1e-6),
        ({"augmentation": AugmentationConfig(mix_draws=3)}, "augmentation.mix_draws", 3),
        (
            {"batch_size": 384, "model": ModelConfig(batch_norm=BatchNorm.GROUPS)},
            "model.batch_norm_images",
            "256 does not divide the 384 images",
        ),
        ({"model": ModelConfig(name="vit_ti", dropout=1.5)}, "model.dropout", 1.5),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_with_field_and_value(
    changes: dict[str, Any], field: str, value: Any
) -> None:
    with pytest.raises(ConfigError) as error:
        Config(**changes).validate()
    assert f"{field}={value}" in str(error.value)


@pytest.mark.parametrize(
    "override",
    [
        lambda config: setattr(config.data, "crop_scale", (0.5,)),
        lambda config: setattr(config.data.preprocessing, "mean", (0.5,)),
    ],
    ids=["crop_scale", "mean"],
)
def test_an_override_that_changed_the_length_of_a_tuple_is_refused(override: Callable[[Config], None]) -> None:
    """The command line accepts tuples of any length."""
    config = Config()
    override(config)
    with pytest.raises(ConfigError, match=r"config\.data\.(crop_scale|preprocessing\.mean)=\(0\.5,\)"):
        config.validate()


@pytest.mark.parametrize(
    "changes",
    [
        {"total_steps": 5, "epochs": 0.0},
        {"batch_size": 8, "model": ModelConfig(batch_norm=BatchNorm.GROUPS)},
        {"byproduct": ByproductConfig(weight=0.0)},
        {"data": DataConfig(preprocessing=Preprocessing(resize_side=None))},
        {"data": DataConfig(crop_scale=(1.0, 1.0))},
        {"optim": OptimConfig(warmup_epochs=0.0, weight_decay=0.0, clip_norm=1.0)},
    ],
)
def test_values_at_the_edge_are_accepted(changes: dict[str, Any]) -> None:
    Config(**changes).validate()


# --- derived numbers


def test_steps_follow_from_epochs_and_batch() -> None:
    config = Config(epochs=300.0, batch_size=1024)
    assert steps_per_epoch(config, 1_281_167) == pytest.approx(1251.14, abs=0.01)
    assert total_steps(config, 1_281_167) == 375_342  # 300 × 1,281,167 / 1024, rounded
    assert warmup_steps(config, 1_281_167) == 6256
    assert every_steps(1.0, config, 1_281_167) == 1251


def test_total_steps_override_epochs_and_warm_up_leaves_half() -> None:
    config = Config(total_steps=10, batch_size=4)
    assert total_steps(config, 1000) == 10
    assert warmup_steps(config, 1000) == 5
    tiny = Config(epochs=0.001, batch_size=64)
    assert total_steps(tiny, 100) == 1
    assert warmup_steps(tiny, 100) == 0
    assert every_steps(0.001, tiny, 100) == 1


# --- the same experiment


OPERATIONAL = {
    "root": lambda: Config(data=DataConfig(root="gs://elsewhere")),
    "threads": lambda: Config(data=DataConfig(num_threads=3, workers=-1, prefetch_examples=7)),
    "mesh": lambda: Config(mesh=MeshConfig(data=2, fsdp=4)),
    "checkpoints": lambda: Config(checkpoint=CheckpointConfig(every_epochs=3.0, keep_last=9, keep_best=0)),
    "evaluation": lambda: Config(eval=EvalConfig(every_epochs=7.0, batch_size=3)),
    "log": lambda: Config(log=LogConfig(every_steps=1, tensorboard=False)),
    "hosts": lambda: Config(distributed=DistributedConfig(coordinator_address="a:1", num_processes=2, process_id=1)),
    "cache": lambda: Config(compilation_cache=""),
}


@pytest.mark.parametrize("change", OPERATIONAL)
def test_where_and_how_a_run_runs_is_no_difference(change: str) -> None:
    other = OPERATIONAL[change]()
    assert other != Config()
    assert differences(Config(), other) == {}
    assert config_hash(other) == config_hash(Config())


def test_what_a_run_computes_is_a_difference() -> None:
    old = Config()
    new = Config(
        batch_size=8,
        data=DataConfig(root="elsewhere", crop_scale=(0.5, 1.0), decoder=JpegDecoder.NVJPEG),
        byproduct=ByproductConfig(target=Target.NONE),
    )
    assert differences(old, new) == {
        "batch_size": (1024, 8),
        "byproduct.target": ("click_last", "none"),
        "data.crop_scale": ([0.08, 1.0], [0.5, 1.0]),
        "data.decoder": ("cpu", "nvjpeg"),
    }
    assert config_hash(old) != config_hash(new)


def test_a_config_and_its_stored_dict_do_not_differ() -> None:
    stored = json.loads(json.dumps(to_dict(Config())))
    assert differences(stored, Config()) == {}
    del stored["optim"]["nesterov"]
    assert differences(stored, Config()) == {"optim.nesterov": (None, True)}


def test_fields_of_a_later_version_at_the_value_of_old_runs_change_neither_hash_nor_experiment() -> None:
    """A run from before the fields resumes; its config.json lacks them."""
    stored = json.loads(json.dumps(to_dict(Config())))
    config = Config(optim=OptimConfig(warmup_learning_rate=0.0))
    for name in ("heat_map_side", "min_annotator_images", "max_annotators", "sample_weight"):
        del stored["byproduct"][name]
    for name in ("schedule", "warmup_learning_rate"):
        del stored["optim"][name]
    assert differences(stored, config) == {}
    assert scientific_fields(stored) == scientific_fields(config)
    assert config_hash(config) == "0fc7d5ad3abb"  # as before the fields
    weighted = Config(byproduct=ByproductConfig(sample_weight=SampleWeight.TIME_TO_CLICK, heat_map_side=14))
    weighted.optim.warmup_learning_rate = 0.0
    expected = {"byproduct.sample_weight": ("none", "time_to_click"), "byproduct.heat_map_side": (7, 14)}
    assert differences(stored, weighted) == expected
    assert config_hash(weighted) != config_hash(Config())


def test_a_field_that_another_makes_meaningless_is_no_part_of_the_experiment() -> None:
    without_warm_up = [
        Config(optim=OptimConfig(warmup_epochs=0.0, warmup_learning_rate=rate)) for rate in (0.0, 1e-6, 1e-3)
    ]
    assert len({config_hash(config) for config in without_warm_up}) == 1
    drawn = [Config(byproduct=ByproductConfig(target=Target.RANDOM, random_point=kind)) for kind in RandomPoint]
    assert len({config_hash(config) for config in drawn}) == 2
    assert "byproduct.random_point" not in scientific_fields(Config())


def test_flatten_names_every_leaf_by_its_path() -> None:
    flat = flatten(Config())
    assert flat["data.preprocessing.image_size"] == 224
    assert not any(isinstance(value, dict) for value in flat.values())
    assert set(scientific_fields(Config())) < set(flat)
