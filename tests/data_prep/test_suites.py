"""Every suite, from a miniature of the layout that people download: as a folder and as its archive."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.__main__ import main
from data_prep.datasets.suites import CORRUPTIONS, EXTRA_CORRUPTIONS, NAMES, SUITES
from data_prep.datasets.val_labels import NUM_VAL
from luab_jax.data import label_tables
from luab_jax.data.class_lists import imagenet
from luab_jax.data.coco_classes import CATEGORY_IDS, coco
from luab_jax.data.dataset import has_split, open_split, read_manifest
from luab_jax.data.features import Example
from luab_jax.errors import ExitCode
from tests.data_prep.conftest import image_bytes, shard_bytes
from tests.data_prep.packing import nested_tar, tar, zipped

Capture = pytest.CaptureFixture[str]
IDS = imagenet().ids
SEED = iter(range(10_000))

GOLDFISH, KITE, CONSOLE = "n01443537", "n01608432", "n02951585"
A_IDS = tuple(IDS[i] for i in label_tables.IMAGENET_A)


def write(root: Path, *names: str, kind: str = "JPEG") -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(image_bytes(next(SEED), kind=kind))
    return root


def suite(name: str, source: Path, out: Path, *flags: str) -> int:
    return main(["suite", name, f"--source={source}", f"--out={out}", "--workers=1", *flags])


def examples(out: Path, name: str, split: str = "test") -> dict[str, Example]:
    records = open_split(out / name, split).records
    found = [Example(records[i]) for i in range(len(records))]
    return {example.file_name: example for example in found}


def same_from(name: str, tmp_path: Path, folder: Path, archive: Path, *flags: str) -> Path:
    """Prepares both; the shards must be the same. Returns where."""
    assert suite(name, folder, tmp_path / "a", *flags) == 0
    assert suite(name, archive, tmp_path / "b", *flags) == 0
    assert shard_bytes(tmp_path / "a" / name) == shard_bytes(tmp_path / "b" / name)
    assert not list((tmp_path / "b" / name).glob("scratch*"))
    return tmp_path / "a"


@pytest.mark.parametrize(
    "name, wnid, label",
    [("imagenet_a", "n01498041", 6), ("imagenet_r", "n01443537", 1), ("imagenet_sketch", "n15075141", 999)],
)
def test_wnid_folders(name: str, wnid: str, label: int, tmp_path: Path, capsys: Capture) -> None:
    top = "sketch" if name == "imagenet_sketch" else name.replace("_", "-")
    write(tmp_path / "x" / top, f"{wnid}/0.000_fox_0.9.jpg", f"{wnid}/art_1.jpg", f"{IDS[105]}/b.JPEG")
    (tmp_path / "x" / top / "README.txt").write_text("no image")
    if name == "imagenet_sketch":
        archive = zipped(tmp_path / "x", tmp_path / f"{name}.zip")
    else:
        archive = tar(tmp_path / "x", tmp_path / f"{name}.tar")
    out = same_from(name, tmp_path, tmp_path / "x" / top, archive)
    found = examples(out, name)
    assert {key: e.label for key, e in found.items()} == {
        f"{wnid}/0.000_fox_0.9.jpg": label,
        f"{wnid}/art_1.jpg": label,
        f"{IDS[105]}/b.JPEG": 105,
    }
    manifest = read_manifest(out / name, "test")
    assert manifest.partial and manifest.expected_records == SUITES[name].published["test"]
    assert manifest.classes.hash == imagenet().hash
    assert f"PARTIAL SET                3 of {manifest.expected_records:,} published" in (
        said := capsys.readouterr().out
    )
    assert "byproduct" not in said and "box" not in said


def test_imagenet_o_has_no_labels(tmp_path: Path) -> None:
    write(tmp_path / "imagenet-o", "n01443537/a.JPEG")
    out = same_from("imagenet_o", tmp_path, tmp_path / "imagenet-o", tar(tmp_path / "imagenet-o", tmp_path / "o.tar"))
    (example,) = examples(out, "imagenet_o").values()
    assert (example.label, example.group) == (-1, "n01443537")


def test_another_suite_is_refused_by_name(tmp_path: Path, capsys: Capture) -> None:
    source = write(tmp_path / "data", *(f"{wnid}/a.jpg" for wnid in A_IDS))
    assert suite("imagenet_r", source, tmp_path / "out") == ExitCode.FAILED
    assert "these are the classes of imagenet_a; 114 of its 200" in capsys.readouterr().err
    assert suite("imagenet_sketch", source, tmp_path / "out") == ExitCode.FAILED
    assert "these are the classes of imagenet_a" in capsys.readouterr().err
    other = write(tmp_path / "other", "n01440764/a.jpg")
    assert suite("imagenet_a", other, tmp_path / "out") == ExitCode.FAILED
    assert "not imagenet_a; 1 of its 1 classes" in capsys.readouterr().err
    assert suite("objectnet", source, tmp_path / "out") == ExitCode.FAILED
    assert "objectnet-1.0/images/<class>" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    of_3d = write(tmp_path / "3d", "fog_3d/1/n01440764/a.jpg")
    assert suite("imagenet_c_bar", of_3d, tmp_path / "out") == ExitCode.FAILED
    assert "it has folders such as fog_3d/1/n01440764/\n" in capsys.readouterr().err
    packed = tar(other, tmp_path / "other.tar.gz", mode="w:gz")
    assert suite("imagenet_a", packed, tmp_path / "out") == ExitCode.FAILED
    assert not (tmp_path / "out").exists()


def test_more_images_than_published(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES["imagenet_a"].published, "test", 1)  # type: ignore[arg-type]
    source = write(tmp_path / "data", "n01498041/a.jpg", "n01498041/b.jpg")
    assert suite("imagenet_a", source, tmp_path / "out") == ExitCode.FAILED
    assert "was published with 1" in capsys.readouterr().err


def test_complete_set_is_not_partial(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES["imagenet_a"].published, "test", 2)  # type: ignore[arg-type]
    source = write(tmp_path / "data", "n01498041/a.jpg", "n01498041/b.jpg")
    assert suite("imagenet_a", source, tmp_path / "out") == 0
    assert not read_manifest(tmp_path / "out" / "imagenet_a", "test").partial
    assert "complete                   2 of 2" in capsys.readouterr().out


def test_imagenet_v2_folders_are_numbers(tmp_path: Path) -> None:
    """Sorted as text, `10` would come before `2` and be class 2 of 4."""
    top = "imagenetv2-matched-frequency-format-val"
    write(tmp_path / "x" / top, "0/h.jpeg", "2/g.jpeg", "10/f.jpeg", "999/e.jpeg")
    archive = tar(tmp_path / "x", tmp_path / "imagenetv2-matched-frequency.tar.gz", mode="w:gz")
    out = same_from("imagenet_v2", tmp_path, tmp_path / "x", archive)
    found = examples(out, "imagenet_v2", "matched_frequency")
    assert {key: e.label for key, e in found.items()} == {
        "0/h.jpeg": 0,
        "2/g.jpeg": 2,
        "10/f.jpeg": 10,
        "999/e.jpeg": 999,
    }


def test_imagenet_v2_variants(tmp_path: Path, capsys: Capture) -> None:
    root, out = tmp_path / "v2", tmp_path / "out"
    write(root, "imagenetv2-threshold0.7-format-val/7/a.jpeg", "imagenetv2-top-images-format-val/7/b.jpeg")
    assert suite("imagenet_v2", root, out) == 0
    for split, name in (("threshold_0_7", "7/a.jpeg"), ("top_images", "7/b.jpeg")):
        assert {key: e.label for key, e in examples(out, "imagenet_v2", split).items()} == {name: 7}
    renamed = write(tmp_path / "renamed", "7/a.jpeg")
    assert suite("imagenet_v2", renamed, tmp_path / "other") == ExitCode.FAILED
    assert "--split, one of matched_frequency" in capsys.readouterr().err
    assert suite("imagenet_v2", renamed, tmp_path / "other", "--split=top_images") == 0
    matched = write(tmp_path / "imagenetv2-matched-frequency-format-val", "7/a.jpeg")
    assert suite("imagenet_v2", matched, tmp_path / "third", "--split=top_images") == ExitCode.FAILED
    assert "holds no image of split top_images of imagenet_v2, but of matched_frequency" in capsys.readouterr().err


def test_imagenet_c_groups(tmp_path: Path) -> None:
    """Tars by group of corruptions, in one folder."""
    write(tmp_path / "noise", "gaussian_noise/3/n01440764/a.JPEG", "shot_noise/5/n02951585/a.JPEG")
    write(tmp_path / "extra", "spatter/1/n02951585/a.JPEG")
    (tmp_path / "tars").mkdir()
    for name in ("noise", "extra"):
        tar(tmp_path / name, tmp_path / "tars" / f"{name}.tar")
        (tmp_path / "all").mkdir(exist_ok=True)
        for kind in (tmp_path / name).iterdir():
            kind.rename(tmp_path / "all" / kind.name)
    out = same_from("imagenet_c", tmp_path, tmp_path / "all", tmp_path / "tars")
    found = examples(out, "imagenet_c")
    assert {(e.label, e.group) for e in found.values()} == {
        (0, "gaussian_noise,severity=3"),
        (IDS.index(CONSOLE), "shot_noise,severity=5"),
    }
    assert [e.group for e in examples(out, "imagenet_c", "extra").values()] == ["spatter,severity=1"]
    assert read_manifest(out / "imagenet_c", "test").expected_records == 3_750_000


def test_objectnet(tmp_path: Path) -> None:
    images = "objectnet-1.0/images"
    write(
        tmp_path / "x",
        f"{images}/alarm_clock/1.png",
        f"{images}/banana/2.png",
        f"{images}/air_freshener/3.png",
        kind="PNG",
    )
    (tmp_path / "x" / "objectnet-1.0" / "mappings").mkdir()
    (tmp_path / "x" / "objectnet-1.0" / "mappings" / "objectnet_to_imagenet_1k.json").write_text("{}")
    out = same_from("objectnet", tmp_path, tmp_path / "x", zipped(tmp_path / "x", tmp_path / "objectnet-1.0.zip"))
    found = examples(out, "objectnet")
    facts = {e.group: (e.label, e.labels.tolist()) for e in found.values()}
    assert facts == {"alarm_clock": (-1, [409, 530]), "banana": (954, [954])}
    assert read_manifest(out / "objectnet", "test").counts["images_of_other_folders_left_out"] == 1


def test_all_classes_of_objectnet_that_imagenet_has(tmp_path: Path) -> None:
    write(tmp_path / "images", *(f"{folder}/1.png" for folder in label_tables.OBJECTNET), kind="PNG")
    assert suite("objectnet", tmp_path, tmp_path / "out") == 0
    found = {e.group: tuple(e.labels.tolist()) for e in examples(tmp_path / "out", "objectnet").values()}
    assert found == label_tables.OBJECTNET and len(found) == 113


@pytest.mark.parametrize(
    "folder, split", [("area", "size"), ("rotation", "rotation"), ("location20_area02_min0pc", "location")]
)
def test_si_score(folder: str, split: str, tmp_path: Path) -> None:
    write(tmp_path / "x" / folder, "kite/12.jpg", "zucchini/13.jpg")
    out = same_from("si_score", tmp_path, tmp_path / "x" / folder, zipped(tmp_path / "x", tmp_path / f"{split}.zip"))
    found = examples(out, "si_score", split)
    assert {key: e.label for key, e in found.items()} == {"kite/12.jpg": 21, "zucchini/13.jpg": 939}
    assert read_manifest(out / "si_score", split).expected_records == SUITES["si_score"].published[split]


def test_backgrounds_with_masks(tmp_path: Path, capsys: Capture) -> None:
    top = tmp_path / "x" / "bg_challenge"
    variants = SUITES["backgrounds_challenge"].published
    write(top, *(f"{variant}/val/02_wheeled vehicle/fg_n1_1.JPEG" for variant in variants))
    write(top, "original/val/00_dog/fg_n2_7.JPEG")
    mask = np.random.default_rng(0).random((6, 8)) < 0.5
    for name, array in (("02_wheeled vehicle/fg_n1_1", mask), ("00_dog/fg_n2_7", mask[:3])):
        (top / "fg_mask" / "val" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(top / "fg_mask" / "val" / f"{name}.npy", array)
    archive = tar(tmp_path / "x", tmp_path / "backgrounds_challenge_data.tar.gz", mode="w:gz")
    out = same_from("backgrounds_challenge", tmp_path, top, archive)
    for variant in variants:
        found = examples(out, "backgrounds_challenge", variant)
        assert found["02_wheeled vehicle/fg_n1_1.JPEG"].label == 2
        assert len(found["02_wheeled vehicle/fg_n1_1.JPEG"].foreground_masks) == (variant == "original")
    found = examples(out, "backgrounds_challenge", "original")
    (png,) = found["02_wheeled vehicle/fg_n1_1.JPEG"].foreground_masks
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), mask)
    assert not found["00_dog/fg_n2_7.JPEG"].foreground_masks
    manifest = read_manifest(out / "backgrounds_challenge", "original")
    assert manifest.counts["images_with_mask"] == 1 and "with a mask                1\n" in capsys.readouterr().out
    assert [s.detail for s in manifest.skipped] == ["shape (3, 8), the image has (6, 8)"]
    assert manifest.classes.ids[2] == "02_wheeled vehicle" and len(manifest.classes) == 9
    assert main(["verify", str(out / "backgrounds_challenge"), "--workers=1"]) == 0


def val_folder(root: Path) -> Path:
    return write(root, *(f"ILSVRC2012_val_{number:08d}.JPEG" for number in (1, 2, 50_000)))


def test_imagenet_val_with_boxes_and_real_labels(tmp_path: Path) -> None:
    folder = val_folder(tmp_path / "val")
    real: list[list[int]] = [[] for _ in range(50_000)]
    real[0], real[49_999] = [65, 60], [7]
    (tmp_path / "real.json").write_text(json.dumps(real))
    (tmp_path / "boxes.txt").write_text("ILSVRC2012_val_00000001.JPEG\t0\t0\t3\t5\n")
    archive = tar(folder, tmp_path / "ILSVRC2012_img_val.tar")
    flags = (f"--real={tmp_path / 'real.json'}", f"--boxes={tmp_path / 'boxes.txt'}")
    out = same_from("imagenet_real", tmp_path, folder, archive, *flags)
    found = {key.rpartition("/")[2]: e for key, e in examples(out, "imagenet_real", "val").items()}
    first, second = found["ILSVRC2012_val_00000001.JPEG"], found["ILSVRC2012_val_00000002.JPEG"]
    assert (first.label, first.labels.tolist(), second.label, second.labels.tolist()) == (65, [65, 60], 970, [])
    assert found["ILSVRC2012_val_00050000.JPEG"].labels.tolist() == [7]
    assert [box.x_max for box in first.record().boxes] == [0.5]
    manifest = read_manifest(out / "imagenet_real", "val")
    assert manifest.partial and manifest.counts["images_with_real_labels"] == 2


def test_imagenet_val_in_class_folders_is_the_same(tmp_path: Path) -> None:
    flat = val_folder(tmp_path / "flat")
    for name, wnid in (("00000001", "n01751748"), ("00000002", "n09193705"), ("00050000", "n02437616")):
        path = tmp_path / "classes" / wnid / f"ILSVRC2012_val_{name}.JPEG"
        path.parent.mkdir(parents=True)
        path.write_bytes((flat / path.name).read_bytes())
    same_from("imagenet", tmp_path, flat, tmp_path / "classes")
    same_from("imagenet", tmp_path / "t", flat, nested_tar(tmp_path / "classes", tmp_path / "nested.tar"))


@pytest.mark.parametrize(
    "text, words", [("[[1]]", "50,000 lists"), ("{", "cannot be read"), ("[" + "[1000]," * 49_999 + "[0]]", "0 to 999")]
)
def test_wrong_real_labels(tmp_path: Path, capsys: Capture, text: str, words: str) -> None:
    (tmp_path / "real.json").write_text(text)
    folder = val_folder(tmp_path / "val")
    assert suite("imagenet_real", folder, tmp_path / "out", f"--real={tmp_path / 'real.json'}") == ExitCode.FAILED
    assert words in capsys.readouterr().err


def test_real_labels_are_asked_for(tmp_path: Path, capsys: Capture) -> None:
    assert suite("imagenet_real", val_folder(tmp_path / "val"), tmp_path / "out") == ExitCode.FAILED
    assert "--real=real.json" in capsys.readouterr().err


def test_tables_are_those_of_the_protocols() -> None:
    """Counts and overlaps that the suites' authors or the tables' sources state."""
    a, o, r = (set(t) for t in (label_tables.IMAGENET_A, label_tables.IMAGENET_O, label_tables.IMAGENET_R))
    assert (len(a), len(o), len(r), len(a & o), len(a & r)) == (200, 200, 200, 59, 86)
    assert [len(indices) for indices in label_tables.IN9.values()] == [116, 52, 42, 36, 35, 27, 26, 20, 16]
    assert (len(label_tables.OBJECTNET), len({i for v in label_tables.OBJECTNET.values() for i in v})) == (113, 125)
    assert len(label_tables.SI_SCORE) == 61 and label_tables.SI_SCORE["kite"] == IDS.index(KITE)
    assert label_tables.IMAGENET_R[0] == IDS.index(GOLDFISH)
    assert set(NAMES) >= set(SUITES)


XML_BOX = (
    "<annotation><size><width>8</width><height>6</height></size><object><name>n01751748</name><bndbox>"
    "<xmin>1</xmin><ymin>2</ymin><xmax>4</xmax><ymax>3</ymax></bndbox></object></annotation>"
)


@pytest.mark.parametrize("spelling", ["tgz", "folder", "localization.txt"])
def test_imagenet_localisation(spelling: str, tmp_path: Path) -> None:
    """The same box from ILSVRC's XML, as downloaded and unpacked, and from the WSOL benchmark's list of it."""
    folder = val_folder(tmp_path / "val")
    xml = tmp_path / "boxes" / "val" / "ILSVRC2012_val_00000001.xml"
    xml.parent.mkdir(parents=True)
    xml.write_text(XML_BOX)
    text = tmp_path / "localization.txt"
    text.write_text("val/ILSVRC2012_val_00000001.JPEG,1,2,4,3\nval/ILSVRC2012_val_00000777.JPEG,0,0,1,1\n")
    boxes = {
        "tgz": lambda: tar(tmp_path / "boxes", tmp_path / "ILSVRC2012_bbox_val_v3.tgz", mode="w:gz"),
        "folder": lambda: tmp_path / "boxes",
        "localization.txt": lambda: text,
    }[spelling]()
    assert suite("imagenet_localisation", folder, tmp_path / "out", f"--boxes={boxes}") == 0
    found = {e.label: e.record().boxes for e in examples(tmp_path / "out", "imagenet_localisation", "val").values()}
    ((box,), none, _) = (found[label] for label in (65, 970, 355))
    assert (box.x_min, box.x_max, box.label) == (1 / 8, 4 / 8, 65) and not none
    np.testing.assert_allclose((box.y_min, box.y_max), (2 / 6, 3 / 6), rtol=1e-6)
    assert read_manifest(tmp_path / "out" / "imagenet_localisation", "val").expected_records == 50_000


def test_localisation_needs_boxes(tmp_path: Path, capsys: Capture) -> None:
    folder = val_folder(tmp_path / "val")
    assert suite("imagenet_localisation", folder, tmp_path / "out") == ExitCode.FAILED
    assert "--boxes=ILSVRC2012_bbox_val_v3.tgz" in capsys.readouterr().err
    (tmp_path / "bad.txt").write_text("val/ILSVRC2012_val_00000001.JPEG,1,2,4\n")
    flags = f"--boxes={tmp_path / 'bad.txt'}"
    assert suite("imagenet_localisation", folder, tmp_path / "out", flags) == ExitCode.FAILED
    assert "bad.txt:1" in capsys.readouterr().err


def test_boxes_of_imagenet_v2(tmp_path: Path) -> None:
    """The WSOL benchmark chooses its threshold on threshold-0.7, whose images have boxes in its list."""
    root = write(tmp_path / "imagenetv2-threshold0.7-format-val", "0/a0.jpeg", "10/b1.jpeg")
    (tmp_path / "localization.txt").write_text("val2/10/b1.jpeg,0,0,4,6\nval2/10/b1.jpeg,4,0,8,6\n")
    assert suite("imagenet_v2", root, tmp_path / "out", f"--boxes={tmp_path / 'localization.txt'}") == 0
    found = examples(tmp_path / "out", "imagenet_v2", "threshold_0_7")
    assert [(b.x_min, b.x_max, b.label) for b in found["10/b1.jpeg"].record().boxes] == [(0, 0.5, 10), (0.5, 1, 10)]
    assert not found["0/a0.jpeg"].record().boxes


def coco_files(root: Path) -> Path:
    """COCO's two folders, as its zips unpack: an image with three objects, and one without."""
    names = [f"COCO_val2014_{k:012d}.jpg" for k in (42, 73)]
    write(root / "val2014", *names)
    write(root / "train2014", "COCO_train2014_000000000009.jpg")
    objects = [
        {"id": 1, "category_id": 90, "bbox": [0, 0, 4, 3], "segmentation": [[0, 0, 4, 0, 4, 3, 0, 3]], "iscrowd": 0},
        {"id": 2, "category_id": 1, "bbox": [4, 0, 4, 6], "segmentation": {"counts": [24, 24], "size": [6, 8]},
         "iscrowd": 1},
        {"id": 3, "category_id": 1, "bbox": [0, 3, 4, 3], "segmentation": [[0, 3, 4, 3, 4, 6]], "iscrowd": 0},
    ]  # fmt: skip
    instances = {
        "images": [{"id": k, "file_name": n, "width": 8, "height": 6} for k, n in zip((42, 73), names, strict=True)],
        "annotations": [row | {"image_id": 42} for row in objects],
        "categories": [{"id": i, "name": n} for n, i in CATEGORY_IDS.items()],
    }
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_val2014.json").write_text(json.dumps(instances))
    return root


