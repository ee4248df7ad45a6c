"""Wrong usage and wrong input end in one line that says what to do, and in the documented exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from luab_jax.errors import ExitCode

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
