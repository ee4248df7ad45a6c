"""An odd record costs itself: the export leaves it out, counts it, lists it and goes on."""

from __future__ import annotations

import gzip
import json
import threading
import zlib
from pathlib import Path
from typing import Any

import pytest

from data_prep.annotations.imagenet_ab import read_annotation
from data_prep.collect import control
from data_prep.collect.export import export
from data_prep.collect.project import Project
from data_prep.collect.store import Store, value
from data_prep.problems import Problems
from luab_jax.errors import DataError, UserError
from tests.data_prep.collect.conftest import NOW, App, Make, run, write_pictures
from tests.data_prep.collect.test_export import LENIENT, all_of_class, do_all


async def put_icons(app: App, icons: list[dict[str, Any]], *, odd: dict[str, Any] | None = None) -> str:
    """One annotator puts the icons on one page and submits it; with `odd`, the first of them has been changed in the
    log afterwards. Returns the assignment."""
    async with app.client() as client:
        annotator = app.annotator(client)
        page = await annotator.start()
        events = annotator.loads(page)
        events += [{"k": "add", "t": annotator.time(), "in": "mouse", **icon} for icon in icons]
        events += [{"k": "submit", "t": annotator.time(), "icons": icons}]
        assert (await annotator.post("/api/batch", annotator.batch(page, 0, events))).status_code == 200
        sent = {"assignment": page["assignment"], "tab": annotator.tab, "n": 0}
        assert (await annotator.post("/api/submit", sent)).json()["complete"]
    if odd is not None:
        change(app.store, page["assignment"], icons[0], odd)
    return page["assignment"]


def change(store: Store, assignment: str, before: dict[str, Any], odd: dict[str, Any]) -> None:
    """As a log holds it that another version took, or from before a class was removed."""
    (body,) = store.read(lambda tx: tx.rows("SELECT body FROM batch WHERE assignment = ?", assignment))[0]
    batch = json.loads(zlib.decompress(body))
    for event in batch["events"]:
        for icon in (event, *event.get("icons", ())):
            if icon.get("c") == before["c"]:
                icon |= odd
    changed = zlib.compress(json.dumps(batch).encode())
    store.do(lambda tx: tx.run("UPDATE batch SET body = ? WHERE assignment = ?", changed, assignment))


def left_out(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "left_out.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("odd", "part"),
    [({"c": "nonsense"}, "unknown icon"), ({"x": 1.3}, "without a valid point"), ({"c": "\ud800"}, "unknown icon")],
)
def test_a_coco_page_with_an_odd_icon_is_left_out_and_listed(
    make_project: Make, tmp_path: Path, odd: dict[str, Any], part: str
) -> None:
    project, store = make_project(task="coco", practice=False, overlap=2)
    app = App(project, store)
    icon = {"c": "cat", "x": 0.5, "y": 0.5}
    kept = run(put_icons(app, [icon]))
    bad = run(put_icons(app, [icon, {"c": "dog", "x": 0.1, "y": 0.1}], odd=odd))
    done = export(project, store, tmp_path / "out")
    records = json.loads((tmp_path / "out" / "coco_ab.json").read_text())
    assert [[a["iconType"] for a in record["actionHistories"]] for record in records] == [["cat"]]
    assert done.counts["records"] == 1 and done.counts["showings_left_out_as_odd"] == 1
    (line,) = left_out(tmp_path / "out")
    assert line["assignment"] == bad != kept and part in line["reason"]
    labels = json.loads((tmp_path / "out" / "instances.json").read_text(encoding="utf-8"))["annotations"]
    assert len(labels) == 1, "what was left out has no vote"
    assert any("left out" in text and "left_out.jsonl" in text for text in done.lines())


def test_a_class_that_was_removed_after_collecting_costs_its_pages_alone(make_project: Make, tmp_path: Path) -> None:
    classes = tmp_path / "own.txt"
    classes.write_text("cup\nspoon\n")
    project, store = make_project(task="coco", class_file=classes, practice=False)
    app = App(project, store)
    run(put_icons(app, [{"c": "cup", "x": 0.5, "y": 0.5}]))
    run(put_icons(app, [{"c": "spoon", "x": 0.5, "y": 0.5}]))
    project.classes_path.write_text("cup\n")
    done = export(Project(project.folder, project.config), store, tmp_path / "out")
    assert done.counts["records"] == 1 and done.counts["showings_left_out_as_odd"] == 1
    assert len(left_out(tmp_path / "out")) == 1


@pytest.mark.parametrize("name", ["cat_1.jpg", "cat.png.jpeg", " cat", "cat ", "c\rat", "None"])
def test_pictures_of_any_name_are_exported(make_project: Make, tmp_path: Path, name: str) -> None:
    images = write_pictures(tmp_path / "images", {"cat": 3, "dog": 3})
    (images / "cat" / "cat_2.jpg").rename(images / "cat" / f"{name}.jpg")
    project, store = make_project(images=images, practice=False, **LENIENT)
    run(do_all(App(project, store), all_of_class))
    done = export(project, store, tmp_path / "out")
    assert done.counts["xml_files"] == 6 and done.counts["showings_left_out_as_odd"] == 0
    data = (tmp_path / "out" / "xml" / "cat" / f"{name}.xml").read_bytes()
    assert len(read_annotation(data, f"cat/{name}", Problems()).showings) == 1


