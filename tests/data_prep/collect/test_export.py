"""From the log to files, and back through the readers of data_prep."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from data_prep.__main__ import main
from data_prep.annotations.imagenet_ab import read_annotation
from data_prep.collect import control
from data_prep.collect.config import Quality
from data_prep.collect.export import export
from data_prep.collect.reports import annotators
from data_prep.collect.store import value
from data_prep.problems import Problems
from luab_jax.errors import DataError, ExitCode
from tests.data_prep.collect.conftest import NOW, App, Make, run, write_pictures

LENIENT = {"quality": Quality(min_control_score=0)}


async def do_all(app: App, choose: Any) -> None:
    """One annotator does every page; `choose(task)` says what is selected."""
    async with app.client() as client:
        annotator = app.annotator(client)
        page = await annotator.start()
        while page["state"] == "task":
            await annotator.do(page, choose(app.site.cached_task(page["assignment"])))
            page = await annotator.next()
        assert page["state"] in ("done", "wait")


def all_of_class(task: Any) -> list[int]:
    return [i for i, shown in enumerate(task.pictures) if shown.source.class_id == task.class_id]


def everything(task: Any) -> list[int]:
    return list(range(len(task.pictures)))


def test_a_distractor_never_reaches_the_xml_of_its_picture(make_project: Make, tmp_path: Path) -> None:
    """An annotator who selects everything: controls and pictures of other classes stay out, and are listed apart."""
    project, store = make_project(**LENIENT)
    run(do_all(App(project, store), everything))
    done = export(project, store, tmp_path / "out")
    files = sorted((tmp_path / "out" / "xml").rglob("*.xml"))
    assert len(files) == 24, "each candidate has its file"
    for path in files:
        key = f"{path.parent.name}/{path.stem}"
        problems = Problems()
        (showing,) = read_annotation(path.read_bytes(), key, problems).showings
        assert showing.selected and len(showing.clicks) == 1 and problems.listed("") == ()
    apart = [json.loads(line) for line in (tmp_path / "out" / "apart.jsonl").read_text().splitlines()]
    assert {line["role"] for line in apart} == {"positive", "negative"}
    assert all(line["picture_class"] != line["class_asked"] for line in apart if line["role"] == "negative")
    assert done.counts["showings_exported_apart"] == len(apart)


def test_every_submitted_page_is_exported_once_from_several_annotators(make_project: Make, tmp_path: Path) -> None:
    project, store = make_project(overlap=3, **LENIENT)
    app = App(project, store)
    for _ in range(3):
        run(do_all(app, all_of_class))
    done = export(project, store, tmp_path / "out", events=True)
    submitted = store.read(lambda tx: value(tx, "SELECT COUNT(*) FROM assignment WHERE state = 'submitted'"))
    assert done.counts["pages_exported"] == submitted
    for path in (tmp_path / "out" / "xml").rglob("*.xml"):
        showings = read_annotation(path.read_bytes(), f"{path.parent.name}/{path.stem}", Problems()).showings
        assert len(showings) == 3 and len({showing.worker_id for showing in showings}) == 3
    batches = store.read(lambda tx: value(tx, "SELECT COUNT(*) FROM batch"))
    assert done.counts["batches_in_the_event_file"] == batches


def test_a_picture_that_failed_is_not_exported_as_not_selected(make_project: Make, tmp_path: Path) -> None:
    project, store = make_project(**LENIENT)

    async def job(app: App) -> str:
        async with app.client() as client:
            annotator = app.annotator(client)
            page = await annotator.start()
            task = app.site.cached_task(page["assignment"])
            index = next(i for i, shown in enumerate(task.pictures) if shown.role == "candidate")
            events = [e for e in annotator.loads(page) if e.get("i") != index]
            events += [{"k": "image_failed", "t": annotator.time(), "i": index, "tries": 2}]
            events += [{"k": "submit", "t": annotator.time(), "selected": []}]
            await annotator.post("/api/batch", annotator.batch(page, 0, events))
            sent = {"assignment": page["assignment"], "tab": annotator.tab, "n": 0}
            assert (await annotator.post("/api/submit", sent)).json()["complete"]
            return task.pictures[index].source.path

    failed = run(job(App(project, store)))
    done = export(project, store, tmp_path / "out")
    assert not (tmp_path / "out" / "xml" / failed).with_suffix(".xml").exists()
    assert done.counts["xml_files"] >= 1
    apart = [json.loads(line) for line in (tmp_path / "out" / "apart.jsonl").read_text().splitlines()]
    (line,) = [line for line in apart if line["picture"] == failed and line["role"] == "candidate"]
    assert (line["state"], line["selected"]) == ("failed", None)


def test_the_last_line_is_a_command_that_works(
    make_project: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project, store = make_project(**LENIENT)
    run(do_all(App(project, store), all_of_class))
    assert main(["collect", "export", str(project.folder), f"--out={tmp_path / 'out'}"]) == ExitCode.DONE
    command = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert command[:3] == ["python", "-m", "data_prep"] and command[3] == "folder"
    assert main([*command[3:], "--workers=1"]) == ExitCode.DONE
    assert "with a usable click        24" in capsys.readouterr().out


def test_classes_of_imagenet_are_exported_for_imagenet_ab(
    make_project: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Few of the images have a file yet: the command says so itself."""
    images = write_pictures(tmp_path / "train", {"n01443537": 12, "n01910747": 4, "n02056570": 20})
    classes = tmp_path / "classes.txt"
    classes.write_text("n01443537\tgoldfish, Carassius auratus\nn01910747\tjellyfish\n")
    project, store = make_project(images=images, class_file=classes, practice=False, **LENIENT)
    assert project.config.classes == "imagenet" and project.classes[0].synonyms == ("Carassius auratus",)
    run(do_all(App(project, store), all_of_class))
    done = export(project, store, tmp_path / "out")
    assert done.command[3] == "imagenet_ab" and done.command[-1] == "--min_match=0" and done.counts["xml_files"] == 16
    assert main([*done.command[3:], "--workers=1"]) == ExitCode.DONE
    assert "with a usable click        16" in capsys.readouterr().out