def test_coco_from_its_archives_and_unpacked(tmp_path: Path) -> None:
    root = coco_files(tmp_path / "raw")
    images = zipped(root / "val2014", tmp_path / "val2014.zip", prefix="val2014/")
    instances = zipped(root / "annotations", tmp_path / "annotations_trainval2014.zip", prefix="annotations/")
    assert suite("coco", root, tmp_path / "unpacked") == 0  # the folder that holds both
    assert suite("coco", root / "val2014", tmp_path / "beside") == 0
    assert suite("coco", images, tmp_path / "zip") == 0  # the other zip lies beside it
    assert suite("coco", images, tmp_path / "named", f"--instances={instances}") == 0
    shards = [shard_bytes(tmp_path / name / "coco") for name in ("unpacked", "beside", "zip", "named")]
    assert all(found == shards[0] for found in shards)
    assert not list((tmp_path / "named" / "coco").glob("scratch*"))

    found = examples(tmp_path / "zip", "coco", "val")
    first, second = (found[f"COCO_val2014_{k:012d}.jpg"].record() for k in (42, 73))
    assert (first.label, first.labels, second.labels) == (-1, (0, 79), ())
    assert [(b.label, b.is_crowd, bool(b.mask)) for b in first.boxes] == [
        (79, False, True),
        (0, True, True),
        (0, False, True),
    ]
    manifest = read_manifest(tmp_path / "zip" / "coco", "val")
    assert (manifest.expected_records, manifest.partial, manifest.counts["masks"]) == (40_504, True, 3)
    assert has_split(tmp_path / "zip" / "coco", "val") and manifest.classes.hash == coco().hash
    assert suite("coco", images, tmp_path / "named", f"--instances={instances}") == 0  # again: nothing to do


