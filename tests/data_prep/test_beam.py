"""Shards written by an Apache Beam pipeline: the bytes of a local run, and clear words for workers that see nothing."""

from __future__ import annotations

import importlib.util
import pickle
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from data_prep.__main__ import main
from data_prep.writing import beam
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


@pytest.fixture(params=["DirectRunner", "DaskRunner"])
def runner(request: pytest.FixtureRequest) -> Iterator[str]:
    """The flags of an engine; Dask's cluster runs two processes on loopback."""
    if request.param == "DirectRunner":
        yield "--runner=DirectRunner"
        return
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield f"--runner=DaskRunner --dask_client_address={cluster.scheduler_address}"


@needs_beam
def test_reading_again_with_beam_finds_what_reading_here_does(
    runner: str, make_raw: Make, tmp_path: Path, capsys: Capture
) -> None:
    raw, out = make_raw(), tmp_path / "out"
    assert main(raw.arguments(out, "--shards=3", f"--beam_options={runner}")) == 0
    assert main(raw.arguments(tmp_path / "local", "--shards=3")) == 0
    assert shard_bytes(out) == shard_bytes(tmp_path / "local")
    before = sorted(out.iterdir())
    shard = next(out.glob("*.tfrecord-00001-*"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    found = {}
    for where in ([], [f"--beam_options={runner}"]):
        capsys.readouterr()
        assert main(["verify", str(out), "--workers=1", *where]) == ExitCode.FAILED
        found[len(where)] = [line for line in capsys.readouterr().out.splitlines() if "fails its CRC" in line]
    assert found[0] == found[1] and found[0]
    shard.write_bytes(whole)
    reports = []
    for where in ([], [f"--beam_options={runner}"]):
        capsys.readouterr()
        assert main(["inspect", str(out), "--workers=1", *where]) == 0
        reports.append([line for line in capsys.readouterr().out.splitlines() if "handed to Beam" not in line])
    assert reports[0] == reports[1]
    assert sorted(out.iterdir()) == before


class _Stub:
    """A job that ends as it is told to; `apache_beam` as far as `_Job._run` uses it."""

    def __init__(self, end: Callable[[Sequence[str]], str]):
        self.cancelled, self._end, self._files = False, end, ()

    def Pipeline(self, options: object) -> _Stub:
        return self

    def Create(self, files: Sequence[str]) -> object:
        self._files = files
        return None

    def Reshuffle(self) -> object:
        return None

    def Map(self, function: object) -> object:
        return None

    def __or__(self, other: object) -> _Stub:
        return self

    def run(self) -> _Stub:
        return self

    def wait_until_finish(self) -> str:
        return self._end(self._files)

    def cancel(self) -> None:
        self.cancelled = True


def stubbed(monkeypatch: pytest.MonkeyPatch, end: Callable[[Sequence[str]], str]) -> _Stub:
    stub = _Stub(end)
    monkeypatch.setitem(sys.modules, "apache_beam", stub)
    monkeypatch.setattr(beam._Job, "__init__", _without_beam)
    return stub


def _without_beam(job: beam._Job, options: Sequence[str]) -> None:
    job.token, job._options, job._runner = "0" * 32, None, "TheRunner"


def _all(files: Sequence[str]) -> str:
    for file in files:
        beam.carry_out(file)
    return "DONE"


def test_a_launcher_that_is_interrupted_cancels_its_job(
    make_raw: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    raw, out = make_raw(), tmp_path / "out"

    def interrupted(files: Sequence[str]) -> str:
        beam.carry_out(files[0])
        raise KeyboardInterrupt

    stub = stubbed(monkeypatch, interrupted)
    assert main(raw.arguments(out, "--shards=3", "--beam_options=x")) == ExitCode.STOPPED_RESUMABLE
    printed = capsys.readouterr()
    assert stub.cancelled and "cancelling the job of TheRunner" in printed.out
    assert "the same command goes on from there" in printed.err
    assert not list(out.glob("*.task"))
    stubbed(monkeypatch, _all)
    assert main(raw.arguments(out, "--shards=3", "--beam_options=x")) == 0
    assert "2 shard(s) handed to Beam's TheRunner" in capsys.readouterr().out


def test_progress_is_told_while_a_job_runs(
    make_raw: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    raw, out = make_raw(), tmp_path / "out"
    monkeypatch.setattr(beam, "LOOK_EVERY_S", 0.01)
    told = threading.Event()
    advance = beam.Progress.advance

    def advanced(progress: beam.Progress, count: int = 1) -> None:
        advance(progress, count)
        if progress._done == 1 and progress._total == 3:
            told.set()

    monkeypatch.setattr(beam.Progress, "advance", advanced)

    def slowly(files: Sequence[str]) -> str:
        beam.carry_out(files[0])
        assert told.wait(30), "one of three is counted while the job runs"
        return _all(files[1:])

    stubbed(monkeypatch, slowly)
    assert main(raw.arguments(out, "--shards=3", "--beam_options=x")) == 0


def test_a_job_that_ends_otherwise_than_done_is_told(
    make_raw: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    stubbed(monkeypatch, lambda files: "CANCELLED")
    assert main(make_raw().arguments(tmp_path / "out", "--beam_options=x")) == ExitCode.FAILED
    assert "the job of TheRunner ended as CANCELLED; its log says why" in capsys.readouterr().err


def test_tasks_are_handed_over_many_at_a_time(make_raw: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a bucket each takes a round trip."""
    together = threading.Barrier(3, timeout=30)
    write = beam.write_bytes

    def met(path: object, content: bytes) -> None:
        together.wait()
        write(path, content)

    monkeypatch.setattr(beam, "write_bytes", met)
    stubbed(monkeypatch, _all)
    assert main(make_raw().arguments(tmp_path / "out", "--shards=3", "--beam_options=x")) == 0


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
        beam.carry_out(str(tmp_path / "gone.task"))
    handed = beam._Handed(len, object(), ("/nowhere/images", str(tmp_path)), "")
    (tmp_path / "here.task").write_bytes(pickle.dumps(handed))
    with pytest.raises(UserError, match=r"worker on .*: /nowhere/images is not there.*under the same path"):
        beam.carry_out(str(tmp_path / "here.task"))


def test_beam_that_is_not_installed(
    make_raw: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "apache_beam" else find(name))
    assert main(make_raw(1).arguments(tmp_path / "out", DIRECT)) == ExitCode.FAILED
    assert "pip install apache-beam" in capsys.readouterr().err
