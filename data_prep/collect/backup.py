"""`collect backup` and `restore`: one file that holds the database and what belongs to it, made while people work."""

from __future__ import annotations

import contextlib
import json
import lzma
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from data_prep.collect import config as configs
from data_prep.collect.config import SQLITE, Config
from data_prep.collect.project import Project
from data_prep.collect.sqlite import SqliteEngine, only_server
from data_prep.collect.store import StoreError
from luab_jax.errors import ConfigError, DataError
from luab_jax.io.atomic import atomic_file

_DATABASE = "database"
_FILES = ("project.toml", "classes.txt", "similar.txt", "secrets.json")
_SQLITE_FILE = "collect.sqlite"
_DAMAGE = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
"""What `zipfile` raises for files that are damaged, encrypted (RuntimeError) or of a method that it does not know
(NotImplementedError, a RuntimeError), and `read_text` for what is no UTF-8."""


def backup(project: Project, out: Path) -> int:
    """Writes a zip with mode 600, since the project's secret is in it; returns its bytes.

    The database in it is that of one moment. Pictures are not in it.
    """
    out = out.absolute()
    if out.is_dir():
        raise DataError(f"--out={out}: is a folder, expected a file such as {out / 'backup.zip'}")
    if out.exists() and out.stat().st_size and not zipfile.is_zipfile(out):
        raise DataError(f"--out={out}: is there and no backup; give another name")
    with tempfile.TemporaryDirectory(prefix="collect-backup-", dir=project.folder) as folder:
        copy = Path(folder) / _DATABASE
        project.engine().backup(str(copy))
        with atomic_file(out) as temporary:
            temporary.touch(mode=0o600)
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                archive.write(copy, _DATABASE)
                for name in _FILES:
                    if (project.folder / name).is_file():
                        archive.write(project.folder / name, name)
    out.chmod(0o600)
    return out.stat().st_size


def restore(folder: Path, source: Path, *, overwrite: bool, db: str = "") -> Project:
    """Makes a project of a backup. Raises `DataError` for a file that is none, and for a project that is there.

    A database of PostgreSQL is `db`, or that of the project in the folder which is replaced; never the one that the
    backup was made of, which may be at work.

    With `overwrite`, a project in the folder, or in the database, is replaced; its servers must not run.
    """
    folder = folder.absolute()
    there = [name for name in (*_FILES, _SQLITE_FILE) if (folder / name).exists()]
    if there and not overwrite:
        raise DataError(f"{folder}: holds a project ({there[0]}); give a new folder, or --overwrite to replace it")
    with tempfile.TemporaryDirectory(prefix="collect-restore-") as scratch:
        files = Path(scratch)
        config = _unpack(source, files)
        address = _address(folder, source, config, db)
        text = _with_address(files / "project.toml", config, address)
        project = Project(folder, configs.replace(config, db=address))
        with _new_or_left(folder), only_server(project.lock_path):
            project.engine().restore(str(files / _DATABASE), overwrite=overwrite)
            for name in _FILES:
                if (files / name).is_file():
                    with atomic_file(folder / name) as temporary:
                        temporary.touch(mode=0o600)
                        temporary.write_bytes(text if name == "project.toml" else (files / name).read_bytes())
            project.secrets_path.chmod(0o600)
    return project


def _unpack(source: Path, files: Path) -> Config:
    try:
        with zipfile.ZipFile(source) as archive:
            names = set(archive.namelist())
            if not {_DATABASE, "project.toml", "classes.txt", "secrets.json"} <= names:
                raise DataError(f"{source}: is no backup of a project")
            for name in names & {_DATABASE, *_FILES}:
                archive.extract(name, files)
        config = configs.loads((files / "project.toml").read_text(encoding="utf-8"), f"{source}: project.toml")
    except _DAMAGE as e:
        raise DataError(f"{source}: cannot be read as a backup ({getattr(e, 'strerror', None) or e})") from e
    if config.db == SQLITE:
        try:
            SqliteEngine(files / _DATABASE).check()
        except StoreError as e:
            raise DataError(f"{source}: {e}") from e
    return config


def _address(folder: Path, source: Path, config: Config, db: str) -> str:
    """Of the database to restore into."""
    if config.db == SQLITE:
        if db not in ("", SQLITE):
            raise DataError(f"{source}: holds an SQLite database, which goes into no other; leave --db out")
        return SQLITE
    if db == SQLITE:
        raise DataError(f"{source}: holds a database of PostgreSQL; give --db=postgresql://USER@HOST/NAME")
    if not db and (folder / "project.toml").is_file():
        db = configs.read(folder / "project.toml").db
    if db in ("", SQLITE):
        raise DataError(
            f"{source}: holds a database of PostgreSQL; say with --db=postgresql://USER@HOST/NAME which one to restore"
            " it into"
        )
    return db


def _with_address(path: Path, config: Config, address: str) -> bytes:
    """The config with another database; comments stay."""
    text, wanted = path.read_text(encoding="utf-8"), configs.replace(config, db=address)
    if wanted == config:
        return text.encode()
    line = f"db = {json.dumps(address, ensure_ascii=False)}"
    changed = re.sub(r"^db\s*=.*$", lambda _: line, text, count=1, flags=re.MULTILINE)
    with contextlib.suppress(ConfigError):
        if configs.loads(changed, str(path)) == wanted:
            return changed.encode()
    return configs.dumps(wanted).encode()


@contextlib.contextmanager
def _new_or_left(folder: Path) -> Iterator[None]:
    """The folder; one that is made here goes again after a failure."""
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if made:
            shutil.rmtree(folder, ignore_errors=True)
        raise
