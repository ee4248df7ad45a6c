"""Where the images of a run come from changes no batch; a shard that is replaced under it ends it with one message."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luab_jax.config import Config, DataConfig
from luab_jax.data.batch import Batch
from luab_jax.data.dataset import open_split
from luab_jax.errors import ConfigError, DataError
from luab_jax.training.batches import training_batches
from luab_jax.training.host_data import HostData
from tests import tiny
from tests.emulators import emulated

pytest.importorskip("gcsfs")
NUM_SHARDS = 4


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    tiny.prepare_split(folder, "train", 32, num_shards=NUM_SHARDS)
    return tiny.prepare_split(folder, "val", 8)


@pytest.fixture
def remote(prepared: Path) -> Iterator[tuple[Any, str]]:
    """The server, and the name of a bucket with the data."""
    with emulated("gs") as (server, name):
        for path in prepared.iterdir():
            server.put(name, f"data/{path.name}", path.read_bytes())
        yield server, name


def config_of(root: str, **data: object) -> Config:
    config = tiny.experiment(Path(root))
    return dataclasses.replace(config, data=dataclasses.replace(config.data, root=root, **data))


def host_data(config: Config) -> HostData:
    train, val = (open_split(config.data.root, name) for name in ("train", "val"))
    return HostData(config, train, val)


def batches_of(config: Config, count: int, start_step: int = 0) -> list[Batch]:
    data = host_data(config)
    data.start(start_step)
    if data.cache is not None and not config.data.shuffle_shards:
        data.cache.wait(60.0)
    found = training_batches(config, data.train_split, num_classes=3, start_step=start_step)
    batches = list(itertools.islice(data.watched(found), count))
    data.close()
    return batches


def assert_same(found: list[Batch], expected: list[Batch]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.index, other.index)
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.targets, other.targets)


def test_batches_from_a_cache_are_those_of_the_disk(
    remote: tuple[Any, str], prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server, name = remote
    root = f"gs://{name}/data"
    expected = batches_of(config_of(str(prepared)), 6)
    assert_same(batches_of(config_of(root), 6), expected)
    assert f"{root}: no cache, so a request an image" in capsys.readouterr().err
    assert_same(batches_of(config_of(root, cache=str(tmp_path)), 6), expected)
    before = sum("tfrecord" in request for request in server.behaviour.objects)
    assert_same(batches_of(config_of(root, cache=str(tmp_path)), 6), expected)
    assert sum("tfrecord" in request for request in server.behaviour.objects) == before, (
        "none of its bytes is asked for"
    )


def test_an_order_in_blocks_is_the_same_from_any_step_and_place(
    remote: tuple[Any, str], prepared: Path, tmp_path: Path
) -> None:
    expected = batches_of(config_of(str(prepared), shuffle_shards=1), 9)
    size = max(path.stat().st_size for path in prepared.glob("*train.tfrecord*"))
    kept = config_of(f"gs://{remote[1]}/data", shuffle_shards=1, cache=f"{tmp_path}:{2 * size + 9}B")
    assert_same(batches_of(kept, 9), expected)
    assert_same(batches_of(kept, 4, start_step=5), expected[5:])
    epoch = np.concatenate([batch.index for batch in expected[:4]])
    assert sorted(epoch.tolist()) == list(range(32)), "each record once an epoch"


def test_a_shard_that_is_replaced_under_a_training_ends_it(remote: tuple[Any, str]) -> None:
    server, name = remote
    data = host_data(config_of(f"gs://{name}/data"))
    data.start(0)
    batches = data.watched(training_batches(data._config, data.train_split, num_classes=3))
    next(batches)
    shard = next(key for _, key in server.objects if "train.tfrecord-00002" in key)
    server.put(name, shard, server.objects[name, shard].data)
    assert data._watch is not None
    data._watch.look()
    with pytest.raises(DataError, match=rf"gs://{name}/{shard}: was replaced in its bucket .*\(1 of 4 shards"):
        next(batches)
    del server.objects[name, shard]
    data._watch.look()
    with pytest.raises(DataError, match="is gone from its bucket"):
        data.check()
    data.close()


@pytest.mark.parametrize("cache", ["gs://bucket/cache", "/proc/none/cache"])
def test_a_cache_that_cannot_be_is_refused_before_training(cache: str, prepared: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.data\.cache="):
        Config(data=DataConfig(cache=cache)).validate()
        host_data(config_of(str(prepared), cache=cache))
