"""A model's config: what may be set, what is refused and what the message says."""

import subprocess
import sys

import pytest

from luab_jax.config import Config
from luab_jax.config.flags import set_field
from luab_jax.models.config import (
    PRESETS,
    Dtype,
    ModelConfig,
    Pool,
    Stem,
    architecture,
    filled_preset,
)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid_as_it_is(name):
    ModelConfig(name=name).validate()


def test_none_means_the_presets_value_and_a_number_replaces_it():
    small = filled_preset(ModelConfig(name="resnet50", width=16, stage_sizes=(1, 1)))
    assert (small.width, small.stage_sizes, small.bottleneck) == (16, (1, 1), True)
    assert filled_preset(ModelConfig(name="resnet50")) == PRESETS["resnet50"]
    narrow = filled_preset(ModelConfig(name="vit_s", embed_dim=96))
    assert (narrow.embed_dim, narrow.depth, narrow.num_heads) == (96, 12, 6)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"name": "resnet_50"}, ["model.name='resnet_50'", "did you mean 'resnet50'"]),
        ({"name": "vit_ti", "embed_dim": 100}, ["model.embed_dim=100", "heads that fits is 2"]),
        ({"name": "vit_ti", "num_heads": 5}, ["model.num_heads=5", "that fits is 4"]),
        ({"name": "vit_s", "width": 16}, ["model.width=16", "a ResNet", "embed_dim"]),
        ({"name": "resnet18", "depth": 3}, ["model.depth=3", "a ViT", "stage_sizes"]),
        ({"stage_sizes": ()}, ["model.stage_sizes=()", "(3, 4, 6, 3)"]),
        ({"stage_sizes": (2, 0)}, ["model.stage_sizes=(2, 0)", "one block in each"]),
        ({"width": 0}, ["model.width=0", "1 or more"]),
        ({"dropout": 1.0}, ["model.dropout=1.0", "0 <= rate < 1"]),
        ({"drop_path": -0.1}, ["model.drop_path=-0.1", "0 <= rate < 1"]),
    ],
)
def test_a_refusal_names_the_field_the_value_and_the_remedy(fields, told):
    with pytest.raises(ValueError) as caught:
        ModelConfig(**fields).validate()
    for words in told:
        assert words in str(caught.value)


def test_every_field_can_be_set_from_the_command_line():
    argv = [
        "--model.name=resnet18",
        "--model.width=16",
        "--model.stage_sizes=(1, 1)",
        "--model.stem=SMALL",
        "--model.patch_size=8",
        "--model.embed_dim=64",
        "--model.depth=2",
        "--model.num_heads=4",
        "--model.pool=MEAN",
        "--model.dropout=0.1",
        "--model.drop_path=0.2",
        "--model.compute_dtype=FLOAT32",
    ]
    config = Config(model=ModelConfig())
    for argument in argv:
        set_field(config, *argument.removeprefix("--").split("=", 1))
    assert config.model == ModelConfig(
        name="resnet18",
        width=16,
        stage_sizes=(1, 1),
        stem=Stem.SMALL,
        patch_size=8,
        embed_dim=64,
        depth=2,
        num_heads=4,
        pool=Pool.MEAN,
        dropout=0.1,
        drop_path=0.2,
        compute_dtype=Dtype.FLOAT32,
    )


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"name": "resnet34"}, "resnet34"),
        ({"name": "resnet34", "stage_sizes": (3, 4, 6, 3), "width": 64}, "resnet34"),
        (
            {"name": "resnet34", "width": 32, "stage_sizes": (1, 1, 1), "stem": Stem.PATCH},
            "resnet34 with width=32, stage_sizes=1-1-1, stem=patch",
        ),
        ({"name": "vit_s", "depth": 6, "patch_size": 8}, "vit_s with depth=6, patch_size=8"),
    ],
)
def test_a_network_that_is_not_what_its_name_says_is_called_what_it_is(fields, told):
    assert architecture(ModelConfig(**fields)) == told


def test_a_config_loads_without_jax_and_flax():
    code = "import sys, luab_jax.models.config;print([m for m in ('jax', 'flax', 'numpy') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
