"""A run trains, logs, resumes to the same bits, stops when told, and refuses what cannot be right."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from luab_jax.byproducts.targets import Target
from luab_jax.checkpoints import store as checkpoint_lib
from luab_jax.checkpoints.store import available_steps, describe
from luab_jax.config import ByproductConfig, CheckpointConfig, Config, MeshConfig, OptimConfig
from luab_jax.data.batch import Batch
from luab_jax.distributed.stop import StopSignal
from luab_jax.errors import ConfigError, DataError, ExitCode, UserError, WorkerLostError
from luab_jax.io.lease import Lease, LeaseLostError
from luab_jax.metrics.history import read_metrics
from luab_jax.training import loop as train_lib
from luab_jax.training.loop import train
from luab_jax.training.metric_log import MetricLog
from luab_jax.training.setup import set_up
from tests import tiny

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """An uninterrupted run."""
    config, workdir = tiny.experiment(data), tmp_path_factory.mktemp("finished")
    assert train(config, workdir) is ExitCode.DONE
    return config, workdir


def parameters(config: Config, workdir: Path) -> dict[str, np.ndarray]:
    """The latest saved parameters, by name."""
    run = set_up(config, workdir)
    state = checkpoint_lib.restore(workdir, max(available_steps(workdir)), run.abstract_state._asdict())
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def assert_same_bits(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name], err_msg=name)


def losses(workdir: Path) -> dict[int, float]:
    return {line["step"]: line["train/loss"] for line in read_metrics(workdir) if "train/loss" in line}


def test_a_run_leaves_config_metrics_and_checkpoints_that_explain_themselves(finished: tuple[Config, Path]) -> None:
    config, workdir = finished
    assert json.loads((workdir / "config.json").read_text())["batch_size"] == config.batch_size
    lines = read_metrics(workdir)
    assert [line["step"] for line in lines if "train/loss" in line] == [2, 4, 6]
    assert {"train/byproduct_loss", "train/learning_rate", "time/images_per_s", "time/data_wait_share"} <= set(lines[0])
    last = describe(workdir, 6)
    assert last["config"]["byproduct"]["target"] == "click_last"
    assert last["class_list_hash"] == tiny.CLASSES.hash
    assert "jax" in last["versions"]


def test_workers_train_to_the_bits_of_threads(data: Path, finished: tuple[Config, Path], tmp_path: Path) -> None:
    """On CPUs jax uses the memory that workers write to in place: none of it may be used again too early."""
    config, whole = finished
    with_workers = dataclasses.replace(config, data=dataclasses.replace(config.data, workers=2))
    assert train(with_workers, tmp_path) is ExitCode.DONE
    assert_same_bits(parameters(config, tmp_path), parameters(config, whole))


def test_a_lost_worker_costs_no_step(
    data: Path, finished: tuple[Config, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was trained until then is saved, and the same command goes on to the same bits."""
    config, whole = finished
    batches = train_lib.training_batches

    def three(*arguments: Any, **options: Any) -> Iterator[Batch]:
        yield from itertools.islice(batches(*arguments, **options), 3)
        raise WorkerLostError("worker 1 of 2 was ended by SIGKILL")

    monkeypatch.setattr(train_lib, "training_batches", three)
    with pytest.raises(WorkerLostError):
        train(config, tmp_path)
    assert max(available_steps(tmp_path)) == 3
    monkeypatch.undo()
    assert train(config, tmp_path) is ExitCode.DONE
    assert_same_bits(parameters(config, tmp_path), parameters(config, whole))