def test_coco_without_its_instances(tmp_path: Path, capsys: Capture) -> None:
    root = coco_files(tmp_path / "raw")
    assert suite("coco", root, tmp_path / "out", "--split=train") == ExitCode.FAILED
    assert "no instances_train2014.json beside" in capsys.readouterr().err
    assert suite("coco", root / "nowhere", tmp_path / "out") == ExitCode.FAILED
    assert "nowhere: no such file or folder" in capsys.readouterr().err
    assert suite("coco", root, tmp_path / "out", "--split=test") == ExitCode.FAILED
    assert "no split 'test', but val, train" in capsys.readouterr().err
    wrong = zipped(root / "train2014", tmp_path / "wrong.zip")
    assert suite("coco", root, tmp_path / "out", f"--instances={wrong}") == ExitCode.FAILED
    assert "holds no instances_val2014.json" in capsys.readouterr().err
    (tmp_path / "cut.zip").write_bytes(wrong.read_bytes()[:-10])
    assert suite("coco", root, tmp_path / "out", f"--instances={tmp_path / 'cut.zip'}") == ExitCode.FAILED
    assert "cut.zip" in capsys.readouterr().err


def test_coco_stored_smaller(tmp_path: Path) -> None:
    root = coco_files(tmp_path / "raw")
    assert suite("coco", root, tmp_path / "out", "--max_side=4") == 0
    assert read_manifest(tmp_path / "out" / "coco", "val").stored_smaller
    sizes = [example.record() for example in examples(tmp_path / "out", "coco", "val").values()]
    assert all(max(record.width, record.height) == 4 for record in sizes)


