"""What pages and server say to each other (docs/collect-protocol.md), on both stores."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from data_prep.collect import leases
from data_prep.collect.config import Quality
from data_prep.collect.replay import replay
from data_prep.collect.store import Tx, value
from data_prep.collect.tasks import read_task
from data_prep.collect.visits import Session
from tests.data_prep.collect.conftest import NOW, Annotator, App, Make, new_database, run


def test_a_page_from_the_link_to_the_submit(make_project: Make, db: str) -> None:
    async def job(app: App) -> None:
        async with app.client() as client:
            annotator = app.annotator(client)
            arrived = await annotator.arrive()
            assert arrived["practice"] == {"needed": True, "passed": False}
            assert arrived["consent"]["given"] is False and len(arrived["consent"]["items"]) >= 6
            refused = await annotator.post("/api/next", {"tab": annotator.tab})
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "no_consent")
            page = await annotator.start()
            assert page["state"] == "task" and page["resume"] == {"fresh": True}
            assert page["class"]["name"] in ("cat", "dog", "bird") and 2 <= len(page["pictures"]) <= 5
            done = await annotator.do(page, [0, 2] if len(page["pictures"]) > 2 else [0])
            assert done["complete"] and not done["surplus"] and done["progress"]["pages_done"] == 1
            again = await annotator.post(
                "/api/submit", {"assignment": page["assignment"], "tab": annotator.tab, "n": 0}
            )
            assert again.json()["complete"], "a second press is harmless"
            following = await annotator.next()
            assert following["assignment"] != page["assignment"] and following["page"]["number"] == 2

    run(job(App(*make_project(db=db))))


def test_work_goes_on_after_the_browser_and_the_server_died(make_project: Make, db: str) -> None:
    project, store = make_project(db=db)

    async def first() -> tuple[str, dict[str, Any], str]:
        app = App(project, store)
        async with app.client() as client:
            annotator = app.annotator(client)
            page = await annotator.start()
            await annotator.post("/api/batch", annotator.batch(page, 0, annotator.loads(page)))
            await annotator.post("/api/batch", annotator.batch(page, 1, [annotator.click(1, 0.3, 0.6)]))
            return annotator.token, page, annotator.headers["Authorization"]

    async def second(token: str, page: dict[str, Any], session: str) -> None:
        app = App(project, store)
        async with app.client() as client:
            old = Annotator(client, token)
            old.headers["Authorization"] = session
            late = await old.post("/api/batch", old.batch(page, 2, [old.click(2)]))
            assert late.status_code == 200, "a session outlives the server"
            annotator = Annotator(client, token, tab="f" * 16)
            value = await annotator.arrive()
            assert value["consent"]["given"] and value["practice"]["passed"]
            again = await annotator.next()
            assert again["assignment"] == page["assignment"] and again["pictures"] is not None
            assert [p["index"] for p in again["pictures"]] == [p["index"] for p in page["pictures"]], "the same order"
            resume = again["resume"]
            assert resume["selected"] == [{"index": 1, "x": 0.3, "y": 0.6}, {"index": 2, "x": 0.25, "y": 0.75}]
            assert resume["batches"] == {old.tab: 2}
            told = (await old.post("/api/batch", old.batch(page, 3, [old.click(2, kind="deselect")]))).json()
            assert told["holder"] is False, "the newer tab holds the page"

    run(second(*run(first())))


def test_a_submit_names_the_batches_that_are_missing(make_project: Make) -> None:
    async def job(app: App) -> None:
        async with app.client() as client:
            annotator = app.annotator(client)
            page = await annotator.start()
            first = annotator.batch(page, 0, annotator.loads(page))
            second = annotator.batch(page, 1, [annotator.click(0)])
            last = annotator.batch(page, 2, [{"k": "submit", "t": annotator.time(), "selected": [0]}])
            ask = {"assignment": page["assignment"], "tab": annotator.tab, "n": 2}
            await annotator.post("/api/batch", last)
            assert (await annotator.post("/api/submit", ask)).json() == {"complete": False, "missing": [[0, 1]]}
            await annotator.post("/api/batch", second)
            assert (await annotator.post("/api/submit", ask)).json()["missing"] == [[0, 0]]
            await annotator.post("/api/batch", first)
            assert (await annotator.post("/api/submit", ask)).json()["complete"]

    run(job(App(*make_project())))


def test_a_submit_that_shows_another_state_than_the_log_is_sent_back(make_project: Make) -> None:
    async def job(app: App) -> None:
        async with app.client() as client:
            annotator = app.annotator(client)
            page = await annotator.start()
            other = Annotator(client, annotator.token, tab="e" * 16)
            other.headers, other.t = annotator.headers, annotator.t
            await other.post("/api/batch", other.batch(page, 0, [other.click(1)]))
            annotator.t = other.t
            sent = await annotator.do(page, [0])
            assert sent["complete"] is False
            assert [entry["index"] for entry in sent["state"]["selected"]] == [0, 1]
            event = {"k": "submit", "t": annotator.time(), "selected": [0, 1]}
            await annotator.post("/api/batch", annotator.batch(page, 1, [event]))
            ask = {"assignment": page["assignment"], "tab": annotator.tab, "n": 1}
            assert (await annotator.post("/api/submit", ask)).json()["complete"]

    run(job(App(*make_project())))


@pytest.mark.parametrize("minutes", [10, -10])
def test_a_page_is_finished_on_another_device_whose_clock_differs(make_project: Make, db: str, minutes: int) -> None:
    """The first device's clock is ahead or behind; what was done on it a minute earlier comes first all the same."""
    project, store = make_project(db=db)

    async def job(app: App) -> None:
        async with app.client() as client:
            first = app.annotator(client)
            page = await first.start()
            first.t += minutes * 60_000
            sent = [*first.loads(page), first.click(0), first.click(1)]
            later = {"X-Sent-Ms": str(int(first.t) + 60_000)}
            assert (await first.post("/api/batch", first.batch(page, 0, sent), **later)).status_code == 200
            second = Annotator(client, first.token, tab="f" * 16)
            await second.arrive()
            again = await second.next()
            assert [entry["index"] for entry in again["resume"]["selected"]] == [0, 1]
            sent = [*second.loads(again), second.click(0, kind="deselect")]
            sent.append({"k": "submit", "t": second.time(), "selected": [1]})
            await second.post("/api/batch", second.batch(again, 0, sent))
            ask = {"assignment": page["assignment"], "tab": second.tab, "n": 0}
            assert (await second.post("/api/submit", ask)).json()["complete"]
            shown = replay(store, page["assignment"])[1]
            at = [event["at"] for event in shown["events"]]
            assert at == sorted(at) and shown["events"][-1]["k"] == "submit"

    run(job(App(project, store)))


