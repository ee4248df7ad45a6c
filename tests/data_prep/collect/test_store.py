"""Databases that cannot be used are refused with one sentence; backups come back whole."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from data_prep.__main__ import main
from data_prep.collect.project import open_project
from data_prep.collect.sqlite import SqliteEngine, file_system, refuse_network
from data_prep.collect.store import StoreError, schema, set_meta, value
from luab_jax.errors import ExitCode
from tests.data_prep.collect.conftest import App, Make, run
from tests.data_prep.collect.test_export import LENIENT, all_of_class, do_all

Capture = pytest.CaptureFixture[str]


def test_a_database_of_another_version_is_refused(make_project: Make, db: str) -> None:
    project, store = make_project(db=db)
    for version, remedy in (("2", "install the version"), ("0", "restore a backup")):
        store.do(lambda tx, v=version: set_meta(tx, "schema_version", v))
        with pytest.raises(StoreError, match=f"schema version {version}, this program needs 1; {remedy}"):
            project.open_store()


@pytest.mark.parametrize("content", [b"", b"not a database, but a text that is long enough to look like one " * 40])
def test_a_file_that_is_no_database_is_refused(make_project: Make, content: bytes, capsys: Capture) -> None:
    project, store = make_project()
    store.close()
    for suffix in ("-wal", "-shm"):
        project.database_path.with_name(project.database_path.name + suffix).unlink(missing_ok=True)
    project.database_path.write_bytes(content)
    assert main(["collect", "status", str(project.folder)]) == ExitCode.FAILED
    message = capsys.readouterr().err
    assert message.startswith("error: ") and str(project.database_path) in message and len(message.splitlines()) == 1


def test_a_missing_database_and_a_missing_project_are_told(make_project: Make, tmp_path: Path, capsys: Capture) -> None:
    project, store = make_project()
    store.close()
    project.database_path.unlink()
    for folder in (project.folder, tmp_path / "nowhere"):
        assert main(["collect", "status", str(folder)]) == ExitCode.FAILED
        assert "collect init" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "fuse.sshfs"])
def test_a_network_file_system_is_refused(tmp_path: Path, kind: str) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nserver:/home {tmp_path}/my\\040home {kind} rw 0 0\n")
    inside = tmp_path / "my home" / "project"
    inside.mkdir(parents=True)
    assert file_system(inside, str(mounts)) == kind and file_system(tmp_path, str(mounts)) == "ext4"
    with pytest.raises(StoreError, match=rf"network file system \({kind}\)"):
        SqliteEngine(inside / "db.sqlite").create(str(mounts))
    assert not list(inside.iterdir())
    refuse_network(tmp_path, str(mounts))


def test_the_log_is_synced_at_every_commit(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "db.sqlite")
    engine.create()
    connection = engine.connect()
    found = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")}
    connection.close()
    assert found == {"journal_mode": "wal", "synchronous": 2}


def test_both_databases_have_the_same_tables() -> None:
    for types in (("INTEGER", "BLOB", "INTEGER PRIMARY KEY"), ("BIGINT", "BYTEA", "BIGINT PRIMARY KEY")):
        statements = schema(*types)
        assert len([s for s in statements if s.startswith("CREATE TABLE")]) == 11
        assert not any(" SERIAL" in s or " BYTES" in s or " INT " in s or " INT," in s for s in statements)
    connection = sqlite3.connect(":memory:")
    for statement in schema("INTEGER", "BLOB", "INTEGER PRIMARY KEY"):
        connection.execute(statement)
    connection.close()


def test_a_backup_that_is_made_while_people_work_comes_back_whole(
    make_project: Make, db: str, tmp_path: Path, capsys: Capture
) -> None:
    project, store = make_project(db=db, **LENIENT)
    app = App(project, store)
    link = app.site.invite(1)[0]
    run(do_all(app, all_of_class))
    file = tmp_path / "backup.zip"
    assert main(["collect", "backup", str(project.folder), f"--out={file}"]) == ExitCode.DONE
    assert file.stat().st_mode & 0o777 == 0o600, "the secret is in it"
    before = store.read(lambda tx: tx.rows("SELECT assignment, tab, number, sha256 FROM batch ORDER BY seq"))
    store.do(lambda tx: tx.run("DELETE FROM batch"))
    store.close()
    if db == "sqlite":
        other = tmp_path / "restored"
        assert main(["collect", "restore", str(other), f"--source={file}"]) == ExitCode.DONE
    else:
        other = project.folder
        assert main(["collect", "restore", str(other), f"--source={file}"]) == ExitCode.FAILED
        assert "--overwrite" in capsys.readouterr().err
        assert main(["collect", "restore", str(other), f"--source={file}", "--overwrite"]) == ExitCode.DONE
    restored = open_project(other)
    with restored.open_store() as again:
        rows = again.read(lambda tx: tx.rows("SELECT assignment, tab, number, sha256 FROM batch ORDER BY seq"))
        assert [(*r[:3], bytes(r[3])) for r in rows] == [(*r[:3], bytes(r[3])) for r in before] != []
        site = App(restored, again).site
        assert site.tokens.read_link(link.partition("#t=")[2])[0] == "none", "links still work"


def test_what_is_no_backup_is_refused(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04 not whole")
    assert main(["collect", "restore", str(tmp_path / "new"), f"--source={tmp_path / 'x.zip'}"]) == ExitCode.FAILED
    assert "cannot be read as a backup" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_server_that_starts_with_a_log_reads_none_of_it(make_project: Make) -> None:
    """Opening must not depend on the size of the log: no statement of it scans the batches."""
    project, store = make_project()
    store.close()
    seen: list[str] = []
    engine = SqliteEngine(project.database_path)
    connect = engine._open

    def traced() -> sqlite3.Connection:
        connection = connect()
        connection.set_trace_callback(seen.append)
        return connection

    engine._open = traced  # type: ignore[method-assign]
    engine.check()
    assert seen and not any("batch" in statement for statement in seen)


def test_values_of_the_config_are_checked_with_file_and_field(make_project: Make, capsys: Capture) -> None:
    project, _ = make_project()
    text = project.config_path.read_text()
    for wrong, part in (
        (text.replace("lease_minutes = 30", 'lease_minutes = "long"'), "lease_minutes = 'long': expected int"),
        (text.replace("lease_minutes = 30", "lease_minutes = 0"), "lease_minutes = 0: expected at least 1"),
        (text.replace("lease_minutes", "lease_hours"), "unknown field 'lease_hours'"),
        (text.replace("[quality]", "[quality]\nmercy = 1"), "[quality]: unknown field 'mercy'"),
        ("title = ", "not TOML"),
    ):
        project.config_path.write_text(wrong)
        assert main(["collect", "status", str(project.folder)]) == ExitCode.FAILED
        message = capsys.readouterr().err
        assert str(project.config_path) in message and part in message
    project.config_path.write_text(text)
    assert open_project(project.folder).config == project.config
    assert value is not None
