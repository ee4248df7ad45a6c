"""COCO and COCO-AB: real images and masks with simulated icons, and files broken on purpose."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.__main__ import main
from data_prep.annotations.coco_ab import read_record
from data_prep.datasets.coco_instances import read_object
from data_prep.problems import Problems, Reason
from luab_jax.byproducts.icons import IconRule, action_columns, class_points
from luab_jax.byproducts.records import ActionKind, ImageRecord, Size
from luab_jax.data.coco_classes import CATEGORY_IDS, ICON_NAMES, UNUSED_IDS, coco
from luab_jax.data.dataset import Manifest, open_split
from luab_jax.data.features import Example, encode
from tests.data_prep.conftest import shard_bytes
from tests.data_prep.packing import zipped

Prepared = tuple[Manifest, dict[int, ImageRecord]]


def flags(data: Path, out: Path, byproducts: Path | None, *extra: str) -> list[str]:
    source = data / "coco_ab_mini"
    given = [] if byproducts is None else [f"--byproducts={byproducts}"]
    instances = (
        []
        if any(a.startswith("--instances") for a in extra)
        else [f"--instances={source / 'annotations' / 'instances_train.json'}"]
    )
    return [
        "coco_ab",
        f"--images={source / 'train'}",
        *instances,
        *given,
        f"--out={out}",
        "--split=train",
        "--workers=1",
        *extra,
    ]


def load(directory: Path) -> Prepared:
    opened = open_split(directory, "train")
    records = (Example(opened.records[i]).record() for i in range(len(opened.records)))
    return opened.manifest, {int(record.file_name.removesuffix(".jpg")): record for record in records}


@pytest.fixture(scope="module")
def mini(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    out = tmp_path_factory.mktemp("coco")
    assert main(flags(shared_data, out, shared_data / "coco_ab_mini" / "coco_ab.json", "--strict")) == 0
    return load(out)


def test_the_class_table_is_the_official_one() -> None:
    assert (len(ICON_NAMES), len(UNUSED_IDS), len(CATEGORY_IDS), len(coco())) == (91, 11, 80, 80)
    assert coco().label_of()["toothbrush"] == 79
    assert CATEGORY_IDS["stop sign"] == 13 and CATEGORY_IDS["dining table"] == 67 and CATEGORY_IDS["toothbrush"] == 90
    assert "street sign" not in CATEGORY_IDS and "hair brush" not in CATEGORY_IDS


def test_the_class_table_agrees_with_an_instances_file(shared_data: Path) -> None:
    instances = json.loads((shared_data / "coco_ab_mini" / "annotations" / "instances_train.json").read_text())
    assert {c["name"]: c["id"] for c in instances["categories"]} == CATEGORY_IDS


def test_counts_of_the_readme(mini: Prepared) -> None:
    manifest, records = mini
    counts = manifest.counts
    assert (manifest.num_records, manifest.dataset, len(manifest.classes)) == (50, "coco_ab", 80)
    assert (counts["class_image_pairs"], counts["class_image_pairs_with_point"]) == (198, 122)
    assert (counts["images_without_byproduct_record"], counts["images_with_several_showings"]) == (1, 1)
    assert counts["points_of_absent_classes"] == 1
    assert not records[462565].showings and len(records[328757].showings) == 2
    actions = [a for r in records.values() for s in r.showings for a in s.actions]
    assert sum(a.kind is ActionKind.MOVE for a in actions) == 15
    assert sum(not record.labels for record in records.values()) == 1
    assert all(record.label == -1 for record in records.values())


def test_nothing_of_a_record_is_lost(mini: Prepared, shared_data: Path) -> None:
    for raw in json.loads((shared_data / "coco_ab_mini" / "coco_ab.json").read_text()):
        showings = [s for s in mini[1][raw["image_id"]].showings if s.worker_id == raw["worker_id"]]
        (showing,) = showings
        assert (showing.hit_id, showing.page_index, showing.time_spent_ms) == (
            raw["hit_id"], raw["page_id"], raw["timeSpent"],
        )  # fmt: skip
        assert [(a.kind.value, a.icon, a.time_ms) for a in showing.actions] == [
            (a["actionType"], a["iconType"], a["timeAt"]) for a in raw["actionHistories"]
        ]
        for mine, theirs in zip(showing.actions, raw["actionHistories"], strict=True):
            for point, name in ((mine.point_from, "pointFrom"), (mine.point_to, "pointTo")):
                assert (point is None) == (theirs.get(name) is None)
                if point is not None:
                    assert point == pytest.approx((theirs[name]["x"], theirs[name]["y"]), rel=1e-6)
        assert [p.time_ms for p in showing.trace] == [p["timeAt"] for p in raw["mouseTracking"]]
        assert [(v.index, v.name, v.used_keyboard, v.time_ms) for v in showing.category_views] == [
            (v["categoryIndex"], v["categoryName"], v["usingKeyboard"], v["timeAt"]) for v in raw["categoryHistories"]
        ]


def test_objects_are_those_of_the_instances_file(mini: Prepared, shared_data: Path) -> None:
    instances = json.loads((shared_data / "coco_ab_mini" / "annotations" / "instances_train.json").read_text())
    names = coco().ids
    by_image: dict[int, list[dict]] = {image["id"]: [] for image in instances["images"]}
    for row in instances["annotations"]:
        by_image[row["image_id"]].append(row)
    for image_id, rows in by_image.items():
        record = mini[1][image_id]
        assert {names[label] for label in record.labels} == {ICON_NAMES[row["category_id"] - 1] for row in rows}
        assert [json.loads(box.mask) for box in record.boxes] == [row["segmentation"] for row in rows]
        assert [box.is_crowd for box in record.boxes] == [bool(row["iscrowd"]) for row in rows]
        for box, row in zip(record.boxes, rows, strict=True):
            x, y, _, height = row["bbox"]
            assert (box.x_min * record.width, box.y_max * record.height) == pytest.approx((x, y + height), abs=1e-2)


def on_mask(text: str, size: tuple[int, int], column: int, row: int) -> bool:
    """Whether the centre of a pixel lies in a polygon (even-odd), or the pixel in runs down the columns.

    Drawn polygons with an outline would be half a pixel larger, which takes in one point of the miniature more.
    """
    segmentation, (_, height) = json.loads(text), size
    if isinstance(segmentation, dict):
        return bool(np.searchsorted(np.cumsum(segmentation["counts"]), column * height + row, side="right") % 2)
    return any(in_polygon(np.reshape(polygon, (-1, 2)), column + 0.5, row + 0.5) for polygon in segmentation)


def in_polygon(corners: np.ndarray, x: float, y: float) -> bool:
    x1, y1 = corners.T
    x2, y2 = np.roll(corners, 1, axis=0).T
    crosses = (y1 > y) != (y2 > y)
    at = x1 + (x2 - x1) * (y - y1) / np.where(crosses, y2 - y1, 1)
    return bool(np.sum(crosses & (x < at)) % 2)


def inside_masks(record: ImageRecord, points: np.ndarray) -> list[bool]:
    """For every present class with a point, whether it lies on one of the class's masks."""
    found, size = [], (record.width, record.height)
    for label in record.labels:
        x, y = points[label]
        if math.isnan(x):
            continue
        column, row = (min(int(v * side), side - 1) for v, side in zip((x, y), size, strict=True))
        found.append(any(on_mask(box.mask, size, column, row) for box in record.boxes if box.label == label))
    return found


