"""Orbax's JSON files changed by hand, with digests that say that nothing was: set aside, or refused, in words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from luab_jax.checkpoints import digests
from luab_jax.checkpoints.store import Checkpoints, abstract_on, choose_step, describe
from luab_jax.errors import CheckpointError

STATE = {"params": {"kernel": jnp.arange(12.0).reshape(3, 4)}}
ABSTRACT = abstract_on(jax.sharding.SingleDeviceSharding(jax.devices()[0]), STATE)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("saved")
    checkpoints = Checkpoints(workdir, keep_last=2)
    for step in (1, 2):
        checkpoints.save(step, STATE, metrics={"top1": 0.5}, description={"config": {}})
        checkpoints.wait()
    checkpoints.close()
    return workdir


def tampered(saved: Path, folder: Path, name: str, text: str, steps: tuple[int, ...] = (2,)) -> Path:
    """A copy in which a file of these steps has another text; the digests are those of the new one."""
    workdir = Path(shutil.copytree(saved, folder / "run"))
    for step in steps:
        (workdir / "checkpoints" / str(step) / name).write_text(text)
        digests.write_sums(epath.Path(workdir / "checkpoints" / str(step)))
    return workdir


def resumed_from(workdir: Path) -> int | None:
    checkpoints = Checkpoints(workdir, keep_last=2)
    try:
        restored = checkpoints.restore_latest(ABSTRACT)
        assert restored is not None
        np.testing.assert_array_equal(restored["params"]["kernel"], STATE["params"]["kernel"])
        return checkpoints.latest_step()
    finally:
        checkpoints.close()


METADATA = "_CHECKPOINT_METADATA"
TEXTS = {
    "cut off": '{"item_han',
    "another type": "[1, 2]",
    "a field of another type": '{"performance_metrics": 7}',
    "deep": "[" * 100_000,
    "empty": "",
}


@pytest.mark.parametrize("name", [METADATA, "metrics/metrics"])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_step_whose_description_cannot_be_read_gives_way_to_the_one_before(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str
) -> None:
    workdir = tampered(saved, tmp_path, name, text)
    step = resumed_from(workdir)
    if name == "metrics/metrics" and text == TEXTS["a field of another type"]:
        assert step == 2, "other metrics are metrics"
        return
    assert step == 1
    assert "checkpoint 2 is damaged (its " in capsys.readouterr().err
    assert (workdir / "damaged-checkpoints" / "2" / name).read_text() == text


def test_if_no_step_can_be_read_the_run_stops_and_touches_nothing(saved: Path, tmp_path: Path) -> None:
    workdir = tampered(saved, tmp_path, METADATA, "{", steps=(1, 2))
    with pytest.raises(CheckpointError, match="every checkpoint is damaged"):
        resumed_from(workdir)
    assert {path.name for path in (workdir / "checkpoints").iterdir()} == {"1", "2"}
    with pytest.raises(CheckpointError, match="format version None"):
        describe(workdir, 2)


@pytest.mark.parametrize("change", [{"format_version": 99}, {"format_version": None}, None, 7])
def test_another_format_is_named(saved: Path, tmp_path: Path, change: Any) -> None:
    values = json.loads((saved / "checkpoints" / "2" / METADATA).read_text())
    old = values["custom_metadata"]
    values["custom_metadata"] = old | change if isinstance(change, dict) else change
    workdir = tampered(saved, tmp_path, METADATA, json.dumps(values))
    with pytest.raises(CheckpointError, match=r"format version|cannot be read"):
        describe(workdir, choose_step(workdir, "latest"))
