"""Where a collection is kept: transactions behind one small interface, SQLite in a file or PostgreSQL.

All writing of a process goes through one thread, which puts every job that waits into one transaction. So a batch is
on the disk when it is acknowledged, a hundred of them cost one flush, and there is no second writer to be locked out
by. Reading happens on connections of its own, which see the last commit and wait for nobody.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from importlib import resources
from typing import Any, Protocol, TypeVar

from luab_jax.errors import UserError

SCHEMA_VERSION = 1
_MAX_WAITING = 5000
_MAX_GROUP = 500

T = TypeVar("T")
Row = tuple[Any, ...]


class StoreError(UserError):
    """The database cannot be used; the message says what to do."""


class StoreBusyError(StoreError):
    """For now: more jobs wait than can be done, or another process holds the database."""


class DiskFullError(StoreError):
    """Nothing was written; the same job succeeds once there is room."""


class RefusedError(Exception):
    """Raised by a job before it writes anything; the other jobs of its transaction are not disturbed."""


class Tx(Protocol):
    """A transaction. SQL is written with `?`; a job may run again after a rollback, and must not keep state."""

    skip_locked: str
    """What follows a SELECT of rows that will be changed, where several writers are possible."""

    def rows(self, sql: str, *values: Any) -> list[Row]: ...

    def run(self, sql: str, *values: Any) -> int:
        """The number of rows that were changed."""
        ...


class Engine(Protocol):
    """One database."""

    def connect(self) -> Any:
        """A connection for the calling thread."""
        ...

    def transact(self, connection: Any, jobs: list[Callable[[Tx], Any]]) -> list[Any]:
        """Runs the jobs in one transaction, commits, and returns what they returned, or the `RefusedError` they raised.

        Raises what a job raised, `StoreError` included, with everything rolled back.
        """
        ...

    def read(self, connection: Any, job: Callable[[Tx], T]) -> T:
        """Runs a job that only reads, on one snapshot."""
        ...

    def close(self, connection: Any) -> None: ...

    def is_lost(self, connection: Any) -> bool:
        """Whether the server at the other end dropped it."""
        ...

    def create(self) -> None:
        """Makes the tables; raises `StoreError` if there are any."""
        ...

    def check(self) -> None:
        """Raises `StoreError` for a database that cannot be used."""
        ...

    def backup(self, target: str) -> None: ...

    def restore(self, source: str, *, overwrite: bool) -> None:
        """Raises `StoreError` for a database that is there already, unless with `overwrite`, and for one in use."""
        ...

    @property
    def name(self) -> str: ...


def row(tx: Tx, sql: str, *values: Any) -> Row | None:
    """The first row."""
    found = tx.rows(sql, *values)
    return found[0] if found else None


def value(tx: Tx, sql: str, *values: Any) -> Any:
    """The first column of the first row; `None` where there is none."""
    found = tx.rows(sql, *values)
    return found[0][0] if found else None


class Store:
    """A database, open for one process. `close` it; a server keeps it open until it ends."""

    def __init__(self, engine: Engine):
        self.engine = engine
        self._jobs: queue.SimpleQueue[tuple[Callable[[Tx], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._local = threading.local()
        self._connections: list[Any] = []
        self._lock = threading.Lock()
        self._writer: threading.Thread | None = None
        self._closed = False

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, job: Callable[[Tx], T]) -> T:
        """Runs a job that only reads."""
        return self.engine.read(self._connection(), job)

    def write(self, job: Callable[[Tx], T]) -> Future[T]:
        """Queues a job; the future is done after the commit, or has the error."""
        future: Future[T] = Future()
        if self._jobs.qsize() > _MAX_WAITING:
            future.set_exception(StoreBusyError("the database cannot keep up; try again"))
            return future
        with self._lock:
            if self._closed:
                raise StoreError("the store is closed")
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_all, name="collect-writer", daemon=True)
                self._writer.start()
            self._jobs.put((job, future))
        return future

    def do(self, job: Callable[[Tx], T]) -> T:
        """Queues a job and waits for its commit."""
        return self.write(job).result()

    def close(self) -> None:
        """Finishes what is queued."""
        with self._lock:
            self._closed = True
        if self._writer is not None:
            self._jobs.put(None)
            self._writer.join()
        for connection in self._connections:
            self.engine.close(connection)
        self._connections.clear()

    def _connection(self) -> Any:
        connection = getattr(self._local, "connection", None)
        if connection is None or self.engine.is_lost(connection):
            connection = self._local.connection = self.engine.connect()
            with self._lock:
                self._connections.append(connection)
        return connection

    def _write_all(self) -> None:
        connection = None
        ended = False
        while not ended:
            waiting = [self._jobs.get()]
            while len(waiting) < _MAX_GROUP and not self._jobs.empty():
                waiting.append(self._jobs.get())
            ended = None in waiting
            group = [job for job in waiting if job is not None]
            try:
                if connection is None or self.engine.is_lost(connection):
                    connection = self.engine.connect()
            except Exception as e:
                for _, future in group:
                    future.set_exception(e)
                continue
            self._write_group(connection, group)
        if connection is not None:
            self.engine.close(connection)

    def _write_group(self, connection: Any, group: list[tuple[Callable[[Tx], Any], Future[Any]]]) -> None:
        """In one transaction; if a job fails, each in its own, so that it fails alone."""
        if not group:
            return
        try:
            answers = self.engine.transact(connection, [job for job, _ in group])
        except Exception as e:
            if len(group) == 1:
                group[0][1].set_exception(e)
                return
            for one in group:
                self._write_group(connection, [one])
            return
        for (_, future), answer in zip(group, answers, strict=True):
            if isinstance(answer, RefusedError):
                future.set_exception(answer)
            else:
                future.set_result(answer)


def schema(int_type: str, bytes_type: str, serial: str) -> list[str]:
    """The statements of the schema, with a database's own type names."""
    text = resources.files("data_prep.collect").joinpath("sql", "0001.sql").read_text(encoding="utf-8")
    lines = (line.partition("--")[0] for line in text.splitlines())
    words = {"INT": int_type, "BYTES": bytes_type, "SERIAL": serial}
    statements = []
    for statement in "\n".join(lines).split(";"):
        parts = [words.get(word.rstrip(","), word.rstrip(",")) + "," * word.endswith(",") for word in statement.split()]
        statements.append(" ".join(parts))
    return [statement for statement in statements if statement.strip()]


def check_version(tx: Tx, where: str) -> None:
    """Raises `StoreError` for a database of another schema."""
    found = value(tx, "SELECT value FROM meta WHERE name = 'schema_version'")
    if found != str(SCHEMA_VERSION):
        newer = found is not None and found.isdigit() and int(found) > SCHEMA_VERSION
        remedy = "install the version of luab_jax that made it" if newer else "restore a backup, or make a new project"
        raise StoreError(f"{where}: has schema version {found}, this program needs {SCHEMA_VERSION}; {remedy}")


def set_meta(tx: Tx, name: str, text: str) -> None:
    """A value of the project as a whole."""
    tx.run(
        "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        name,
        text,
    )


def get_meta(tx: Tx, name: str, default: str = "") -> str:
    found = value(tx, "SELECT value FROM meta WHERE name = ?", name)
    return default if found is None else found


def note(tx: Tx, ms: int, action: str, detail: str) -> None:
    """Writes what the owner did into the audit table."""
    tx.run("INSERT INTO audit (ms, action, detail) VALUES (?, ?, ?)", ms, action, detail)
