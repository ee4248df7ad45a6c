"""Input and output in a bucket: the same shards as on a disk, and errors that say what to do."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from data_prep.__main__ import main
from data_prep.sources import archives
from luab_jax.data.dataset import manifest_path, open_split, read_manifest
from luab_jax.errors import DataError, ExitCode, StorageError
from luab_jax.io import storage
from tests.data_prep.conftest import RawData, image_bytes, shard_bytes
from tests.data_prep.packing import nested_tar, tar, zipped

Make = Callable[..., RawData]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def reference(make_raw: Make, tmp_path: Path) -> tuple[RawData, dict[str, bytes]]:
    """Raw data, and the shards that a disk gives."""
    raw = make_raw()
    assert main(raw.arguments(tmp_path / "plain", "--shards=2")) == 0
    return raw, shard_bytes(tmp_path / "plain")


Reference = tuple[RawData, dict[str, bytes]]


@pytest.mark.parametrize("workers", ["--workers=1", "--workers=2"])
def test_folders_of_a_bucket_into_a_bucket(reference: Reference, bucket: Path, workers: str, capsys: Capture) -> None:
    raw, expected = reference
    shutil.copytree(raw.images, bucket / "images")
    shutil.copytree(raw.byproducts, bucket / "xml")
    (bucket / "images" / "cat" / ".hidden.JPEG").write_bytes(b"")
    shutil.copy(raw.classes, bucket / "classes.txt")
    flags = [f"--{name}=gs://bucket/{name}" for name in ("images", "out")]
    flags += ["--byproducts=gs://bucket/xml", "--classes=gs://bucket/classes.txt", "--shards=2", workers]
    assert main(["imagenet_ab", *flags]) == 0
    assert shard_bytes(bucket / "out") == expected
    assert len(open_split("gs://bucket/out", "train").records) == 16
    leftovers = {path.name for path in (bucket / "out").iterdir() if path.name.endswith((".tmp", ".part.npz", ".task"))}
    assert not leftovers
    assert main(["verify", "gs://bucket/out", workers]) == 0
    assert main(["inspect", "gs://bucket/out", "--html=gs://bucket/pages/all.html", workers]) == 0
    assert (bucket / "pages" / "all.html").read_text().startswith("<!doctype html>")
    capsys.readouterr()
    assert main(["imagenet_ab", *flags]) == 0
    assert "already prepared" in capsys.readouterr().out


@pytest.mark.parametrize("workers", ["--workers=1", "--workers=2"])
def test_archives_of_a_bucket(reference: Reference, bucket: Path, tmp_path: Path, workers: str) -> None:
    raw, expected = reference
    nested_tar(raw.images, bucket / "images.tar")
    zipped(raw.images, bucket / "images.zip")
    tar(raw.byproducts, bucket / "xml.tar.gz", mode="w:gz")
    (bucket / "tars").mkdir()
    for name in ("cat", "dog"):
        tar(raw.images / name, bucket / "tars" / f"{name}.tar")
    for name in ("images.tar", "images.zip", "tars"):
        out = tmp_path / name / "out"
        flags = [f"--images=gs://bucket/{name}", "--byproducts=gs://bucket/xml.tar.gz", "--shards=2", workers]
        assert main(raw.arguments(out, *flags)) == 0
        assert shard_bytes(out) == expected
        assert not list(out.glob("scratch*"))


def test_headers_of_a_tar_in_a_bucket_are_read_once(
    reference: Reference, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stand between the images, so that the pass over them reads all of it."""
    raw, expected = reference
    nested_tar(raw.images, bucket / "images.tar")
    flags = raw.arguments(Path("unused"), "--images=gs://bucket/images.tar", "--out=gs://bucket/out", "--shards=2")
    assert main(flags) == 0
    manifest_path(bucket / "out", "train").unlink()
    shard = next((bucket / "out").glob("*.tfrecord-00001-*"))
    shard.unlink()
    monkeypatch.setattr(storage, "open_forwards", None)
    assert main(flags) == 0
    assert shard_bytes(bucket / "out") == expected


