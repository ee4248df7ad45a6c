"""The store for more than one machine can serve: PostgreSQL, with any number of server processes."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import errors
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict, make_conninfo

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
_TRIES = 8
_LOCK = int.from_bytes(b"luab_col")
"""Of PostgreSQL's advisory locks, which are those of one database: every connection shares it, and who restores has it
alone. It goes with the connection, so that a process that was killed holds nothing."""


@functools.cache
def _dialect(sql: str) -> str:
    return sql.replace("%", "%%").replace("?", "%s")


class _NumberLoader(Loader):
    """SUM of whole numbers is `numeric` in PostgreSQL; here it is a whole number as in SQLite, else a float."""

    def load(self, data: Any) -> int | float:
        text = bytes(data).decode()
        return int(text) if text.lstrip("-").isdigit() else float(text)


class _Tx:
    skip_locked = " FOR UPDATE SKIP LOCKED"

    def __init__(self, connection: psycopg.Connection):
        self._connection = connection

    def rows(self, sql: str, *values: Any) -> list[Row]:
        return self._connection.execute(_dialect(sql), values).fetchall()  # pyright: ignore[reportArgumentType]

    def run(self, sql: str, *values: Any) -> int:
        return self._connection.execute(_dialect(sql), values).rowcount  # pyright: ignore[reportArgumentType]


class PostgresEngine:
    """A database that others administer; `address` is `postgresql://USER@HOST/NAME`."""

    def __init__(self, address: str):
        self._address = address

    @property
    def name(self) -> str:
        return f"PostgreSQL, {self.shown}"

    @property
    def shown(self) -> str:
        """The address without its password."""
        facts = conninfo_to_dict(self._address)
        return f"postgresql://{facts.get('user', '')}@{facts.get('host', '')}/{facts.get('dbname', '')}"

    def connect(self) -> psycopg.Connection:
        """Raises `StoreBusyError` while a backup is restored into this database."""
        connection = self._open()
        if not self._ask(connection, "SELECT pg_try_advisory_lock_shared(%s)", _LOCK):
            connection.close()
            raise StoreBusyError(f"{self.shown}: a backup is being restored into it; try again when that is done")
        return connection

    def _open(self) -> psycopg.Connection:
        with self._explained():
            connection = psycopg.connect(self._address, autocommit=True, connect_timeout=10, prepare_threshold=2)
        connection.adapters.register_loader("numeric", _NumberLoader)
        return connection

    def _ask(self, connection: psycopg.Connection, sql: LiteralString, *values: Any) -> Any:
        """The first column of the first row."""
        with self._explained():
            row = connection.execute(sql, values).fetchone()
        return None if row is None else row[0]

    def close(self, connection: psycopg.Connection) -> None:
        connection.close()

    def is_lost(self, connection: psycopg.Connection) -> bool:
        return connection.closed

    def create(self) -> None:
        """Makes the tables; raises `StoreError` if there are any of that name."""
        connection = self.connect()
        try:
            with self._explained(), connection.transaction():
                for statement in schema("BIGINT", "BYTEA", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"):
                    connection.execute(statement.encode())
                set_meta(_Tx(connection), "schema_version", str(SCHEMA_VERSION))
        except errors.DuplicateTable as e:
            raise StoreError(f"{self.shown}: holds a project already; give an empty database") from e
        finally:
            self.close(connection)

    def check(self) -> None:
        """Raises `StoreError` if the database cannot be reached or is of another version."""
        connection = self.connect()
        try:
            self.read(connection, lambda tx: check_version(tx, self.shown))
        finally:
            self.close(connection)

    def transact(self, connection: psycopg.Connection, jobs: list[Callable[[Tx], Any]]) -> list[Any]:
        """Repeats what lost a race with another process: deadlocks and rows that changed underneath."""
        for attempt in range(_TRIES):
            try:
                return self._transact_once(connection, jobs)
            except (errors.DeadlockDetected, errors.SerializationFailure):
                time.sleep(0.01 * 2**attempt)
        raise StoreBusyError(f"{self.shown}: {_TRIES} tries met other writers; try again")

    def _transact_once(self, connection: psycopg.Connection, jobs: list[Callable[[Tx], Any]]) -> list[Any]:
        answers: list[Any] = []
        with self._explained(), connection.transaction():
            tx = _Tx(connection)
            for job in jobs:
                try:
                    answers.append(job(tx))
                except RefusedError as e:
                    answers.append(e)
        return answers

    def read(self, connection: psycopg.Connection, job: Callable[[Tx], T]) -> T:
        with self._explained(), connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return job(_Tx(connection))

    def backup(self, target: str) -> None:
        """`pg_dump` in its own format."""
        final = Path(target)
        partial = final.with_name(final.name + ".partial")
        try:
            self._tool("pg_dump", "--format=custom", f"--file={partial}")
            partial.replace(final)
        finally:
            partial.unlink(missing_ok=True)

    def restore(self, source: str, *, overwrite: bool) -> None:
        """Raises `StoreError` for a database that is not empty, with `overwrite` for one that is no project's, and
        `StoreBusyError` while any process is connected to it."""
        connection = self._open()
        try:
            alone = self._ask(connection, "SELECT pg_try_advisory_lock(%s)", _LOCK)
            self._check_replaceable(connection, overwrite=overwrite)
            if not alone:
                raise StoreBusyError(f"{self.shown}: is in use; stop its servers and other commands first")
            self._restore_into(source)
            self.read(connection, lambda tx: check_version(tx, self.shown))
        finally:
            self.close(connection)

    def _check_replaceable(self, connection: psycopg.Connection, *, overwrite: bool) -> None:
        tables = "SELECT COUNT(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        if not self._ask(connection, tables):
            return
        try:
            version = self._ask(connection, "SELECT value FROM meta WHERE name = 'schema_version'")
        except (StoreError, psycopg.ProgrammingError):
            version = None
        if version is None:
            raise StoreError(f"{self.shown}: holds tables of something else; give an empty database")
        if not overwrite:
            raise StoreError(
                f"{self.shown}: holds a project already; give an empty database, or --overwrite to replace it"
            )

    def _restore_into(self, source: str) -> None:
        self._tool("pg_restore", "--clean", "--if-exists", "--no-owner", "--single-transaction", source)

    def _tool(self, name: str, *arguments: str) -> None:
        """Runs one of PostgreSQL's programs; the password is in its environment, since all users see arguments."""
        if shutil.which(name) is None:
            raise StoreError(f"{name} is not installed; it comes with PostgreSQL's client (Debian: postgresql-client)")
        facts = conninfo_to_dict(self._address)
        password = facts.pop("password", None)
        if "sslpassword" in facts:  # for which there is no variable
            raise StoreError(f"{self.shown}: {name} would show the address's sslpassword to all users of this machine")
        environment = os.environ | ({} if password is None else {"PGPASSWORD": str(password)})
        command = [name, *arguments[:-1], f"--dbname={make_conninfo('', **facts)}", *arguments[-1:]]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise StoreError(f"{self.shown}: {name} failed: {' '.join(done.stderr.split())[:300]}")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (errors.DeadlockDetected, errors.SerializationFailure, errors.DuplicateTable):
            raise
        except errors.DiskFull as e:
            raise DiskFullError(f"{self.shown}: the disk of the database is full; free some disk space") from e
        except errors.UndefinedTable as e:
            raise StoreError(f"{self.shown}: holds no project; make one with `collect init`") from e
        except psycopg.OperationalError as e:
            text = " ".join(str(e).split())[:300]
            raise StoreBusyError(f"{self.shown}: cannot be reached ({text})") from e