def test_replayed_points_lie_on_the_masks_of_their_class(mini: Prepared) -> None:
    """Each of the 50 records alone: of one image both records count."""
    inside = [
        hit
        for record in mini[1].values()
        for showing in record.showings
        for hit in inside_masks(record, class_points(IconRule.FINAL, action_columns([showing]), 80))
    ]
    assert (sum(inside), len(inside)) == (125, 125)


def test_points_of_the_official_rule_often_do_not(mini: Prepared) -> None:
    inside = [
        hit
        for record in mini[1].values()
        for hit in inside_masks(record, class_points(IconRule.ADDED, action_columns(record.showings), 80))
    ]
    assert (sum(inside), len(inside)) == (113, 123)


def test_the_bytes_do_not_depend_on_the_number_of_workers(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "coco_ab_mini" / "coco_ab.json"
    for name, workers in (("one", 1), ("two", 2)):
        arguments = [a for a in flags(shared_data, tmp_path / name, source, "--shards=3") if "--workers" not in a]
        assert main([*arguments, f"--workers={workers}"]) == 0
    assert shard_bytes(tmp_path / "one") == shard_bytes(tmp_path / "two")


def test_a_second_run_has_nothing_to_do_and_changed_records_are_noticed(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (shared_data / "coco_ab_mini" / "coco_ab.json").read_text()
    source = tmp_path / "records.json"
    source.write_text(text)
    assert main(flags(shared_data, tmp_path / "out", source)) == 0
    assert main(flags(shared_data, tmp_path / "out", source)) == 0
    assert "already prepared" in capsys.readouterr().out
    source.write_text(text.replace('"timeSpent": 39722', '"timeSpent": 39723'))
    assert main(flags(shared_data, tmp_path / "out", source)) == 1
    assert "was prepared from other input" in capsys.readouterr().err


ACTION_CASES = {
    "unknown_icon": Reason.ICON_UNKNOWN,
    "unused_icon": Reason.ICON_NO_CLASS,
    "unknown_action": Reason.ACTION_KIND,
    "null_point_on_add": Reason.ACTION_POINT,
    "null_xy": Reason.ACTION_POINT,
    "non_finite": Reason.ACTION_POINT,
    "out_of_range": Reason.ACTION_POINT,
}
BOTH = {"bottle", "oven"}
# name: problems as (reason, where), icons of the second image after replay
BAD_RECORDS: dict[str, tuple[list[tuple[Reason, str]], set[str]]] = {
    **{name: ([(reason, "image_id 309022")], {"oven"}) for name, reason in ACTION_CASES.items()},
    "missing_fields": (
        [(Reason.RECORD_UNREADABLE, "image_id 309022"), (Reason.RECORD_WITHOUT_ID, "missing_fields.json")],
        set(),
    ),
    "zero_sizes": ([], BOTH),
    "unknown_image": ([(Reason.XML_ORPHAN, "image_id 591348")], set()),
    "string_id": ([], BOTH),
    "move_without_add": ([(Reason.MOVE_WITHOUT_ADD, "image_id 309022")], BOTH),
}


@pytest.mark.parametrize("name", BAD_RECORDS)
def test_a_bad_record_costs_only_what_is_bad(shared_data: Path, tmp_path: Path, name: str) -> None:
    assert main(flags(shared_data, tmp_path, shared_data / "bad_input" / "coco" / f"{name}.json")) == 0
    manifest, records = load(tmp_path)
    problems, icons = BAD_RECORDS[name]
    assert [(s.reason, s.file.partition(", byte")[0]) for s in manifest.skipped] == sorted(problems)
    assert all(manifest.counts[reason] == 1 for reason, _ in problems)
    assert final_icons(records[184613]) == {"person", "cow"}
    assert final_icons(records[309022]) == icons
    points = class_points(IconRule.FINAL, action_columns(records[309022].showings), 80)
    assert not np.any(np.all(points == 0, axis=-1))


def final_icons(record: ImageRecord) -> set[str]:
    points = class_points(IconRule.FINAL, action_columns(record.showings), 80)
    return {coco().ids[label] for label in np.flatnonzero(~np.isnan(points[:, 0]))}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("not_a_list", "begins with an object; expected a list of COCO-AB records"),
        ("truncated", "is cut off or damaged in what begins at byte 1,785"),
        ("empty", "is empty; expected a list of COCO-AB records"),
    ],
)
def test_a_bad_file_is_named_and_nothing_is_written(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    path = shared_data / "bad_input" / "coco" / f"{name}.json"
    assert main(flags(shared_data, tmp_path / "out", path)) == 1
    assert f"error: {path}: {message}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_truncated_instances_file_is_named(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shared_data / "bad_input" / "coco" / "instances_truncated.json"
    assert main(flags(shared_data, tmp_path / "out", None, f"--instances={path}")) == 1
    assert f"error: {path}: is cut off or damaged" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_wrong_instances_file_is_told_by_its_images(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shared_data / "coco_ab_mini" / "annotations" / "instances_val.json"
    assert main(flags(shared_data, tmp_path / "out", None, f"--instances={path}")) == 1
    assert "holds 0 of the 50 images" in capsys.readouterr().err


def test_images_that_are_not_there_are_listed(shared_data: Path, tmp_path: Path) -> None:
    images = tmp_path / "some images"
    images.mkdir()
    names = sorted((shared_data / "coco_ab_mini" / "train").iterdir())
    for path in names[:30]:
        (images / path.name).symlink_to(path)
    (images / "stranger.jpg").symlink_to(names[0])
    arguments = [a for a in flags(shared_data, tmp_path / "out", None) if not a.startswith("--images")]
    assert main([*arguments, f"--images={images}"]) == 0
    manifest, records = load(tmp_path / "out")
    assert len(records) == 30
    assert manifest.counts[Reason.IMAGE_MISSING] == 20 and manifest.counts["image_files_without_entry"] == 1
    assert {s.file for s in manifest.skipped} == {"stranger.jpg", *(path.name for path in names[30:])}


def test_images_in_an_archive_give_the_shards_of_their_folder(shared_data: Path, tmp_path: Path) -> None:
    packed = zipped(shared_data / "coco_ab_mini" / "train", tmp_path / "train2014.zip", prefix="train2014/")
    for out, images in ((tmp_path / "plain", []), (tmp_path / "packed", [f"--images={packed}"])):
        source = shared_data / "coco_ab_mini" / "coco_ab.json"
        assert main([*flags(shared_data, out, source), *images]) == 0
    assert shard_bytes(tmp_path / "plain") == shard_bytes(tmp_path / "packed")


def test_a_shorter_class_list_leaves_the_others_out_and_says_so(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("person\ncow\n")
    source = shared_data / "coco_ab_mini" / "coco_ab.json"
    assert main(flags(shared_data, tmp_path / "out", source, f"--classes={tmp_path / 'classes.txt'}")) == 0
    manifest, records = load(tmp_path / "out")
    assert records[184613].labels == (0, 1)
    assert {box.label for record in records.values() for box in record.boxes} == {0, 1}
    assert manifest.counts[Reason.OBJECT_NO_CLASS] > 0 and manifest.counts[Reason.ICON_NO_CLASS] > 0


FIELDS = ("actionHistories", "actionType", "iconType", "pointTo", "pointFrom", "x", "y", "timeAt", "mouseTracking",
          "categoryHistories", "categoryIndex", "categoryName", "timeSpent", "page_id", "worker_id", "imageWidth",
          "imageHeight", "category_id", "bbox", "segmentation", "counts", "size", "iscrowd")  # fmt: skip
WORDS = ("add", "move", "remove", "person", "street sign", "0.5", "")
hostile = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.sampled_from(WORDS) | st.text(),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=8),
    max_leaves=25,
)
hostile_objects = st.dictionaries(st.sampled_from(FIELDS), hostile)


@settings(max_examples=150, deadline=None)
@given(
    hostile,
    st.dictionaries(st.sampled_from(FIELDS), hostile),
    st.lists(st.dictionaries(st.sampled_from(FIELDS), hostile)),
)
def test_whatever_a_record_holds_it_is_read_or_listed(value: object, fields: dict, actions: list) -> None:
    for record in (value, fields, fields | {"actionHistories": actions}):
        problems = Problems()
        showing = read_record(record, coco().label_of(), problems)
        if showing is None:
            assert Reason.RECORD_UNREADABLE in problems
        else:
            image = ImageRecord(file_name="a", image=b"", height=1, width=1, showings=(showing,))
            assert [len(s.actions) for s in Example(encode(image)).record().showings] == [len(showing.actions)]


@settings(max_examples=150, deadline=None)
@given(hostile_objects, hostile)
def test_whatever_an_object_holds_it_is_read_or_listed(fields: dict, segmentation: object) -> None:
    good = {"category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": segmentation}
    for value in (fields, good):
        problems = Problems()
        raw = json.dumps(value).encode()
        label, box = read_object(raw, Size(10, 10), {1: 0}, problems)
        assert (label, box is None) == (0, False) or problems.listed("a")
        if box is not None and box.mask:
            assert json.loads(box.mask) == value["segmentation"]


@pytest.mark.parametrize(("counts", "kept"), [("0", True), ("zzzz", False), ("P" * 50, False), ("\u00e9", False)])
def test_compressed_runs_that_do_not_fit_the_image_are_listed_and_not_left_to_its_readers(
    counts: str, kept: bool
) -> None:
    value = {"category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": {"size": [6, 8], "counts": counts}}
    problems = Problems()
    _, box = read_object(json.dumps(value).encode(), Size(8, 6), {1: 0}, problems)
    assert box is not None and bool(box.mask) == kept
    assert (Reason.OBJECT_MASK in problems) == (not kept)


def test_compressed_runs_of_a_size_that_no_image_has_take_no_memory() -> None:
    side = 10**6
    value = {"category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": {"size": [side, side], "counts": "0"}}
    problems = Problems()
    _, box = read_object(json.dumps(value).encode(), Size(side, side), {1: 0}, problems)
    assert box is not None and not box.mask and Reason.OBJECT_MASK in problems