def test_a_worker_that_is_lost_in_an_evaluation_costs_no_step(
    finished: tuple[Config, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*arguments: Any, **options: Any) -> Iterator[Any]:
        raise WorkerLostError("worker 1 of 2 was ended by SIGKILL")

    monkeypatch.setattr(train_lib, "eval_batches", lost)
    with pytest.raises(WorkerLostError):
        train(finished[0], tmp_path)
    assert max(available_steps(tmp_path)) == min(
        line["step"] for line in read_metrics(finished[1]) if "eval/top1" in line
    )


def test_a_lost_worker_saves_no_state_that_is_not_finite(
    finished: tuple[Config, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, compile_step = train_lib.training_batches, train_lib.compile_step

    def one(*arguments: Any, **options: Any) -> Iterator[Batch]:
        yield from itertools.islice(batches(*arguments, **options), 1)
        raise WorkerLostError("worker 1 of 2 was ended by SIGKILL")

    def spoilt(run: Any) -> Any:
        step = compile_step(run)

        def call(*arguments: Any) -> Any:
            state, means = step(*arguments)
            return state, means | {"loss": means["loss"]._replace(total=np.float32(np.nan))}

        return call

    monkeypatch.setattr(train_lib, "training_batches", one)
    monkeypatch.setattr(train_lib, "compile_step", spoilt)
    with pytest.raises(UserError, match="loss is nan at step 1"):
        train(finished[0], tmp_path)
    assert not available_steps(tmp_path)


def test_evaluation_counts_every_image_once_though_the_batch_does_not_divide(finished: tuple[Config, Path]) -> None:
    top1 = [line["eval/top1"] for line in read_metrics(finished[1]) if "eval/top1" in line][-1]
    assert top1 * 13 == pytest.approx(round(top1 * 13))


def test_the_best_checkpoint_is_kept_beside_the_last(data: Path, tmp_path: Path) -> None:
    config = tiny.experiment(data, checkpoint=CheckpointConfig(every_epochs=0.25, keep_last=1, keep_best=1))
    config.eval.every_epochs = 0.25
    train(config, tmp_path)
    steps = available_steps(tmp_path)
    top1 = {line["step"]: line["eval/top1"] for line in read_metrics(tmp_path) if "eval/top1" in line}
    assert len(top1) == 6
    assert 6 in steps and len(steps) <= 2
    assert max(metrics["top1"] for metrics in steps.values()) == max(top1.values())


def test_a_run_that_stops_and_resumes_ends_with_the_same_bits(
    finished: tuple[Config, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, workdir = finished

    with monkeypatch.context() as patched:
        patched.setattr(StopSignal, "at_step", lambda self, step: step == 3)
        assert train(config, tmp_path) is ExitCode.STOPPED_RESUMABLE
    assert train(config, tmp_path) is ExitCode.DONE
    assert_same_bits(parameters(config, workdir), parameters(config, tmp_path))
    assert losses(tmp_path)[6] == losses(workdir)[6]


@pytest.mark.parametrize("step", [4, 6], ids=["at an evaluation", "at the last step"])
def test_a_stop_at_an_evaluation_loses_no_evaluation(
    finished: tuple[Config, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    config, workdir = finished
    with monkeypatch.context() as patched:
        patched.setattr(StopSignal, "at_step", lambda self, now: now == step)
        assert train(config, tmp_path) is ExitCode.STOPPED_RESUMABLE
    assert train(config, tmp_path) is ExitCode.DONE
    assert evaluations(tmp_path) == evaluations(workdir)


def test_a_stop_during_an_evaluation_breaks_it_off_and_makes_up_for_it(
    finished: tuple[Config, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, workdir = finished
    with monkeypatch.context() as patched:
        patched.setattr(StopSignal, "at_once", lambda self: True)
        assert train(config, tmp_path) is ExitCode.STOPPED_RESUMABLE
        assert max(available_steps(tmp_path)) == 4
    assert train(config, tmp_path) is ExitCode.DONE
    assert evaluations(tmp_path) == evaluations(workdir)


def evaluations(workdir: Path) -> dict[int, float]:
    return {line["step"]: line["eval/top1"] for line in read_metrics(workdir) if "eval/top1" in line}


def test_other_data_under_the_same_name_are_noticed(finished: tuple[Config, Path], tmp_path: Path) -> None:
    config, workdir = finished
    other = dataclasses.replace(config, data=dataclasses.replace(config.data, root=str(tmp_path)))
    tiny.prepare_data(tmp_path, num_train=40)
    with pytest.raises(UserError, match=r"data train.num_records: 32 there, 40 here"):
        train(other, workdir)


def test_data_of_which_no_fingerprint_was_stated_may_be_the_same(finished: tuple[Config, Path], tmp_path: Path) -> None:
    """Older versions stated none of what TFDS prepared."""
    config, workdir = finished
    shutil.copytree(workdir, tmp_path / "run")
    path = tmp_path / "run" / "data.json"
    stated = json.loads(path.read_text())
    fingerprint = stated["train"]["fingerprint"]
    for other, same in (("", True), ("f" * 64, False)):
        stated["train"]["fingerprint"] = other
        path.write_text(json.dumps(stated))
        if same:
            assert train(config, tmp_path / "run") is ExitCode.DONE
            assert json.loads(path.read_text())["train"]["fingerprint"] == fingerprint
        else:
            with pytest.raises(UserError, match=r"data train.fingerprint"):
                train(config, tmp_path / "run")


def test_a_start_that_fails_does_not_claim_the_workdir(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not divide"):
        train(tiny.experiment(data, batch_size=9), tmp_path)
    assert train(tiny.experiment(data, total_steps=1), tmp_path) is ExitCode.DONE


def test_a_gradient_that_is_not_finite_is_not_saved(data: Path, tmp_path: Path) -> None:
    """The loss of a step may be fine and its update not; such parameters would stop every resumed run."""
    config = tiny.experiment(data, optim=OptimConfig(learning_rate=1e30, warmup_epochs=0.0), total_steps=20)
    config.checkpoint.every_epochs = 0.25
    with pytest.raises(UserError, match=r"is (nan|inf) at step"):
        train(config, tmp_path)
    run = set_up(config, tmp_path)
    for step in available_steps(tmp_path):
        state = checkpoint_lib.restore(tmp_path, step, run.abstract_state._asdict())
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state["params"]))


def test_a_finished_run_is_left_alone(finished: tuple[Config, Path]) -> None:
    before = losses(finished[1])
    assert train(*finished) is ExitCode.DONE
    assert losses(finished[1]) == before


@pytest.mark.parametrize(
    "mesh",
    [MeshConfig(data=1), MeshConfig(data=4, fsdp=2), MeshConfig(split_optimizer=True)],
    ids=["one device", "4 x 2 fsdp", "split optimiser"],
)
def test_other_meshes_give_the_same_loss_curve(
    finished: tuple[Config, Path], tmp_path: Path, mesh: MeshConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, workdir = finished
    if mesh.data == 1:
        one = jax.devices()[:1]
        make_mesh = train_lib.sharding.make_mesh
        monkeypatch.setattr(train_lib.sharding, "make_mesh", lambda config, devices: make_mesh(config, one))
    monkeypatch.setattr(train_lib.sharding, "_MIN_SHARDED_SIZE", 64)  # no array of this network is large
    config = dataclasses.replace(config, mesh=mesh)
    train(config, tmp_path)
    assert losses(tmp_path) == pytest.approx(losses(workdir), rel=1e-5)


def test_the_baseline_has_no_head_and_no_byproduct_loss(data: Path, tmp_path: Path) -> None:
    config = tiny.experiment(data, byproduct=ByproductConfig(target=Target.NONE), total_steps=2)
    train(config, tmp_path)
    assert not any("byproduct_head" in name for name in parameters(config, tmp_path))
    assert "train/byproduct_loss" not in read_metrics(tmp_path)[0]


def test_a_loss_that_is_not_finite_stops_the_run_with_step_and_records(data: Path, tmp_path: Path) -> None:
    config = tiny.experiment(data, optim=OptimConfig(learning_rate=1e30, warmup_epochs=0.0), total_steps=20)
    with pytest.raises(UserError, match=r"the (loss|gradient's norm) is (nan|inf) at step \d+.*(red|green|blue)/"):
        train(config, tmp_path)
    (evidence,) = tmp_path.glob("not_finite-step*/process0.json")
    assert len(json.loads(evidence.read_text())["records"]) == config.batch_size
    assert not available_steps(tmp_path)


def test_a_workdir_of_another_config_is_refused_with_the_difference(finished: tuple[Config, Path]) -> None:
    config, workdir = finished
    other = dataclasses.replace(config, batch_size=16)
    with pytest.raises(UserError, match=r"batch_size: 8 there, 16 here"):
        train(other, workdir)


def test_how_a_run_is_run_may_change_when_it_resumes(finished: tuple[Config, Path]) -> None:
    config, workdir = finished
    moved = dataclasses.replace(config, log=dataclasses.replace(config.log, every_steps=3))
    assert train(moved, workdir) is ExitCode.DONE


def test_wrong_data_is_named(data: Path, tmp_path: Path) -> None:
    config = tiny.experiment(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"no prepared split 'train'"):
        train(config, tmp_path / "a")
    config = tiny.experiment(data)
    config.data.eval_split = "validation"
    with pytest.raises(DataError, match=r"no prepared split 'validation'; it has the split\(s\) train, val"):
        train(config, tmp_path / "b")
    config = tiny.experiment(data)
    config.data.num_classes = 1000
    with pytest.raises(ConfigError, match=r"num_classes=1000, but .* has 3 classes"):
        train(config, tmp_path / "c")
    with pytest.raises(ConfigError, match=r"batch_size=9 does not divide among 8 devices; take 8 or 16"):
        train(tiny.experiment(data, batch_size=9), tmp_path / "d")


ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"}


def test_training_and_evaluation_never_import_tensorflow(data: Path, tmp_path: Path) -> None:
    code = (
        "import sys, luab_jax.training.loop, luab_jax.evaluation.runner, luab_jax.evaluate, data_prep.__main__;"
        "sys.exit('tensorflow' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, check=False).returncode == 0


def test_a_second_training_in_one_workdir_is_refused(data: Path, tmp_path: Path) -> None:
    config = tiny.experiment(data, total_steps=2)
    with Lease(tmp_path / "run", remedy="choose another workdir"):
        with pytest.raises(UserError, match=r"run: in use by process \d+ on .*choose another workdir"):
            train(config, tmp_path / "run")
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["lease"]


def test_a_training_that_lost_its_workdir_writes_nothing_more(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that was stalled for longer than the lease allows, and finds another one in its workdir."""
    write = MetricLog.write

    def write_and_lose(log: MetricLog, step: int, scalars: dict[str, float]) -> None:
        write(log, step, scalars)
        values = json.loads((tmp_path / "run" / "lease").read_text()) | {"token": "another", "process": 1}
        (tmp_path / "run" / "lease").write_text(json.dumps(values))

    monkeypatch.setattr(MetricLog, "write", write_and_lose)
    monkeypatch.setattr("luab_jax.io.lease.TIMEOUT_S", 0.0)  # it looks before everything that it writes
    with pytest.raises(LeaseLostError, match=r"process 1 on .* took over"):
        train(tiny.experiment(data, total_steps=6), tmp_path / "run")
    assert [line["step"] for line in read_metrics(tmp_path / "run")] == [2]
    assert not list((tmp_path / "run" / "checkpoints").iterdir())
    assert json.loads((tmp_path / "run" / "lease").read_text())["token"] == "another"
