"""Restoring never reaches a database that nobody named, and never one that is in use."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path

import psycopg
import pytest

from data_prep.__main__ import main
from data_prep.collect import config as configs
from data_prep.collect.backup import _with_address
from data_prep.collect.postgres import PostgresEngine
from data_prep.collect.project import Project, open_project
from data_prep.collect.store import Store, value
from luab_jax.errors import ExitCode
from tests.data_prep.collect.conftest import Make, new_database

Capture = pytest.CaptureFixture[str]


def backup(project: Project, tmp_path: Path) -> Path:
    file = tmp_path / "backup.zip"
    assert main(["collect", "backup", str(project.folder), f"--out={file}"]) == ExitCode.DONE
    return file


def restore(folder: Path, file: Path, *arguments: str) -> int:
    return main(["collect", "restore", str(folder), f"--source={file}", *arguments])


def pages(store: Store) -> int:
    return store.read(lambda tx: value(tx, "SELECT COUNT(*) FROM task"))


def test_a_restore_into_a_new_folder_leaves_the_live_database_alone(
    make_project: Make, postgres: str, tmp_path: Path, capsys: Capture
) -> None:
    """The address in the zip is that of the database which is at work."""
    live = new_database(postgres)
    project, store = make_project(db=live)
    file = backup(project, tmp_path)
    store.do(lambda tx: tx.run("DELETE FROM planned"))
    for arguments, part in (
        ([], "--db"),
        ([f"--db={live}"], "holds a project already"),
        ([f"--db={live}", "--overwrite"], "in use"),
    ):
        assert restore(tmp_path / "new", file, *arguments) == ExitCode.FAILED
        message = capsys.readouterr().err
        assert part in message and len(message.splitlines()) == 1 and not (tmp_path / "new").exists()
    assert store.read(lambda tx: value(tx, "SELECT COUNT(*) FROM planned")) == 0, "nothing was put back"
    other = new_database(postgres)
    assert restore(tmp_path / "new", file, f"--db={other}") == ExitCode.DONE
    restored = open_project(tmp_path / "new")
    assert restored.config == configs.replace(project.config, db=other)
    assert open_project(project.folder).config.db == live
    with restored.open_store() as again:
        assert pages(again) == pages(store) > 0
        assert again.read(lambda tx: value(tx, "SELECT COUNT(*) FROM planned")) > 0


def test_overwrite_replaces_the_project_of_the_folder_once_nobody_uses_it(
    make_project: Make, postgres: str, tmp_path: Path, capsys: Capture
) -> None:
    project, store = make_project(db=new_database(postgres))
    file, number = backup(project, tmp_path), pages(store)
    assert restore(project.folder, file, "--overwrite") == ExitCode.FAILED
    assert "in use" in capsys.readouterr().err and pages(store) == number
    store.close()
    assert restore(project.folder, file, "--overwrite") == ExitCode.DONE
    with project.open_store() as again:
        assert pages(again) == number


def test_a_database_of_something_else_is_never_written_to(
    make_project: Make, postgres: str, tmp_path: Path, capsys: Capture
) -> None:
    project, _ = make_project(db=new_database(postgres))
    file, other = backup(project, tmp_path), new_database(postgres)
    with psycopg.connect(other, autocommit=True) as connection:
        connection.execute("CREATE TABLE worker (name TEXT)")
        for arguments in ([], ["--overwrite"]):
            assert restore(tmp_path / "new", file, f"--db={other}", *arguments) == ExitCode.FAILED
            assert "tables of something else" in capsys.readouterr().err
        assert connection.execute("SELECT COUNT(*) FROM worker").fetchone() == (0,)


def test_an_sqlite_backup_goes_into_no_postgresql_and_the_other_way_round(
    make_project: Make, postgres: str, tmp_path: Path, capsys: Capture
) -> None:
    project, _ = make_project()
    file = backup(project, tmp_path)
    assert restore(tmp_path / "new", file, f"--db={new_database(postgres)}") == ExitCode.FAILED
    assert "SQLite" in capsys.readouterr().err
    other, _ = make_project("other", db=new_database(postgres))
    assert restore(tmp_path / "new", backup(other, tmp_path), "--db=sqlite") == ExitCode.FAILED
    assert "PostgreSQL" in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_a_database_without_its_config_is_not_overwritten(make_project: Make, tmp_path: Path, capsys: Capture) -> None:
    project, store = make_project()
    file = backup(project, tmp_path)
    store.close()
    project.config_path.unlink()
    before = project.database_path.read_bytes()
    assert restore(project.folder, file) == ExitCode.FAILED
    assert "--overwrite" in capsys.readouterr().err and project.database_path.read_bytes() == before


@pytest.mark.parametrize("fault", ["bytes", "encrypted", "method", "cut", "config"])
def test_a_damaged_backup_gives_one_message(make_project: Make, tmp_path: Path, capsys: Capture, fault: str) -> None:
    project, _ = make_project()
    file = backup(project, tmp_path)
    data = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        first = archive.infolist()[0]
    central = data.rindex(b"PK\x01\x02", 0, data.index(b"database", archive.start_dir))
    if fault == "bytes":
        data[200:1200] = os.urandom(1000)
    elif fault == "encrypted":
        data[central + 8] |= 1
        data[first.header_offset + 6] |= 1
    elif fault == "method":
        data[central + 10] = data[first.header_offset + 8] = 77
    elif fault == "cut":
        del data[len(data) // 2 :]
    file.write_bytes(data)
    if fault == "config":
        parts = {name: zipfile.ZipFile(file).read(name) for name in zipfile.ZipFile(file).namelist()}
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in (parts | {"project.toml": b"title = '\xff'"}).items():
                archive.writestr(name, content)
    assert restore(tmp_path / "new", file) == ExitCode.FAILED
    message = capsys.readouterr().err
    assert message.startswith(f"error: {file}: ") and len(message.splitlines()) == 1
    assert not (tmp_path / "new").exists()


def test_a_password_is_never_an_argument_of_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every user of a machine can read those."""
    for name in ("pg_dump", "pg_restore"):
        program = tmp_path / name
        program.write_text(
            '#!/bin/sh\nprintf "%s " "$@" >>"$LOG"\nprintf "[%s]" "$PGPASSWORD" >>"$LOG"\n'
            'for a in "$@"; do case "$a" in --file=*) : >"${a#--file=}";; esac; done\n'
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    engine = PostgresEngine("postgresql://someone:s3cret%20one@127.0.0.1:9/name?connect_timeout=2")
    engine.backup(str(tmp_path / "dump"))
    engine._restore_into(str(tmp_path / "dump"))
    text = (tmp_path / "log").read_text()
    assert text.count("[s3cret one]") == 2 and "s3cret" not in text.replace("[s3cret one]", "")
    assert text.count("someone") == text.count("connect_timeout") == 2
    assert "s3cret" not in engine.name


def test_a_config_with_a_password_is_for_the_owner_alone(
    make_project: Make, postgres: str, capsys: Capture, tmp_path: Path, pictures: Path
) -> None:
    address = new_database(postgres).replace("collect@", "collect:s3cret@")
    arguments = ["--task=imagenet", f"--images={pictures}", f"--db={address}"]
    assert main(["collect", "init", str(tmp_path / "p"), *arguments]) == ExitCode.DONE
    assert "s3cret" not in capsys.readouterr().out
    assert stat.S_IMODE((tmp_path / "p" / "project.toml").stat().st_mode) == 0o600


def test_a_backup_replaces_an_earlier_one_and_nothing_else(make_project: Make, tmp_path: Path, capsys: Capture) -> None:
    project, _ = make_project()
    backup(project, tmp_path)
    file = backup(project, tmp_path)
    assert zipfile.is_zipfile(file)
    other = tmp_path / "thesis.txt"
    other.write_text("all of it")
    for out, part in ((str(other), "no backup"), ("", "empty")):
        assert main(["collect", "backup", str(project.folder), f"--out={out}"]) == ExitCode.FAILED
        assert part in capsys.readouterr().err
    assert other.read_text() == "all of it"


def test_a_restored_config_keeps_its_comments(tmp_path: Path) -> None:
    config = configs.Config(title="db = x", task="coco", images="/i", classes="own", db="postgresql://a@b/c")
    path = tmp_path / "project.toml"
    path.write_text("# by hand\n" + configs.dumps(config))
    text = _with_address(path, config, "postgresql://d@e/f").decode()
    assert text.startswith("# by hand\n") and configs.loads(text, "") == configs.replace(
        config, db="postgresql://d@e/f"
    )
