"""A run with a moving average saves it, resumes it, evaluates it beside the last weights, and is ranked by these."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest

from luab_jax.checkpoints.load import load
from luab_jax.checkpoints.store import available_steps, choose_step
from luab_jax.config import CheckpointConfig, Config, EvalConfig, MeshConfig, OptimConfig, config_hash
from luab_jax.distributed import sharding
from luab_jax.distributed.stop import StopSignal
from luab_jax.errors import ConfigError, ExitCode, UserError
from luab_jax.metrics.history import read_metrics
from luab_jax.training.loop import train
from tests import tiny
from tests.training.test_loop import assert_same_bits, parameters


def averaging(data: Path) -> Config:
    return tiny.experiment(
        data,
        optim=OptimConfig(learning_rate=0.05, warmup_epochs=0.5, ema_decay=0.5),
        checkpoint=CheckpointConfig(every_epochs=0.5, keep_last=1, keep_best=1),
        eval=EvalConfig(every_epochs=0.5),
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    config, workdir = averaging(data), tmp_path_factory.mktemp("finished")
    assert train(config, workdir) is ExitCode.DONE
    return config, workdir


def test_both_models_are_evaluated_and_the_raw_weights_decide_what_is_best(finished: tuple[Config, Path]) -> None:
    scores = {line["step"]: line for line in read_metrics(finished[1]) if "eval/top1" in line}
    assert set(scores) == {2, 4, 6}
    assert all({"eval/ema_top1", "eval/ema_click_distance"} <= line.keys() for line in scores.values())
    best = max(scores, key=lambda step: (scores[step]["eval/top1"], step))
    assert choose_step(finished[1], "best") == best
    assert max(available_steps(finished[1])) == 6


def test_a_run_that_stops_and_resumes_has_the_same_average(
    finished: tuple[Config, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, workdir = finished
    with monkeypatch.context() as patched:
        patched.setattr(StopSignal, "at_step", lambda self, step: step == 3)
        assert train(config, tmp_path) is ExitCode.STOPPED_RESUMABLE
    assert train(config, tmp_path) is ExitCode.DONE
    whole = parameters(config, workdir)
    assert any("ema" in name for name in whole)
    assert_same_bits(whole, parameters(config, tmp_path))


def test_the_last_weights_are_evaluated_unless_the_average_is_asked_for(finished: tuple[Config, Path]) -> None:
    mesh = sharding.make_mesh(MeshConfig())
    last, average, raw = (load(finished[1], "6", mesh, weights=weights) for weights in (None, "ema", "raw"))
    jax.tree.map(np.testing.assert_array_equal, last.params, raw.params)
    saved = parameters(*finished)
    for model, prefix in ((average, "['ema']"), (raw, "")):
        for part in ("params", "batch_stats"):
            for path, leaf in jax.tree_util.tree_leaves_with_path(getattr(model, part)):
                name = f"{prefix}['{part}']{jax.tree_util.keystr(path)}"
                np.testing.assert_array_equal(leaf, saved[name], err_msg=name)
    of_average, of_raw = (model.identity.pop("weights_hash") for model in (average, raw))
    assert of_raw == last.identity["weights_hash"] != of_average
    assert average.identity == raw.identity | {"weights": "ema"}


def test_a_run_without_an_average_has_none_to_evaluate(data: Path, tmp_path: Path) -> None:
    config = tiny.experiment(data, total_steps=1)
    train(config, tmp_path)
    assert not any("ema" in name for name in parameters(config, tmp_path))
    mesh = sharding.make_mesh(MeshConfig())
    assert "weights" not in load(tmp_path, "latest", mesh).identity
    with pytest.raises(UserError, match="keeps no moving average"):
        load(tmp_path, "latest", mesh, weights="ema")


def test_a_config_without_an_average_keeps_its_hash(data: Path) -> None:
    assert config_hash(tiny.experiment(data)) != config_hash(averaging(data))
    fields = averaging(data)
    fields.optim.ema_decay = 1.0
    with pytest.raises(ConfigError, match=r"ema_decay=1.0 must lie in \[0, 1\)"):
        fields.validate()
