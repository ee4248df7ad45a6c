"""Shards of a bucket on this host's disk: fetched once, checked, continued, shared, evicted; never waited for."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest

from luab_jax.errors import ConfigError, DataError
from luab_jax.io import host_cache, storage, use_files
from luab_jax.io.host_cache import HostCache, RemoteShard, parse
from tests.emulators import emulated
from tests.emulators.faults import Fault

pytest.importorskip("gcsfs")
NUM_SHARDS, SHARD_BYTES = 6, 10_000


class Bucket:
    def __init__(self, server: Any, name: str):
        rng = np.random.default_rng(0)
        self.server, self.name = server, name
        self.contents = [rng.bytes(SHARD_BYTES) for _ in range(NUM_SHARDS)]
        self.shards = []
        for number, content in enumerate(self.contents):
            server.put(name, f"data/s-{number}", content)
            path = f"gs://{name}/data/s-{number}"
            self.shards.append(RemoteShard(path, len(content), google_crc32c.value(content)))

    @property
    def num_reads(self) -> int:
        return self.server.behaviour.counts["GET"]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    monkeypatch.setattr(host_cache, "RANGE_BYTES", 1000)
    monkeypatch.setattr(host_cache, "PAUSE_S", 0.05)
    with emulated("gs") as (server, name):
        yield Bucket(server, name)


def filled(folder: Path, bucket: Bucket, limit: int | None = None) -> tuple[HostCache, list[Path]]:
    cache = HostCache(folder, limit)
    copies = [Path(copy) for copy in cache.add(bucket.shards)]
    cache.start()
    cache.wait(60.0)
    return cache, copies


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/mnt/ssd", (Path("/mnt/ssd"), None)),
        ("/mnt/ssd:200GB", (Path("/mnt/ssd"), 200 * 10**9)),
        ("rel/x:1.5TiB", (Path("rel/x"), int(1.5 * 2**40))),
        ("/mnt/ssd:200G", (Path("/mnt/ssd"), 200 * 10**9)),
        ("/mnt/ssd:200 GB", (Path("/mnt/ssd"), 200 * 10**9)),
        ("/mnt/ssd:64gi", (Path("/mnt/ssd"), 64 * 2**30)),
        ("/mnt/ssd:500B", (Path("/mnt/ssd"), 500)),
        ("/mnt/at:12/x", (Path("/mnt/at:12/x"), None)),
        ("C:/x", (Path("C:/x"), None)),
    ],
)
def test_a_folder_and_a_size(text: str, expected: tuple[Path, int | None]) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["/mnt/ssd:200", "/mnt/ssd:200GBytes", "/mnt/ssd:2,5TB"])
def test_a_size_that_is_none_is_no_part_of_the_folder(text: str) -> None:
    with pytest.raises(ConfigError, match=f"config.data.cache={text}: the size .* as /mnt/ssd:200GB"):
        parse(text)


def test_a_bucket_is_no_cache() -> None:
    with pytest.raises(ConfigError, match="expected a local folder"):
        parse("gs://bucket/cache")


def test_every_shard_is_fetched_once_and_whole(
    bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, copies = filled(tmp_path, bucket)
    assert [copy.read_bytes() for copy in copies] == bucket.contents
    assert f"{tmp_path}: all shards are here (6, 0.00 GB), each with the manifest's CRC" in capsys.readouterr().err
    before = bucket.num_reads
    cache.close()
    again, _ = filled(tmp_path, bucket)
    assert bucket.num_reads == before, "another run finds them"
    again.close()
    assert not list(tmp_path.glob("use-*")) and not list(tmp_path.glob("*.part"))


def test_what_was_interrupted_is_continued(bucket: Bucket, tmp_path: Path) -> None:
    first = bucket.shards[0]
    (tmp_path / f"{first.key}.part").write_bytes(bucket.contents[0][:8500])
    bucket.shards = [first]
    before = bucket.num_reads
    cache, copies = filled(tmp_path, bucket)
    assert copies[0].read_bytes() == bucket.contents[0]
    assert bucket.num_reads - before == 2, "two ranges of a thousand bytes were missing"
    cache.close()


@pytest.mark.parametrize("damage", ["bucket", "shorter", "gone"])
def test_a_shard_that_is_not_the_manifests_ends_the_run(damage: str, bucket: Bucket, tmp_path: Path) -> None:
    first, content = bucket.shards[0], bucket.contents[0]
    if damage == "gone":
        del bucket.server.objects[bucket.name, "data/s-0"]
    else:
        bucket.server.put(bucket.name, "data/s-0", content[::-1] if damage == "bucket" else content[:9500])
    cache, copies = filled(tmp_path, bucket)
    with pytest.raises(DataError, match=f"{first.path}: (has CRC|ends at byte|is gone)"):
        cache.check()
    assert not copies[0].exists()
    cache.close()


def test_a_damaged_part_is_fetched_anew(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / f"{bucket.shards[0].key}.part").write_bytes(bytes(500))
    cache, copies = filled(tmp_path, bucket)
    cache.check()
    assert [copy.read_bytes() for copy in copies] == bucket.contents
    cache.close()


def test_files_that_another_process_removes_meanwhile_do_not_end_the_cache(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, rename, gone = Path.iterdir, Path.rename, [1]

    def with_a_file_that_is_gone(folder: Path) -> Iterator[Path]:
        yield from listed(folder)
        yield folder / "gone.0123"

    def without_its_part_once(path: Path, to: Path) -> Path:
        if gone and gone.pop():
            path.unlink()
        return rename(path, to)

    monkeypatch.setattr(Path, "iterdir", with_a_file_that_is_gone)
    monkeypatch.setattr(Path, "rename", without_its_part_once)
    cache, copies = filled(tmp_path, bucket, limit=100_000)
    assert [copy.read_bytes() for copy in copies] == bucket.contents
    cache.close()


def test_a_bucket_that_fails_for_a_while_is_asked_again(
    bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [2]
    read_ranges = storage.read_ranges

    def failing(*arguments: Any) -> Iterator[bytes]:
        if failures[0]:
            failures[0] -= 1
            raise storage.StorageError("gs://bucket/x: cannot be read: 503")
        return read_ranges(*arguments)

    monkeypatch.setattr(storage, "read_ranges", failing)
    cache, copies = filled(tmp_path, bucket)
    assert [copy.read_bytes() for copy in copies] == bucket.contents
    assert "cannot be read: 503; tried again, reading goes on" in capsys.readouterr().err
    cache.close()


def test_a_full_disk_leaves_the_rest_in_the_bucket(
    bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    room = [25_000]
    pwrite, lock = os.pwrite, threading.Lock()

    def limited(descriptor: int, data: Any, offset: int) -> int:
        if len(data) == 1000:
            with lock:
                room[0] -= len(data)
            if room[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", limited)
    cache, copies = filled(tmp_path, bucket)
    cache.check()
    told = capsys.readouterr().err
    assert told.count("the disk is full, so no more shards are kept there") == 1
    assert "or give config.data.cache a smaller size" in told
    assert not all(copy.exists() for copy in copies) and not list(tmp_path.glob("*.part"))
    cache.close()


def test_a_full_disk_that_takes_no_note_of_use_does_not_end_the_training(
    bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(use_files, "write_at", full)
    cache = HostCache(tmp_path, 45_000)
    copies = [Path(copy) for copy in cache.add(bucket.shards)]
    cache.start(iter([[0, 1], [2, 3], [4, 5], [1, 0]] * 50))
    cache.saw([0, 1])
    cache.saw([2, 3])
    assert _comes(lambda: all(copies[shard].exists() for shard in (2, 3, 4, 5)))
    assert capsys.readouterr().err.count(f"{tmp_path}: the disk is full, so what this run reads there cannot be") == 1
    cache.close()


def test_a_shard_that_a_thread_finds_taken_last_of_all_is_looked_at_again(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other threads have nothing to do by then, and the process that fetched it is gone."""
    bucket.shards = bucket.shards[:1]
    lock = fcntl.flock
    theirs = (tmp_path / f"{bucket.shards[0].key}.part").open("w")
    lock(theirs, fcntl.LOCK_EX)

    def late(descriptor: int, how: int) -> None:
        time.sleep(0.3)
        try:
            lock(descriptor, how)
        except BlockingIOError:
            theirs.close()
            raise

    monkeypatch.setattr(fcntl, "flock", late)
    cache, copies = filled(tmp_path, bucket)
    assert theirs.closed and copies[0].read_bytes() == bucket.contents[0]
    cache.close()