def test_a_repeated_batch_is_acknowledged_and_another_body_is_not(make_project: Make, db: str) -> None:
    project, store = make_project(db=db)

    async def job(app: App) -> None:
        async with app.client() as client:
            annotator = app.annotator(client)
            page = await annotator.start()
            sent = annotator.batch(page, 0, annotator.loads(page))
            answers = [(await annotator.post("/api/batch", sent)).json() for _ in range(3)]
            assert [answer["duplicate"] for answer in answers] == [False, True, True]
            sent["wrote_ms"] += 1
            differs = await annotator.post("/api/batch", sent)
            assert (differs.status_code, differs.json()["error"]["code"]) == (409, "batch_differs")
            assert store.read(lambda tx: value(tx, "SELECT COUNT(*) FROM batch")) == 1

    run(job(App(project, store)))


def test_a_practice_page_teaches_and_is_no_work(make_project: Make) -> None:
    project, store = make_project()

    async def job(app: App) -> None:
        async with app.client() as client:
            annotator = app.annotator(client)
            arrived = await annotator.arrive()
            await annotator.post("/api/consent", {"version": arrived["consent"]["version"], "agreed": True})
            page = (await annotator.post("/api/next", {"tab": annotator.tab})).json()
            assert page["state"] == "practice" and page["practice"]
            refused = await annotator.post("/api/batch", annotator.batch(page, 0, annotator.loads(page)))
            assert refused.json()["error"]["code"] == "not_yours"
            sent = {"tab": annotator.tab, "assignment": page["assignment"], "selected": []}
            told = (await annotator.post("/api/practice", sent)).json()
            assert told["passed"] is False and {entry["expected"] for entry in told["feedback"]} == {True, False}
            sent["selected"] = [entry["index"] for entry in told["feedback"] if entry["expected"]]
            assert (await annotator.post("/api/practice", sent)).json()["passed"]
            assert (await annotator.next())["state"] == "task"

    run(job(App(project, store)))


