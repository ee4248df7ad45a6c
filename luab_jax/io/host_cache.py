"""Whole shards of a bucket on a disk of this host: fetched once, checked, and shared by the processes of the host.

    DIR/<shard>.<key>            a whole shard; its CRC is that of the manifest, or its records are those of the index
    DIR/<shard>.<key>.part       one that is being fetched, or whose fetching was interrupted: it is continued
    DIR/use-<token>              the shards that a running process reads now and next; nobody evicts them

Reading never waits for the cache: a shard that is not whole yet is read from the bucket, record by record. Of several
processes one fetches a shard, by a lock on its part that ends with the process. Shards are evicted to keep the size,
those longest unused first, and never those that a running process reads: all of its shards, or with blocks those of
two. Processes that pass from block to block at different moments wait for each other's, and look again. Files with
other names than these may be in the folder; they are not counted, and stay.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import google_crc32c

from luab_jax.errors import ConfigError, DataError, StorageError, UserError
from luab_jax.io import storage
from luab_jax.io.console import say
from luab_jax.io.use_files import UseFile, write_at

RANGE_BYTES = 8 << 20
RANGES_AT_ONCE = 4
SHARDS_AT_ONCE = 4
"""So at most 16 requests of 8 MiB are under way: 128 MiB of memory, and about a gigabyte a second at 100 ms each."""
TRIES = 5
"""Failures to fetch without a success between them, each behind all repetitions of its requests, after which the cache
is left as it is."""
PAUSE_S = 15.0
"""Before the next try, and the next look for what another process was fetching or kept."""
_LOOK_S = 0.2
"""Between two looks at whether the other threads of this process are done."""

OPTION = "config.data.cache"
"""How messages call the option that names the cache, where it is not another."""

_OWN = re.compile(r".+\.[0-9a-f]{16}(\.part)?", re.DOTALL)
"""The names of `RemoteShard.key` and their parts."""

_SIZE = re.compile(r"(?P<folder>.+?)(:(?P<number>\d+(\.\d+)?) ?(?P<unit>[KMGT]i?B?|B))?", re.IGNORECASE)
_NO_SIZE = re.compile(r".*:\d[^/]*")
_UNITS = {"": 1} | {
    f"{prefix}{infix}": base ** (power + 1)
    for power, prefix in enumerate("kmgt")
    for infix, base in (("", 1000), ("i", 1024))
}


def parse(text: str, name: str = OPTION) -> tuple[Path, int | None]:
    """`DIR` or `DIR:SIZE`, as in `/mnt/ssd:200GB`: the folder, and the most bytes of shards that may lie there.

    The unit may lack its B, and is of 1000 unless it has an i. Raises `ConfigError`, which calls the option `name`.
    """
    found = _SIZE.fullmatch(text)
    if found is None or storage.is_remote(text):
        raise ConfigError(f"{name}={text}: expected a local folder, as /mnt/ssd or /mnt/ssd:200GB")
    unit = found["unit"]
    if unit is None and _NO_SIZE.fullmatch(text):
        raise ConfigError(f"{name}={text}: the size has no unit that is known; write it as /mnt/ssd:200GB")
    folder = Path(os.path.expanduser(found["folder"]))  # noqa: PTH111 (pathlib's raises where there is no home)
    return folder, None if unit is None else int(float(found["number"]) * _UNITS[unit.lower().removesuffix("b")])


@dataclass(frozen=True)
class RemoteShard:
    """A file in a bucket, as a manifest describes it."""

    path: str
    num_bytes: int
    crc32c: int
    """Of the whole file; 0 where nobody knows."""
    content: str = ""
    """A hash of what it holds, where its CRC is unknown."""
    content_of: Callable[[Path], str] | None = field(default=None, compare=False)
    """Finds that hash of a copy; raises `DataError` for one that is damaged."""

    @property
    def key(self) -> str:
        """The name of its copy: of another content it is another."""
        identity = f"{self.path} {self.num_bytes} {self.crc32c} {self.content}".rstrip().encode()
        return f"{self.path.rpartition('/')[2]}.{hashlib.blake2b(identity, digest_size=8).hexdigest()}"


class HostCache:
    """Fetches shards in the background while it is started. `check` raises what was found to be wrong with them."""

    def __init__(self, folder: Path, limit_bytes: int | None = None, *, active: bool = True, name: str = OPTION):
        """active: Whether this process tells of what it does. name: Of the option, in messages."""
        self.folder, self._limit, self._active, self._name = folder, limit_bytes, active, name
        self._shards: list[RemoteShard] = []
        self._plan: Iterator[Sequence[int]] | None = None
        self._window: list[frozenset[int]] = []
        self._changed = threading.Condition()
        self._allotting = threading.Lock()
        self._coming: dict[str, int] = {}
        self._stop = threading.Event()
        self._error: UserError | None = None
        self._failures = 0
        self._given_up = False
        self._busy: set[int] = set()
        self._no_room: set[int] = set()
        self._elsewhere: set[int] = set()
        self._told: set[str] = set()
        self._threads: list[threading.Thread] = []
        self._use = UseFile(folder)

    def add(self, shards: Sequence[RemoteShard]) -> list[str]:
        """Shards to be kept here, and where their copies will be. To be called before `start`.

        Raises `ConfigError` for a folder that cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise ConfigError(f"{self._name}={self.folder}: cannot be made ({e.strerror}); choose another") from e
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise ConfigError(f"{self._name}={self.folder}: no permission to write there; choose another folder")
        self._shards += shards
        return [str(self.folder / shard.key) for shard in shards]

    @property
    def total_bytes(self) -> int:
        return sum(shard.num_bytes for shard in self._shards)

    @property
    def is_too_small(self) -> bool:
        return self._limit is not None and self.total_bytes > self._limit

    def start(self, blocks: Iterable[Sequence[int]] | None = None) -> None:
        """Begins to fetch.

        blocks: Numbers of shards, in the order of `add`, as the training comes to them, without end; where all of them
            do not fit, the blocks that are read now and next are kept. Without it as many as fit are.
        """
        if blocks is not None and self.is_too_small:
            self._plan = iter(blocks)
            self._window = [frozenset(next(self._plan)), frozenset(next(self._plan))]
            self._check_window()
        elif self.is_too_small:
            self._tell_how_much_fits()
        self._announce_use()
        waiting = iter(self._to_fetch() if self._plan is None else self._to_fetch_by_blocks())
        lock = threading.Lock()

        def work() -> None:
            while not self._stop.is_set():
                with lock:
                    number = next(waiting, None)
                if number is None:
                    return
                try:
                    self._fetch_or_tell(number)
                finally:
                    self._busy.discard(number)

        for _ in range(SHARDS_AT_ONCE):
            thread = threading.Thread(target=work, daemon=True, name="host-cache")
            thread.start()
            self._threads.append(thread)

    def _tell_how_much_fits(self) -> None:
        limit = self._limit or 0
        blocks = ". config.data.shuffle_shards=N shuffles N shards at a time, and so fits"
        self._say(
            f"{self._name}: {self.total_bytes / 1e9:,.1f} GB do not fit into {limit / 1e9:,.1f} GB:"
            f" {limit / self.total_bytes:.0%} are kept, the rest is read from the bucket at every pass"
            + (blocks if self._name == OPTION else "")
        )

    def _to_fetch(self) -> Iterator[int]:
        """All, then what other processes were fetching, since these may be gone. Asked by one thread at a time.

        While a shard is busy its thread may still find that another process has it; only then is it no longer busy.
        """
        waiting: Iterable[int] = range(len(self._shards))
        while True:
            for number in waiting:
                self._busy.add(number)
                yield number
            if (not self._busy and not self._elsewhere) or self._stop.wait(PAUSE_S if self._elsewhere else _LOOK_S):
                return
            with self._changed:
                waiting, self._elsewhere = self._elsewhere, set()

    def _to_fetch_by_blocks(self) -> Iterator[int]:
        """What is missing of the blocks that are read now and next, again and again, since there may be room by now."""
        while not self._stop.is_set():
            window = self._window
            for number in (number for block in window for number in sorted(block)):
                if self._window is not window:
                    break
                if number not in self._busy and not (self.folder / self._shards[number].key).exists():
                    self._busy.add(number)
                    yield number
            with self._changed:
                if self._window is window and not self._stop.is_set():
                    self._changed.wait(PAUSE_S)

    def saw(self, numbers: Iterable[int]) -> None:
        """Tells of shards that the training has read, so that blocks behind it can be given up."""
        if self._plan is None:
            return
        read = frozenset(numbers)
        with self._changed:
            for _ in self._window:
                here, following = self._window
                if read <= here or (read & here and read <= here | following):
                    return
                self._window = [following, frozenset(next(self._plan))]
                self._announce_use()
                self._changed.notify_all()
                passed = here - following
                missed, self._no_room = self._no_room & passed, self._no_room - passed
                # Another process may have found room for them.
                if not all((self.folder / self._shards[number].key).exists() for number in missed):
                    self._tell_of_no_room()

    @property
    def error(self) -> UserError | None:
        """What was found to be wrong with the shards so far."""
        return self._error

    def check(self) -> None:
        """Raises `DataError` if a shard is not the one that the manifest describes."""
        if self._error is not None:
            raise self._error

    def wait(self, timeout_s: float = 600.0) -> None:
        """Until everything is fetched that will be; not with blocks, which have no end."""
        for thread in self._threads:
            thread.join(timeout_s)

    def close(self) -> None:
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(10)
        self._use.close()

    def num_whole(self) -> int:
        """Shards that are here."""
        return sum((self.folder / shard.key).exists() for shard in self._shards)

    def _check_window(self) -> None:
        needed = sum(self._shards[number].num_bytes for number in self._window[0] | self._window[1])
        if self._limit is not None and needed > self._limit:
            raise ConfigError(
                f"{self._name}={self.folder}: two blocks of config.data.shuffle_shards have"
                f" {needed / 1e9:,.1f} GB, the cache {self._limit / 1e9:,.1f} GB;"
                " lower shuffle_shards, or give the cache more"
            )

    def _say(self, line: str) -> None:
        """Once."""
        with self._changed:
            told, self._told = line in self._told, self._told | {line}
        if not told:
            say(line, active=self._active)

    def _tell_of_no_room(self) -> None:
        self._say(
            f"{self._name}={self.folder}: shards that other running processes read fill it, so some of this run's"
            " are read from the bucket; give it more, or a folder of its own"
        )

    def _fetch_or_tell(self, number: int) -> None:
        shard = self._shards[number]
        while not self._stop.is_set() and not self._given_up:
            try:
                if self._fetch(shard):
                    self._failures = 0
                self._tell_if_complete()
                return
            except StorageError as e:
                self._failures += 1
                self._given_up = self._failures >= TRIES
                then = "no more shards are fetched" if self._given_up else "tried again"
                self._say(f"{self._name}: {e}; {then}, reading goes on")
                self._stop.wait(PAUSE_S)
            except UserError as e:
                self._error = e
                self._stop.set()
            except OSError as e:
                if isinstance(e, FileNotFoundError) and self._failures < TRIES - 1:
                    self._failures += 1  # another process removed it between two looks
                    self._stop.wait(PAUSE_S)
                    continue
                self._given_up = True
                self._say(
                    f"{self.folder}: {_cause(e)}, so no more shards are kept there and the others are read from the"
                    f" bucket; free some space, or give {self._name} a smaller size"
                )

    def _tell_if_complete(self) -> None:
        if self._plan is None and self.num_whole() == len(self._shards):
            size = f"{self.total_bytes / 1e9:,.2f} GB"
            verified = ", each with the manifest's CRC" if all(shard.crc32c for shard in self._shards) else ""
            self._say(f"{self.folder}: all shards are here ({len(self._shards):,}, {size}){verified}")

    def _fetch(self, shard: RemoteShard) -> bool:
        """Whether it was fetched here and now."""
        if (self.folder / shard.key).exists():
            return False
        if not self._make_room(shard):
            if self._plan is not None:
                self._no_room.add(self._shards.index(shard))
            elif not self.is_too_small:
                self._tell_of_no_room()
            return False
        try:
            return self._fetch_into(shard, self.folder / f"{shard.key}.part", self.folder / shard.key)
        finally:
            with self._allotting:
                self._coming.pop(shard.key, None)

    def _fetch_into(self, shard: RemoteShard, part: Path, whole: Path) -> bool:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with self._changed:
                    self._elsewhere.add(self._shards.index(shard))
                return False  # another process of this host fetches it
            if whole.exists():  # it did, between our look and our lock
                return False
            continued = os.fstat(descriptor).st_size > 0
            if not self._append_rest(shard, descriptor):
                return False
            if continued and not _is_intact(shard, descriptor, part):  # what an earlier attempt left was damaged
                os.ftruncate(descriptor, 0)
                if not self._append_rest(shard, descriptor):
                    return False
            _check(shard, descriptor, part)
            os.fsync(descriptor)
            part.rename(whole)
            self._no_room.discard(self._shards.index(shard))
            return True
        except OSError as e:
            if e.errno in (errno.ENOSPC, errno.EDQUOT):
                part.unlink(missing_ok=True)  # what it holds is of use to nobody
            raise
        finally:
            os.close(descriptor)

    def _append_rest(self, shard: RemoteShard, descriptor: int) -> bool:
        """From where an earlier attempt ended. False where it is to stop."""
        at = os.fstat(descriptor).st_size
        if at > shard.num_bytes:
            os.ftruncate(descriptor, 0)
            at = 0
        while at < shard.num_bytes:
            if self._stop.is_set():
                return False
            starts = range(at, min(shard.num_bytes, at + RANGES_AT_ONCE * RANGE_BYTES), RANGE_BYTES)
            sizes = [min(RANGE_BYTES, shard.num_bytes - start) for start in starts]
            try:
                parts = list(storage.read_ranges(storage.place(shard.path), starts, sizes))
            except FileNotFoundError as e:
                raise DataError(f"{shard.path}: is gone from its bucket; is the data set complete?") from e
            for start, size, data in zip(starts, sizes, parts, strict=True):
                if len(data) != size:
                    raise _replaced(shard, f"ends at byte {start + len(data):,} of {shard.num_bytes:,}")
                write_at(descriptor, data, start)
            at = starts[-1] + sizes[-1]
        return True

    def _make_room(self, shard: RemoteShard) -> bool:
        """Evicts what nobody reads, longest unused first; False if the shard does not fit all the same.

        What the threads of this process are fetching counts as if it were here; what another process is, as far as it
        has come, so that several may pass the limit by the shards under way.
        """
        if self._limit is None:
            return True
        with self._allotting:
            coming = self._coming | {shard.key: shard.num_bytes}
            files = {path: found for path, found in self._files() if path.name.removesuffix(".part") not in coming}
            needed = sum(found.st_size for found in files.values()) + sum(coming.values()) - self._limit
            used = self._own_use() | self._use.others()
            for path in sorted(files, key=lambda path: files[path].st_mtime):
                if needed > 0 and path.name.removesuffix(".part") not in used:
                    path.unlink(missing_ok=True)
                    needed -= files[path].st_size
            if needed <= 0:
                self._coming = coming
            return needed <= 0

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Whole shards and parts of any cache, but for those that another process removes meanwhile."""
        for path in self.folder.iterdir():
            if not _OWN.fullmatch(path.name):
                continue
            with contextlib.suppress(FileNotFoundError):
                found = path.stat()
                if stat.S_ISREG(found.st_mode):
                    yield path, found

    def _announce_use(self) -> None:
        """A full disk keeps it from others, and nobody from reading."""
        try:
            self._use.write(self._own_use())
        except OSError as e:
            self._say(
                f"{self.folder}: {_cause(e)}, so what this run reads there cannot be noted, and others may evict it"
            )

    def _own_use(self) -> set[str]:
        if self._plan is None:
            return {shard.key for shard in self._shards}
        return {self._shards[number].key for block in self._window for number in block}


def _cause(error: OSError) -> str:
    return "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)


def _check(shard: RemoteShard, descriptor: int, part: Path) -> None:
    """Raises `DataError` unless the file is the manifest's or the index's."""
    if not _is_intact(shard, descriptor, part):
        found = _crc(shard, descriptor)
        part.unlink(missing_ok=True)
        if not shard.crc32c:
            raise _replaced(shard, "has other records than the index")
        raise _replaced(shard, f"has CRC {found:08x}, the manifest says {shard.crc32c:08x}")


def _is_intact(shard: RemoteShard, descriptor: int, part: Path) -> bool:
    if shard.crc32c or shard.content_of is None:
        return not shard.crc32c or _crc(shard, descriptor) == shard.crc32c
    try:
        return shard.content_of(part) == shard.content
    except DataError:
        return False


def _crc(shard: RemoteShard, descriptor: int) -> int:
    crc = 0
    for start in range(0, shard.num_bytes, RANGE_BYTES):
        crc = google_crc32c.extend(crc, os.pread(descriptor, RANGE_BYTES, start))
    return crc


def _replaced(shard: RemoteShard, what: str) -> DataError:
    return DataError(
        f"{shard.path}: {what}: it is not the shard that the manifest describes, or was replaced since. Put the one"
        " back that was there before, or prepare the split again, and train on it in another --workdir"
    )