@pytest.mark.parametrize(
    ("name", "option", "words"),
    [
        ("coco", "--boxes=there", "--boxes: suite coco does not look at it, but at --instances"),
        ("coco", "--generate", "--generate makes imagenet_c, not coco"),
        ("imagenet", "--password=x", "--password: suite imagenet does not look at it"),
        ("imagenet_a", "--real=there", "--real: suite imagenet_a does not look at it, but at --boxes and --password"),
        ("imagenet_c", "--val_labels=there", "--val_labels: suite imagenet_c does not look at it"),
        (
            "imagenet_p",
            "--max_side=100",
            "suite imagenet_p stores images of 224 px; leave out --max_side and --quality",
        ),
        ("imagenet_p", "--boxes=there", "--boxes: suite imagenet_p does not look at it; leave it out"),
    ],
)
def test_an_option_of_another_suite_is_refused(
    name: str, option: str, words: str, tmp_path: Path, capsys: Capture
) -> None:
    assert suite(name, write(tmp_path / "raw"), tmp_path / "out", option) == ExitCode.FAILED
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_a_source_that_is_not_there_is_named_by_its_flag(name: str, tmp_path: Path, capsys: Capture) -> None:
    needed = {"imagenet_real": "--real=real.json", "imagenet_localisation": "--boxes=boxes",
              "imagenet_x": "--factors=factors.jsonl", "imagenet_w": "--font=font.otf",
              "hard_imagenet": "--masks=masks"}  # fmt: skip
    wanted = [needed[name]] if name in needed else []
    assert suite(name, tmp_path / "nothing", tmp_path / "out", *wanted) == ExitCode.FAILED
    assert f"--source={tmp_path / 'nothing'}: no such" in capsys.readouterr().err