def test_pictures_come_by_a_token_that_tells_neither_name_nor_class(make_project: Make) -> None:
    project, store = make_project()

    async def job(app: App) -> None:
        async with app.client() as client:
            page = await app.annotator(client).start()
            first = page["pictures"][0]
            assert "cat" not in first["url"] and "jpg" not in first["url"]
            got = await client.get(first["url"])
            task = app.site.cached_task(page["assignment"])
            shown = task.shown(first["index"])
            assert shown is not None
            path = Path(project.config.images) / shown.source.path
            assert got.content == path.read_bytes(), "the bytes as they lie there"
            assert got.headers["content-type"] == "image/jpeg" and "immutable" in got.headers["cache-control"]
            tag = got.headers["etag"]
            same = await client.get(first["url"], headers={"If-None-Match": tag})
            assert (same.status_code, same.content) == (304, b"")
            part = await client.get(first["url"], headers={"Range": "bytes=2-5"})
            assert (part.status_code, part.content) == (206, got.content[2:6])
            assert part.headers["content-range"] == f"bytes 2-5/{len(got.content)}"
            assert (await client.get(first["url"], headers={"Range": "bytes=999999-"})).status_code == 416
            token = first["url"].split("/")[2]
            for address in (f"/i/{token}x/0", f"/i/{token}/999", "/i/../../etc/passwd/0", f"/i/{token}/-1"):
                assert (await client.get(address)).status_code in (403, 404)

    run(job(App(project, store)))


def test_sizes_are_those_that_a_browser_shows(make_project: Make, pictures: Path) -> None:
    """The first picture of each class lies on its side by EXIF: 40 x 30 stored, 30 x 40 shown."""

    async def job(app: App) -> None:
        async with app.client() as client:
            annotator = app.annotator(client)
            page = await annotator.start()
            seen = {}
            while page["state"] == "task":
                task = app.site.cached_task(page["assignment"])
                for picture in page["pictures"]:
                    shown = task.shown(picture["index"])
                    assert shown is not None
                    seen[shown.source.path] = (picture["width"], picture["height"])
                await annotator.do(page, [])
                page = await annotator.next()
            assert {path for path, size in seen.items() if size == (30, 40)} == {
                f"{c}/{c}_0.jpg" for c in ("cat", "dog", "bird")
            }
            assert page["state"] == "done" and page["completion"] == {"kind": "none"}

    run(job(App(*make_project(quality=Quality(min_control_score=0)))))


def test_a_picture_removed_after_planning_is_replaced_before_it_is_shown(make_project: Make, pictures: Path) -> None:
    project, store = make_project()

    async def job(app: App) -> None:
        async with app.client() as client:
            annotator = app.annotator(client)
            page = await annotator.start()
            task = app.site.cached_task(page["assignment"])
            shown = task.shown(0)
            assert shown is not None and task.reserve
            (pictures / shown.source.path).unlink()
            gone = await client.get(page["pictures"][0]["url"])
            assert (gone.status_code, gone.json()["error"]["code"]) == (410, "image_gone")
        app = App(project, store)
        async with app.client() as client:
            other = Annotator(client, annotator.token)
            await other.arrive()
            again = await other.next()
            indices = [picture["index"] for picture in again["pictures"]]
            assert 0 not in indices and len(task.pictures) in indices, "a reserve has its place"
        broken = store.do(lambda tx: tx.rows("SELECT path, times FROM broken"))
        assert [path for path, _ in broken] == [shown.source.path] and broken[0][1] >= 1

    run(job(App(project, store)))