def test_stopped_run_is_continued_shard_by_shard(
    reference: Reference, bucket: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    raw, expected = reference
    flags = raw.arguments(Path("unused"), "--out=gs://bucket/out", "--shards=2")
    monkeypatch.setenv("LUAB_JAX_TEST_BUCKETS_CLOSED", "imagenet_ab-train.tfrecord-00001-of-00002")
    assert main(flags) == ExitCode.FAILED
    error = capsys.readouterr().err
    assert "gs://bucket/out/imagenet_ab-train.tfrecord-00001-of-00002: cannot be written: no access" in error
    assert "gcloud auth application-default login" in error and error.count("\n") == 1
    assert not list(bucket.rglob("*.manifest.json"))
    monkeypatch.delenv("LUAB_JAX_TEST_BUCKETS_CLOSED")
    assert main(flags) == 0
    assert "1 of 2 shards are there already" in capsys.readouterr().out
    assert shard_bytes(bucket / "out") == expected


def test_image_that_a_bucket_refuses_is_not_left_out(
    reference: Reference, bucket: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """A fault of the network or of permission says nothing about the image; the shard fails and can be continued."""
    raw, _ = reference
    shutil.copytree(raw.images, bucket / "images")
    monkeypatch.setenv("LUAB_JAX_TEST_BUCKETS_CLOSED", "cat_3.JPEG")
    out = raw.images.parent / "out"
    assert main(raw.arguments(out, "--images=gs://bucket/images")) == ExitCode.FAILED
    assert "gs://bucket/images/cat/cat_3.JPEG: cannot be read: no access" in capsys.readouterr().err
    assert not list(out.glob("*.manifest.json"))


def test_a_folder_whose_name_is_a_pattern_is_not_written(reference: Reference, bucket: Path, capsys: Capture) -> None:
    raw, _ = reference
    assert main(raw.arguments(Path("unused"), "--out=gs://bucket/out[1]")) == ExitCode.FAILED
    error = capsys.readouterr().err
    assert (
        error.startswith("error: --out=gs://bucket/out[1]: [ is read as part of a pattern") and error.count("\n") == 1
    )


def test_what_is_not_there(reference: Reference, bucket: Path, capsys: Capture) -> None:
    raw, _ = reference
    assert main(raw.arguments(Path("unused"), "--images=gs://bucket/nowhere/x", "--out=gs://bucket/out")) == 1
    assert "--images=gs://bucket/nowhere/x: no such folder or archive" in capsys.readouterr().err
    assert not [path for path in bucket.rglob("*") if path.is_file()]
    assert main(["verify", "gs://bucket/out"]) == 1
    assert "gs://bucket/out: no prepared split here" in capsys.readouterr().err


def test_own_data_with_a_table_of_clicks(reference: Reference, bucket: Path) -> None:
    raw, _ = reference
    shutil.copytree(raw.images, bucket / "images")
    (bucket / "clicks.csv").write_text("file_name,x,y\n" + "".join(f"cat_{k}.JPEG,0.25,0.5\n" for k in range(8)))
    flags = ["--source=gs://bucket/images", "--byproducts=gs://bucket/clicks.csv", "--out=gs://bucket/own"]
    assert main(["folder", *flags, "--workers=1"]) == 0
    assert (bucket / "own" / "classes.txt").read_text() == "cat\tcat\ndog\tdog\n"
    assert read_manifest("gs://bucket/own", "train").counts["images_with_usable_click"] == 8
    assert main(["folder", *flags, "--workers=1", "--split=val"]) == 0


def test_coco(bucket: Path, tmp_path: Path) -> None:
    """Both JSON files are streamed, and workers read only the records of their images."""
    instances = {
        "images": [{"id": k, "file_name": f"{k}.jpg", "width": 8, "height": 6} for k in range(4)],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [{"image_id": k, "category_id": 1, "bbox": [1, 1, 4, 4], "iscrowd": 0} for k in range(3)],
    }
    action = {"actionType": "add", "iconType": "person", "pointTo": {"x": 0.5, "y": 0.5}, "timeAt": 5}
    records = [{"image_id": k, "actionHistories": [action]} for k in range(4)]
    (bucket / "images").mkdir()
    for k in range(4):
        (bucket / "images" / f"{k}.jpg").write_bytes(image_bytes(k))
    (bucket / "instances.json").write_text(json.dumps(instances))
    (bucket / "ab.json").write_text(json.dumps(records))
    for root, out in (("gs://bucket", tmp_path / "remote"), (str(bucket), tmp_path / "local")):
        flags = [f"--images={root}/images", f"--instances={root}/instances.json", f"--byproducts={root}/ab.json"]
        assert main(["coco_ab", *flags, f"--out={out}", "--workers=1", "--shards=2"]) == 0
    assert shard_bytes(tmp_path / "remote") == shard_bytes(tmp_path / "local")
    assert read_manifest(tmp_path / "remote", "train").counts["objects"] == 3


def test_storage_errors_name_the_remedy() -> None:
    def message(error: Exception) -> str:
        with pytest.raises(StorageError) as caught, storage.explained("gs://bucket/a"):
            raise error
        return str(caught.value)

    assert "gcloud auth" in message(PermissionError("Forbidden"))
    assert "run the same command again" in message(TimeoutError())
    assert "pip install gcsfs" in message(ImportError("Please install gcsfs to access Google Storage"))
    no_bucket = pytest.raises(StorageError, match="cannot be written: there is no such bucket")
    with no_bucket, storage.explained("gs://bucket/a", "written"):
        raise FileNotFoundError("https://...")
    with pytest.raises(FileNotFoundError), storage.explained("gs://bucket/a"):
        raise FileNotFoundError("gs://bucket/a")
    assert message(ValueError("two\nlines")) == "gs://bucket/a: cannot be read: two lines"
    with pytest.raises(DataError), storage.explained("gs://bucket/a"):
        raise DataError("of the caller")
    with pytest.raises(ValueError, match="mine"), storage.explained("/local"):
        raise ValueError("mine")


def test_tars_inside_a_tar_of_a_bucket_are_listed_several_at_a_time(
    reference: Reference, bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, expected = reference
    nested_tar(raw.images, bucket / "images.tar")
    together = threading.Barrier(2, timeout=30)
    members = archives.tar_members

    def met(cursor: archives.Cursor, where: str) -> Iterator[archives.Member]:
        if where.endswith((".tar: cat.tar", ".tar: dog.tar")):
            together.wait()
        yield from members(cursor, where)

    monkeypatch.setattr(archives, "tar_members", met)
    assert main(raw.arguments(tmp_path / "out", "--images=gs://bucket/images.tar", "--shards=2")) == 0
    assert shard_bytes(tmp_path / "out") == expected
