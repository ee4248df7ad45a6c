"""The loader is tried once for all that read alike, from a copy where a cache stands before a bucket."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from luab_jax.config import Config
from luab_jax.data.transforms import ResizeFilter
from luab_jax.errors import StorageError
from luab_jax.io import host_cache
from luab_jax.preflight import loader
from luab_jax.preflight.loader import Prober
from tests import tiny
from tests.emulators import emulated


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare_split(tmp_path_factory.mktemp("data"), "train", 32, num_shards=2)


def test_experiments_that_read_alike_are_tried_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []
    monkeypatch.setattr(loader, "probe", lambda config, split, seconds: calls.append(seconds) or 100.0)
    prober = Prober(0.5)
    config = tiny.experiment(data)
    fast = dataclasses.replace(config, data=dataclasses.replace(config.data, crop_filter=ResizeFilter.BILINEAR_PLAIN))
    found = [prober(name, each, 200.0) for name, each in (("a", config), ("b", config), ("c", fast))]
    assert [each.speed.binds for each in found if each is not None] == [True] * 3
    assert calls == [0.5, 0.5]
    assert Prober(0.0)("a", config, 200.0) is None


@pytest.fixture
def remote(data: Path) -> Iterator[tuple[Any, str]]:
    """The server, and the folder of the data in its bucket."""
    pytest.importorskip("gcsfs")
    with emulated("gs") as (server, name):
        for path in data.iterdir():
            server.put(name, f"data/{path.name}", path.read_bytes())
        yield server, f"gs://{name}/data"


def through_a_cache(data: Path, root: str, cache: Path) -> Config:
    config = tiny.experiment(data)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, root=root, cache=str(cache)))


def test_where_no_copy_can_be_made_the_rate_of_the_bucket_is_not_told_as_the_caches(
    remote: tuple[Any, str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(host_cache, "write_at", full)
    with pytest.raises(StorageError, match=f"a shard of {remote[1]} could not be copied there; free some space"):
        Prober(0.1)("tiny", through_a_cache(data, remote[1], tmp_path), None)


def test_before_a_bucket_the_cache_counts_as_full(remote: tuple[Any, str], data: Path, tmp_path: Path) -> None:
    server, root = remote
    cached = through_a_cache(data, root, tmp_path / "cache")
    server.behaviour.objects.clear()
    found = Prober(0.1)("tiny", cached, None)
    shards = [request for request in server.behaviour.objects if "tfrecord" in request]
    assert found is not None and found.speed.given > 0
    assert found.where == f"a copy of one shard of {root}, as from a full cache"
    assert len(shards) == 1, "one range of one shard"
    assert not (tmp_path / "cache").exists()