def test_imagenet_c_has_15_and_4_corruptions_in_5_severities(tmp_path: Path) -> None:
    """Every folder of the five tars, two classes each: 15 x 5 for the headline and 4 x 5 aside."""
    kinds = (*CORRUPTIONS, *EXTRA_CORRUPTIONS)
    folders = [
        f"{kind}/{severity}/{wnid}" for kind in kinds for severity in range(1, 6) for wnid in (GOLDFISH, CONSOLE)
    ]
    data = image_bytes(1)
    for folder in folders:
        (tmp_path / "all" / folder).mkdir(parents=True)
        (tmp_path / "all" / folder / "ILSVRC2012_val_00000001.JPEG").write_bytes(data)
    assert suite("imagenet_c", tmp_path / "all", tmp_path / "out") == 0
    for split, names in (("test", CORRUPTIONS), ("extra", EXTRA_CORRUPTIONS)):
        found = examples(tmp_path / "out", "imagenet_c", split)
        groups = {f"{name},severity={severity}" for name in names for severity in range(1, 6)}
        assert {e.group for e in found.values()} == groups and len(found) == 2 * len(groups)
        for name, example in found.items():
            kind, severity, wnid, _ = name.split("/")
            assert example.group == f"{kind},severity={severity}" and example.label == IDS.index(wnid)
    assert (len(CORRUPTIONS), len(EXTRA_CORRUPTIONS)) == (15, 4)


