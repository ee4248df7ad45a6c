"""Where annotators come from and go back to, against stubs of the platforms' parameters."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from data_prep.__main__ import main
from data_prep.collect.config import Platform, Quality
from data_prep.collect.platforms import BadLinkError, mturk, prolific
from data_prep.collect.store import value
from luab_jax.errors import ExitCode
from tests.data_prep.collect.conftest import Annotator, App, Make, run

SANDBOX = "https://workersandbox.mturk.com"
TURK = {"assignmentId": "3ASSIGN", "hitId": "3HIT", "workerId": "A1WORKER", "turkSubmitTo": SANDBOX}
PROLIFIC = {"PROLIFIC_PID": "5f0a", "STUDY_ID": "st1", "SESSION_ID": "se1"}
ONE = {"pages_per_visit": 1, "quality": Quality(min_control_score=0)}


async def visit(app: App, platform: str, params: dict[str, str]) -> tuple[Annotator, dict[str, Any]]:
    """Does the pages of one assignment; the annotator and the last answer."""
    async with app.client() as client:
        annotator = Annotator(client, app.site.tokens.entrance(platform))
        value = await annotator.arrive(params)
        await annotator.post("/api/consent", {"version": value["consent"]["version"], "agreed": True})
        page = await annotator.next()
        while page["state"] == "task":
            await annotator.do(page, [])
            page = await annotator.next()
        return annotator, page


def test_mturk_previews_before_a_worker_accepts(make_project: Make) -> None:
    project, store = make_project()

    async def job(app: App) -> None:
        async with app.client() as client:
            annotator = Annotator(client, app.site.tokens.entrance("mturk"))
            value = await annotator.arrive({"assignmentId": mturk.NOT_ACCEPTED, "hitId": "3HIT"})
            assert value["preview"] and value["session"] is None and value["sample"]["pictures"]
            address = value["sample"]["pictures"][0]["url"]
            assert (await client.get(address)).status_code == 200
        async with App(project, store).client() as client:
            assert (await client.get(address)).status_code == 200, "from another server process, too"

    run(job(App(project, store)))
    assert store.read(lambda tx: value(tx, "SELECT COUNT(*) FROM worker")) == 0, "nobody is recorded"


def test_an_external_question_ends_with_a_form_of_the_platform(make_project: Make) -> None:
    project, store = make_project(**ONE)
    _, last = run(visit(App(project, store), "mturk", TURK))
    end = last["completion"]
    assert end["kind"] == "form" and end["action"] == f"{SANDBOX}/mturk/externalSubmit"
    assert end["fields"]["assignmentId"] == "3ASSIGN" and len(end["fields"]) > 1


def test_the_same_worker_comes_back_in_another_assignment(make_project: Make) -> None:
    project, store = make_project(**ONE)
    app = App(project, store)
    first, one = run(visit(app, "mturk", TURK))
    again, two = run(visit(app, "mturk", TURK | {"assignmentId": "3OTHER"}))
    assert store.read(lambda tx: value(tx, "SELECT COUNT(*) FROM worker")) == 1
    assert store.read(lambda tx: value(tx, "SELECT COUNT(*) FROM visit")) == 2
    assert one["completion"]["fields"]["visit"] != two["completion"]["fields"]["visit"]
    tasks = store.read(lambda tx: tx.rows("SELECT task FROM assignment WHERE state = 'submitted'"))
    assert len(set(tasks)) == len(tasks) == 2, "never the same page twice"
    assert first is not again


def test_a_link_without_the_frame_ends_with_a_code_that_cannot_be_computed(make_project: Make) -> None:
    params = {name: text for name, text in TURK.items() if name != "turkSubmitTo"}
    codes = []
    for name in ("one", "two"):
        project, store = make_project(name, **ONE)
        codes.append(run(visit(App(project, store), "mturk", params))[1]["completion"])
    assert all(end["kind"] == "code" and len(end["code"]) == 10 for end in codes)
    assert codes[0] != codes[1], "it depends on the project's secret"


def test_prolific_ids_come_in_and_the_study_s_code_goes_out(make_project: Make) -> None:
    project, store = make_project(**ONE, platform=Platform(prolific_code="C1 23"))
    _, last = run(visit(App(project, store), "prolific", PROLIFIC))
    assert last["completion"] == {"kind": "redirect", "url": "https://app.prolific.com/submissions/complete?cc=C1%2023"}
    assert store.read(lambda tx: value(tx, "SELECT external_id FROM worker")) == "5f0a"


@pytest.mark.parametrize(
    ("module", "params"),
    [
        (mturk, {}),
        (mturk, TURK | {"workerId": ""}),
        (mturk, TURK | {"workerId": "x" * 200}),
        (mturk, TURK | {"hitId": "<script>"}),
        (mturk, TURK | {"turkSubmitTo": "https://evil.example"}),
        (mturk, TURK | {"turkSubmitTo": "https://www.mturk.com.evil.example"}),
        (prolific, {"PROLIFIC_PID": "a", "STUDY_ID": "b"}),
        (prolific, PROLIFIC | {"SESSION_ID": "a b"}),
    ],
)
def test_an_address_that_the_platform_did_not_make_is_refused(module: Any, params: dict[str, str]) -> None:
    with pytest.raises(BadLinkError):
        module.arrive(params)


def test_invite_prints_what_the_platform_s_form_wants(make_project: Make, capsys: pytest.CaptureFixture[str]) -> None:
    project, store = make_project()
    url = "--public_url=https://example.org/study"
    assert main(["collect", "invite", str(project.folder), "--platform=mturk", url]) == ExitCode.DONE
    link, xml = capsys.readouterr().out.splitlines()
    assert link.startswith("https://example.org/study/?k=")
    question = ElementTree.fromstring(xml)
    assert question.findtext("{*}ExternalURL") == link and int(question.findtext("{*}FrameHeight") or 0) > 500
    assert main(["collect", "invite", str(project.folder), "--platform=prolific", url]) == ExitCode.DONE
    assert "PROLIFIC_PID={{%PROLIFIC_PID%}}&STUDY_ID={{%STUDY_ID%}}" in capsys.readouterr().out
    assert App(project, store).site.platforms == {"mturk", "prolific"}
    assert main(["collect", "invite", str(project.folder), "--number=3"]) == ExitCode.DONE
    links = capsys.readouterr().out.splitlines()
    assert len(set(links)) == 3 and all("/#t=" in text for text in links)
