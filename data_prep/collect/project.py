"""The folder of a project: its config, its secrets, its database and what else a server needs."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from data_prep.collect import config as configs
from data_prep.collect.classes import ClassInfo, class_list, read_classes
from data_prep.collect.config import Config
from data_prep.collect.sqlite import SqliteEngine
from data_prep.collect.store import Engine, Store, StoreError
from luab_jax.data.class_lists import ClassList
from luab_jax.errors import DataError, reason_of
from luab_jax.io.atomic import atomic_file


def now_ms() -> int:
    """The server's clock."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Project:
    """A folder made by `collect init`."""

    folder: Path
    config: Config

    @property
    def config_path(self) -> Path:
        return self.folder / "project.toml"

    @property
    def classes_path(self) -> Path:
        return self.folder / "classes.txt"

    @property
    def database_path(self) -> Path:
        return self.folder / "collect.sqlite"

    @property
    def lock_path(self) -> Path:
        return self.folder / "serve.lock"

    @property
    def secrets_path(self) -> Path:
        return self.folder / "secrets.json"

    @property
    def scratch(self) -> Path:
        return self.folder / "scratch"

    @property
    def is_sqlite(self) -> bool:
        return self.config.db == configs.SQLITE

    @cached_property
    def classes(self) -> list[ClassInfo]:
        """In label order."""
        return read_classes(self.classes_path)

    @cached_property
    def class_of(self) -> dict[str, ClassInfo]:
        return {info.id: info for info in self.classes}

    @property
    def class_list(self) -> ClassList:
        return class_list(self.classes)

    @cached_property
    def secret(self) -> bytes:
        """The key of all hashes and signatures; made once, so that links and ids hold over restarts."""
        return bytes.fromhex(self._secrets()["key"])

    @property
    def owner_hash(self) -> str:
        """Of the owner's password."""
        return self._secrets()["owner"]

    def _secrets(self) -> dict[str, str]:
        try:
            found = json.loads(self.secrets_path.read_text(encoding="utf-8"))
            return {"key": str(found["key"]), "owner": str(found["owner"])}
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise DataError(
                f"{self.secrets_path}: cannot be read ({reason_of(e)}); restore it from a backup of the project"
            ) from e

    def write_secrets(self, *, owner_hash: str, key: bytes | None = None) -> None:
        """For the owner's eyes only: mode 600."""
        key = secrets.token_bytes(32) if key is None else key
        with atomic_file(self.secrets_path) as temporary:
            temporary.touch(mode=0o600)
            temporary.write_text(json.dumps({"key": key.hex(), "owner": owner_hash}), encoding="utf-8")
        self.secrets_path.chmod(0o600)
        self.__dict__.pop("secret", None)

    def engine(self) -> Engine:
        """The database, not yet opened."""
        if self.is_sqlite:
            return SqliteEngine(self.database_path)
        try:
            from data_prep.collect.postgres import PostgresEngine
        except ImportError as e:
            raise StoreError("PostgreSQL needs the package psycopg: pip install 'psycopg[binary]'") from e
        return PostgresEngine(self.config.db)

    def open_store(self) -> Store:
        """Raises `StoreError` for a database that is missing, damaged, unreachable or of another version."""
        engine = self.engine()
        engine.check()
        return Store(engine)


def open_project(folder: str | Path) -> Project:
    """Raises `ConfigError` if there is no project in the folder."""
    folder = Path(folder).absolute()
    return Project(folder, configs.read(folder / "project.toml"))