def test_the_stand_in_of_a_replaced_picture_keeps_its_place_when_the_picture_is_gone(
    make_project: Make, pictures: Path
) -> None:
    """The browser replaced picture 0 and the annotator selected the stand-in; then the server starts anew."""
    project, store = make_project()

    async def job() -> None:
        app = App(project, store)
        async with app.client() as client:
            annotator = app.annotator(client)
            page = await annotator.start()
            task = app.site.cached_task(page["assignment"])
            stand_in = len(task.pictures)
            (pictures / task.pictures[0].source.path).unlink()
            log = [*annotator.loads(page), {"k": "image_failed", "t": annotator.time(), "i": 0, "tries": 2}]
            log += [{"k": "replace", "t": annotator.time(), "i": 0, "by": stand_in}, annotator.click(stand_in)]
            await annotator.post("/api/batch", annotator.batch(page, 0, log))
        app = App(project, store)
        async with app.client() as client:
            again = Annotator(client, annotator.token)
            await again.arrive()
            page = await again.next()
            expected = [stand_in, *range(1, len(task.pictures))]
            assert [picture["index"] for picture in page["pictures"]] == expected
            assert page["reserve"] == []
            assert [item["index"] for item in page["resume"]["selected"]] == [stand_in]
            submit = {"k": "submit", "t": again.time(), "selected": [stand_in]}
            assert (await again.post("/api/batch", again.batch(page, 1, [submit]))).status_code == 200
            sent = {"assignment": page["assignment"], "tab": again.tab, "n": 1}
            assert (await again.post("/api/submit", sent)).json()["complete"]

    run(job())


def test_a_page_without_a_readable_picture_is_passed_over_and_the_owner_told(
    make_project: Make, pictures: Path
) -> None:
    project, store = make_project(task="coco")

    async def job() -> None:
        app = App(project, store)
        async with app.client() as client:
            annotator = app.annotator(client)
            first = await annotator.start()
            await annotator.post("/api/batch", annotator.batch(first, 0, annotator.loads(first)))
            broken = app.site.cached_task(first["assignment"]).pictures[0].source.path
            (pictures / "cat" / broken).write_bytes(b"not a picture")
        app = App(project, store)
        async with app.client() as client:
            annotator = Annotator(client, annotator.token)
            await annotator.arrive()
            second = await annotator.next()
            assert second["state"] == "task" and second["assignment"] != first["assignment"]
            assert len(second["pictures"]) == 1
            assert (await annotator.next())["assignment"] == second["assignment"], "and does not come again"
            assert [path for (path,) in store.read(lambda tx: tx.rows("SELECT path FROM broken"))] == [broken]
            states = store.read(
                lambda tx: tx.rows("SELECT state, counts FROM assignment WHERE id = ?", first["assignment"])
            )
            assert states == [("returned", 0)]

    run(job())


def test_pictures_that_cannot_be_read_for_now_cost_no_page(make_project: Make, pictures: Path) -> None:
    """An unmounted folder: annotators wait, and go on when it is back."""
    project, store = make_project(task="coco", images=pictures / "dog")
    away = pictures / "away"

    async def job() -> None:
        app = App(project, store)
        _ = app.site.pictures
        async with app.client() as client:
            annotator = app.annotator(client)
            (pictures / "dog").rename(away)
            told = await annotator.start()
            assert told["state"] == "wait" and told["retry_ms"] > 0
            assert store.read(lambda tx: value(tx, "SELECT COUNT(*) FROM assignment WHERE state <> 'practice'")) == 0
            away.rename(pictures / "dog")
            assert (await annotator.next())["state"] == "task"

    run(job())


def test_a_practice_page_asks_only_for_what_it_can_show(make_project: Make, pictures: Path) -> None:
    project, store = make_project()

    async def job(gone: list[str]) -> dict[str, Any]:
        app = App(project, store)
        for path in gone:
            (pictures / path).unlink(missing_ok=True)
        async with app.client() as client:
            annotator = app.annotator(client)
            value = await annotator.arrive()
            await annotator.post("/api/consent", {"version": value["consent"]["version"], "agreed": True})
            page = (await annotator.post("/api/next", {"tab": annotator.tab})).json()
            if page["state"] != "practice":
                return page
            task = app.site.cached_task(page["assignment"])
            shown = {picture["index"] for picture in page["pictures"]}
            sent = {"tab": annotator.tab, "assignment": page["assignment"], "selected": []}
            told = (await annotator.post("/api/practice", sent)).json()
            assert {entry["index"] for entry in told["feedback"]} == shown
            return {"paths": [picture.source.path for picture in task.pictures]}

    paths = run(job([]))["paths"]
    run(job(paths[:1]))
    assert run(job(paths))["state"] != "practice", "with nothing to show there is nothing to practise"