def test_a_cache_that_is_too_small_keeps_what_fits_and_evicts_others(bucket: Bucket, tmp_path: Path) -> None:
    of_another_run = tmp_path / RemoteShard("gs://other/x", 30_000, 0).key
    of_another_run.write_bytes(bytes(30_000))
    cache, copies = filled(tmp_path, bucket, limit=35_000)
    assert sum(copy.exists() for copy in copies) == 3
    assert not of_another_run.exists()
    cache.close()


def test_files_that_no_cache_made_are_neither_counted_nor_removed(bucket: Bucket, tmp_path: Path) -> None:
    names = ("thesis.tex", "download.part", "run.0123", "use-me.txt", "use-0123456789abcdef", "x.0123456789ABCDEF")
    for name in names:
        (tmp_path / name).write_bytes(bytes(30_000))
    (tmp_path / "folder.0123456789abcdef").mkdir()
    cache, copies = filled(tmp_path, bucket, limit=35_000)
    assert sum(copy.exists() for copy in copies) == 3
    assert all((tmp_path / name).stat().st_size == 30_000 for name in names)
    cache.close()


def test_shards_of_a_running_process_are_not_evicted(bucket: Bucket, tmp_path: Path) -> None:
    theirs = HostCache(tmp_path, None)
    theirs.add([RemoteShard("gs://other/x", 4, 0)])
    theirs._announce_use()
    (tmp_path / theirs._shards[0].key).write_bytes(bytes(30_000))
    cache, copies = filled(tmp_path, bucket, limit=35_000)
    assert not any(copy.exists() for copy in copies)
    cache.close()
    theirs.close()
    cache, copies = filled(tmp_path, bucket, limit=35_000)
    assert sum(copy.exists() for copy in copies) == 3, "once it has ended they may go"
    cache.close()


