"""Damage to a checkpoint is noticed, passed over by training and named by evaluation; a save that fails is told."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from hypothesis import given, settings
from hypothesis import strategies as st

from luab_jax.checkpoints import digests
from luab_jax.checkpoints.store import Checkpoints, abstract_on, available_steps, choose_step, describe, restore
from luab_jax.errors import CheckpointError
from tests.data_prep.test_full_disk import room_for

SHAPES = {"params": {"kernel": (40, 8), "bias": (8,)}, "step": ()}


def state(value: float) -> dict[str, object]:
    return jax.tree.map(lambda shape: jnp.full(shape, value), SHAPES, is_leaf=lambda x: isinstance(x, tuple))


ABSTRACT = abstract_on(jax.sharding.SingleDeviceSharding(jax.devices()[0]), state(0.0))


def save(workdir: Path, *steps: int) -> None:
    checkpoints = Checkpoints(workdir, keep_last=len(steps))
    for step in steps:
        checkpoints.save(step, state(float(step)), metrics={"top1": step / 10}, description={"config": {}})
    checkpoints.close()


def restored(workdir: Path) -> float | None:
    """The value of the state that a resumed run would go on from."""
    checkpoints = Checkpoints(workdir, keep_last=9)
    found = checkpoints.restore_latest(ABSTRACT)
    checkpoints.close()
    return None if found is None else float(np.asarray(found["params"]["kernel"])[0, 0])


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("saved")
    save(workdir, 1, 2, 3)
    return workdir


@pytest.fixture
def workdir(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "run"))


def folder(workdir: Path, step: int) -> Path:
    return workdir / "checkpoints" / str(step)


def flip(path: Path, bit: int = 40) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    path.write_bytes(data)


def arrays(workdir: Path, step: int) -> Path:
    return max((folder(workdir, step) / "state").glob("ocdbt.process_0/d/*"), key=lambda path: path.stat().st_size)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_is_noticed_in_whatever_file(saved: Path, data: st.DataObject) -> None:
    step = folder(saved, 3)
    path = data.draw(st.sampled_from(sorted(path for path in step.rglob("*") if path.is_file())))
    before = path.read_bytes()
    try:
        flip(path, data.draw(st.integers(0, 8 * len(before) - 1)))
        assert digests.damage(epath.Path(step))
    finally:
        path.write_bytes(before)
    assert not digests.damage(epath.Path(step))


def test_sha256sum_reads_the_digests(saved: Path) -> None:
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder(saved, 3), capture_output=True)
    assert done.returncode == 0, done.stderr


def test_files_that_are_gone_or_torn_or_strange_are_noticed(workdir: Path) -> None:
    step = epath.Path(folder(workdir, 3))
    torn = arrays(workdir, 3)
    torn.write_bytes(torn.read_bytes()[:-1])
    assert digests.damage(step) == [f"{torn.relative_to(folder(workdir, 3))} is not what was written"]
    torn.unlink()
    assert digests.damage(step) == [f"{torn.relative_to(folder(workdir, 3))} is missing"]
    (folder(workdir, 2) / "state" / "another").write_text("")
    assert digests.damage(epath.Path(folder(workdir, 2))) == ["SHA256SUMS lacks state/another"]


def test_each_host_reads_a_part_and_together_they_read_all(workdir: Path) -> None:
    flip(arrays(workdir, 3))
    found = [digests.damage(epath.Path(folder(workdir, 3)), part=host, num_parts=3) for host in range(3)]
    assert sorted(map(len, found)) == [0, 0, 1]


def test_training_goes_on_from_the_checkpoint_before_and_keeps_the_damaged_one(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(arrays(workdir, 3))
    assert restored(workdir) == 2.0
    message = capsys.readouterr().err
    assert "checkpoint 3 is damaged (state/ocdbt.process_0/d/" in message and "is not what was written" in message
    assert (workdir / "damaged-checkpoints" / "3" / "SHA256SUMS").exists()
    assert sorted(available_steps(workdir)) == [1, 2]
    save(workdir, 2, 3)
    assert restored(workdir) == 3.0


def test_metrics_that_are_no_json_stop_nobody(workdir: Path) -> None:
    (folder(workdir, 3) / "metrics" / "metrics").write_text('{"top1": 0.')
    with pytest.raises(
        CheckpointError, match=r"3: damaged \(metrics/metrics is not what was written\); undamaged: 1, 2"
    ):
        choose_step(workdir, "latest")
    assert restored(workdir) == 2.0


def test_an_evaluation_of_a_damaged_checkpoint_names_the_undamaged_ones(workdir: Path) -> None:
    flip(arrays(workdir, 3))
    flip(arrays(workdir, 1))
    with pytest.raises(CheckpointError, match=r"3: damaged .*; undamaged: 2, as in step=2$"):
        choose_step(workdir, "best")
    assert choose_step(workdir, "2") == 2


def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_from_nothing(workdir: Path) -> None:
    for step in (1, 2, 3):
        flip(arrays(workdir, step))
    with pytest.raises(CheckpointError, match=r"every checkpoint is damaged\n  1: .*\n  2: .*\n  3: "):
        restored(workdir)
    assert sorted(available_steps(workdir)) == [1, 2, 3]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("orbax_gives_up")
def test_a_checkpoint_that_was_killed_before_its_digests_counts_if_it_can_be_read(workdir: Path) -> None:
    (folder(workdir, 3) / "SHA256SUMS").unlink()
    assert restored(workdir) == 3.0
    (folder(workdir, 3) / "state" / "manifest.ocdbt").write_bytes(b"torn")
    assert restored(workdir) == 2.0
    assert (workdir / "damaged-checkpoints" / "3").exists()


def test_a_sound_checkpoint_of_other_shapes_is_refused_and_not_set_aside(workdir: Path) -> None:
    checkpoints = Checkpoints(workdir, keep_last=9)
    other = ABSTRACT | {
        "params": {"kernel": jax.ShapeDtypeStruct((3,), jnp.float32), "bias": ABSTRACT["params"]["bias"]}
    }
    with pytest.raises(CheckpointError, match="cannot be restored"):
        checkpoints.restore_latest(other)
    checkpoints.close()
    assert sorted(available_steps(workdir)) == [1, 2, 3]


def test_a_checkpoint_that_lacks_an_array_is_refused_by_the_array_s_name(workdir: Path) -> None:
    """Orbax would return its shape in its place."""
    head = {"head": jax.ShapeDtypeStruct((3,), jnp.float32, sharding=ABSTRACT["params"]["bias"].sharding)}
    with pytest.raises(CheckpointError, match=r"3: cannot be restored \(it lacks 1 of the network's 4 .*'head'"):
        restore(workdir, 3, ABSTRACT | {"params": ABSTRACT["params"] | head})
    assert sorted(available_steps(workdir)) == [1, 2, 3]


def test_a_save_that_fails_is_told_by_the_next_check_and_the_ones_before_stay(workdir: Path) -> None:
    checkpoints = Checkpoints(workdir, keep_last=1)
    with room_for(500):
        try:
            checkpoints.save(4, state(4.0), metrics={}, description={})
            deadline = time.monotonic() + 60
            with pytest.raises(
                CheckpointError, match=r"could not be written \(.*[Ff]ile.*\)\. Those before it are intact"
            ):
                while time.monotonic() < deadline:
                    checkpoints.check()
                    time.sleep(0.01)
        finally:
            checkpoints.close()
    assert restored(workdir) == 3.0


def test_metrics_may_come_after_the_checkpoint(workdir: Path) -> None:
    checkpoints = Checkpoints(workdir, keep_last=1, keep_best=1)
    checkpoints.save(4, state(4.0), metrics={}, description={"config": {}})
    checkpoints.wait()
    checkpoints.add_metrics(4, {"top1": 0.9, "map": float("nan")})
    assert checkpoints.metrics(4) == {"top1": 0.9}
    checkpoints.save(5, state(5.0), metrics={"top1": 0.5}, description={"config": {}})
    checkpoints.close()
    assert available_steps(workdir) == {4: {"top1": 0.9}, 5: {"top1": 0.5}}
    assert not digests.damage(epath.Path(folder(workdir, 4)))
    assert json.loads(json.dumps(describe(workdir, 4)["config"])) == {}
