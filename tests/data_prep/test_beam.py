"""Shards written by an Apache Beam pipeline: the bytes of a local run, and clear words for workers that see nothing."""

from __future__ import annotations

import importlib.util
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep import beam
from data_prep.__main__ import main
from luab_jax.data.dataset import manifest_path
from luab_jax.errors import ExitCode, UserError
from tests.data_prep.conftest import RawData, shard_bytes
from tests.data_prep.packing import nested_tar, tar

Make = Callable[..., RawData]
Capture = pytest.CaptureFixture[str]
DIRECT = "--beam_options=--runner=DirectRunner"

needs_beam = pytest.mark.skipif(
    importlib.util.find_spec("apache_beam") is None, reason="apache_beam is not installed (extra `beam`)"
)


@needs_beam
def test_beam_writes_the_bytes_of_a_local_run(
    make_raw: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    raw, out = make_raw(), tmp_path / "beam"
    monkeypatch.chdir(tmp_path)
    images = nested_tar(raw.images, tmp_path / "images.tar")
    xml = tar(raw.byproducts, tmp_path / "xml.tar.gz", mode="w:gz")
    packed = [f"--images={images.name}", f"--byproducts={xml.name}", "--shards=3"]  # relative to where we stand
    assert main(raw.arguments(tmp_path / "local", "--shards=3")) == 0
    assert main(raw.arguments(Path("beam"), *packed, DIRECT)) == 0
    assert "3 shard(s) handed to Beam's DirectRunner" in capsys.readouterr().out
    assert shard_bytes(out) == shard_bytes(tmp_path / "local")
    assert not [path for path in out.iterdir() if path.suffix in (".task", ".tmp", ".bin", ".partial")]

    manifest_path(out, "train").unlink()
    next(out.glob("*.tfrecord-00001-*")).unlink()
    assert main(raw.arguments(out, "--shards=3", DIRECT)) == 0
    assert main(raw.arguments(out, "--shards=3", DIRECT)) == 0
    assert "already prepared" in capsys.readouterr().out
    assert shard_bytes(out) == shard_bytes(tmp_path / "local")


@needs_beam
def test_beam_from_bucket_to_bucket(make_raw: Make, bucket: Path, tmp_path: Path) -> None:
    raw = make_raw()
    shutil.copytree(raw.images, bucket / "images")
    shutil.copytree(raw.byproducts, bucket / "xml")
    flags = ["--images=gs://bucket/images", "--byproducts=gs://bucket/xml", "--out=gs://bucket/out", "--shards=2"]
    assert main(raw.arguments(Path("unused"), *flags, DIRECT)) == 0
    assert main(raw.arguments(tmp_path / "local", "--shards=2")) == 0
    assert shard_bytes(bucket / "out") == shard_bytes(tmp_path / "local")
    assert not list((bucket / "out").glob("*.task"))


@needs_beam
def test_failure_in_a_worker_is_one_message_and_resumable(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw, out = make_raw(), tmp_path / "out"
    blocked = out / "imagenet_ab-train.tfrecord-00001-of-00002"
    blocked.mkdir(parents=True)
    assert main(raw.arguments(out, "--shards=2", DIRECT)) == ExitCode.FAILED
    error = capsys.readouterr().err
    assert f"{blocked}: cannot be written" in error and "the same command goes on" in error
    assert not list(out.glob("*.task"))
    blocked.rmdir()
    assert main(raw.arguments(out, "--shards=2", DIRECT)) == 0


@needs_beam
def test_dataflow_wants_everything_in_buckets(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw, out = make_raw(), tmp_path / "out"
    assert main(raw.arguments(out, "--beam_options=--runner=DataflowRunner --project=p")) == ExitCode.FAILED
    error = capsys.readouterr().err
    assert "workers of DataflowRunner cannot reach" in error
    assert all(str(path) in error for path in (out, raw.images, raw.byproducts))


def test_worker_that_does_not_share_the_input_says_so(tmp_path: Path) -> None:
    """Otherwise each image that it cannot read would be left out as damaged."""
    with pytest.raises(UserError, match=f"worker on .*: {tmp_path}/gone.task is not there"):
        beam.write_handed_over(str(tmp_path / "gone.task"))
    (tmp_path / "here.task").write_bytes(pickle.dumps((object(), ("/nowhere/images", str(tmp_path)))))
    with pytest.raises(UserError, match=r"worker on .*: /nowhere/images is not there.*under the same path"):
        beam.write_handed_over(str(tmp_path / "here.task"))


def test_beam_that_is_not_installed(
    make_raw: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "apache_beam" else find(name))
    assert main(make_raw(1).arguments(tmp_path / "out", DIRECT)) == ExitCode.FAILED
    assert "pip install apache-beam" in capsys.readouterr().err