def test_a_session_of_an_annotator_whom_a_restored_backup_lacks_is_refused(make_project: Make, db: str) -> None:
    """Nor is it that of a later annotator who got the same number."""
    project, store = make_project(db=db)

    async def job(app: App) -> None:
        async with app.client() as client:
            old, new = app.annotator(client), app.annotator(client, tab="e" * 16)
            page = await old.start()
            routes = {
                "/api/batch": old.batch(page, 0, old.loads(page)),
                "/api/submit": {"assignment": page["assignment"], "tab": old.tab, "n": 0},
                "/api/next": {"tab": old.tab},
                "/api/return": {"assignment": page["assignment"]},
                "/api/consent": {"version": "1", "agreed": True},
                "/api/practice": {"tab": old.tab, "assignment": page["assignment"], "selected": []},
                "/api/withdraw": {},
            }

            def forget(tx: Any) -> None:
                for table in ("batch", "assignment", "visit", "consent", "worker"):
                    tx.run(f"DELETE FROM {table}")

            visit = store.read(lambda tx: value(tx, "SELECT id FROM visit"))
            for again in (False, True):
                store.do(forget)
                if again:
                    await new.start()
                    number = store.read(lambda tx: value(tx, "SELECT id FROM worker"))
                    old.headers["Authorization"] = f"Bearer {app.site.tokens.session(Session(number, visit))}"
                for path, sent in routes.items():
                    answer = await old.post(path, sent)
                    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "no_worker"), (again, path)
            assert (await old.arrive())["consent"]["given"] is False, "the link works as ever"

    run(job(App(project, store)))


def test_a_paused_project_takes_what_is_under_way(make_project: Make) -> None:
    from data_prep.collect import control

    project, store = make_project()

    async def job(app: App) -> None:
        async with app.client() as client:
            annotator = app.annotator(client)
            page = await annotator.start()
            control.pause(store, True, "lunch", 0)
            assert (await annotator.do(page, [0]))["complete"]
            paused = await annotator.next()
            assert (paused["state"], paused["message"]) == ("paused", "lunch")
            control.pause(store, False, "", 0)
            assert (await annotator.next())["state"] in ("task", "wait")

    run(job(App(project, store)))


def test_failing_the_hidden_controls_holds_an_annotator(make_project: Make) -> None:
    project, store = make_project(quality=Quality(min_control_score=0.6, after_controls=2))

    async def job(app: App) -> None:
        async with app.client() as client:
            annotator = app.annotator(client)
            page = await annotator.start()
            while page["state"] == "task":
                task = app.site.cached_task(page["assignment"])
                wrong = [i for i, shown in enumerate(task.pictures) if shown.role == "negative"]
                await annotator.do(page, wrong)
                page = await annotator.next()
            assert page["state"] == "held"
            right, total = store.read(lambda tx: tx.rows("SELECT controls_right, controls FROM worker"))[0]
            assert right == 0 and total >= 2

    run(job(App(project, store)))


