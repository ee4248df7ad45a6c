"""The same calls give the same bytes on a disk and in buckets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from luab_jax.errors import StorageError
from luab_jax.io import storage
from luab_jax.io.atomic import atomic_file

CONTENT = bytes(range(256))


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of moto's server, as s3fs finds it."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "of-a-test",
        "AWS_SECRET_ACCESS_KEY": "of-a-test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    fsspec.filesystem("s3").mkdir("bucket")
    yield "s3://bucket"
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    server.stop()


def test_a_range_of_an_object_of_s3_is_that_range(s3: str) -> None:
    """The parameters of its file system between path and start are others than those of Cloud Storage's."""
    fsspec.filesystem("s3").pipe_file("bucket/a", CONTENT)
    assert storage.read_range(f"{s3}/a", 64, 32) == CONTENT[64:96]
    assert storage.read_range(f"{s3}/a", 0, 64) == CONTENT[:64]
    assert storage.read_range(f"{s3}/a", 250, 32) == CONTENT[250:]


def test_a_range_has_the_same_bytes_in_every_file_system(bucket_in_memory: object, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    with atomic_file(storage.place("gs://bucket/a")) as file:
        file.write_bytes(CONTENT)
    for path in (str(tmp_path / "a"), "gs://bucket/a"):
        assert storage.read_range(path, 64, 32) == CONTENT[64:96]


@pytest.mark.parametrize(
    ("error", "told"), [(OSError("503"), StorageError), (FileNotFoundError("a"), FileNotFoundError)]
)
def test_an_error_that_a_file_system_returns_among_ranges_is_raised(
    error: OSError, told: type[Exception], bucket_in_memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fsspec did so before June 2026, told to raise all the same."""
    monkeypatch.setattr(type(bucket_in_memory), "cat_ranges", lambda *_, **__: [b"whole", error])
    ranges = storage.read_ranges(storage.place("gs://bucket/a"), [0, 5], [5, 5])
    assert next(ranges) == b"whole"
    with pytest.raises(told):
        next(ranges)


@pytest.mark.parametrize("scheme", storage.PLUGINS)
def test_the_name_of_a_bucket_is_no_path_below_the_working_folder(scheme: str) -> None:
    assert os.fspath(storage.resolved(f"{scheme}://bucket/run")) == f"{scheme}://bucket/run"
    assert os.fspath(storage.resolved("run")) == str(Path.cwd() / "run")
