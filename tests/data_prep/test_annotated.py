"""Images of one's own with a table: the layouts of Waterbirds, CelebA and MetaShift, boxes, masks, sets of labels."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.__main__ import main
from luab_jax.api import run_suites
from luab_jax.data.class_lists import ClassList
from luab_jax.data.dataset import open_split, read_manifest
from luab_jax.data.decoding import decode_mask
from luab_jax.data.features import Example
from luab_jax.data.transforms import Preprocessing
from luab_jax.errors import ExitCode
from tests.data_prep.conftest import image_bytes

Capture = pytest.CaptureFixture[str]


def write_images(root: Path, names: list[str]) -> Path:
    for seed, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image_bytes(seed, kind="PNG" if name.endswith("png") else "JPEG"))
    return root


def folder(source: Path, out: Path, table: Path, *flags: str) -> int:
    return main(["folder", f"--source={source}", f"--annotations={table}", f"--out={out}", "--workers=1", *flags])


def examples(out: Path, split: str) -> dict[str, Example]:
    records = open_split(out, split).records
    return {(example := Example(records[i])).file_name: example for i in range(len(records))}


def test_waterbirds(tmp_path: Path) -> None:
    """Folders are species; class, place and split are columns, the split as a number."""
    names = [f"{s:03d}.Bird_{s}/b_{i}.jpg" for s in range(2) for i in range(4)]
    source = write_images(tmp_path / "waterbird", names)
    rows = [f"{i},{n},{i % 2},{2 if i > 1 else 0},{i // 4}" for i, n in enumerate(names)]
    table = source / "metadata.csv"
    table.write_text("\n".join(["img_id,img_filename,y,split,place", *rows]))
    flags = ("--file_name=img_filename", "--label=y", "--groups=y,place", "--where=split=2", "--split=test")
    assert folder(source, tmp_path / "out", table, *flags) == ExitCode.DONE
    found = examples(tmp_path / "out", "test")
    assert {n: (e.label, e.group) for n, e in found.items()} == {
        f"{i % 2}/{names[i].replace('/', '-')}": (i % 2, f"y={i % 2},place={i // 4}") for i in range(2, 8)
    }
    assert (tmp_path / "out" / "classes.txt").read_text() == "0\t0\n1\t1\n"
    assert read_manifest(tmp_path / "out", "test").counts["images_without_row"] == 2
    train = (*flags[:3], "--where=split=0", "--split=train")
    assert folder(source, tmp_path / "out", table, *train) == ExitCode.DONE  # the class list is kept

    def constant(images: np.ndarray) -> np.ndarray:
        return np.tile([1.0, 0.0], (len(images), 1))

    results = run_suites(constant, tmp_path / "out", "own_groups", classes=ClassList(("0", "1"), ("0", "1")),
                         preprocessing=Preprocessing(image_size=6, resize_side=6))  # fmt: skip
    result = results["own_groups"]
    assert result["worst_group"] == 0 and result["top1"] == 0.5 and result["gap_y"] == 1 and result["gap_place"] == 0


def test_celeba(tmp_path: Path) -> None:
    """Images lie flat, attributes are 1 and -1, the split stands in another file whose column was joined."""
    source = write_images(tmp_path / "img_align_celeba", [f"{i:06d}.jpg" for i in range(1, 7)])
    rows = [f"{i:06d}.jpg,{1 if i % 2 else -1},{1 if i > 3 else -1},{i % 3}" for i in range(1, 7)]
    table = tmp_path / "list_attr.csv"
    table.write_text("\n".join(["image_id,Blond_Hair,Male,partition", *rows]))
    flags = ("--file_name=image_id", "--label=Blond_Hair", "--groups=Blond_Hair,Male", "--split=test")
    assert folder(source, tmp_path / "out", table, *flags) == ExitCode.DONE
    found = examples(tmp_path / "out", "test")
    assert (tmp_path / "out" / "classes.txt").read_text() == "-1\t-1\n1\t1\n"
    assert found["1/000005.jpg"].label == 1 and found["1/000005.jpg"].group == "Blond_Hair=1,Male=1"


def test_metashift_keeps_its_folders_as_classes(tmp_path: Path) -> None:
    source = write_images(tmp_path / "images", ["cat/sofa_1.jpg", "cat/shelf_1.jpg", "dog/bed_1.jpg", "dog/sofa_1.jpg"])
    table = tmp_path / "contexts.jsonl"
    names = ("cat/sofa_1.jpg", "cat/shelf_1.jpg", "dog/bed_1.jpg", "dog/sofa_1.jpg")
    rows = [{"file_name": name, "context": name.split("/")[1].split("_")[0]} for name in names]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert folder(source, tmp_path / "out", table, "--groups=context", "--split=test") == ExitCode.DONE
    assert {(e.label, e.group) for e in examples(tmp_path / "out", "test").values()} == {
        (0, "context=sofa"), (0, "context=shelf"), (1, "context=bed"), (1, "context=sofa")
    }  # fmt: skip


def test_boxes_masks_and_sets_of_labels(tmp_path: Path) -> None:
    source = write_images(tmp_path / "s", ["a.png", "b.png", "c.png"])
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:5] = True
    (source / "masks").mkdir()
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    (source / "masks" / "a.png").write_bytes(buffer.getvalue())
    table = tmp_path / "t.jsonl"
    rows = [
        {"file_name": "a.png", "labels": ["cat"], "boxes": [[2, 1, 5, 4]], "mask": "masks/a.png"},
        {"file_name": "b.png", "labels": ["cat", "dog"], "boxes": [[0, 0, 8, 6], [90, 90, 95, 95]]},
        {"file_name": "c.png", "labels": [], "mask": "masks/none.png"},
        {"file_name": "d.png", "labels": ["dog"]},
    ]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert folder(source, tmp_path / "out", table, "--label=labels", "--split=val") == ExitCode.DONE
    found = examples(tmp_path / "out", "val")
    one, several, none = found["cat/a.png"], found["images/b.png"], found["images/c.png"]
    box = one.record().boxes[0]
    assert (box.x_min, box.y_min, box.x_max, box.y_max) == pytest.approx((2 / 8, 1 / 6, 5 / 8, 4 / 6))
    assert np.array_equal(decode_mask(one.foreground_masks[0]), mask)
    assert several.label == -1 and several.labels.tolist() == [0, 1] and len(several.record().boxes) == 1
    assert none.label == -1 and not len(none.labels)
    reasons = {(s.file, s.reason) for s in read_manifest(tmp_path / "out", "val").skipped}
    assert reasons == {
        ("images/b.png", "invalid box"),
        ("masks/none.png", "foreground mask is unreadable"),
        ("d.png", "row of the table without image"),
    }


def test_masks_that_change_their_images_are_other_input(tmp_path: Path, capsys: Capture) -> None:
    """Those of numpy are all of one size; and being named by the table, they are used."""
    source, table = write_images(tmp_path / "s", ["a.png", "b.png"]), tmp_path / "t.csv"
    for name, columns in (("left", slice(0, 4)), ("right", slice(4, 8))):
        mask = np.zeros((6, 8), np.uint8)
        mask[:, columns] = 1
        np.save(source / f"{name}.npy", mask)
    rows = "file_name,label,mask\na.png,cat,{}.npy\nb.png,cat,{}.npy\n"
    table.write_text(rows.format("left", "right"))
    assert folder(source, tmp_path / "out", table, "--label=label", "--strict") == ExitCode.DONE
    assert decode_mask(examples(tmp_path / "out", "train")["cat/a.png"].foreground_masks[0])[:, 0].all()
    table.write_text(rows.format("right", "left"))
    capsys.readouterr()
    assert folder(source, tmp_path / "out", table, "--label=label") == ExitCode.FAILED
    assert "masks" in capsys.readouterr().err


@pytest.mark.parametrize("line", ['{"file_name": "a.png", "y": NaN}', '{"file_name": "a.png", "y": ["cat", null]}'])
def test_a_label_that_is_missing_is_no_class(line: str, tmp_path: Path, capsys: Capture) -> None:
    source, table = write_images(tmp_path / "s", ["a.png"]), tmp_path / "t.jsonl"
    table.write_text(f"{line}\n")
    assert folder(source, tmp_path / "out", table, "--label=y") == ExitCode.FAILED
    assert "t.jsonl:1: its y is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        ("file_name,y\na.png,0\n", ("--label=z",), "t.csv:1: has no column 'z', but file_name, y"),
        ("file_name,y\na.png,\n", ("--label=y",), "t.csv:2: its y is empty"),
        ("file_name,y\na.png,0\na.png,1\n", ("--label=y",), "t.csv:3: a.png is there twice"),
        ("file_name,y,g\na.png,0,\n", ("--label=y", "--groups=g"), "t.csv:2: g is ''; a group needs a value"),
        ("file_name,y\na.png,0\n", ("--label=y", "--where=y=3"), "t.csv: holds no row with y=3"),
        ("file_name,y\na\r\rb.png,0\n", ("--label=y",), "cannot be read as CSV (new-line character seen"),
        (f"file_name,y\na.png,{'0' * 140_000}\n", ("--label=y",), "t.csv:2: cannot be read as CSV (field larger"),
        ("file_name,y\nz.png,0\n", ("--label=y",), "'z.png' here, 'a.png' there"),
        ("file_name,y,x_min\na.png,0,5\n", ("--label=y",), "is no box, expected x_min, y_min, x_max, y_max in pixels"),
        ("file_name,y\na.png,0\n", ("--label=y", "--byproducts=c.csv"), "give one of them"),
    ],
)
def test_tables_that_are_refused(
    text: str, flags: tuple[str, ...], message: str, tmp_path: Path, capsys: Capture
) -> None:
    source, table = write_images(tmp_path / "s", ["a.png"]), tmp_path / "t.csv"
    table.write_text(text)
    assert folder(source, tmp_path / "out", table, *flags) == ExitCode.FAILED
    assert message in capsys.readouterr().err


def test_a_class_that_is_not_in_the_list_is_told_with_the_place_of_the_list(tmp_path: Path, capsys: Capture) -> None:
    """The list of the first split, then one that was given, then that of the folders; each with a remedy that works."""
    source, out = write_images(tmp_path / "s", ["a.png", "b.png"]), tmp_path / "out"
    table, listed = tmp_path / "t.csv", tmp_path / "list.txt"
    table.write_text("file_name,y,split\na.png,cat,0\nb.png,dog,1\n")
    train = ("--label=y", "--where=split=0", "--split=train")
    val = ("--label=y", "--where=split=1", "--split=val")
    assert folder(source, out, table, *train) == ExitCode.DONE
    assert folder(source, out, table, *val) == ExitCode.FAILED
    of_class = "b.png is of class 'dog', which is not among the 1 classes (the first is 'cat') of "
    remedy = "prepare every split, from the first on, into another --out with --classes=FILE, which lists all of them"
    assert f"{of_class}{out / 'classes.txt'}, which the first split made; {remedy}" in capsys.readouterr().err
    listed.write_text("cat\n")
    assert folder(source, tmp_path / "again", table, *val, f"--classes={listed}") == ExitCode.FAILED
    assert f"{of_class}{listed}; add the class to {listed}\n" in capsys.readouterr().err
    listed.write_text("cat\ndog\n")
    for flags in (train, val):
        assert folder(source, tmp_path / "again", table, *flags, f"--classes={listed}") == ExitCode.DONE
    assert examples(tmp_path / "again", "val")["dog/b.png"].label == 1
    mixed = write_images(tmp_path / "mixed", ["cat/a.png", "b.png"])
    table.write_text("file_name\na.png\nb.png\n")
    assert folder(mixed, tmp_path / "third", table) == ExitCode.FAILED
    assert f"the folders of {mixed}; say with --label which column names the class\n" in capsys.readouterr().err


def test_columns_without_a_table_and_cocos_json_are_refused(tmp_path: Path, capsys: Capture) -> None:
    source = write_images(tmp_path / "s", ["cat/a.png"])
    assert main(["folder", f"--source={source}", f"--out={tmp_path / 'o'}", "--label=y"]) == ExitCode.FAILED
    assert "--annotations=FILE, which is missing" in capsys.readouterr().err
    (tmp_path / "i.json").write_text("{}")
    assert folder(source, tmp_path / "out", tmp_path / "i.json") == ExitCode.FAILED
    assert "data_prep coco_ab --instances" in capsys.readouterr().err