def test_two_servers_that_get_one_submit_at_once_count_the_page_once(make_project: Make, postgres: str) -> None:
    """PostgreSQL: the second server looks while the first one's transaction is open. The lease has run out, so that
    each would take a place on the page again."""
    project, store = make_project(db=new_database(postgres), overlap=3, practice=False)
    app = App(project, store)

    async def work() -> tuple[str, str]:
        async with app.client() as client:
            annotator = app.annotator(client)
            page = await annotator.start()
            sent = [*annotator.loads(page), {"k": "submit", "t": annotator.time(), "selected": []}]
            await annotator.post("/api/batch", annotator.batch(page, 0, sent))
            return page["assignment"], annotator.tab

    assignment, tab = run(work())
    store.do(lambda tx: leases.expire(tx, 1 << 50))
    task, worker, visit = store.read(lambda tx: tx.rows("SELECT task, worker, visit FROM assignment"))[0]
    first = store.engine.connect()
    with ThreadPoolExecutor(1) as pool:

        def wait(_: Tx) -> Future[Any]:
            second = pool.submit(app.site.service.submit, Session(worker, visit), assignment, tab, 0, NOW)
            while not store.read(lambda tx: value(tx, "SELECT COUNT(*) FROM pg_locks WHERE NOT granted")):
                assert not second.done()
            return second

        counts, second = store.engine.transact(first, [lambda tx: leases.finish(tx, assignment, task, NOW), wait])
        assert counts and second.result().complete and not second.result().surplus
    store.engine.close(first)
    assert store.read(lambda tx: value(tx, "SELECT taken FROM task WHERE id = ?", task)) == 1
    assert store.read(lambda tx: value(tx, "SELECT controls FROM worker")) == 0, "those are the first server's to count"


def test_withdrawing_ends_the_work_and_frees_it(make_project: Make) -> None:
    project, store = make_project()

    async def job(app: App) -> None:
        async with app.client() as client:
            annotator = app.annotator(client)
            page = await annotator.start()
            await annotator.do(page, [0])
            following = await annotator.next()
            assert (await annotator.post("/api/withdraw", {})).json() == {"ok": True}
            refused = await annotator.post("/api/next", {"tab": annotator.tab})
            assert refused.json()["error"]["code"] == "withdrawn"
            late = await annotator.post("/api/batch", annotator.batch(following, 0, annotator.loads(following)))
            assert late.status_code == 403, "nothing is recorded any more"
            assert store.read(lambda tx: value(tx, "SELECT SUM(taken) FROM task")) == 0

    run(job(App(project, store)))


@pytest.mark.parametrize("packing", ["tar", "tar of tars", "zip", "tgz"])
def test_pictures_are_served_from_archives_in_place(make_project: Make, pictures: Path, packing: str) -> None:
    import shutil
    import tarfile

    where = pictures.parent / "archives"
    where.mkdir()
    if packing == "zip":
        archive = Path(shutil.make_archive(str(where / "pictures"), "zip", pictures))
    elif packing == "tgz":
        archive = Path(shutil.make_archive(str(where / "pictures"), "gztar", pictures))
    else:
        archive = where / "pictures.tar"
        with tarfile.open(archive, "w") as outer:
            for folder in sorted(pictures.iterdir()):
                if packing == "tar":
                    outer.add(folder, folder.name)
                    continue
                with tarfile.open(where / f"{folder.name}.tar", "w") as inner:
                    for path in sorted(folder.iterdir()):
                        inner.add(path, path.name)
                outer.add(where / f"{folder.name}.tar", f"{folder.name}.tar")

    async def job(app: App) -> None:
        async with app.client() as client:
            page = await app.annotator(client).start()
            task = app.site.cached_task(page["assignment"])
            for picture in page["pictures"]:
                shown = task.shown(picture["index"])
                assert shown is not None
                got = await client.get(picture["url"])
                assert got.content == (pictures / shown.source.path).read_bytes()

    run(job(App(*make_project(images=archive))))


def test_the_same_plan_gives_the_same_ids(make_project: Make) -> None:
    ids = [
        store.read(lambda tx: [row[0] for row in tx.rows("SELECT id FROM task ORDER BY seq")])
        for _, store in (make_project("one"), make_project("two"))
    ]
    assert ids[0] == ids[1] and all(len(name) == 32 for name in ids[0])


def test_each_candidate_is_on_one_page_and_controls_are_hidden_among_them(make_project: Make) -> None:
    _, store = make_project()
    bodies = store.read(lambda tx: tx.rows("SELECT body FROM task WHERE practice = 0"))
    tasks = [read_task(body) for (body,) in bodies]
    candidates = [shown.source.path for task in tasks for shown in task.pictures if shown.role == "candidate"]
    assert len(candidates) == len(set(candidates)) == 24
    for task in tasks:
        for shown in task.pictures:
            same = shown.source.class_id == task.class_id
            assert same == (shown.role in ("candidate", "positive"))
        assert len({shown.source.path for shown in task.pictures}) == len(task.pictures)
