"""A disk that fills up and a worker that is killed: told with the shard, kept as far as it came, finished by a rerun.

Room ends where a file may not grow any further (RLIMIT_FSIZE): every write behind that fails, as on a full disk.
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from data_prep.__main__ import main
from data_prep.writing.publish import prepare
from data_prep.writing.shards import Outcome, Plan, part_path
from luab_jax.data.dataset import index_path, manifest_path, shard_name
from luab_jax.errors import ExitCode, UserError
from tests import tiny
from tests.data_prep.conftest import RawData, image_bytes, shard_bytes
from tests.data_prep.packing import tar

Make = Callable[..., RawData]
Capture = pytest.CaptureFixture[str]


@contextlib.contextmanager
def room_for(num_bytes: int) -> Iterator[None]:
    """In any one file, of this process and of those that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.MonkeyPatch.context() as patch:
        # Python 3.11 would leave half a file of bytecode where it finds no room, which nobody can import.
        patch.setattr(sys, "dont_write_bytecode", True)
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def refused(arguments: list[str], capsys: Capture, num_bytes: int) -> str:
    """The one message of a run that has not room enough."""
    capsys.readouterr()
    with room_for(num_bytes):
        assert main(arguments) == ExitCode.FAILED
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ") and "File too large" in message
    return message


@pytest.fixture
def raw(make_raw: Make) -> RawData:
    """Images of many sizes, so that shards are."""
    raw = make_raw()
    for k in range(8):
        (raw.images / "cat" / f"cat_{k}.JPEG").write_bytes(image_bytes(k, size=(60 + 10 * k, 60)))
    return raw


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_names_the_shard_and_keeps_the_others(
    raw: RawData, tmp_path: Path, capsys: Capture, workers: int
) -> None:
    out = tmp_path / "out"
    assert main(raw.arguments(tmp_path / "undisturbed", "--shards=4")) == 0
    undisturbed = shard_bytes(tmp_path / "undisturbed")
    sizes = sorted(len(data) for name, data in undisturbed.items() if ".tfrecord-" in name)
    arguments = raw.arguments(out, "--shards=4", f"--workers={workers}")
    message = refused(arguments, capsys, (sizes[-2] + sizes[-1]) // 2)
    largest = next(name for name, data in undisturbed.items() if len(data) == sizes[-1])
    assert f"error: {out / largest}: cannot be written" in message and "same command" in message
    assert not manifest_path(out, "train").exists() and not (out / largest).exists()
    assert not list(out.glob(f"{largest}*.tmp"))
    # A worker ended between the shard and its sidecar leaves a shard that does not count as finished yet.
    finished = [path for path in out.glob("*-of-00004") if part_path(path).exists()]
    kept = {path: path.stat().st_mtime_ns for path in finished}
    assert main(arguments) == 0
    assert shard_bytes(out) == undisturbed
    assert not list(out.glob("*.tmp")), "those of workers that were ended with the one that failed"
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())


@pytest.mark.parametrize("place", ["shard", "sidecar", "index", "TFDS's metadata", "manifest"])
def test_whatever_does_not_fit_the_rerun_gives_the_same_bytes(
    raw: RawData, tmp_path: Path, capsys: Capture, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, arguments = tmp_path / "out", raw.arguments(tmp_path / "out", "--shards=2")
    assert main(raw.arguments(tmp_path / "undisturbed", "--shards=2")) == 0
    shard = out / shard_name("imagenet_ab", "train", 1, 2)
    names = {
        "shard": shard.name,
        "sidecar": part_path(shard).name,
        "index": Path(index_path(out, "train")).name,
        "TFDS's metadata": "dataset_info.json",
        "manifest": Path(manifest_path(out, "train")).name,
    }
    opened = open

    def full(file: object, mode: str = "r", *rest: object, **more: object) -> object:
        """/dev/full in place of the one file that finds no room."""
        meant = isinstance(file, str | os.PathLike) and Path(file).name.startswith(names[place])
        if meant and place == "shard" and ".part." in Path(os.fspath(file)).name:  # type: ignore[arg-type]
            meant = False
        return opened("/dev/full" if meant and "w" in mode else file, mode, *rest, **more)  # type: ignore[call-overload]

    for module in ("builtins", "io"):
        monkeypatch.setattr(f"{module}.open", full)
    assert main(arguments) == ExitCode.FAILED
    monkeypatch.undo()
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith(f"error: {out}") and "No space left on device" in message and "same command" in message
    assert (shard.name in message) == (place in ("shard", "sidecar"))
    assert not manifest_path(out, "train").exists()
    assert main(arguments) == 0
    assert shard_bytes(out) == shard_bytes(tmp_path / "undisturbed")
    assert {p.name for p in out.iterdir()} == {p.name for p in (tmp_path / "undisturbed").iterdir()}


def test_no_room_to_unpack_a_compressed_archive(raw: RawData, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    packed = tar(raw.images, tmp_path / "images.tar.gz", mode="w:gz")
    arguments = raw.arguments(out, f"--images={packed}")
    message = refused(arguments, capsys, 1000)
    assert f"{packed}: cannot be unpacked into {out}/scratch-" in message
    assert not list(out.glob("scratch*"))
    assert main(arguments) == main(raw.arguments(tmp_path / "plain")) == 0
    assert shard_bytes(out) == shard_bytes(tmp_path / "plain")


def draw_or_die(flag: Path, item: tiny.Drawn) -> Outcome:
    """As the system's out-of-memory killer has it, once: at one image."""
    if item.index == 7 and flag.exists():
        flag.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return tiny.draw(item)


def plan(directory: Path, flag: Path) -> Plan:
    return Plan(
        directory=directory,
        dataset="tiny",
        split="train",
        classes=tiny.CLASSES,
        items=[tiny.Drawn(i) for i in range(24)],
        read=functools.partial(draw_or_die, flag),
        num_shards=6,
        source={},
    )


def test_a_killed_worker_names_its_shard_and_the_rerun_gives_the_same_bytes(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    prepare(plan(tmp_path / "undisturbed", flag), workers=1, strict=True)
    undisturbed = shard_bytes(tmp_path / "undisturbed")
    flag.touch()
    with pytest.raises(UserError, match=r"a worker process died .* tiny-train\.tfrecord-0000\d-of-00006") as caught:
        prepare(plan(tmp_path / "out", flag), workers=2, strict=True)
    named = [name for name in undisturbed if name in str(caught.value)]
    done = {p.name for p in (tmp_path / "out").glob("*-of-00006")}
    assert 1 <= len(named) <= 2 and "the same command goes on" in str(caught.value)
    assert not set(named) <= done and not manifest_path(tmp_path / "out", "train").exists()
    prepare(plan(tmp_path / "out", flag), workers=2, strict=True)
    assert shard_bytes(tmp_path / "out") == undisturbed
    assert {p.name for p in (tmp_path / "out").iterdir()} == {p.name for p in (tmp_path / "undisturbed").iterdir()}
