"""`python -m luab_jax.export`: a run's weights as a file that says how timm reads it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from luab_jax import export as command
from luab_jax.config import OptimConfig
from luab_jax.errors import ExitCode
from luab_jax.training.loop import train
from tests import tiny
from tests.training.test_loop import REPOSITORY

Export = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    config = tiny.experiment(tiny.prepare_data(folder / "data"), total_steps=1)
    assert train(config, folder / "run") is ExitCode.DONE
    return folder / "run"


@pytest.fixture
def export(capsys: pytest.CaptureFixture[str]) -> Export:
    """The command in this process: its exit code and what it said."""

    def run(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = command.main(arguments)
        return code, "".join(capsys.readouterr())

    return run


def test_it_is_a_command(workdir: Path, tmp_path: Path) -> None:
    """As the documents start it; what it does is below."""
    given = [f"--checkpoint={workdir}", f"--out={tmp_path / 'w.safetensors'}"]
    started = [sys.executable, "-m", "luab_jax.export", *given]
    done = subprocess.run(started, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "run, step 1, " in done.stdout + done.stderr
    assert "fc.bias" in safetensors.numpy.load_file(tmp_path / "w.safetensors")


def test_the_file_holds_every_array_but_the_byproduct_heads(export: Export, workdir: Path, tmp_path: Path) -> None:
    code, said = export(f"--checkpoint={workdir}", f"--out={tmp_path / 'w.safetensors'}")
    assert code == 0
    assert "run, step 1, " in said and "left out: the byproduct head" in said
    assert "timm has no network of this shape" in said
    weights = safetensors.numpy.load_file(tmp_path / "w.safetensors")
    assert weights["fc.weight"].shape == (3, 8) and weights["conv1.weight"].shape == (4, 3, 4, 4)
    assert all(array.dtype == np.float32 for array in weights.values())
    assert not any("byproduct" in name for name in weights)


def test_of_a_run_with_a_moving_average_either_can_be_had(export: Export, tmp_path: Path) -> None:
    config = tiny.experiment(tiny.prepare_data(tmp_path / "data"), total_steps=1, optim=OptimConfig(ema_decay=0.5))
    assert train(config, tmp_path / "run") is ExitCode.DONE
    files = {weights: tmp_path / f"{weights}.safetensors" for weights in ("ema", "raw")}
    code, said = export(f"--checkpoint={tmp_path / 'run'}", f"--out={files['ema']}", "--weights=ema")
    assert code == 0 and "run, step 1, moving average, " in said
    code, said = export(f"--checkpoint={tmp_path / 'run'}", f"--out={files['raw']}")
    assert code == 0 and "run, step 1, " in said and "moving average" not in said
    ema, raw = (safetensors.numpy.load_file(file) for file in files.values())
    assert ema.keys() == raw.keys() and not np.array_equal(ema["fc.bias"], raw["fc.bias"])


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--out=w.safetensors"], 2, "--checkpoint=... is missing"),
        (["--checkpoint={workdir}", "--out=w.pth"], 2, "should end in .safetensors"),
        (["--checkpoint={workdir}/nothing", "--out=w.safetensors"], 1, "no such folder; is it the workdir of a run?"),
        (["--checkpoint={workdir}", "--weights=ema", "--out=w.safetensors"], 1, "the run keeps no moving average"),
        (["--checkpoint={workdir}", "--step=7", "--out=w.safetensors"], 1, "no checkpoint '7'; there are 1"),
        (["--checkpoint={workdir}", "--out={workdir}/no/w.safetensors"], 1, "cannot be written (No such file"),
    ],
)
def test_what_cannot_be_is_one_message(
    arguments: list[str], code: int, told: str, export: Export, workdir: Path
) -> None:
    found, said = export(*(argument.format(workdir=workdir) for argument in arguments))
    assert found == code and told in said and "Traceback" not in said