def test_withdrawn_annotators_stay_out_of_all_that_is_exported(make_project: Make, tmp_path: Path) -> None:
    """Also with --include_blocked and with --events, and with both."""
    project, store = make_project(overlap=3, **LENIENT)
    app = App(project, store)
    for _ in range(3):
        run(do_all(app, all_of_class))
    names = [name for (name,) in store.read(lambda tx: tx.rows("SELECT public_id FROM worker ORDER BY id"))]
    withdraw(store, names[0])
    control.act_on(store, names[1], "block", "clicks at random", NOW)
    for blocked in (False, True):
        out = tmp_path / f"out-{blocked}"
        done = export(project, store, out, events=True, include_blocked=blocked)
        files = [path for path in out.rglob("*") if path.suffix in (".xml", ".jsonl")]
        text = "".join(path.read_text() for path in files)
        log = gzip.decompress((out / "events.jsonl.gz").read_bytes()).decode()
        for found in (text, log):
            assert [name in found for name in names] == [False, blocked, True]
        assert done.counts["batches_left_out_of_blocked_or_withdrawn_annotators"] > 0


def withdraw(store: Store, name: str) -> None:
    from data_prep.collect import leases

    def job(tx: Any) -> None:
        number = value(tx, "SELECT id FROM worker WHERE public_id = ?", name)
        leases.free_worker(tx, number)
        tx.run("UPDATE worker SET state = 'withdrawn' WHERE id = ?", number)

    store.do(job)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig"])
def test_a_batch_that_is_no_utf_8_is_readable_in_the_event_file(
    make_project: Make, tmp_path: Path, encoding: str
) -> None:
    project, store = make_project(**LENIENT)
    run(do_all(App(project, store), all_of_class))
    name, body = store.read(lambda tx: tx.rows("SELECT seq, body FROM batch ORDER BY seq LIMIT 1"))[0]
    utf_16 = zlib.compress(zlib.decompress(body).decode().encode(encoding))
    store.do(lambda tx: tx.run("UPDATE batch SET body = ? WHERE seq = ?", utf_16, name))
    export(project, store, tmp_path / "out", events=True)
    lines = gzip.decompress((tmp_path / "out" / "events.jsonl.gz").read_bytes()).decode().splitlines()
    assert all(json.loads(line)["batch"]["v"] == 1 for line in lines)


def test_folders_of_others_beside_the_export_stay(make_project: Make, tmp_path: Path) -> None:
    project, store = make_project(**LENIENT)
    run(do_all(App(project, store), all_of_class))
    for name in ("out.old", "out.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("all of it")
    for _ in range(2):
        export(project, store, tmp_path / "out")
    assert all((tmp_path / name / "thesis.txt").is_file() for name in ("out.old", "out.partial"))
    left = {path.name for path in tmp_path.iterdir() if path.name.startswith("out")}
    assert left == {"out", "out.old", "out.partial"}, "nothing of ours is left behind"


def test_a_file_that_was_put_into_an_export_is_not_deleted_with_it(make_project: Make, tmp_path: Path) -> None:
    project, store = make_project(**LENIENT)
    run(do_all(App(project, store), all_of_class))
    export(project, store, tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"notes\.txt"):
        export(project, store, tmp_path / "out")
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_a_link_as_out_stays_a_link(make_project: Make, tmp_path: Path) -> None:
    project, store = make_project(**LENIENT)
    run(do_all(App(project, store), all_of_class))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for _ in range(2):
        export(project, store, tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "manifest.json").is_file()


def test_of_two_exports_into_one_folder_one_is_refused(
    make_project: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, store = make_project(**LENIENT)
    run(do_all(App(project, store), all_of_class))
    from data_prep.collect import export as module

    begun, go_on = threading.Event(), threading.Event()
    write = module._write

    def slow(*arguments: Any, **named: Any) -> None:
        begun.set()
        assert go_on.wait(20)
        write(*arguments, **named)

    monkeypatch.setattr(module, "_write", slow)
    first = threading.Thread(target=lambda: export(project, store, tmp_path / "out"))
    first.start()
    assert begun.wait(20)
    with pytest.raises(UserError, match="in use by"):
        export(project, store, tmp_path / "out")
    go_on.set()
    first.join()
    assert (tmp_path / "out" / "manifest.json").is_file()
    assert not list(tmp_path.glob("out.*")), "neither lease nor temporary folder is left"


def test_the_command_names_where_the_export_will_be(make_project: Make, tmp_path: Path) -> None:
    """A download is packed from a temporary folder, and unpacked somewhere else."""
    project, store = make_project(**LENIENT)
    run(do_all(App(project, store), all_of_class))
    export(project, store, tmp_path / "scratch" / "export", named=Path("export"))
    command = json.loads((tmp_path / "scratch" / "export" / "manifest.json").read_text())["command"]
    assert "--byproducts=export/xml" in command and "--out=export-prepared" in command and "scratch" not in command
