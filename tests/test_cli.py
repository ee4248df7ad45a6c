"""Wrong usage and wrong input end in one line that says what to do, and in the documented exit code."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from luab_jax import cli
from luab_jax.errors import DataError, ExitCode
from luab_jax.io import retries
from luab_jax.io.home import with_home
from tests import tiny

REPOSITORY = Path(__file__).resolve().parents[1]


def run(*arguments: str, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=cwd, env=environment, text=True, capture_output=True, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["luab_jax.main"], "--config=... is missing"),
        (["luab_jax.main", "--config=configs/resnet81.py"], "no such file; did you mean configs/resnet18.py?"),
        (
            ["luab_jax.main", "--config=configs/demo.py", "--workdir=x", "--config.optim.lerning_rate=1"],
            "the config has no field 'optim.lerning_rate'; did you mean --config.optim.learning_rate?",
        ),
        (
            ["luab_jax.main", "--config=configs/demo.py", "--workdir=x", "--config.byproduct.target=clicks"],
            "click_last",
        ),
        (["luab_jax.main", "--config=configs/demo.py", "--workdir=x", "--config.epochs=many"], "many"),
        (["luab_jax.main", "--config=configs/demo.py"], "--workdir=DIR is missing"),
        (["luab_jax.evaluate", "--data=x", "--out=y"], "--checkpoint=... is missing"),
        (["luab_jax.main", "--config=configs/demo.py", "w"], "options are written --name=value"),
        (["luab_jax.report"], "which results?"),
        (["luab_jax.preview", "--config=configs/demo.py"], "--out=... is missing"),
        (["luab_jax.preview", "--config=configs/demo.py", "--out=x.png", "--crops=0"], "--crops"),
    ],
)
def test_wrong_usage_exits_with_2_and_no_traceback(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.returncode == ExitCode.USAGE, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["luab_jax.main", "--config=configs/demo.py", "--workdir={tmp}/w"], "config.data.root is empty"),
        (["luab_jax.preview", "--config=configs/demo.py", "--out={tmp}/x.png"], "config.data.root is empty"),
        (
            ["luab_jax.main", "--config=configs/demo.py", "--workdir={tmp}/w", "--config.data.root={tmp}/none"],
            "no prepared split 'train'",
        ),
        (
            ["luab_jax.evaluate", "--checkpoint={tmp}", "--data={tmp}", "--out={tmp}/r.json"],
            "is it the workdir of a run",
        ),
        (["luab_jax.report", "{tmp}/r.json"], "cannot be read"),
    ],
)
def test_wrong_input_exits_with_1_and_one_message(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = run(*[argument.format(tmp=tmp_path) for argument in arguments])
    assert result.returncode == ExitCode.FAILED, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.count("error:") == 1


def test_print_config_shows_every_field_as_the_flag_that_sets_it() -> None:
    result = run("luab_jax.main", "--config=configs/vit_b.py", "--config.epochs=3", "--print_config")
    assert result.returncode == 0
    assert "--config.epochs=3.0" in result.stdout
    assert "--config.byproduct.target=click_last" in result.stdout
    assert "--config.model.name=vit_b" in result.stdout
    assert "click_last" in result.stdout
    flags = [line for line in result.stdout.splitlines() if not line.startswith("#")]
    assert all(line.startswith("--config.") for line in flags)


@pytest.mark.parametrize(
    "arguments", [["luab_jax.main", "--help"], ["luab_jax.main", "--config=configs/demo.py", "--print_config"]]
)
def test_output_that_nobody_reads_any_more_ends_without_a_word(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"}
    with os.fdopen(writer, "w") as pipe:
        result = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=REPOSITORY, env=environment, text=True, stdout=pipe, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    assert result.stderr == ""
    assert result.returncode == 128 + signal.SIGPIPE


COMMANDS = (
    "luab_jax.main",
    "luab_jax.evaluate",
    "luab_jax.export",
    "luab_jax.preview.__main__",
    "luab_jax.preflight.__main__",
    "luab_jax.report.__main__",
)


@pytest.mark.parametrize("module", COMMANDS)
def test_help_says_what_a_command_does_with_three_examples_and_every_default(
    module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = importlib.import_module(module)
    assert command.main(["--help"]) == ExitCode.DONE
    summary, examples, options, *_ = capsys.readouterr().out.split("\n\n")
    assert len(summary.splitlines()) == 2
    name = module.removesuffix(".__main__")
    assert examples.splitlines()[0] == "Examples:" and len(examples.splitlines()) == 4
    assert all(line.startswith(f"  python -m {name} ") for line in examples.splitlines()[1:])
    given = [line for line in options.splitlines() if line.startswith("  --") and "FIELD" not in line]
    assert given and options.count("Default: ") + options.count("Required.") == len(given)


def test_help_says_which_options_must_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    from luab_jax import evaluate, main

    for command, required in ((evaluate, {"checkpoint", "data"}), (main, {"config", "workdir"})):
        assert command.main(["--help"]) == ExitCode.DONE
        options = capsys.readouterr().out.split("Options:")[1].split("\n  --")
        assert {text.partition("=")[0] for text in options if text.rstrip().endswith("Required.")} == required


def test_commands_are_called_one_after_the_other_in_a_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with its own flags, which a call before does not leave behind."""
    from luab_jax import evaluate, export, main
    from luab_jax.report import __main__ as report

    data = tiny.prepare_data(tmp_path / "data")
    config = tmp_path / "tiny.py"
    config.write_text(
        "from pathlib import Path\nfrom tests import tiny\n"
        f"def get_config():\n    return tiny.experiment(Path({str(data)!r}), total_steps=2)\n"
    )
    workdir, out = tmp_path / "run", tmp_path / "r.json"
    assert main.main([f"--config={config}", f"--workdir={workdir}", "--config.seed=3"]) == ExitCode.DONE
    arguments = [f"--checkpoint={workdir}", f"--data={data}", f"--out={out}"]
    assert evaluate.main([*arguments, "--suites=imagenet", "--image_size=24", "--resize_side=24"]) == ExitCode.DONE
    assert "image_size" in json.loads(out.read_text())["checkpoint"]["preprocessing_override"]
    assert evaluate.main([*arguments, "--suites=imagenet"]) == ExitCode.FAILED
    assert "holds results of another checkpoint or preprocessing" in capsys.readouterr().err
    assert evaluate.main([*arguments, "--overwrite"]) == ExitCode.DONE
    assert "preprocessing_override" not in json.loads(out.read_text())["checkpoint"]
    evaluated_by = ["python", "-m", "luab_jax.evaluate", *arguments, "--overwrite"]
    assert json.loads(out.read_text())["command"] == evaluated_by
    assert evaluate.main(arguments[:1]) == ExitCode.USAGE
    assert export.main([f"--checkpoint={workdir}", f"--out={tmp_path / 'w.safetensors'}"]) == ExitCode.DONE
    capsys.readouterr()
    assert report.main([str(out)]) == ExitCode.DONE
    assert "tiny top1 %" in capsys.readouterr().out
    assert main.main(["--config=vit_b", "--print_config"]) == ExitCode.DONE
    assert "--config.seed=0" in capsys.readouterr().out


