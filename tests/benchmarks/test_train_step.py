"""`python -m benchmarks.train_step`, on a network that is compiled in seconds: rows, units, and what the head costs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from benchmarks import train_step
from luab_jax.byproducts.targets import Target
from luab_jax.config import Config, DataConfig
from luab_jax.data.transforms import Preprocessing
from luab_jax.errors import ExitCode
from luab_jax.models import attention
from luab_jax.models.config import ModelConfig
from tests.xla_flags import QUICK_TO_COMPILE

REPOSITORY = Path(__file__).resolve().parents[2]
BATCH, ROUNDS = 4, 3

CONFIG = """
from tests import tiny


def get_config():
    return tiny.experiment("")
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PYTHONPATH": str(REPOSITORY),
        "XLA_FLAGS": f"{QUICK_TO_COMPILE} --xla_force_host_platform_device_count=2",
    }
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("train_step") / "config.py"
    path.write_text(CONFIG)
    return path


def test_both_steps_have_a_row_and_the_head_its_cost(config: Path) -> None:
    done = run("-m", "benchmarks.train_step", f"--config={config}", f"--batch_size={BATCH}", f"--rounds={ROUNDS}")
    assert done.returncode == ExitCode.DONE, done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"resnet18, [\d,]+ parameters", lines[0])
    assert lines[1].startswith("2 x cpu, jax ")
    assert lines[2] == f"batch {BATCH}, 16 px, float32, {ROUNDS} rounds"
    columns = ["ms, median", "10 % - 90 %", "images/s", "of peak", "TFLOP", "MB", "compiled in s"]
    header = next(number for number, line in enumerate(lines) if "images/s" in line)
    assert re.split(r"\s{2,}", lines[header].strip()) == columns
    for line, name in zip(lines[header + 1 : header + 3], ("LUAB", "baseline"), strict=True):
        found, *cells = re.split(r"\s{2,}", line.strip())
        row = dict(zip(columns, cells, strict=True))
        low, high = map(float, row["10 % - 90 %"].split(" - "))
        milliseconds = float(row["ms, median"])
        assert found == name and 0 < low <= milliseconds <= high
        # The median is printed to 0.05 ms.
        assert 1e3 * BATCH / (milliseconds + 0.06) < float(row["images/s"]) < 1e3 * BATCH / (milliseconds - 0.06)
        assert row["of peak"] == "unknown" and float(row["compiled in s"]) > 0
    cost = re.fullmatch(
        r"byproduct head: (\S+)% FLOPs, (\S+)% time \(median of rounds; 10 % - 90 %: (\S+)% to (\S+)%\)", lines[-1]
    )
    assert cost is not None, lines[-1]
    flops, median, low, high = map(float, cost.groups())
    assert 0 < flops < 1, "two outputs of eight features beside the whole network"
    assert low <= median <= high


def test_without_a_head_there_is_nothing_to_compare(config: Path) -> None:
    done = run("-m", "benchmarks.train_step", f"--config={config}", "--config.byproduct.target=none")
    assert done.returncode == ExitCode.USAGE and "has no head to compare the baseline with" in done.stderr


def test_the_table_of_flops_has_a_row_for_a_model() -> None:
    done = run("-c", "from benchmarks import train_step as t; t.MODELS = ('resnet18',); t.flops_table()")
    assert done.returncode == 0, done.stderr
    header, row = done.stdout.splitlines()
    assert header.split() == ["batch", "target", "baseline", "LUAB", "more", "TFLOP", "per", "step"]
    name, batch, target, baseline, luab, more = row.split()
    assert (name, batch, target) == ("resnet18", "1024", "click_last")
    # Forward 2 x 1.82 GFLOPs per image (He et al. 2016, table 1: 1.8 billion multiply-adds), backward twice that.
    assert float(baseline) == pytest.approx(1024 * 3 * 2 * 1.82e9 / 1e12, rel=0.1)
    assert 0 <= float(luab) - float(baseline) < 1e-3 * float(baseline) and 0 < float(more.rstrip("%")) < 0.1


def test_attention_is_counted_where_cudnn_would_compute_it(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(batch_size=2, data=DataConfig(preprocessing=Preprocessing(image_size=32, resize_side=32)))
    config.model = ModelConfig(name="vit_ti", embed_dim=16, depth=1, num_heads=2, patch_size=16)
    expected = train_step.flops_of(config, Target.NONE, jax.devices()[:1])
    monkeypatch.setattr(attention, "_cudnn_fits", lambda dtype, channels: True)
    assert train_step.flops_of(config, Target.NONE, jax.devices()[:1]) == expected