def test_two_processes_share_a_folder(bucket: Bucket, tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from luab_jax.io import host_cache
from luab_jax.io.host_cache import HostCache, RemoteShard
host_cache.RANGE_BYTES, host_cache.PAUSE_S = 1000, 0.2
cache = HostCache(Path({str(tmp_path)!r}))
copies = cache.add([RemoteShard(*shard) for shard in {[(s.path, s.num_bytes, s.crc32c) for s in bucket.shards]!r}])
cache.start()
cache.wait(60.0)
cache.check()
assert cache.num_whole() == {NUM_SHARDS}
cache.close()
"""
    bucket.server.behaviour.counts.clear()
    processes = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert bucket.num_reads == NUM_SHARDS * SHARD_BYTES // 1000, "each byte was fetched once"


def test_blocks_are_fetched_as_the_training_comes_to_them(bucket: Bucket, tmp_path: Path) -> None:
    cache = HostCache(tmp_path, 45_000)
    copies = [Path(copy) for copy in cache.add(bucket.shards)]
    blocks = [[0, 1], [2, 3], [4, 5], [1, 0]]
    cache.start(iter(blocks * 50))
    for number in range(len(blocks) - 1):
        here, following = blocks[number], blocks[number + 1]
        cache.saw(here)
        assert _comes(lambda now=here + following: all(copies[shard].exists() for shard in now))
        assert sum(path.stat().st_size for path in tmp_path.iterdir() if path.name.startswith("s-")) <= 45_000
    cache.close()


def test_processes_of_a_host_pass_through_the_blocks_of_one_cache(
    bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each announces the blocks that it reads now and next, so that what all have passed makes room."""
    blocks = [[0, 1], [2, 3], [4, 5], [1, 0], [3, 4]]
    caches = [HostCache(tmp_path, 45_000) for _ in range(2)]
    for cache in caches:
        cache.add(bucket.shards)
        cache.start(iter(blocks * 50))

    def num_there(numbers: list[int]) -> int:
        return sum((tmp_path / bucket.shards[number].key).exists() for number in set(numbers))

    for here, following in itertools.pairwise(blocks):
        for cache in caches:
            cache.saw(here)
        assert _comes(lambda now=here + following: num_there(now) == len(set(now))), following
    assert "other running processes" not in capsys.readouterr().err
    for cache in caches:
        cache.close()


def test_blocks_for_which_others_leave_no_room_are_said_once(
    bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = HostCache(tmp_path, None)
    theirs.add([RemoteShard("gs://other/x", 30_000, 0)])
    theirs._announce_use()
    (tmp_path / theirs._shards[0].key).write_bytes(bytes(30_000))
    cache = HostCache(tmp_path, 45_000)
    copies = [Path(copy) for copy in cache.add(bucket.shards)]
    blocks = [[0, 1], [2, 3], [4, 5], [1, 0]]
    cache.start(iter(blocks * 50))
    for number, here in enumerate(blocks):
        cache.saw(here)
        assert number or _comes(lambda: len(cache._no_room) == 3), "one fits, whichever thread comes first"
    assert capsys.readouterr().err.count("shards that other running processes read fill it") == 1
    theirs.close()
    assert _comes(lambda: all(copies[shard].exists() for shard in (0, 1))), "once they have ended there is room"
    cache.close()


def test_a_set_for_which_others_leave_no_room_is_said_once(
    bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = HostCache(tmp_path, None)
    theirs.add([RemoteShard("gs://other/x", 30_000, 0)])
    theirs._announce_use()
    (tmp_path / theirs._shards[0].key).write_bytes(bytes(30_000))
    cache, copies = filled(tmp_path, bucket, limit=65_000)
    assert sum(copy.exists() for copy in copies) == 3
    assert capsys.readouterr().err.count("shards that other running processes read fill it") == 1
    cache.close()
    theirs.close()


def test_failures_with_successes_between_them_do_not_end_the_cache(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_ranges, asked = storage.read_ranges, []

    def failing_every_second_time(*arguments: Any) -> Iterator[bytes]:
        asked.append(arguments)
        if len(asked) % 2:
            raise storage.StorageError(f"gs://bucket/{len(asked)}: cannot be read: 503")
        return read_ranges(*arguments)

    monkeypatch.setattr(storage, "read_ranges", failing_every_second_time)
    monkeypatch.setattr(host_cache, "SHARDS_AT_ONCE", 1)
    monkeypatch.setattr(host_cache, "RANGE_BYTES", SHARD_BYTES)
    cache, copies = filled(tmp_path, bucket)
    assert [copy.read_bytes() for copy in copies] == bucket.contents, "of six failures no two were in a row"
    cache.close()


def test_a_bucket_that_goes_on_failing_is_given_up_with_a_line(
    bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> Iterator[bytes]:
        raise storage.StorageError("gs://bucket/x: cannot be read: 503")

    monkeypatch.setattr(storage, "read_ranges", failing)
    cache, copies = filled(tmp_path, bucket)
    assert not any(copy.exists() for copy in copies)
    assert capsys.readouterr().err.count("503; no more shards are fetched, reading goes on") == 1
    cache.close()


def test_blocks_that_do_not_fit_are_refused(bucket: Bucket, tmp_path: Path) -> None:
    cache = HostCache(tmp_path, 35_000)
    cache.add(bucket.shards)
    with pytest.raises(ConfigError, match=r"two blocks of .*shuffle_shards have 0\.0 GB.*lower shuffle_shards"):
        cache.start(iter([[0, 1], [2, 3]] * 2))
    cache.close()


def test_a_cut_short_answer_is_asked_for_again(bucket: Bucket, tmp_path: Path) -> None:
    with bucket.server.behaviour.failing(Fault("cut", matching="data/s-3", times=1)):
        cache, copies = filled(tmp_path, bucket)
    cache.check()
    assert copies[3].read_bytes() == bucket.contents[3]
    cache.close()


def _comes(true: Any) -> bool:
    """Within a time that no machine needs."""
    ended = threading.Event()
    return any(true() or ended.wait(0.02) for _ in range(1500))