@pytest.mark.parametrize("variant", list(SUITES["backgrounds_challenge"].published))
def test_nine_classes_of_every_background_variant(variant: str, tmp_path: Path) -> None:
    root = write(tmp_path / "bg_challenge", *(f"{variant}/val/{name}/a.JPEG" for name in label_tables.IN9))
    assert suite("backgrounds_challenge", root, tmp_path / "out") == 0
    found = examples(tmp_path / "out", "backgrounds_challenge", variant)
    assert {name: e.label for name, e in found.items()} == {
        "00_dog/a.JPEG": 0,
        "01_bird/a.JPEG": 1,
        "02_wheeled vehicle/a.JPEG": 2,
        "03_reptile/a.JPEG": 3,
        "04_carnivore/a.JPEG": 4,
        "05_insect/a.JPEG": 5,
        "06_musical instrument/a.JPEG": 6,
        "07_primate/a.JPEG": 7,
        "08_fish/a.JPEG": 8,
    }


PUBLISHED = {
    ("imagenet_v2", "matched_frequency"): 10_000,
    ("imagenet_v2", "threshold_0_7"): 10_000,
    ("imagenet_v2", "top_images"): 10_000,
    ("imagenet_a", "test"): 7500,
    ("imagenet_o", "test"): 2000,
    ("imagenet_r", "test"): 30_000,
    ("imagenet_sketch", "test"): 50_889,
    ("imagenet_c", "test"): 3_750_000,
    ("imagenet_c", "extra"): 1_000_000,
    ("objectnet", "test"): 18_574,
    ("si_score", "size"): 92_884,
    ("si_score", "location"): 541_548,
    ("si_score", "rotation"): 39_540,
    ("cue_conflict", "test"): 1280,
    **{("imagenet_d", attribute): None for attribute in SUITES["imagenet_d"].published},
    ("counteranimal", "common"): None,
    ("counteranimal", "counter"): None,
    ("imagenet_c_bar", "test"): 2_500_000,
    ("imagenet_3dcc", "test"): 3_000_000,
    **{("backgrounds_challenge", variant): 4050 for variant in SUITES["backgrounds_challenge"].published},
}


def test_published_counts() -> None:
    """What the authors state; location is 441 places of 1,228 pictures."""
    assert {(s.name, split): count for s in SUITES.values() for split, count in s.published.items()} == PUBLISHED
    assert PUBLISHED["si_score", "location"] == 441 * 1228 and NUM_VAL == 50_000
