"""Real images with simulated clicks, and inputs broken on purpose: what their READMEs say comes true."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.__main__ import main
from data_prep.problems import Reason
from luab_jax.byproducts.records import ImageRecord
from luab_jax.data.dataset import Manifest, open_split, read_manifest
from luab_jax.data.features import Example, encode
from luab_jax.errors import DataError
from tests.data_prep.conftest import shard_bytes
from tests.data_prep.packing import nested_tar, tar

Prepared = tuple[Manifest, dict[str, ImageRecord]]


def load(directory: Path, split: str) -> Prepared:
    opened = open_split(directory, split)
    records = (Example(opened.records[i]).record() for i in range(len(opened.records)))
    return opened.manifest, {record.file_name: record for record in records}


@pytest.fixture(scope="module")
def mini(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    source, out = shared_data / "imagenet_ab_mini", tmp_path_factory.mktemp("mini")
    flags = [f"--images={source}/train", f"--byproducts={source}/train_xml", f"--out={out}", "--strict"]
    assert main(["imagenet_ab", *flags, "--workers=1"]) == 0
    return load(out, "train")


def test_counts_of_the_readme(mini: Prepared) -> None:
    manifest, records = mini
    counts = manifest.counts
    assert (manifest.num_records, counts["images_with_selected_byproduct"]) == (1200, 1044)
    assert counts["images_without_byproduct_file"] == 62
    assert counts["images_with_unselected_byproduct_only"] == 94
    assert counts["images_with_several_showings"] == 26
    assert counts["images_with_several_clicks_in_a_showing"] == 31
    assert counts["images_with_box"] == 484
    assert manifest.skipped == ()
    unselected = [r for r in records.values() if r.showings and not any(s.selected for s in r.showings)]
    assert sum(any(s.clicks for s in record.showings) for record in unselected) == 17
    selected = [s for r in records.values() for s in r.showings if s.selected]
    assert sum(not s.trace and s.time_spent_ms == 0 for s in selected) == 52
    outside = [c for s in selected for c in s.clicks if not (0 <= c.x <= 1 and 0 <= c.y <= 1)]
    assert len(outside) == 5


def test_archives_give_the_same_shards(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "imagenet_ab_mini"
    images = nested_tar(source / "train", tmp_path / "ILSVRC2012_img_train.tar")
    prefix = "Annotations/imagenet/train_enriched/"
    xml = tar(source / "train_xml", tmp_path / "imagenet_ab_v1_0.tar.gz", prefix=prefix, mode="w:gz")
    for out, flags in (
        ("folders", (f"--images={source}/train", f"--byproducts={source}/train_xml")),
        ("archives", (f"--images={images}", f"--byproducts={xml}")),
    ):
        assert main(["imagenet_ab", *flags, f"--out={tmp_path / out}", "--strict", "--workers=1", "--shards=3"]) == 0
    assert shard_bytes(tmp_path / "folders") == shard_bytes(tmp_path / "archives")


def test_one_point_traces(mini: Prepared) -> None:
    """28 showings with one approach, and two in which the mouse came twice."""
    selected = [s for r in mini[1].values() for s in r.showings if s.selected and s.trace]
    assert sum(len(s.trace) == sum(hover.entered for hover in s.hovers) for s in selected) == 30


def test_records_survive_another_round(mini: Prepared) -> None:
    for record in list(mini[1].values())[:20]:
        assert Example(encode(record)).record() == record


def test_validation_with_boxes_and_no_byproducts(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "imagenet_ab_mini"
    flags = [f"--images={source}/val", f"--boxes={source}/boxes/val.txt", f"--out={tmp_path}", "--split=val"]
    assert main(["imagenet_ab", *flags, f"--classes={source}/classes.txt", "--workers=1"]) == 0
    manifest, records = load(tmp_path, "val")
    assert (manifest.num_records, manifest.counts["images_with_box"], len(manifest.classes)) == (500, 500, 10)
    (box,) = records["n01443537/val_68.JPEG"].boxes  # 10 19 63 42 of 64 x 64
    assert (box.x_min, box.y_min, box.x_max, box.y_max) == (10 / 64, 19 / 64, 1.0, 43 / 64)


@pytest.fixture(scope="module")
def bad(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    source, out = shared_data / "bad_input" / "imagenet", tmp_path_factory.mktemp("bad")
    flags = [f"--images={source}/train", f"--byproducts={source}/train_xml", f"--out={out}"]
    assert main(["imagenet_ab", *flags, "--workers=1"]) == 0
    return load(out, "train")


NO_CLICK = {Reason.CLICK, Reason.NO_CLICK}
# file number: reasons listed, clicks of selected showings that are kept (None: no showing at all)
XML_CASES: dict[int, tuple[set[Reason], int | None]] = {
    94: ({Reason.XML_UNREADABLE}, None),
    378: ({Reason.XML_UNREADABLE}, None),
    162: (set(), None),
    402: ({Reason.XML_UNREADABLE}, None),
    497: ({Reason.XML_UNREADABLE}, None),
    71: ({Reason.XML_UNREADABLE}, None),
    468: ({Reason.XML_UNREADABLE}, None),
    348: (set(), None),  # only the `._` file is there
    344: (NO_CLICK, 0),
    227: (NO_CLICK, 0),
    462: (NO_CLICK, 0),
    138: (NO_CLICK, 0),
    425: (NO_CLICK, 0),
    376: ({Reason.TRACE_POINT}, 1),
    72: (NO_CLICK, 0),
    374: (NO_CLICK, 0),
    10: ({Reason.NO_CLICK}, 0),
    113: ({Reason.SELECTED}, 0),
    444: (set(), 1),
    363: ({Reason.TIME}, 1),
    184: ({Reason.TRACE_BACKWARDS}, 1),
    89: ({Reason.XML_OTHER_IMAGE}, None),
    155: (NO_CLICK, 1),
}


@pytest.mark.parametrize("number", XML_CASES)
def test_bad_xml(bad: Prepared, number: int) -> None:
    manifest, records = bad
    reasons, num_clicks = XML_CASES[number]
    assert {s.reason for s in manifest.skipped if s.file.endswith(f"_{number}.xml")} == reasons
    record = records[f"n01443537/n01443537_{number}.JPEG"]
    if num_clicks is None:
        assert not record.showings
    else:
        assert record.showings
        assert sum(len(showing.clicks) for showing in record.showings if showing.selected) == num_clicks


def test_details_of_bad_xml(bad: Prepared) -> None:
    manifest, records = bad
    detail = {s.file.rpartition("_")[2]: s.detail for s in manifest.skipped}
    assert "(an HTML page)" in detail["402.xml"] and "DTD" in detail["71.xml"] and "DTD" in detail["468.xml"]
    assert manifest.counts["byproduct_files_without_metadata"] == 1
    times = records["n01443537/n01443537_363.JPEG"].showings[0]
    assert times.time_spent_ms is None and times.submit_time_s is None
    assert "463" in detail["89.xml"]
    assert not any("._" in s.file for s in manifest.skipped)


def test_orphan_is_named(bad: Prepared) -> None:
    manifest, _ = bad
    assert [s.file for s in manifest.skipped if s.reason == Reason.XML_ORPHAN] == ["n01443537/n01443537_99999.xml"]
    assert manifest.counts["byproduct_files_without_image"] == 1


@pytest.mark.parametrize("number, reason", [
    (479, Reason.IMAGE_TRUNCATED), (167, Reason.IMAGE_EMPTY), (235, Reason.IMAGE_FORMAT), (248, Reason.IMAGE_TOO_LARGE),
])  # fmt: skip
def test_bad_image_is_skipped_and_listed(bad: Prepared, number: int, reason: Reason) -> None:
    manifest, records = bad
    name = f"n01443537/n01443537_{number}.JPEG"
    assert name not in records
    assert [s.reason for s in manifest.skipped if s.file == name] == [reason]


@pytest.mark.parametrize("number", [254, 220, 85, 87, 168, 302])
def test_odd_image_is_kept_as_it_came(bad: Prepared, shared_data: Path, number: int) -> None:
    name = f"n01443537/n01443537_{number}.JPEG"
    assert bad[1][name].image == (shared_data / "bad_input" / "imagenet" / "train" / name).read_bytes()


def test_click_on_a_rotated_display_is_turned_back(bad: Prepared) -> None:
    record = bad[1]["n01443537/n01443537_168.JPEG"]
    assert (record.width, record.height) == (48, 64)
    (click,) = record.showings[0].clicks
    assert click[:2] == pytest.approx((0.6, 1 - 0.43), abs=1e-6)  # (0.43, 0.6) on the display, a quarter turn


def test_strict_refuses_the_bad_input(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "bad_input" / "imagenet"
    flags = [f"--images={source}/train", f"--byproducts={source}/train_xml", f"--out={tmp_path}", "--strict"]
    assert main(["imagenet_ab", *flags, "--workers=1"]) == 1
    with pytest.raises(DataError, match="no prepared split"):
        read_manifest(tmp_path, "train")
