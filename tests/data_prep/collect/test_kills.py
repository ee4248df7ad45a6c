"""A server that is killed at random moments, a full disk, and two servers: nothing that was acknowledged is lost."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.collect.export import export
from data_prep.collect.simulate.annotator import Ledger
from data_prep.collect.simulate.faults import Server, Verdict, judge, work_and_kill
from data_prep.collect.simulate.run import FAULTS, Crowd, Truth
from data_prep.collect.sqlite import SqliteEngine
from data_prep.collect.store import DiskFullError, Store, value
from data_prep.collect.web.server import serve
from data_prep.collect.web.site import Site
from tests.data_prep.collect.conftest import App, Make, new_database, run, write_pictures

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the processes that the tests start."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("task", ["imagenet", "coco"])
def test_a_server_that_is_killed_loses_nothing(make_project: Make, tmp_path: Path, task: str) -> None:
    images = write_pictures(tmp_path / "many", {"cat": 30, "dog": 30})
    project, store = make_project(
        task=task, images=images if task == "imagenet" else images / "cat", overlap=3, practice=False
    )
    faults = set(FAULTS) - {"abandon"}
    verdict, ledgers = asyncio.run(
        work_and_kill(
            project, store, free_port(), annotators=4, pages=None, kills=3, faults=faults, between_s=(0.3, 0.8)
        )
    )
    assert verdict.is_clean, str(verdict)
    assert verdict.kills == 3 and verdict.pages == len(ledgers) > 4
    done = export(project, store, tmp_path / "out")
    assert done.counts["pages_exported"] == verdict.pages, "everything submitted is exported once"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_as_soon_as_the_address_is_bound_ends_a_server(make_project: Make, number: int) -> None:
    """A supervisor that stops what it has just started; what a signal raises while the loop is made can be lost."""
    project, store = make_project()
    store.close()
    before, told = signal.signal(number, signal.default_int_handler), []

    def ready(site: Site) -> None:
        signal.raise_signal(number)
        told.append(site.public_url)

    try:
        with pytest.raises(KeyboardInterrupt):
            serve(project, host="127.0.0.1", port=0, public_url="", trusted_proxies="", ready=ready)
        assert told, "the signal waits until the server can end"
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)


def test_two_servers_share_one_postgresql_while_one_of_them_is_killed(
    make_project: Make, postgres: str, tmp_path: Path
) -> None:
    images = write_pictures(tmp_path / "many", {"cat": 30, "dog": 30})
    project, store = make_project(images=images, db=new_database(postgres), overlap=3, practice=False)
    ports = [free_port(), free_port()]
    servers = [Server(project.folder, port) for port in ports]

    async def job() -> tuple[Verdict, list[Ledger]]:
        ledgers: list[Ledger] = []
        crowds = []
        for number, port in enumerate(ports):
            await servers[number].start()
            url = f"http://127.0.0.1:{port}"
            tokens = [link.partition("#t=")[2] for link in Site(project, store, public_url=url).invite(3)]
            crowds.append(Crowd(url, tokens, seed=number, faults={"lost", "repeat"}, truth=Truth(store), pause_s=0.05))
            crowds[-1].record = ledgers.append
        tasks = [asyncio.create_task(crowd.work(None)) for crowd in crowds]
        await asyncio.sleep(0.5)
        await asyncio.to_thread(servers[0].kill)
        await servers[0].start()
        await asyncio.gather(*tasks)
        verdict = Verdict(kills=1)
        judge(store, ledgers, verdict)
        return verdict, ledgers

    try:
        verdict, ledgers = asyncio.run(job())
    finally:
        for server in servers:
            server.kill(signal.SIGINT)
    assert verdict.is_clean and verdict.pages == len(ledgers) > 6, str(verdict)
    done = export(project, store, tmp_path / "out")
    assert done.counts["pages_exported"] == verdict.pages


def test_a_second_server_of_an_embedded_database_is_refused(make_project: Make) -> None:
    from data_prep.collect.sqlite import only_server

    project, _ = make_project()
    with only_server(project.lock_path):
        command = [sys.executable, "-m", "data_prep", "collect", "serve", str(project.folder), "--port=0"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "another server of this project runs (process" in done.stderr


def test_a_full_disk_is_told_and_the_same_batch_is_taken_later(make_project: Make) -> None:
    project, store = make_project()
    pages = store.read(lambda tx: value(tx, "PRAGMA page_count"))
    store.close()

    async def job(app: App, number: int) -> tuple[int, str]:
        async with app.client() as client:
            annotator = app.annotator(client)
            page = await annotator.start()
            status = 200
            for n in range(number):
                move = {"k": "move", "t": annotator.time(), "i": 0, "in": "mouse"}
                rng = random.Random(n)
                move["p"] = [[1, rng.random(), rng.random()] for _ in range(4000)]
                answer = await annotator.post("/api/batch", annotator.batch(page, n, [move]))
                status = answer.status_code
                if status != 200:
                    assert answer.json()["error"]["code"] == "disk_full" and answer.headers["retry-after"]
                    return n, page["assignment"]
            return -1, page["assignment"]

    full = Store(SqliteEngine(project.database_path, max_pages=pages + 60))
    stored, assignment = run(job(App(project, full), 100))
    assert stored > 0
    full.close()
    with project.open_store() as roomy:
        assert roomy.read(lambda tx: value(tx, "SELECT COUNT(*) FROM batch WHERE assignment = ?", assignment)) == stored
        assert run(job(App(project, roomy), stored + 3))[0] == -1, "with room again, work goes on"


def test_a_job_that_meets_a_full_disk_leaves_the_others_of_its_group_alone(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "db.sqlite")
    engine.create()
    with Store(SqliteEngine(tmp_path / "db.sqlite", max_pages=60)) as store:
        futures = [
            store.write(
                lambda tx, k=k: tx.run("INSERT INTO meta VALUES (?, ?)", f"k{k}", "x" * (10 if k % 2 else 1 << 20))
            )
            for k in range(6)
        ]
        for k, future in enumerate(futures):
            if k % 2:
                assert future.result() == 1
            else:
                with pytest.raises(DiskFullError):
                    future.result()
