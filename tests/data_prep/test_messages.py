"""What someone gets who gives the right thing in the wrong form, or one folder above it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep.__main__ import main
from data_prep.problems import Reason
from luab_jax.data.class_lists import imagenet, read_class_list
from luab_jax.data.dataset import open_split, read_manifest
from luab_jax.data.features import Example
from luab_jax.errors import DataError, ExitCode
from tests.data_prep.conftest import RawData, annotation_xml, image_bytes, metadata_xml, shard_bytes

Make = Callable[..., RawData]
Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("name", ["clicks.json", "clicks.tsv", "clicks.xlsx"])
@pytest.mark.parametrize("command", ["folder", "imagenet_ab"])
def test_clicks_in_another_format(name: str, command: str, make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw = make_raw()
    (tmp_path / name).write_text('[{"file_name": "cat/cat_0.JPEG", "x": 0.5, "y": 0.5}]')
    arguments = [command, f"--byproducts={tmp_path / name}", f"--out={tmp_path / 'out'}", "--workers=1"]
    images = f"--source={raw.images}" if command == "folder" else f"--images={raw.images}"
    assert main([*arguments, images, f"--classes={raw.classes}"]) == ExitCode.FAILED
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"--byproducts={tmp_path / name}: a {Path(name).suffix} file" in message
    assert "`data_prep folder`, as .csv with a header file_name,x,y or as .jsonl" in message


@pytest.mark.parametrize("flag", ["--images", "--boxes"])
def test_a_file_that_is_no_archive(flag: str, make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw = make_raw()
    (tmp_path / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n")
    path = tmp_path / "LOC_val_solution.csv"
    assert main(raw.arguments(tmp_path / "out", f"{flag}={path}")) == ExitCode.FAILED
    message = capsys.readouterr().err
    assert f"{flag}={path}: a .csv file, expected" in message
    assert ("Annotations/CLS-LOC/val" if flag == "--boxes" else ".tar.gz") in message


def test_the_folder_above_a_prepared_one_is_told_apart(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    assert main(make_raw().arguments(tmp_path / "data" / "prepared")) == 0
    with pytest.raises(DataError, match=rf"its folder prepared does: is it {tmp_path}/data/prepared\?"):
        open_split(tmp_path / "data", "train")
    for command in ("inspect", "verify"):
        assert main([command, str(tmp_path / "data")]) == ExitCode.FAILED
        assert f"is it {tmp_path}/data/prepared?" in capsys.readouterr().err


def kaggle(root: Path) -> Path:
    """`imagenet-object-localization-challenge` as it is unpacked."""
    data, annotations = root / "ILSVRC/Data/CLS-LOC", root / "ILSVRC/Annotations/CLS-LOC"
    for wnid in ("n01440764", "n01443537"):
        (data / "train" / wnid).mkdir(parents=True)
        (annotations / "train" / wnid).mkdir(parents=True)
        for k in range(2):
            (data / "train" / wnid / f"{wnid}_{k}.JPEG").write_bytes(image_bytes(k))
            (annotations / "train" / wnid / f"{wnid}_{k}.xml").write_bytes(annotation_xml())
    for split in ("val", "test"):
        (data / split).mkdir()
        for k in (1, 2, 3):
            (data / split / f"ILSVRC2012_{split}_{k:08d}.JPEG").write_bytes(image_bytes(k))
    (annotations / "val").mkdir()
    for k in (1, 2, 3):
        (annotations / "val" / f"ILSVRC2012_val_{k:08d}.xml").write_bytes(annotation_xml())
    (root / "ILSVRC/ImageSets/CLS-LOC").mkdir(parents=True)
    (root / "ILSVRC/ImageSets/CLS-LOC/val.txt").write_text("ILSVRC2012_val_00000001 1\n")
    rows = ["n01751748 8 6 32 24", "n09193705 8 6 32 24 n09193705 1 1 9 9", "n02105855 8 6 32 24"]
    solution = "".join(f"ILSVRC2012_val_{k:08d},{row} \n" for k, row in enumerate(rows, 1))
    (root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + solution)
    (root / "LOC_train_solution.csv").write_text("ImageId,PredictionString\n")
    (root / "LOC_synset_mapping.txt").write_text("".join(f"{wnid} name, other name\n" for wnid in imagenet().ids))
    return root


def prepared(out: Path, split: str, *arguments: str) -> set[str]:
    assert main([*arguments, "--workers=1"]) == 0
    records = open_split(out, split).records
    return {Example(records[i]).file_name for i in range(len(records))}


def test_the_root_of_kaggles_copy(tmp_path: Path) -> None:
    root, out = kaggle(tmp_path / "kaggle"), tmp_path / "out"
    classes = f"--classes={root / 'LOC_synset_mapping.txt'}"
    train = prepared(out, "train", "imagenet_ab", f"--images={root}", f"--out={out}", classes)
    assert train == {f"{wnid}/{wnid}_{k}.JPEG" for wnid in ("n01440764", "n01443537") for k in range(2)}
    labels = f"--val_labels={root / 'LOC_val_solution.csv'}"
    val = prepared(out, "val", "imagenet_ab", f"--images={root}", f"--out={out}", "--split=val", labels, "--strict")
    wanted = {"n01751748/ILSVRC2012_val_00000001.JPEG", "n09193705/ILSVRC2012_val_00000002.JPEG"}
    assert val == {*wanted, "n02105855/ILSVRC2012_val_00000003.JPEG"}
    suite = prepared(out / "imagenet", "val", "suite", "imagenet", f"--source={root}", f"--out={out}")
    assert suite == val, "the built-in labels are those of the table"


def test_names_behind_wnids_are_no_part_of_the_id(tmp_path: Path) -> None:
    path = tmp_path / "LOC_synset_mapping.txt"
    path.write_text("n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n")
    found = read_class_list(str(path))
    assert found.ids == ("n01440764", "n01443537") and found.names[0] == "tench, Tinca tinca"
    path.write_text("my class\nmy other class\n")
    assert read_class_list(str(path)).ids == ("my class", "my other class")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_lists_with_the_mark_of_an_editor(encoding: str, make_raw: Make, tmp_path: Path) -> None:
    raw = make_raw()
    assert main(raw.arguments(tmp_path / "plain")) == 0
    raw.classes.write_bytes(raw.classes.read_text().encode(encoding))
    boxes = tmp_path / "boxes.txt"
    boxes.write_bytes("cat_0.JPEG\tcat\t0\t0\t3\t3\n".encode(encoding))
    assert main(raw.arguments(tmp_path / "out", f"--boxes={boxes}")) == 0
    manifest = read_manifest(tmp_path / "out", "train")
    assert manifest.classes == read_manifest(tmp_path / "plain", "train").classes
    assert manifest.counts["images_with_box"] == 1 and not manifest.skipped


def test_imagenet_v2_in_folders_of_wnids(tmp_path: Path, capsys: Capture) -> None:
    """Named as in the original, so that lists of boxes fit."""
    for name, folders in (("index", ("0", "7", "999")), ("wnid", tuple(imagenet().ids[i] for i in (0, 7, 999)))):
        root = tmp_path / name / "imagenetv2-matched-frequency-format-val"
        for k, folder in enumerate(folders):
            (root / folder).mkdir(parents=True)
            (root / folder / f"{k}.jpeg").write_bytes(image_bytes(k))
        assert main(["suite", "imagenet_v2", f"--source={root}", f"--out={tmp_path / name}", "--workers=1"]) == 0
    assert shard_bytes(tmp_path / "wnid" / "imagenet_v2") == shard_bytes(tmp_path / "index" / "imagenet_v2")


def test_options_that_are_not_looked_at_are_refused(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw = make_raw()
    (tmp_path / "labels.txt").write_text("a.JPEG cat\n")
    assert main(raw.arguments(tmp_path / "out", f"--val_labels={tmp_path / 'labels.txt'}")) == ExitCode.FAILED
    assert "in folders that name their class; leave it out" in capsys.readouterr().err


def stray(raw: RawData, at: str, content: bytes = b"x") -> None:
    path = raw.images / at
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        ("stray.JPEG", Reason.IMAGE_ELSEWHERE),
        ("cat/deeper/stray.JPEG", Reason.IMAGE_ELSEWHERE),
        ("cat/stray.webp", Reason.IMAGE_OTHER_FORMAT),
        ("dog/scan.tiff", Reason.IMAGE_OTHER_FORMAT),
        ("dog/notes.csv", Reason.FILE_UNUSED),
        ("clicks.csv", Reason.FILE_UNUSED),
    ],
)
def test_whatever_is_not_used_is_a_line_and_fails_under_strict(
    at: str, reason: Reason, make_raw: Make, tmp_path: Path, capsys: Capture
) -> None:
    raw = make_raw()
    assert main(raw.arguments(tmp_path / "before", "--strict")) == 0
    stray(raw, at)
    capsys.readouterr()
    assert main(raw.arguments(tmp_path / "out")) == 0
    printed = capsys.readouterr().out
    assert f"1  {reason}, such as {at}" in printed and "other files, not used      1" in printed
    assert main(raw.arguments(tmp_path / "strict", "--strict")) == ExitCode.FAILED
    assert f"  {at}: {reason}" in capsys.readouterr().err


def test_what_nobody_means_as_data_is_only_counted(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw = make_raw()
    for at in ("README.md", "LICENSE", "cat/Thumbs.db", "dog/desktop.ini", "classes.txt", "cat/.hidden.JPEG"):
        stray(raw, at)
    assert main(raw.arguments(tmp_path / "out", "--strict")) == 0
    assert "other files, not used      5" in capsys.readouterr().out


def test_byproducts_of_classes_without_images_fail_under_strict(
    make_raw: Make, tmp_path: Path, capsys: Capture
) -> None:
    raw = make_raw()
    shutil.rmtree(raw.images / "dog")
    assert main(raw.arguments(tmp_path / "out", "--strict")) == ExitCode.FAILED
    assert f"dog: {Reason.XML_FOLDER}" in capsys.readouterr().err


def test_boxes_without_image_fail_under_strict(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw = make_raw()
    boxes = tmp_path / "boxes.txt"
    boxes.write_text("cat_0.JPEG\tcat\t0\t0\t3\t3\ncat_99.JPEG\tcat\t0\t0\t3\t3\n")
    assert main(raw.arguments(tmp_path / "out", f"--boxes={boxes}")) == 0
    assert f"1  {Reason.BOX_ORPHAN}, such as cat/cat_99.JPEG" in capsys.readouterr().out
    assert main(raw.arguments(tmp_path / "strict", f"--boxes={boxes}", "--strict")) == ExitCode.FAILED


def test_xml_boxes_of_one_folder_go_to_one_image_each(make_raw: Make, tmp_path: Path) -> None:
    """As text: a stem that two classes share names neither image."""
    raw, boxes = make_raw(), tmp_path / "boxes"
    box = "<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>3</ymax></bndbox></object>"
    size = "<size><width>8</width><height>6</height></size>"
    boxes.mkdir()
    for name in ("cat", "dog"):
        (raw.images / name / "0.JPEG").write_bytes(image_bytes())
    for stem in ("0", "cat_1", "nobody"):
        (boxes / f"{stem}.xml").write_bytes(annotation_xml(size, box))
    assert main(raw.arguments(tmp_path / "out", f"--boxes={boxes}")) == 0
    manifest = read_manifest(tmp_path / "out", "train")
    assert manifest.counts["images_with_box"] == 1
    assert {(s.file, s.reason) for s in manifest.skipped} == {
        ("cat/0.JPEG", Reason.BOX_SHARED),
        ("dog/0.JPEG", Reason.BOX_SHARED),
        ("nobody.xml", Reason.BOX_ORPHAN),
    }


def test_xml_among_the_images_is_used(make_raw: Make, tmp_path: Path) -> None:
    raw = make_raw()
    shutil.copytree(raw.byproducts, raw.images, dirs_exist_ok=True)
    (raw.images / "cat" / "cat_0.xml").write_bytes(annotation_xml(metadata_xml("cat/cat_0")))
    assert main(raw.arguments(tmp_path / "out", f"--byproducts={raw.images}", "--strict")) == 0
    assert read_manifest(tmp_path / "out", "train").counts["images_with_usable_click"] == 12
