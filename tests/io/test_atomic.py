"""A file is there complete or as it was before; what failed names the file, the cause and the remedy."""

from __future__ import annotations

import errno
import os
import resource
import stat
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from luab_jax.errors import UserError, WriteError
from luab_jax.io import atomic, storage
from luab_jax.io.atomic import append_line, atomic_file, create, remove_abandoned, write_bytes, write_text

HARD_LIMIT = resource.getrlimit(resource.RLIMIT_FSIZE)[1]


@pytest.fixture
def small_files(request: pytest.FixtureRequest) -> Callable[[], None]:
    """After the call no file may grow beyond 4 KiB, as on a full disk."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, HARD_LIMIT))
        request.addfinalizer(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (HARD_LIMIT, HARD_LIMIT)))

    return limit


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a" / "results.json"
    with atomic_file(path, make_folder=True) as temporary:
        temporary.write_text("new")
        assert not path.exists() and temporary.parent == path.parent
    assert path.read_text() == "new" and names(path.parent) == ["results.json"]


def test_after_an_error_the_old_file_is_there(tmp_path: Path) -> None:
    write_text(tmp_path / "f", "old")
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "f") as temporary:
        temporary.write_text("half of the n")
        raise KeyboardInterrupt
    assert (tmp_path / "f").read_text() == "old" and names(tmp_path) == ["f"]


def test_a_full_disk_leaves_the_old_file_and_is_one_line(tmp_path: Path, small_files: Callable[[], None]) -> None:
    path = tmp_path / "report.html"
    write_text(path, "old")
    small_files()
    with pytest.raises(WriteError) as caught:
        write_bytes(path, bytes(10_000))
    assert str(caught.value) == f"{path}: cannot be written (File too large); raise the limit on file sizes (ulimit -f)"
    assert path.read_text() == "old" and names(tmp_path) == ["report.html"]


@pytest.mark.parametrize(
    ("place", "cause"),
    [
        ("/dev/full", "No space left on device); free some disk space"),
        ("{folder}/none/f", "No such file or directory); make the folder first"),
        ("{folder}/file/f", "Not a directory); a part of the path is a file"),
        ("{folder}", "Is a directory); a folder has this name"),
    ],
)
def test_what_cannot_be_written_says_why_and_what_to_do(tmp_path: Path, place: str, cause: str) -> None:
    (tmp_path / "file").write_text("")
    path = place.format(folder=tmp_path)
    with pytest.raises(UserError) as caught:
        write_text(path, "x")
    assert str(caught.value).startswith(f"{path}: cannot be written (") and cause in str(caught.value)
    assert ".tmp" not in str(caught.value) and names(tmp_path) == ["file"]


def test_a_device_is_written_and_not_replaced(capfd: pytest.CaptureFixture[str]) -> None:
    write_text("/dev/null", "x")
    write_text("/dev/stdout", "x")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode) and Path("/dev/stdout").is_symlink()
    assert capfd.readouterr().out == "x"


def test_a_link_stays_a_link_and_permissions_stay(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "f").write_text("old")
    (tmp_path / "elsewhere" / "f").chmod(0o640)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "f")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "elsewhere" / "f").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "elsewhere" / "f").stat().st_mode) == 0o640


def test_a_name_of_the_greatest_length_can_be_written(tmp_path: Path) -> None:
    for name in ("n" * 255, "ü" * 127):
        write_text(tmp_path / name, "x")
    assert len(names(tmp_path)) == 2


def test_two_writers_of_one_file_each_write_a_whole_one(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "f") as first, atomic_file(tmp_path / "f") as second:
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "f").read_text() == "first" and names(tmp_path) == ["f"]


def test_what_a_killed_process_began_is_removed_and_what_others_write_is_not(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()

    def name(process: int, machine: str = atomic._MACHINE) -> str:
        return f"a.tfrecord.{machine}-{process}-{uuid.uuid4().hex}.tmp"

    abandoned = tmp_path / name(dead.pid)
    kept = [tmp_path / name(os.getpid()), tmp_path / name(dead.pid, "elsewhere-1"), tmp_path / "d.tfrecord"]
    for path in (abandoned, *kept):
        path.write_bytes(b"x")
    remove_abandoned(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)


KILLED = """
import os, signal, sys
from pathlib import Path
from luab_jax.io.atomic import atomic_file
with atomic_file(Path(sys.argv[1])) as temporary:
    temporary.write_text("half of the n")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_the_old_file_and_the_next_one_clears_up(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_text(path, "old")
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False, cwd=Path(__file__).parents[2])
    assert path.read_text() == "old" and len(names(tmp_path)) == 2
    atomic._cleaned.clear()
    write_text(path, "new")
    assert path.read_text() == "new" and names(tmp_path) == ["f"]


def test_a_line_that_does_not_fit_is_taken_back(tmp_path: Path, small_files: Callable[[], None]) -> None:
    path = tmp_path / "metrics.jsonl"
    append_line(path, "a" * 4000)
    small_files()
    with pytest.raises(WriteError, match=r"metrics\.jsonl: cannot be written \(File too large\)"):
        append_line(path, "b" * 500)
    assert path.read_text() == "a" * 4000 + "\n"
    append_line(path, "c")
    assert path.read_text().endswith("a\nc\n")


def test_links_in_a_circle_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(WriteError, match="a: cannot be written"):
        write_text(tmp_path / "a", "x")


@pytest.mark.parametrize("has_links", [True, False])
def test_of_two_that_create_a_file_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not has_links:
        monkeypatch.setattr(os, "link", no_links)
    assert create(tmp_path / "folder" / "lease", b"first")
    assert not create(tmp_path / "folder" / "lease", b"second")
    assert (tmp_path / "folder" / "lease").read_bytes() == b"first" and names(tmp_path / "folder") == ["lease"]


def test_what_a_killed_upload_left_in_the_temporary_folder_is_removed(
    bucket_in_memory: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / f"predictions.npz.{atomic._MACHINE}-{dead.pid}-{uuid.uuid4().hex}.tmp").write_bytes(b"x")
    write_text("gs://bucket/a/results.json", "{}")
    assert not names(tmp_path)


def test_in_a_bucket_too(bucket_in_memory: object) -> None:
    assert create("gs://bucket/lease", b"first")
    assert not create("gs://bucket/lease", b"second")
    write_text("gs://bucket/a/results.json", "{}")
    assert storage.read_all("gs://bucket/a/results.json") == b"{}"
    assert storage.read_all("gs://bucket/lease") == b"first"
    storage.remove("gs://bucket/lease")
    storage.remove("gs://bucket/lease")
    assert create("gs://bucket/lease", b"third")
