"""Several hosts, simulated by processes on one machine: the same batches and losses, and a resume on fewer."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from luab_jax.metrics.history import read_metrics
from tests import tiny
from tests.xla_flags import QUICK_TO_COMPILE

REPOSITORY = Path(__file__).resolve().parents[2]

CONFIG = """
from luab_jax.augmentation.config import AugmentationConfig
from luab_jax.byproducts.responses import SampleWeight
from luab_jax.config import ByproductConfig, CheckpointConfig, OptimConfig, Optimizer
from luab_jax.models.config import Dtype, ModelConfig, Stem
from tests import tiny


def get_config():
    return tiny.experiment(
        "",
        batch_size=16,
        augmentation=AugmentationConfig(colour_jitter=0.4, erasing=0.5, mixup=0.8, repeats=2),
        byproduct=ByproductConfig(weight=2.0, sample_weight=SampleWeight.TIME_TO_CLICK),
        checkpoint=CheckpointConfig(every_epochs=0.5),
        model=ModelConfig(
            name="resnet18", width=32, stage_sizes=(1, 1), stem=Stem.PATCH, compute_dtype=Dtype.FLOAT32
        ),
        optim=OptimConfig(name=Optimizer.SGD, learning_rate=0.05, warmup_epochs=0.5, ema_decay=0.9),
    )
"""


def start(num_processes: int, folder: Path, workdir: str, *extra: str) -> list[tuple[int, str]]:
    """Runs one training on `num_processes` hosts of two devices each; exit code and output of every host.

    `{host}` in the workdir stands for the host's number.
    """
    (folder / "config.py").write_text(CONFIG)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "PYTHONPATH": str(REPOSITORY),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count=2 {QUICK_TO_COMPILE}",
    }
    hosts = []
    for process_id in range(num_processes):
        command = [
            sys.executable,
            "-m",
            "luab_jax.main",
            f"--config={folder / 'config.py'}",
            f"--workdir={folder / workdir.format(host=process_id)}",
            f"--config.data.root={folder / 'data'}",
            "--config.distributed.timeout_s=100",
            *extra,
        ]
        if num_processes > 1:
            command += [
                f"--config.distributed.coordinator_address=127.0.0.1:{port}",
                f"--config.distributed.num_processes={num_processes}",
                f"--config.distributed.process_id={process_id}",
            ]
        hosts.append(
            subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        )
    outputs = [host.communicate(timeout=300)[0] for host in hosts]
    return [(host.returncode, output) for host, output in zip(hosts, outputs, strict=True)]


def train(num_processes: int, folder: Path, workdir: str, *extra: str) -> None:
    for code, output in start(num_processes, folder, workdir, *extra):
        assert code == 0, output


def losses(workdir: Path) -> dict[int, float]:
    return {line["step"]: line["train/loss"] for line in read_metrics(workdir) if "train/loss" in line}


def test_two_hosts_train_as_one_and_one_host_goes_on_where_two_stopped(tmp_path: Path) -> None:
    """Repeated crops, augmented, erased and mixed with the same partners by the same numbers.

    On two hosts every device keeps a part of optimiser and average; the one host has them whole.
    """
    tiny.prepare_data(tmp_path / "data")
    train(1, tmp_path, "one")
    train(2, tmp_path, "two", "--config.mesh.split_optimizer=true")
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    one = [line for line in read_metrics(tmp_path / "one") if "eval/top1" in line][-1]
    two = [line for line in read_metrics(tmp_path / "two") if "eval/top1" in line][-1]
    assert (two["eval/top1"], two["eval/ema_top1"]) == (one["eval/top1"], one["eval/ema_top1"])
    # The scale of the weights is summed by all hosts together.
    assert (tmp_path / "two" / "data.json").read_text() == (tmp_path / "one" / "data.json").read_text()
    # The last checkpoint of the two hosts is lost; one host resumes from the one before.
    last = max((tmp_path / "two" / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    subprocess.run(["rm", "-r", str(last)], check=True)
    train(1, tmp_path, "two")
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)


def test_hosts_that_do_not_see_the_same_workdir_stop_before_the_first_step(tmp_path: Path) -> None:
    tiny.prepare_data(tmp_path / "data")
    for code, output in start(2, tmp_path, "local{host}"):
        assert code == 1, output
        assert "the hosts do not agree" in output and "workdir=" in output
    # As after a disk was lost: what the first host still has, it would not sum again, and the other would wait for it.
    (tmp_path / "local0").mkdir()
    statistics = {"scales": {"time_to_click": {"mean": 1.0, "std": 1.0}}, "annotators": []}
    (tmp_path / "local0" / "data.json").write_text(json.dumps({"byproduct_statistics": statistics}))
    for code, output in start(2, tmp_path, "local{host}"):
        assert code == 1, output
        assert "the hosts do not agree" in output and "byproduct_statistics in data.json=" in output
