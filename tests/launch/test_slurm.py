"""`launch/slurm.sbatch` runs one process per GPU and is requeued where the same command resumes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.launch.fakes import REPOSITORY, Fakes

SCRIPT = REPOSITORY / "launch" / "slurm.sbatch"
TRAIN = ("--config=vit_b", "--workdir=/shared/runs/vit_b")


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    return Fakes(tmp_path, "srun", "scontrol")


def batch(fakes: Fakes, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    slurm = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "16", "SLURM_SUBMIT_DIR": "/home/me"}
    return fakes.run("bash", str(SCRIPT), *(arguments or TRAIN), **(slurm | environment))


def test_one_process_per_gpu_requeue_and_a_signal_before_the_limit() -> None:
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", SCRIPT.read_text(), re.MULTILINE))
    assert options["ntasks-per-node"] == options["gpus-per-node"]
    assert "requeue" in options and options["open-mode"] == "append"
    signal, seconds = options["signal"].split("@")
    assert signal == "TERM", "B:TERM would reach the script alone"
    assert int(seconds) >= 120


def test_what_srun_is_asked(fakes: Fakes) -> None:
    assert batch(fakes).returncode == 0
    ((name, *asked),) = fakes.asked
    assert name == "srun"
    assert asked == [
        *("--kill-on-bad-exit=0", "/home/me/.venv/bin/python", "-m", "luab_jax.main", *TRAIN),
        *("--config.distributed.enabled=true", "--config.compilation_cache=/shared/runs/compilation_cache"),
    ]


def test_one_process_needs_no_other_host(fakes: Fakes) -> None:
    batch(fakes, "--workdir=gs://b/r/x", "--config.compilation_cache=", SLURM_NTASKS="1")
    assert fakes.asked[0][-2:] == ["--workdir=gs://b/r/x", "--config.compilation_cache="]


@pytest.mark.parametrize("code", [3, 134, 137, 143])
def test_what_can_resume_is_requeued(fakes: Fakes, code: int) -> None:
    fakes.answer({"srun": [("", code)]})
    done = batch(fakes, SLURM_RESTART_COUNT="4")
    assert done.returncode == 0
    assert fakes.asked[-1] == ["scontrol", "requeue", "7"]
    assert f"exit code {code}: requeued, restart 5 of 20" in done.stderr


@pytest.mark.parametrize("code", [0, 1, 2])
def test_what_is_done_or_names_something_to_mend_is_not(fakes: Fakes, code: int) -> None:
    fakes.answer({"srun": [("", code)]})
    assert batch(fakes).returncode == code
    assert [asked[0] for asked in fakes.asked] == ["srun"]


def test_it_gives_up_after_as_many_restarts_as_it_may(fakes: Fakes) -> None:
    fakes.answer({"srun": [("", 3)]})
    done = batch(fakes, SLURM_RESTART_COUNT="20")
    assert done.returncode == 3 and "the same sbatch resumes" in done.stderr
    assert [asked[0] for asked in fakes.asked] == ["srun"]


@pytest.mark.parametrize(
    ("arguments", "message"), [([""], "--workdir=DIR is missing"), (["--config=vit_b"], "--workdir")]
)
def test_wrong_usage_starts_nothing(fakes: Fakes, arguments: list[str], message: str) -> None:
    done = batch(fakes, *arguments)
    assert done.returncode == 2 and message in done.stderr and not fakes.asked
