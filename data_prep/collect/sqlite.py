"""The embedded store: one SQLite file in WAL mode, with every commit flushed to the disk."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from data_prep.collect.store import (
    SCHEMA_VERSION,
    DiskFullError,
    RefusedError,
    Row,
    StoreBusyError,
    StoreError,
    Tx,
    check_version,
    schema,
    set_meta,
)

T = TypeVar("T")

_LEAST_VERSION = (3, 37, 0)
"""Of SQLite: STRICT tables; RETURNING and UPSERT are older."""
_BUSY_MS = 30_000
_NETWORK = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "lustre", "afs", "gpfs", "beegfs", "virtiofs"),
    *("fuse.sshfs", "fuse.gcsfuse", "fuse.s3fs", "fuse.rclone", "fuse.glusterfs", "fuse.juicefs", "fuse.mountpoint-s3"),
}
"""File systems on which SQLite's locks and shared memory do not hold between machines (sqlite.org/wal.html)."""


class _Tx:
    skip_locked = ""

    def __init__(self, connection: sqlite3.Connection):
        self._connection = connection

    def rows(self, sql: str, *values: Any) -> list[Row]:
        return self._connection.execute(sql, values).fetchall()

    def run(self, sql: str, *values: Any) -> int:
        return self._connection.execute(sql, values).rowcount


def file_system(path: Path, mounts: str = "/proc/self/mounts") -> str:
    """The kind of file system that a path is on; empty where it cannot be known."""
    try:
        lines = Path(mounts).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    where, best, kind = str(path.resolve()), "", ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        mount = fields[1].replace("\\040", " ")
        inside = where == mount or where.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, fields[2]
    return kind


def refuse_network(path: Path, mounts: str = "/proc/self/mounts") -> None:
    """Raises `StoreError` for a file system on which two machines could damage the database."""
    kind = file_system(path, mounts)
    if kind in _NETWORK:
        raise StoreError(
            f"{path}: is on a network file system ({kind}), where SQLite can lose data; put the project on a local"
            " disk, or use --db=postgresql://..."
        )


class SqliteEngine:
    """The database file of a project."""

    def __init__(self, path: Path, *, max_pages: int | None = None):
        """`max_pages`: a full disk, for tests."""
        if sqlite3.sqlite_version_info < _LEAST_VERSION:
            raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old; 3.37 or newer is needed")
        self.path, self._max_pages = path, max_pages

    @property
    def name(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}, {self.path}"

    def create(self, mounts: str = "/proc/self/mounts") -> None:
        """Makes the file and its tables; raises `StoreError` if it is there."""
        if self.path.exists():
            raise StoreError(f"{self.path}: is there already")
        refuse_network(self.path.parent, mounts)
        with self._explained():
            connection = self._open()
            try:
                mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
                if mode != "wal":
                    raise StoreError(f"{self.path}: the file system cannot do SQLite's WAL mode; use a local disk")
                connection.execute("BEGIN IMMEDIATE")
                for statement in schema("INTEGER", "BLOB", "INTEGER PRIMARY KEY AUTOINCREMENT"):
                    strict = " STRICT" if statement.startswith("CREATE TABLE") else ""
                    connection.execute(statement + strict)
                set_meta(_Tx(connection), "schema_version", str(SCHEMA_VERSION))
                connection.execute("COMMIT")
            finally:
                connection.close()
        self.path.chmod(0o600)

    def check(self) -> None:
        """Raises `StoreError` if there is no database here, or one of another version, or a damaged one."""
        if not self.path.is_file():
            raise StoreError(f"{self.path}: no such database; make a project with `collect init`")
        refuse_network(self.path)
        connection = self.connect()
        try:
            self.read(connection, lambda tx: check_version(tx, str(self.path)))
        finally:
            self.close(connection)

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False, cached_statements=200
        )
        for pragma in (
            "synchronous = FULL",
            "foreign_keys = ON",
            "secure_delete = ON",
            f"busy_timeout = {_BUSY_MS}",
            "cache_size = -2000",
        ):
            connection.execute(f"PRAGMA {pragma}")
        if self._max_pages is not None:
            connection.execute(f"PRAGMA max_page_count = {self._max_pages}")
        return connection

    def connect(self) -> sqlite3.Connection:
        with self._explained():
            return self._open()

    def close(self, connection: sqlite3.Connection) -> None:
        connection.close()

    def is_lost(self, connection: sqlite3.Connection) -> bool:
        return False

    def transact(self, connection: sqlite3.Connection, jobs: list[Callable[[Tx], Any]]) -> list[Any]:
        tx, answers = _Tx(connection), []
        with self._explained():
            connection.execute("BEGIN IMMEDIATE")
            try:
                for job in jobs:
                    try:
                        answers.append(job(tx))
                    except RefusedError as e:
                        answers.append(e)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk may have rolled back already
                    connection.execute("ROLLBACK")
                raise
        return answers

    def read(self, connection: sqlite3.Connection, job: Callable[[Tx], T]) -> T:
        with self._explained():
            connection.execute("BEGIN")
            try:
                return job(_Tx(connection))
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def backup(self, target: str) -> None:
        """A copy of the last commit, made while others write; it appears whole or not at all."""
        final = Path(target)
        partial = final.with_name(final.name + ".partial")
        partial.unlink(missing_ok=True)
        connection = self.connect()
        try:
            with self._explained():
                connection.execute("VACUUM INTO ?", (str(partial),))
            partial.replace(final)
        finally:
            partial.unlink(missing_ok=True)
            self.close(connection)

    def restore(self, source: str, *, overwrite: bool) -> None:
        """Puts a backup in the place of the database, once it has been checked."""
        if self.path.exists() and not overwrite:
            raise StoreError(f"{self.path}: is there already; give --overwrite to replace it")
        from_file = SqliteEngine(Path(source))
        from_file.check()
        connection = from_file.connect()
        partial = self.path.with_name(self.path.name + ".partial")
        partial.unlink(missing_ok=True)
        try:
            with self._explained():
                found = connection.execute("PRAGMA integrity_check").fetchone()[0]
                if found != "ok":
                    raise StoreError(f"{source}: is damaged ({found})")
                connection.execute("VACUUM INTO ?", (str(partial),))
        finally:
            from_file.close(connection)
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        partial.replace(self.path)
        self.path.chmod(0o600)
        connection = self.connect()
        connection.execute("PRAGMA journal_mode = WAL")
        connection.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as e:
            code = getattr(e, "sqlite_errorname", "") or ""
            if code.startswith(("SQLITE_FULL", "SQLITE_IOERR_WRITE")):
                raise DiskFullError(f"{self.path}: the disk is full; free some disk space") from e
            if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise StoreBusyError(f"{self.path}: another process holds the database") from e
            if code.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
                raise StoreError(f"{self.path}: is no whole database ({e}); restore a backup") from e
            if code.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_IOERR", "SQLITE_PERM", "SQLITE_AUTH")):
                raise StoreError(f"{self.path}: cannot be used ({e})") from e
            if "no such table" in str(e):
                raise StoreError(f"{self.path}: is no database of this program ({e})") from e
            raise


@contextlib.contextmanager
def only_server(path: Path) -> Iterator[None]:
    """Holds the lock file of the database's one server process; raises `StoreError` if another holds it."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            file.seek(0)
            holder = file.read(40).strip()
            raise StoreError(
                f"{path}: another server of this project runs{f' (process {holder})' if holder else ''}; stop it, or"
                " use --db=postgresql://... for several"
            ) from e
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
