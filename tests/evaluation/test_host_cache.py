"""Suites of a bucket through shards on the host's disk: fetched once, and no score changes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import luab_jax
from luab_jax.data.copies import SplitCache, from_copies
from luab_jax.data.dataset import open_split
from luab_jax.errors import ConfigError, DataError
from luab_jax.io.host_cache import HostCache
from tests import tiny
from tests.emulators import emulated

pytest.importorskip("gcsfs")
NUM_IMAGES = 9


def guesses(images: np.ndarray) -> np.ndarray:
    """By the brightest channel."""
    return images.astype(np.float32).mean(axis=(1, 2))


OPTIONS: dict[str, Any] = {
    "preprocessing": luab_jax.Preprocessing(image_size=16, resize_side=16),
    "classes": tiny.CLASSES,
    "batch_size": 8,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare_split(tmp_path_factory.mktemp("data"), "val", NUM_IMAGES, num_shards=2)


@pytest.fixture
def remote(data: Path) -> Iterator[tuple[Any, str]]:
    """The server, and the folder of the data in its bucket."""
    with emulated("gs") as (server, name):
        for path in data.iterdir():
            server.put(name, f"data/{path.name}", path.read_bytes())
        yield server, f"gs://{name}/data"


def test_scores_are_those_of_the_disk_and_a_full_cache_asks_for_no_image(
    remote: tuple[Any, str], data: Path, tmp_path: Path
) -> None:
    server, root = remote
    expected = luab_jax.run_suites(guesses, data, "imagenet", **OPTIONS)["imagenet"].scores
    found = luab_jax.run_suites(guesses, root, "imagenet", cache=str(tmp_path), **OPTIONS)
    assert found["imagenet"].scores == expected
    with contextlib.closing(HostCache(tmp_path)) as cache:
        from_copies(open_split(root, "val"), cache)
        cache.start()
        cache.wait(60.0)
    server.behaviour.objects.clear()
    again = luab_jax.run_suites(guesses, root, "imagenet", cache=f"{tmp_path}:1GB", **OPTIONS)
    assert again["imagenet"].scores == expected
    bucket = root.split("/")[2]  # one server has those of earlier tests, too
    asked = [of for of in server.behaviour.objects if bucket in of and "tfrecord" in of and "alt=media" in of]
    assert not asked, "no image is asked for again"


def test_a_shard_that_is_not_the_manifests_is_named(remote: tuple[Any, str], tmp_path: Path) -> None:
    server, root = remote
    name = root.split("/")[2]
    shard = next(key for bucket, key in server.objects if bucket == name and "tfrecord-00001" in key)
    content = server.objects[name, shard].data
    server.put(name, shard, content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises((DataError, luab_jax.UserError), match=r"tfrecord-00001"):
        luab_jax.run_suites(guesses, root, "imagenet", cache=str(tmp_path), **OPTIONS)


def test_an_error_of_a_cache_is_one_of_all_hosts(data: Path, tmp_path: Path) -> None:
    """Else the others wait for the images of the host that has it."""
    split, told = open_split(data, "val"), []

    def reads(folder: Path, *of_another: Exception | None) -> None:
        others = iter(of_another)

        def everyones(own: Exception | None) -> list[Exception | None]:
            told.append(own)
            return [own, next(others)]

        with SplitCache(str(folder), everyones=everyones).reading(split):
            told.append("read")

    reads(tmp_path, None, None)
    assert told == [None, "read", None]
    for errors, expected in (([ConfigError("A")], [None]), ([None, DataError("B")], [None, "read", None])):
        told.clear()
        with pytest.raises((ConfigError, DataError), match=r"^[AB]$"):
            reads(tmp_path, *errors)
        assert told == expected
    told.clear()
    with pytest.raises(ConfigError, match=r"cannot be made"):
        reads(data / "dataset_info.json" / "x", None)
    assert [type(own) for own in told] == [ConfigError], "the others are told"


@pytest.mark.parametrize("cache", ["gs://bucket/cache", "/mnt/ssd:200"])
def test_a_cache_that_cannot_be_is_refused_by_the_name_of_the_option(cache: str, data: Path) -> None:
    with pytest.raises(ConfigError, match=r"cache="):
        luab_jax.run_suites(guesses, data, "imagenet", cache=cache, **OPTIONS)
