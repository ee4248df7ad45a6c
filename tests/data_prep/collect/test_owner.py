"""What the owner's page and `collect status` show."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from data_prep.__main__ import main
from data_prep.collect import control, reports
from data_prep.collect.project import now_ms
from data_prep.collect.store import value
from data_prep.collect.visits import Session
from luab_jax.errors import ExitCode
from tests.data_prep.collect.conftest import App, Make, run
from tests.data_prep.collect.test_export import LENIENT, all_of_class, do_all, everything
from tests.data_prep.collect.test_export_odd import put_icons
from tests.data_prep.collect.test_security import csrf_of, log_in, with_password


@pytest.fixture
def worked(make_project: Make, db: str) -> App:
    """Three annotators did everything: two well, one selected every picture."""
    project, store = make_project(db=db, overlap=3, **LENIENT)
    with_password(project)
    app = App(project, store)
    for choose in (all_of_class, all_of_class, everything):
        run(do_all(app, choose))
    return app


def test_the_owner_sees_progress_quality_and_agreement(worked: App) -> None:
    async def job() -> None:
        async with worked.client() as client:
            await log_in(client)

            async def get(path: str) -> Any:
                answer = await client.get(f"/owner/api/{path}")
                assert answer.status_code == 200, answer.text
                return answer.json()

            progress = await get("progress")
            pages = progress["pages"]
            assert pages["done"] == pages["total"] > 0 and pages["left"] == 0 and progress["eta_ms"] == 0
            assert sum(count for _, count in progress["per_hour"]) == pages["done"] and len(progress["per_hour"]) == 48
            people = (await get("annotators"))["annotators"]
            assert [a["control_score"] for a in people] == [1.0, 1.0, pytest.approx(0.5, abs=0.2)]
            assert people[2]["agreement"] < people[0]["agreement"] and people[0]["never_hovered"] < 1
            agreement = await get("agreement")
            assert agreement["raters"] == 3 and -1 < agreement["krippendorff"] < 1
            pair = next(
                p for p in agreement["cohen"]["pairs"] if {p["a"], p["b"]} == {people[0]["worker"], people[1]["worker"]}
            )
            assert pair["kappa"] == pytest.approx(1.0)
            assert {entry["class"] for entry in agreement["by_class"]} == {"cat", "dog", "bird"}
            facts = await get("project")
            assert facts["icons"] == []
            classes = facts["classes"]
            assert all(entry["pages"] == entry["pages_done"] for entry in classes)

    run(job())


def test_the_owner_watches_a_showing_and_a_heat_map(worked: App) -> None:
    async def job() -> None:
        async with worked.client() as client:
            await log_in(client)
            seen: list[str] = []
            after = ""
            while True:
                answer = (await client.get(f"/owner/api/showings?limit=4&after={after}")).json()
                seen += [entry["assignment"] for entry in answer["showings"]]
                if (after := answer["next"]) is None:
                    break
            assert (
                len(seen)
                == len(set(seen))
                == worked.store.read(lambda tx: value(tx, "SELECT COUNT(*) FROM assignment WHERE state = 'submitted'"))
            )
            shown = (await client.get(f"/owner/api/replay/{seen[0]}")).json()
            assert shown["events"][0]["at"] == 0 and shown["events"][-1]["k"] == "submit"
            assert {"role", "picture", "url", "width"} <= shown["pictures"][0].keys()
            assert (await client.get(shown["pictures"][0]["url"])).headers["content-type"] == "image/jpeg"
            assert (await client.get("/owner/api/replay/" + "0" * 32)).status_code == 404
            found = (await client.get("/owner/api/heatmap?class=cat")).json()
            assert found["clicks"] == 3 * 9 == sum(map(sum, found["counts"]))
            assert found["counts"][18][6] == 27, "all clicks are at (0.25, 0.75): row 18, column 6 of 24"
            one = (await client.get("/owner/api/heatmap?picture=cat/cat_3.jpg")).json()
            assert one["clicks"] >= 3 and [p["picture"] for p in one["pictures"]] == ["cat/cat_3.jpg"]

    run(job())


def test_the_owner_of_a_coco_project_is_told_its_classes_with_their_icons(make_project: Make, tmp_path: Path) -> None:
    """The page's filter of clicks and its replay know no class but these."""
    classes = tmp_path / "classes.txt"
    classes.write_text("dog\nno such thing\ncat\n")
    project, store = make_project(task="coco", practice=False, class_file=classes)
    with_password(project)
    app = App(project, store)
    run(put_icons(app, [{"c": "dog", "x": 0.5, "y": 0.5}]))

    async def job() -> None:
        async with app.client() as client:
            await log_in(client)
            icons = (await client.get("/owner/api/project")).json()["icons"]
            assert [entry["id"] for entry in icons] == ["dog", "no such thing", "cat"], "as they are listed"
            assert [entry["name"] for entry in icons] == ["dog", "no such thing", "cat"]
            assert icons[1]["icon"] is None and (await client.get(icons[0]["icon"])).status_code == 200
            clicks = [(await client.get(f"/owner/api/heatmap?class={entry['id']}")).json()["clicks"] for entry in icons]
            assert clicks == [1, 0, 0]

    run(job())


