"""From a command line to a config, or to one line that says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from luab_jax.config import Config, flatten
from luab_jax.config.flags import load_config, nearest_field, split_overrides
from luab_jax.errors import ConfigError, UsageError
from luab_jax.models.config import Attention

DEMO = str(Path(__file__).parents[2] / "configs/demo.py")


def config_file(folder: Path, text: str) -> str:
    path = folder / "mine.py"
    path.write_text(text)
    return str(path)


def test_a_file_may_give_a_config_dict(tmp_path: Path) -> None:
    text = "from ml_collections import ConfigDict\ndef get_config():\n  return ConfigDict(FIELDS)\n"
    fields = "{'epochs': 3, 'optim': {'name': 'sgd'}, 'data': {'preprocessing': {'image_size': 64}}}"
    config = load_config(config_file(tmp_path, text.replace("FIELDS", fields)))
    assert (config.epochs, config.optim.name.value, config.data.preprocessing.image_size) == (3, "sgd", 64)
    for wrong, told in (("{'optim': {'lr': 1}}", "no field lr"), ("{'optim': 3}", "mine.py")):
        with pytest.raises(UsageError, match=told):
            load_config(config_file(tmp_path, text.replace("FIELDS", wrong)))


def test_a_folder_of_a_recipes_name_does_not_hide_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_config("demo") == load_config(DEMO)


@pytest.mark.parametrize(("name", "near"), [("demo2", "demo"), ("resnet81", "resnet18"), ("vitb", "vit_b")])
def test_a_recipe_that_is_not_there_is_answered_with_the_nearest(
    name: str, near: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"did you mean {near}\\?"):
        load_config(name)


def test_values_are_joined_to_their_fields_and_the_rest_is_left() -> None:
    argv = ["main", "--config", "a.py", "--config.epochs", "3", "-config.seed=1", "--workdir=w", "--config.data.flip"]
    left, overrides = split_overrides([*argv, "--config.optim.learning_rate", "-1", "--", "--config.seed=2"])
    assert left == ["main", "--config", "a.py", "--workdir=w", "--", "--config.seed=2"]
    assert overrides == [
        *("--config.epochs=3", "--config.seed=1", "--config.data.flip=true", "--config.optim.learning_rate=-1"),
    ]


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("epochs=3", "epochs", 3.0),
        ("epochs=1e-2", "epochs", 0.01),
        ("total_steps=None", "total_steps", None),
        ("total_steps=7", "total_steps", 7),
        ("data.flip=False", "data.flip", False),
        ("data.flip=0", "data.flip", False),
        ("data.root=None", "data.root", "None"),  # a text is taken as it is
        ("data.preprocessing.resize_side=none", "data.preprocessing.resize_side", None),
        ("model.stage_sizes=None", "model.stage_sizes", None),
        ("model.stage_sizes=(1, 2)", "model.stage_sizes", [1, 2]),
        ("model.stage_sizes=[1,2]", "model.stage_sizes", [1, 2]),
        ("model.stage_sizes=3", "model.stage_sizes", [3]),
        ("data.crop_scale=0.5,1", "data.crop_scale", [0.5, 1]),
        ("optim.clip_norm=1", "optim.clip_norm", 1.0),
        ("model.attention=XLA", "model.attention", Attention.XLA.value),
        ("byproduct.target=click_first", "byproduct.target", "click_first"),
    ],
)
def test_a_field_takes_what_its_type_allows(override: str, field: str, value: object) -> None:
    assert flatten(load_config(DEMO, [f"--config.{override}"]))[field] == value


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("epochs=many", "--config.epochs=many: expected a number"),
        ("epochs=None", "expected a number"),
        ("seed=1.5", "expected a whole number"),
        ("seed=true", "expected a whole number"),
        ("data.flip=perhaps", "expected true or false"),
        ("model=3", "expected its fields one by one: .name, .width"),
        ("model.stage_sizes=1.5,1", "expected one or more whole numbers, as in (1, 2), or None"),
        ("model.stage_sizes=(1,'a')", "expected one or more whole numbers"),
        ("model.stage_sizes=(1,", "expected one or more whole numbers"),
        ("data.crop_scale=0.5", "expected 2 numbers, as in (0.1, 0.2)"),
        ("data.crop_scale=(0.1,0.2,0.3)", "expected 2 numbers"),
        ("data.preprocessing.mean=(0.5,None,0.5)", "expected 3 numbers"),
        ("data.preprocessing.mean=" + "(" * 5000, "expected 3 numbers"),
        ("optim.clip_norm=abc", "expected a number, or None"),
        ("byproduct.target=clicks", "expected one of none, random,"),
        ("lr=1", "no field 'lr'; did you mean --config.optim.learning_rate?"),
        ("optim.lr=1", "did you mean --config.optim.learning_rate?"),
        ("wd=1", "did you mean --config.optim.weight_decay?"),
        ("batchsize=1", "did you mean --config.batch_size?"),
        ("optim.lerning_rate=1", "did you mean --config.optim.learning_rate?"),
        ("target=box", "did you mean --config.byproduct.target?"),
        ("byproduct.more.bax.weight=2", "did you mean --config.byproduct.more.box.weight?"),
        ("byproduct.more.box.wieght=2", "did you mean --config.byproduct.more.box.weight?"),
        ("nosuch=3", "no field 'nosuch'; --print_config lists them all"),
        ("seed.x=3", "no field 'seed.x'"),
        ("=3", "no field ''"),
    ],
)
def test_what_it_does_not_allow_is_one_line(override: str, told: str) -> None:
    with pytest.raises(UsageError) as error:
        load_config(DEMO, [f"--config.{override}"])
    assert told in str(error.value) and "\n" not in str(error.value)


def test_the_nearest_field_is_found_by_the_last_part_of_its_name() -> None:
    known = list(flatten(Config()))
    assert nearest_field("image_size", known) == "data.preprocessing.image_size"
    assert nearest_field("workdir", known) is None


def test_an_argument_behind_a_colon_is_get_configs(tmp_path: Path) -> None:
    text = "from configs.demo import get_config as d\ndef get_config(a):\n  c = d(); c.data.root = a\n  return c\n"
    path = config_file(tmp_path, text)
    assert load_config(f"{path}:a:b").data.root == "a:b"
    assert load_config(f"{path}:").data.root == ""
    with pytest.raises(UsageError, match=r"needs an argument; write --config=.*mine.py:ARGUMENT"):
        load_config(path)
    with pytest.raises(UsageError, match=r"takes no argument; write --config=.*demo.py"):
        load_config(f"{DEMO}:x")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def get_config(:\n", "SyntaxError in .*mine.py, line 1: invalid syntax"),
        ("\0", "SyntaxError in"),
        ("import no_such_module\n", "ModuleNotFoundError in .*mine.py, line 1: No module named 'no_such_module'"),
        ("x = 1\n\ny = x / 0\n", "ZeroDivisionError in .*mine.py, line 3"),
        ("import sys\nraise SystemExit(3)\n", "SystemExit in .*mine.py, line 2"),
        ("x = 1\n", "defines no function get_config"),
        ("get_config = 3\n", "defines no function get_config"),
        ("def get_config():\n  return {}['a']\n", "get_config failed: KeyError in .*mine.py, line 2: 'a'"),
        ("def get_config():\n  int(None)\n", "get_config failed: TypeError in .*mine.py, line 2"),
        ("def get_config():\n  pass\n", "returned NoneType, not a luab_jax.config.Config"),
        ("def get_config():\n  return {}\n", "returned dict, not"),
    ],
)
def test_a_file_that_is_no_config_is_told_in_one_line_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as error:
        load_config(config_file(tmp_path, text))
    assert "\n" not in str(error.value)


def test_a_folder_and_a_missing_file_are_named(tmp_path: Path) -> None:
    config_file(tmp_path, "")
    with pytest.raises(UsageError, match=r"a folder; name a Python file with a get_config; it holds mine.py"):
        load_config(str(tmp_path))
    with pytest.raises(UsageError, match=r"no such file; did you mean .*mine.py"):
        load_config(str(tmp_path / "mien.py"))


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        (
            "c.data.preprocessing.mean = (0.5, None, 0.5)",
            r"preprocessing.mean=\(0.5, None, 0.5\): expected 3 numbers",
        ),
        ("c.batch_size = '8'", "config.batch_size='8': expected a whole number"),
        ("c.optim = None", "config.optim=None: expected its fields"),
        ("c.data.flip = 1", "config.data.flip=1: expected true or false"),
        ("c.byproduct.target = 'none'", "config.byproduct.target='none': expected one of none,"),
    ],
)
def test_a_config_file_that_sets_another_type_is_refused_too(tmp_path: Path, assignment: str, told: str) -> None:
    text = f"from configs.demo import get_config as demo\ndef get_config():\n  c = demo(); {assignment}\n  return c\n"
    with pytest.raises(ConfigError, match=told):
        load_config(config_file(tmp_path, text)).validate()