def test_a_tilde_behind_an_option_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shells leave it as it is there; a folder called ~ would be made in the working folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    tiny.prepare_data(tmp_path / "home" / "data", 4, 4)
    preview = importlib.import_module("luab_jax.preview.__main__")
    config = [
        "--config=resnet18",
        "--config.data.root=~/data",
        "--config.data.preprocessing.image_size=32",
        "--images=1",
    ]
    assert preview.main([*config, "--out=~/batches.png"]) == ExitCode.DONE
    assert (tmp_path / "home" / "batches.png").exists()
    prepare = importlib.import_module("data_prep.__main__")
    assert prepare.main(["demo", "--out=~/demo", "--num_train=10", "--num_val=10", "--side=32", "--workers=1"]) == 0
    assert (tmp_path / "home" / "demo").exists() and not (tmp_path / "~").exists()


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("--out=~/r.json", "--out=/home/me/r.json"),
        ("--checkpoint=timm:resnet50:~/w.safetensors", "--checkpoint=timm:resnet50:/home/me/w.safetensors"),
        ("--out=~nobody-of-this-name/r", "--out=~nobody-of-this-name/r"),
        ("--out=a~/r", "--out=a~/r"),
        ("--out=gs://b/~/r", "--out=gs://b/~/r"),
        ("~/r.json", "~/r.json"),
    ],
)
def test_where_a_tilde_is_the_home_folder(word: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert with_home(word) == expected


def test_requests_that_were_repeated_are_told_before_the_error(capsys: pytest.CaptureFixture[str]) -> None:
    def failing(arguments: cli.Arguments) -> ExitCode:
        retries.add({"503": 2})
        raise DataError("gs://bucket/data: there is no such bucket")

    assert cli.Command("x", "does nothing", ()).run(failing, []) is ExitCode.FAILED
    assert capsys.readouterr().err.splitlines() == [
        "storage: 2 request(s) failed and were repeated (503: 2)",
        "error: gs://bucket/data: there is no such bucket",
    ]