def test_the_owner_blocks_extends_invites_and_downloads(worked: App) -> None:
    async def job() -> None:
        async with worked.client() as client:
            await log_in(client)
            head = await csrf_of(client)
            bad = (await client.get("/owner/api/annotators")).json()["annotators"][2]["worker"]

            async def post(path: str, sent: Any, status: int = 200) -> Any:
                answer = await client.post(f"/owner/api/{path}", content=json.dumps(sent), headers=head)
                assert answer.status_code == status, answer.text
                return answer.json()

            await post("block", {"worker": bad, "action": "block", "reason": "=all"})
            progress = (await client.get("/owner/api/progress")).json()
            assert progress["pages"]["left"] * 3 == progress["pages"]["total"], "a third is to be done again"
            await post("block", {"worker": "nobody", "action": "block"}, 400)
            await post("block", {"worker": bad, "action": "promote"}, 400)
            assert (await post("extend", {"overlap": 4}))["tasks"] > 0
            await post("extend", {"overlap": 0}, 400)
            links = (await post("invite", {"number": 2}))["links"]
            assert len(links) == 2 and links[0].startswith("http://127.0.0.1:8000/#t=")
            table = (await client.get("/owner/download/annotators.csv")).text
            assert "'=all" in table
            data = (await client.get("/owner/download/export.zip")).content
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                facts = json.loads(archive.read("export/manifest.json"))
            assert "--byproducts=export/xml" in facts["command"], "as it is unpacked"
            assert str(worked.project.folder) not in facts["command"]
            assert not list(worked.project.folder.glob("export-*")), "nothing is left behind"
            await post("logout", {})
            client.cookies.clear()
            assert (await client.get("/owner/api/progress")).status_code == 401

    run(job())


def test_what_a_page_has_beyond_a_lowered_overlap_does_no_other_page(
    make_project: Make, db: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three annotators did half of the pages; then one showing of each page is wanted."""
    project, store = make_project(db=db, overlap=3, **LENIENT)
    app = App(project, store)
    number = store.read(lambda tx: value(tx, "SELECT COUNT(*) FROM task WHERE practice = 0"))
    half = number // 2

    async def job() -> None:
        async with app.client() as client:
            annotators = [app.annotator(client) for _ in range(3)]
            for annotator in annotators:
                page = await annotator.start()
                for _ in range(half):
                    assert (await annotator.do(page, []))["complete"]
                    page = await annotator.next()
                await annotator.post("/api/return", {"assignment": page["assignment"]})

    run(job())
    control.set_overlap(store, 1, now_ms())
    session = Session(*store.read(lambda tx: tx.rows("SELECT worker, id FROM visit LIMIT 1"))[0])
    told = app.site.service.progress(session, now=float("inf"))
    assert told["project_done"] == pytest.approx(half / number, abs=1e-4)
    found = reports.progress(store, now_ms())
    assert found["pages"] == {"total": number, "done": half, "leased": 0, "left": number - half}
    assert found["eta_ms"] > 0
    assert main(["collect", "status", str(project.folder)]) == ExitCode.DONE
    assert "all done" not in capsys.readouterr().out


def test_status_prints_a_screenful_and_json(worked: App, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collect", "status", str(worked.project.folder)]) == ExitCode.DONE
    text = capsys.readouterr().out
    assert "(100.0%)" in text and "Krippendorff" in text and "all done" in text
    assert main(["collect", "status", str(worked.project.folder), "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["progress"]["surplus"] == 0
