"""Requests that fail are repeated and counted; a bucket that is not there, or closed, is refused by name."""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from luab_jax.data.dataset import open_split
from luab_jax.errors import StorageError
from luab_jax.io import retries, storage
from luab_jax.io.atomic import write_bytes
from luab_jax.io.lease import Lease
from tests.emulators import emulated
from tests.emulators.faults import Fault

CONTENT = bytes(range(256)) * 64

Bucket = tuple[Any, str, str]


@pytest.fixture(params=["gs", "s3"])
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """Server, name and URL."""
    pytest.importorskip({"gs": "gcsfs", "s3": "s3fs"}[request.param])
    if request.param == "gs":  # its first pause is a second and a random part of one
        monkeypatch.setattr("gcsfs.retry.random", types.SimpleNamespace(random=lambda: -0.98))
    retries.forget()
    with emulated(request.param) as (server, name):
        yield server, name, f"{request.param}://{name}"


ACTIONS: dict[str, Callable[[str], object]] = {
    "read": lambda root: storage.read_all(f"{root}/x") == CONTENT,
    "range": lambda root: storage.read_range(f"{root}/x", 5, 100) == CONTENT[5:105],
    "list": lambda root: "x" in storage.listing(root),
    "write": lambda root: write_bytes(f"{root}/y", CONTENT) or storage.read_all(f"{root}/y") == CONTENT,
}


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (Fault("status", 503, times=1), "503"),
        (Fault("status", 429, times=1), "429"),
        (Fault("status", 502, times=1), "502"),
        (Fault("cut", matching="^GET", times=1), "cut short"),
    ],
)
def test_a_request_that_fails_is_repeated_and_counted(bucket: Bucket, fault: Fault, cause: str) -> None:
    server, name, root = bucket
    server.put(name, "x", CONTENT)
    for action in ACTIONS.values():
        fault.made = 0
        with server.behaviour.failing(fault):
            assert action(root)
        assert fault.made == 1
    counts = retries.counts()  # botocore calls an answer of two lines that is cut short a lost connection
    assert counts.pop(cause) + counts.pop("connection lost", 0) == len(ACTIONS) and not counts
    assert retries.summary().startswith("storage: 4 request(s) failed and were repeated (")
    assert cause in retries.summary()


def test_a_connection_that_is_lost_is_made_again(bucket: Bucket) -> None:
    server, name, root = bucket
    server.put(name, "x", CONTENT)
    for action in ACTIONS.values():
        with server.behaviour.failing(Fault("reset", times=1)):
            assert action(root)


def test_a_file_that_is_not_there_is_no_failure(bucket: Bucket) -> None:
    _, _, root = bucket
    assert storage.facts(f"{root}/nothing") is None
    with pytest.raises(FileNotFoundError):
        storage.read_all(f"{root}/nothing")
    assert not retries.summary()


def test_a_bucket_that_is_not_there_is_refused_by_name(bucket: Bucket) -> None:
    scheme = bucket[2].partition(":")[0]
    for act in (
        lambda: Lease(f"{scheme}://nowhere/run", remedy="choose another --workdir").__enter__(),
        lambda: open_split(f"{scheme}://nowhere/data", "train"),
    ):
        with pytest.raises(StorageError, match=f"{scheme}://nowhere.*there is no such bucket; correct its name"):
            act()


def test_a_bucket_that_may_not_be_written_is_refused_by_name(bucket: Bucket) -> None:
    server, name, root = bucket
    server.behaviour.closed.add(name)
    with pytest.raises(StorageError, match=rf"{root}/run/lease: cannot be written: no access .*(gcloud auth|AWS_)"):
        Lease(f"{root}/run", remedy="choose another --workdir").__enter__()
    assert not server.content(name)


def test_a_folder_of_objects_is_moved(bucket: Bucket) -> None:
    server, name, root = bucket
    for number in range(3):
        server.put(name, f"from/{number}/x", CONTENT)
    storage.move_folder(f"{root}/from", f"{root}/to/there")
    assert server.content(name) == {f"to/there/{number}/x": CONTENT for number in range(3)}


def test_a_folder_whose_name_is_a_pattern_is_removed_and_moved_alone(bucket: Bucket) -> None:
    server, name, root = bucket
    folders = ("w1", "w2", "w[12]", "w*", "w?")
    for folder in folders:
        server.put(name, f"{folder}/x", folder.encode())
    storage.remove_folder(f"{root}/w*")
    storage.move_folder(f"{root}/w[12]", f"{root}/moved")
    storage.remove_folder(f"{root}/w?")
    assert server.content(name) == {"w1/x": b"w1", "w2/x": b"w2", "moved/x": b"w[12]"}


@pytest.mark.parametrize("character", "*?[]")
def test_a_bucket_is_not_written_below_a_name_that_is_a_pattern(character: str, tmp_path: Path) -> None:
    """Libraries between here and the store would remove what else the pattern matches."""
    with pytest.raises(StorageError, match=r"gs://b/run.: \S is read as part of a pattern.* without \* \? \[ \]"):
        Lease(f"gs://b/run{character}", remedy="choose another --workdir")
    with pytest.raises(StorageError, match="is read as part of a pattern"):
        storage.check_writable(f"s3://b/run{character}/x")
    storage.check_writable(f"{tmp_path}/run{character}")


def test_a_dataset_of_the_hub_is_read_and_not_written() -> None:
    with pytest.raises(StorageError, match="hf:// is read, not written"):
        write_bytes("hf://datasets/me/mine/x", b"")


def test_requests_are_repeated_also_where_the_package_was_missing_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    core = pytest.importorskip("s3fs.core")
    monkeypatch.setattr(logging.getLogger("s3fs"), "handlers", [])
    monkeypatch.setattr(core, "CUSTOM_ERROR_HANDLER", lambda error: False)
    with monkeypatch.context() as missing:
        missing.setitem(sys.modules, "s3fs.core", None)
        with pytest.raises(ImportError):
            retries.listen("s3")
    retries.listen("s3")
    assert core.CUSTOM_ERROR_HANDLER(ConnectionError())
