"""In a bucket the digests are the store's own: nothing is read back, and a copy on a disk can still be verified.

A folder takes the place of the bucket, and a listing is what Cloud Storage would list of it.
"""

from __future__ import annotations

import base64
from pathlib import Path

import google_crc32c
import pytest
from etils import epath

from luab_jax.checkpoints import digests
from luab_jax.io import storage

CONTENT = {"state/d/abc": b"arrays", "_CHECKPOINT_METADATA": b"{}", "metrics/metrics": b'{"top1": 0.5}'}


def crc(content: bytes) -> str:
    return "crc32c:" + base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()


def as_listed(folder: Path) -> dict[str, tuple[int, str]]:
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: (len(content), crc(content)) for name, content in files.items()}


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With its digests; only these are ever read."""
    folder = tmp_path / "7"
    for name, content in CONTENT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    monkeypatch.setattr(digests, "list_objects", lambda folder: as_listed(Path(folder)))
    monkeypatch.setattr(digests, "_digest", lambda path: pytest.fail(f"{path} was read"))
    read = storage.read_all

    def only_digests(path: epath.PathLike) -> bytes:
        assert Path(path).name == "OBJECT_CHECKSUMS"
        return read(path)

    monkeypatch.setattr(digests.storage, "read_all", only_digests)
    digests.write_sums(epath.Path(folder))
    return folder


def test_what_the_store_received_is_what_is_there(bucket: Path) -> None:
    assert digests.has_sums(epath.Path(bucket), as_listed(bucket))
    assert not digests.damage(epath.Path(bucket))
    assert not (bucket / "SHA256SUMS").exists()


def test_an_object_that_is_replaced_cut_short_missing_or_strange_is_noticed(bucket: Path) -> None:
    arrays = bucket / "state/d/abc"
    for content in (b"arrayz", b"array"):
        arrays.write_bytes(content)
        assert digests.damage(epath.Path(bucket)) == ["state/d/abc is not what was written"]
    arrays.unlink()
    assert digests.damage(epath.Path(bucket)) == ["state/d/abc is missing"]
    arrays.write_bytes(CONTENT["state/d/abc"])
    (bucket / "state/other").write_bytes(b"")
    assert digests.damage(epath.Path(bucket)) == ["OBJECT_CHECKSUMS lacks state/other"]


def test_metrics_may_come_later_and_the_first_host_looks_for_all(bucket: Path) -> None:
    (bucket / "metrics/more").write_bytes(b"{}")
    assert not digests.damage(epath.Path(bucket))
    (bucket / "state/d/abc").write_bytes(b"")
    assert [len(digests.damage(epath.Path(bucket), part=part, num_parts=3)) for part in range(3)] == [1, 0, 0]


def test_digests_that_are_damaged_themselves_are_named(bucket: Path) -> None:
    for text in ("[]", "{", '{"a": 1}'):
        (bucket / "OBJECT_CHECKSUMS").write_text(text)
        assert digests.damage(epath.Path(bucket)) == ["OBJECT_CHECKSUMS itself cannot be read"]


def test_a_copy_on_a_disk_is_read(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "list_objects", lambda folder: None)
    assert not digests.damage(epath.Path(bucket))
    (bucket / "state/d/abc").write_bytes(b"arrayz")
    assert digests.damage(epath.Path(bucket)) == ["state/d/abc is not what was written"]