def test_an_exported_point_sits_on_the_stored_pixels_of_a_turned_photograph(make_project: Make, tmp_path: Path) -> None:
    """EXIF 6: a click at (0.25, 0.75) of the display is at (0.75, 0.75) of the stored pixels."""
    from data_prep.images import check_image, upright

    project, store = make_project(**LENIENT)
    run(do_all(App(project, store), all_of_class))
    export(project, store, tmp_path / "out")
    picture = Path(project.config.images) / "cat" / "cat_0.jpg"
    xml = (tmp_path / "out" / "xml" / "cat" / "cat_0.xml").read_bytes()
    showings = read_annotation(xml, "cat/cat_0", Problems()).showings
    assert showings[0].original_size == (30, 40)
    from collections import Counter

    (turned,) = upright(showings, check_image(picture.read_bytes()), Counter())
    assert (turned.clicks[0].x, turned.clicks[0].y) == (0.75, 0.75)


def test_an_export_replaces_an_earlier_one_and_nothing_else(make_project: Make, tmp_path: Path) -> None:
    project, store = make_project(**LENIENT)
    with pytest.raises(DataError, match="no page was submitted"):
        export(project, store, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()
    run(do_all(App(project, store), all_of_class))
    export(project, store, tmp_path / "out")
    first = (tmp_path / "out" / "apart.jsonl").read_bytes()
    export(project, store, tmp_path / "out")
    assert (tmp_path / "out" / "apart.jsonl").read_bytes() == first
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("all of it")
    with pytest.raises(DataError, match="holds other files"):
        export(project, store, other)
    assert (other / "thesis.txt").read_text() == "all of it"


def test_the_work_of_a_blocked_annotator_stays_out_unless_asked_for(make_project: Make, tmp_path: Path) -> None:
    project, store = make_project(overlap=2, **LENIENT)
    app = App(project, store)
    for _ in range(2):
        run(do_all(app, all_of_class))
    worker = store.read(lambda tx: value(tx, "SELECT public_id FROM worker ORDER BY id LIMIT 1"))
    control.act_on(store, worker, "block", "clicks at random", NOW)
    done = export(project, store, tmp_path / "out")
    assert done.counts["pages_left_out_of_blocked_or_withdrawn_annotators"] == done.counts["pages_exported"]
    assert worker not in "".join(path.read_text() for path in (tmp_path / "out").rglob("*.xml"))
    both = export(project, store, tmp_path / "both", include_blocked=True)
    assert both.counts["pages_exported"] == 2 * done.counts["pages_exported"]


def test_what_arrives_after_the_submit_changes_nothing(make_project: Make, tmp_path: Path) -> None:
    project, store = make_project(**LENIENT)

    async def job(app: App) -> None:
        async with app.client() as client:
            annotator = app.annotator(client)
            page = await annotator.start()
            await annotator.do(page, [0])
            annotator.tab, annotator.t = "b" * 16, annotator.t - 60
            late = [annotator.click(0, kind="deselect"), annotator.click(1)]
            assert (await annotator.post("/api/batch", annotator.batch(page, 0, late))).status_code == 200

    run(job(App(project, store)))
    done = export(project, store, tmp_path / "out")
    assert done.counts["showings_selected"] <= 1


def test_known_boxes_make_a_practice_page_and_judge_icons(make_project: Make, pictures: Path, tmp_path: Path) -> None:
    """COCO's instances file: ids, a practice page with places, and icons outside of the boxes of their class."""
    names = sorted(path.name for path in (pictures / "cat").iterdir())
    boxes = [("cat", [0, 0, 20, 15]), ("dog", [20, 15, 20, 15])]
    facts = {
        "images": [{"id": 7 + k, "file_name": name, "width": 40, "height": 30} for k, name in enumerate(names[:5])],
        "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}],
        "annotations": [
            {"id": 2 * k + j, "image_id": 7 + k, "category_id": 17 + j, "bbox": box, "iscrowd": 0}
            for k in range(5)
            for j, (_, box) in enumerate(boxes)
        ],
    }
    instances = tmp_path / "instances.json"
    instances.write_text(json.dumps(facts))
    project, store = make_project(task="coco", instances=str(instances))

    async def job(app: App) -> None:
        async with app.client() as client:
            annotator = app.annotator(client)
            arrived = await annotator.arrive()
            await annotator.post("/api/consent", {"version": arrived["consent"]["version"], "agreed": True})
            page = (await annotator.post("/api/next", {"tab": annotator.tab})).json()
            assert page["state"] == "practice" and len(page["sets"]) == 11
            sent = {"tab": annotator.tab, "assignment": page["assignment"], "icons": [{"c": "cat", "x": 0.9, "y": 0.9}]}
            told = (await annotator.post("/api/practice", sent)).json()
            assert told["passed"] is False and told["feedback"] == [
                {"c": "cat", "expected": True, "got": True, "inside": False},
                {"c": "dog", "expected": True, "got": False, "inside": None},
            ]
            right = [{"c": "cat", "x": 0.2, "y": 0.2}, {"c": "dog", "x": 0.8, "y": 0.8}]
            assert (await annotator.post("/api/practice", sent | {"icons": right})).json()["passed"]
            page = await annotator.next()
            icons = [right[0], {"c": "dog", "x": 0.1, "y": 0.1}, {"c": "kite", "x": 0.5, "y": 0.5}]
            events = annotator.loads(page)
            events += [{"k": "add", "t": annotator.time(), "in": "mouse", **icon} for icon in icons]
            events += [{"k": "submit", "t": annotator.time(), "icons": icons}]
            await annotator.post("/api/batch", annotator.batch(page, 0, events))
            sent = {"assignment": page["assignment"], "tab": annotator.tab, "n": 0}
            assert (await annotator.post("/api/submit", sent)).json()["complete"]

    run(job(App(project, store)))
    (person,) = annotators(store, {})
    assert person["outside_boxes"] == pytest.approx(2 / 3), "a dog where the cat is, and a kite that is not there"
    done = export(project, store, tmp_path / "out")
    (record,) = json.loads((tmp_path / "out" / "coco_ab.json").read_text())
    assert 7 <= record["image_id"] < 12 and f"--instances={instances}" in done.command
    assert main([*done.command[3:], "--workers=1"]) == ExitCode.DONE


def test_a_coco_page_and_own_classes_come_back_as_labels_and_points(
    make_project: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = tmp_path / "own.txt"
    classes.write_text("cup\tcup\nodd thing\todd thing, oddity\tsomething odd\tMine\n")
    project, store = make_project(task="coco", class_file=classes, practice=False)

    async def job(app: App) -> None:
        async with app.client() as client:
            annotator = app.annotator(client)
            page = await annotator.start()
            assert [one["name"] for one in page["sets"]] == ["Mine", "Set 1"]
            while page["state"] == "task":
                fixed = {"c": "odd thing", "in": "pen"}
                events = [
                    *annotator.loads(page),
                    {"k": "set_shown", "t": annotator.time(), "s": 0, "kb": False},
                    {"k": "add", "t": annotator.time(), "x": 0.2, "y": 0.3, **fixed},
                    {"k": "move_icon", "t": annotator.time(), "fx": 0.2, "fy": 0.3, "x": 0.21, "y": 0.3, **fixed},
                    {"k": "submit", "t": annotator.time(), "icons": [{"c": "odd thing", "x": 0.21, "y": 0.3}]},
                ]
                await annotator.post("/api/batch", annotator.batch(page, 0, events))
                sent = {"assignment": page["assignment"], "tab": annotator.tab, "n": 0}
                assert (await annotator.post("/api/submit", sent)).json()["complete"]
                page = await annotator.next()

    run(job(App(project, store)))
    done = export(project, store, tmp_path / "out")
    records = json.loads((tmp_path / "out" / "coco_ab.json").read_text())
    assert len(records) == 9 and records[0]["categoryHistories"][0]["categoryName"] == "Mine"
    assert [action["actionType"] for action in records[0]["actionHistories"]] == ["add", "move"]
    assert main([*done.command[3:], "--workers=1"]) == ExitCode.DONE
    printed = capsys.readouterr().out
    assert "class-picture pairs        9, 9 (100.0%) with a point" in printed


def test_simulated_annotators_are_told_from_people(
    make_project: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project, store = make_project(overlap=2, **LENIENT)
    app, folder = App(project, store), str(project.folder)

    def did(simulated: int, showings: int) -> None:
        assert main(["collect", "status", folder, "--json"]) == ExitCode.DONE
        facts = {"annotators": simulated, "showings": showings}
        assert json.loads(capsys.readouterr().out)["simulated"] == facts
        done = export(project, store, tmp_path / "out")
        assert json.loads((tmp_path / "out" / "manifest.json").read_text())["simulated"] == facts
        assert ("simulated annotators" in "\n".join(done.lines())) == bool(simulated)

    run(do_all(app, all_of_class))
    pages = store.read(lambda tx: value(tx, "SELECT COUNT(*) FROM assignment WHERE state = 'submitted'"))
    did(0, 0)
    app.token = lambda: app.site.invite_simulated(1)[0].partition("#t=")[2]
    run(do_all(app, all_of_class))
    did(1, pages)
    assert main(["collect", "status", folder]) == ExitCode.DONE
    assert f"1 of the annotators, {pages:,} pages submitted" in capsys.readouterr().out


def test_a_rehearsal_is_refused_where_people_work_or_were_invited(
    make_project: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    from data_prep.collect.reports import people

    project, store = make_project(**LENIENT)
    site = App(project, store).site
    site.invite_simulated(2)
    assert people(store) == (0, 0), "an earlier rehearsal is none of people"
    site.invite(3)
    assert main(["collect", "simulate", str(project.folder)]) == ExitCode.FAILED
    message = capsys.readouterr().err
    assert "0 real annotators and 3 links" in message and "--with_real_annotators" in message
    assert "restore" in message
