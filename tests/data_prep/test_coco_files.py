"""Instances files and records as other tools write them: ids, sizes, keys and flags that are not COCO's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_prep.__main__ import main
from data_prep.problems import Reason
from luab_jax.byproducts.records import ImageRecord
from luab_jax.data.coco_classes import CATEGORY_IDS
from luab_jax.data.dataset import Manifest, open_split
from luab_jax.data.features import Example
from luab_jax.errors import ExitCode
from tests.data_prep.conftest import image_bytes

Capture = pytest.CaptureFixture[str]
Change = Callable[[dict[str, Any], list[Any]], None]


class Coco:
    """Six images, one object and one record each."""

    def __init__(self, root: Path):
        self.images, self.root = root / "val2017", root
        self.images.mkdir()
        names = [f"{k:012d}.jpg" for k in range(1, 7)]
        for k, name in enumerate(names):
            (self.images / name).write_bytes(image_bytes(k, size=(64, 48)))
        self.instances: dict[str, Any] = {
            "images": [{"id": k, "file_name": name, "width": 64, "height": 48} for k, name in enumerate(names, 1)],
            "annotations": [
                {"id": k, "image_id": k, "category_id": 18, "bbox": [8, 8, 20, 20], "iscrowd": 0, "segmentation": []}
                for k in range(1, 7)
            ],
            "categories": [{"id": number, "name": name} for name, number in CATEGORY_IDS.items()],
        }
        actions = [{"actionType": "add", "iconType": "dog", "pointTo": {"x": 0.3, "y": 0.4}, "timeAt": 100}]
        self.records: list[Any] = [{"image_id": k, "actionHistories": actions} for k in range(1, 7)]

    def prepare(self, *flags: str) -> int:
        (self.root / "instances.json").write_text(json.dumps(self.instances))
        (self.root / "records.json").write_text(json.dumps(self.records))
        arguments = ["coco_ab", f"--images={self.images}", f"--instances={self.root / 'instances.json'}", "--workers=1"]
        return main([*arguments, f"--byproducts={self.root / 'records.json'}", f"--out={self.root / 'out'}", *flags])

    def prepared(self) -> tuple[Manifest, dict[str, ImageRecord]]:
        opened = open_split(self.root / "out", "train")
        records = (Example(opened.records[i]).record() for i in range(len(opened.records)))
        return opened.manifest, {record.file_name: record for record in records}


@pytest.fixture
def coco(tmp_path: Path) -> Coco:
    return Coco(tmp_path)


def each(rows: list[Any], field: str, value: Callable[[int], Any]) -> None:
    for k, row in enumerate(rows, 1):
        row[field] = value(k)


NAMES: dict[str, Callable[[int], Any]] = {
    "file name": lambda k: f"{k:012d}.jpg",
    "without suffix": lambda k: f"x_{k:012d}",
    "with folder": lambda k: f"val2017/{k:012d}.jpg",
    "with a folder of Windows": lambda k: f"val2017\\{k:012d}.jpg",
    "number as text": str,
    "number with zeros": lambda k: f"{k:012d}",
    "float": float,
}


@pytest.mark.parametrize("form", NAMES)
@pytest.mark.parametrize("where", ["records", "annotations", "both", "all"])
def test_ids_of_any_form_are_matched(form: str, where: str, coco: Coco) -> None:
    if form == "without suffix":
        for k, entry in enumerate(coco.instances["images"], 1):
            entry["file_name"] = f"x_{k:012d}.jpg"
            (coco.images / f"{k:012d}.jpg").rename(coco.images / entry["file_name"])
    if where in ("annotations", "both", "all"):
        each(coco.instances["annotations"], "image_id", NAMES[form])
    if where in ("records", "both", "all"):
        each(coco.records, "image_id", NAMES[form])
    if where == "all":
        each(coco.instances["images"], "id", NAMES[form])
    assert coco.prepare("--strict") == 0
    _, records = coco.prepared()
    assert len(records) == 6
    assert all(len(r.showings) == 1 and len(r.boxes) == 1 and r.labels == (16,) for r in records.values())


@pytest.mark.parametrize("value", [None, True, [1], {}, float("nan"), "", "elsewhere.jpg", 77])
@pytest.mark.parametrize("where", ["records", "annotations"])
def test_ids_of_no_image_are_refused_when_they_are_many_and_listed_when_few(
    value: object, where: str, coco: Coco, capsys: Capture
) -> None:
    rows = coco.records if where == "records" else coco.instances["annotations"]
    for row in rows[:4]:
        row["image_id"] = value
    assert coco.prepare() == ExitCode.FAILED
    assert ("2 of 6 records" if where == "records" else "2 of its 6 `annotations`") in capsys.readouterr().err
    for k, row in enumerate(rows[1:4], 2):
        row["image_id"] = k
    assert coco.prepare() == 0
    (skipped,) = coco.prepared()[0].skipped
    reasons = {
        "records": (Reason.RECORD_WITHOUT_ID, Reason.XML_ORPHAN),
        "annotations": (Reason.OBJECT_UNREADABLE, Reason.OBJECT_WITHOUT_IMAGE),
    }
    assert skipped.reason in reasons[where]


def drop(key: str) -> Change:
    return lambda instances, _: instances.pop(key)


def empty(key: str) -> Change:
    return lambda instances, _: instances.update({key: []})


def no_list(key: str) -> Change:
    return lambda instances, _: instances.update({key: {"a": 1}})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop("images"), "has no list `images`"),
        (drop("annotations"), "has no list `annotations`"),
        (drop("categories"), "has no list `categories`"),
        (no_list("annotations"), "has no list `annotations`"),
        (empty("annotations"), "its list `annotations` holds nothing usable"),
        (empty("images"), "its list `images` holds nothing usable"),
        (
            lambda instances, _: each(instances["images"], "file_name", lambda k: k),
            "the first: instances.json, byte 12",
        ),
    ],
)
def test_a_file_without_one_of_its_lists_is_refused_by_name(
    change: Change, words: str, coco: Coco, capsys: Capture
) -> None:
    change(coco.instances, coco.records)
    assert coco.prepare() == ExitCode.FAILED
    assert words in capsys.readouterr().err
    assert not (coco.root / "out").exists()


@pytest.mark.parametrize("size", [{}, {"width": None, "height": None}, {"width": 0, "height": 0}])
def test_sizes_that_are_not_stated_are_those_of_the_files(size: dict[str, Any], coco: Coco, capsys: Capture) -> None:
    for entry in coco.instances["images"]:
        del entry["width"], entry["height"]
        entry |= size
    assert coco.prepare("--strict") == 0
    assert "size not stated            6, taken from the image files" in capsys.readouterr().out
    (box,) = coco.prepared()[1]["000000000001.jpg"].boxes
    assert (box.x_min, box.y_max) == pytest.approx((8 / 64, 28 / 48))


@pytest.mark.parametrize("size", [{"width": -64}, {"height": "tall"}, {"width": float("nan")}, {"width": True}])
def test_sizes_that_are_wrong_are_told(size: dict[str, Any], coco: Coco) -> None:
    coco.instances["images"][0] |= size
    assert coco.prepare() == 0
    manifest, records = coco.prepared()
    (skipped,) = manifest.skipped
    assert skipped.reason == Reason.NUMBER and "the size of the file is taken" in skipped.detail
    assert len(records["000000000001.jpg"].boxes) == 1


@pytest.mark.parametrize(
    ("value", "crowd"), [("1", True), (1, True), (1.0, True), (True, True), ("0", False), (0, False), (False, False)]
)
def test_crowds_however_they_are_written(value: object, crowd: bool, coco: Coco) -> None:
    each(coco.instances["annotations"], "iscrowd", lambda k: value)
    assert coco.prepare("--strict") == 0
    assert all(box.is_crowd is crowd for record in coco.prepared()[1].values() for box in record.boxes)


@pytest.mark.parametrize("value", ["yes", 2, [], -1, float("nan")])
def test_a_flag_that_is_none_is_listed(value: object, coco: Coco) -> None:
    coco.instances["annotations"][0]["iscrowd"] = value
    assert coco.prepare() == 0
    assert [s.reason for s in coco.prepared()[0].skipped] == [Reason.CROWD]


def test_an_absent_flag_is_no_crowd(coco: Coco) -> None:
    for row in coco.instances["annotations"]:
        del row["iscrowd"]
    assert coco.prepare("--strict") == 0


def test_files_that_no_entry_names_fail_under_strict(coco: Coco, capsys: Capture) -> None:
    (coco.images / "stranger.jpg").write_bytes(image_bytes())
    (coco.images / "more").mkdir()
    (coco.images / "more" / "inside.jpg").write_bytes(image_bytes())
    assert coco.prepare() == 0
    assert {(s.file, s.reason) for s in coco.prepared()[0].skipped} == {
        ("stranger.jpg", Reason.IMAGE_WITHOUT_ENTRY),
        ("more/inside.jpg", Reason.IMAGE_ELSEWHERE),
    }
    assert coco.prepare("--strict") == ExitCode.FAILED
    assert Reason.IMAGE_WITHOUT_ENTRY in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_json_with_a_mark_is_read_or_refused_by_its_encoding(encoding: str, coco: Coco, capsys: Capture) -> None:
    assert coco.prepare() == 0
    for name in ("instances.json", "records.json"):
        (coco.root / name).write_bytes((coco.root / name).read_text().encode(encoding))
    arguments = ["coco_ab", f"--images={coco.images}", f"--instances={coco.root / 'instances.json'}", "--workers=1"]
    code = main([*arguments, f"--byproducts={coco.root / 'records.json'}", f"--out={coco.root / 'other'}", "--strict"])
    assert (code == 0) == (encoding == "utf-8-sig")
    assert code == 0 or "save it as UTF-8" in capsys.readouterr().err


def test_categories_of_other_ids_are_other_input(coco: Coco, tmp_path: Path, capsys: Capture) -> None:
    """Two names that change places leave the file as long as it was, and every object the other label."""
    classes = tmp_path / "classes.txt"
    classes.write_text("terrier\npersian\n")

    def prepare(**names: str) -> int:
        of_coco = {number: name for name, number in CATEGORY_IDS.items()}
        for category in coco.instances["categories"]:
            category["name"] = names.get(of_coco[category["id"]], of_coco[category["id"]])
        return coco.prepare(f"--classes={classes}")

    assert prepare(dog="terrier", cat="persian") == 0
    assert {record.labels for record in coco.prepared()[1].values()} == {(0,)}
    capsys.readouterr()
    assert prepare(dog="persian", cat="terrier") == ExitCode.FAILED
    assert "was prepared from other input" in capsys.readouterr().err
