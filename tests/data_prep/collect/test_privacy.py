"""Ids are keyed hashes, consent comes before the first event, and a forgotten annotator is not found again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from data_prep.__main__ import main
from data_prep.collect.export import export
from data_prep.collect.privacy import public_id, worker_key
from data_prep.collect.store import value
from luab_jax.errors import ExitCode
from tests.data_prep.collect.conftest import Annotator, App, Make, run
from tests.data_prep.collect.test_export import LENIENT
from tests.data_prep.collect.test_platforms import TURK, visit


def everything_under(folder: Path) -> str:
    return "".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())


def test_an_exported_id_is_ten_upper_hex_digits_and_needs_the_secret() -> None:
    ids = {public_id(worker_key(secret, "mturk", "A1WORKER")) for secret in (b"one", b"two")}
    assert len(ids) == 2 and all(re.fullmatch("[0-9A-F]{10}", text) for text in ids)
    assert worker_key(b"one", "mturk", "A1") != worker_key(b"one", "prolific", "A1")


def test_no_id_of_a_platform_leaves_in_an_export(make_project: Make, tmp_path: Path) -> None:
    project, store = make_project(pages_per_visit=2, **LENIENT)
    run(visit(App(project, store), "mturk", TURK))
    export(project, store, tmp_path / "out", events=True)
    import gzip

    log = gzip.decompress((tmp_path / "out" / "events.jsonl.gz").read_bytes()).decode()
    text = everything_under(tmp_path / "out") + log
    assert "worker_id" in text
    for word in ("A1WORKER", "3ASSIGN", "3HIT"):
        assert word not in text


@pytest.mark.parametrize("erase", [False, True])
def test_a_forgotten_annotator_is_not_found_again(
    make_project: Make, db: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], erase: bool
) -> None:
    project, store = make_project(db=db, pages_per_visit=2, **LENIENT)
    run(visit(App(project, store), "mturk", TURK))
    old = store.read(lambda tx: value(tx, "SELECT public_id FROM worker"))
    batches = store.read(lambda tx: value(tx, "SELECT COUNT(*) FROM batch"))
    flag = ["--erase"] if erase else []
    assert main(["collect", "forget", str(project.folder), "A1WORKER", *flag]) == ExitCode.DONE
    new, external = store.do(lambda tx: tx.rows("SELECT public_id, external_id FROM worker"))[0]
    assert external is None and new != old
    assert worker_key(project.secret, "mturk", "A1WORKER")[:10] == old != new, "the old id can no longer be tied to it"
    left = store.read(lambda tx: value(tx, "SELECT COUNT(*) FROM batch"))
    assert left == (0 if erase else batches)
    assert "3ASSIGN" not in str(store.read(lambda tx: tx.rows("SELECT * FROM visit")))
    if erase:
        assert store.read(lambda tx: value(tx, "SELECT SUM(taken) FROM task")) == 0, "others do the pages again"
    else:
        export(project, store, tmp_path / "out")
        text = everything_under(tmp_path / "out")
        assert new in text and old not in text
    assert main(["collect", "forget", str(project.folder), "A1WORKER"]) == ExitCode.FAILED
    assert "no such annotator" in capsys.readouterr().err


def test_nothing_is_recorded_before_consent_and_each_consent_is_kept(make_project: Make) -> None:
    project, store = make_project(practice=False)

    async def job(app: App) -> None:
        async with app.client() as client:
            annotator = app.annotator(client)
            version = (await annotator.arrive())["consent"]["version"]
            fake = {"assignment": "a" * 32}
            refused = await annotator.post("/api/batch", annotator.batch(fake, 0, []))
            assert refused.json()["error"]["code"] == "no_consent"
            other = await annotator.post("/api/consent", {"version": "0", "agreed": True})
            assert other.json()["error"]["code"] == "no_consent", "a text that was changed meanwhile"
            await annotator.post("/api/consent", {"version": version, "agreed": False})
            assert (await annotator.post("/api/next", {"tab": annotator.tab})).status_code == 403
            await annotator.post("/api/consent", {"version": version, "agreed": True})
            assert (await annotator.next())["state"] == "task"

    run(job(App(project, store)))
    assert store.read(lambda tx: tx.rows("SELECT version, agreed FROM consent ORDER BY id")) == [("1", 0), ("1", 1)]


def test_no_address_of_a_network_is_stored(make_project: Make) -> None:
    project, store = make_project(**LENIENT)
    run(visit(App(project, store), "mturk", TURK))
    store.close()
    data = b"".join(path.read_bytes() for path in project.folder.iterdir() if path.is_file())
    assert b"127.0.0.1" not in data
    assert Annotator is not None
