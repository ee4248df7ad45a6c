"""What a second run of the same command makes of what the first left: continued, kept or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep.__main__ import main
from data_prep.commands import Job, open_inputs, plan_folders
from data_prep.datasets.class_folders import list_images
from data_prep.datasets.listing import Inputs
from data_prep.sources.tree import Folder
from data_prep.writing.shards import Plan, part_path
from luab_jax.data.class_lists import imagenet, read_class_list
from luab_jax.data.dataset import manifest_path, read_manifest
from luab_jax.errors import ExitCode
from tests.data_prep.conftest import CLASSES, RawData, annotation_xml, image_bytes, shard_bytes

Make = Callable[..., RawData]
Capture = pytest.CaptureFixture[str]
BOX = "<object><name>cat</name><bndbox><xmin>{}</xmin><ymin>1</ymin><xmax>4</xmax><ymax>3</ymax></bndbox></object>"


def box_folder(folder: Path, x_min: int = 1, *, flat: bool = False) -> Path:
    for name in CLASSES:
        (folder if flat else folder / name).mkdir(parents=True, exist_ok=True)
        for k in range(8):
            path = folder / f"{name}_{k}.xml" if flat else folder / name / f"{name}_{k}.xml"
            path.write_bytes(annotation_xml("<size><width>8</width><height>6</height></size>", BOX.format(x_min)))
    return folder


def refused(arguments: list[str], capsys: Capture) -> str:
    capsys.readouterr()
    assert main(arguments) == ExitCode.FAILED
    return capsys.readouterr().err


def test_boxes_that_come_go_or_change_are_other_input(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw, out = make_raw(), tmp_path / "out"
    boxes = box_folder(tmp_path / "boxes")
    flat = box_folder(tmp_path / "flat", flat=True)
    longer = box_folder(tmp_path / "longer", x_min=1000)
    assert main(raw.arguments(out)) == 0
    assert f"boxes: None -> {boxes}" in refused(raw.arguments(out, f"--boxes={boxes}"), capsys)
    manifest_path(out, "train").unlink()
    assert main(raw.arguments(out, f"--boxes={boxes}")) == 0
    assert read_manifest(out, "train").counts["images_with_box"] == 16
    assert f"boxes: {boxes} -> None" in refused(raw.arguments(out), capsys)
    assert "box_bytes_listed" in refused(raw.arguments(out, f"--boxes={longer}"), capsys)
    assert f"boxes: {boxes} -> {flat}" in refused(raw.arguments(out, f"--boxes={flat}"), capsys)
    text = tmp_path / "boxes.txt"
    text.write_text("cat_0.JPEG\t1\t1\t4\t3\n")
    assert f"boxes: {boxes} -> {text}" in refused(raw.arguments(out, f"--boxes={text}"), capsys)


def test_groups_labels_and_clicks_are_input_too(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw, table = make_raw(), tmp_path / "clicks.csv"
    flags = ["folder", f"--source={raw.images}", f"--out={tmp_path / 'out'}", "--workers=1"]
    table.write_text("file_name,x,y\n" + "".join(f"{c}_{k}.JPEG,0.25,0.5\n" for c in CLASSES for k in range(8)))
    assert main([*flags, f"--byproducts={table}"]) == 0
    assert f"byproducts: {table} -> None" in refused(flags, capsys)
    table.write_text(table.read_text().replace("0.25", "0.75"))
    assert "what tables of labels, clicks, boxes, masks or categories say" in refused(
        [*flags, f"--byproducts={table}"], capsys
    )

    classes = read_class_list(str(raw.classes))
    (tmp_path / "grouped").mkdir()
    (tmp_path / "grouped" / "a").symlink_to(raw.images)
    with_groups = list_images(Inputs(images=Folder(tmp_path / "grouped")), classes, min_match=0, groups=True)
    assert {item.group for item in with_groups.items} == {"a"}
    alike = [item._replace(group="") for item in with_groups.items]
    assert set(map(repr, alike)).isdisjoint(map(repr, with_groups.items))


def flat_val(folder: Path) -> Path:
    folder.mkdir()
    for k in (1, 2):
        (folder / f"ILSVRC2012_val_{k:08d}.JPEG").write_bytes(image_bytes(k))
    return folder


def test_other_validation_labels_are_other_input(tmp_path: Path, capsys: Capture) -> None:
    images, ids = flat_val(tmp_path / "val"), imagenet().ids
    lists = [tmp_path / "one.txt", tmp_path / "two.txt"]
    for path, wnid in zip(lists, ids, strict=False):
        path.write_text(f"ILSVRC2012_val_00000001.JPEG {wnid}\nILSVRC2012_val_00000002.JPEG {ids[7]}\n")
    flags = ["imagenet_ab", f"--images={images}", f"--out={tmp_path / 'out'}", "--split=val", "--workers=1"]
    assert main([*flags, f"--val_labels={lists[0]}"]) == 0
    assert f"val_labels: {lists[0]} -> {lists[1]}" in refused([*flags, f"--val_labels={lists[1]}"], capsys)
    assert main([*flags, f"--val_labels={lists[0]}"]) == 0


def test_a_shard_that_was_cut_is_noticed(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw, out = make_raw(), tmp_path / "out"
    assert main(raw.arguments(out)) == 0
    (shard,) = out.glob("*.tfrecord-*")
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    message = refused(raw.arguments(out), capsys)
    assert f"{shard.name} ({len(whole) - 1:,} of {len(whole):,} bytes)" in message and "train.manifest.json" in message
    shard.unlink()
    assert "No such file" in refused(raw.arguments(out), capsys)


def test_leftovers_of_a_killed_run_go_when_nothing_is_to_do(make_raw: Make, tmp_path: Path) -> None:
    raw, out = make_raw(), tmp_path / "out"
    assert main(raw.arguments(out)) == 0
    (shard,) = out.glob("*.tfrecord-*")
    before = set(out.iterdir())
    other = out / "imagenet_ab-val.tfrecord-00000-of-00001.part.npz"
    for path in (part_path(shard), shard.with_name(f"{shard.name}.1.tmp"), other):
        path.write_bytes(b"")
    assert main(raw.arguments(out)) == 0
    assert set(out.iterdir()) == before | {other}


def damaged(data: bytes) -> bytes:
    """Of the same size."""
    start = data.index(b"\xff\xda") + 40
    return data[:start] + b"\xff" * 30 + b"\xce" + data[start + 31 :]


def test_a_file_that_was_mended_is_read_again(
    make_raw: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A whole copy has the size of the damaged one, so that no listing tells them apart."""
    raw, out = make_raw(), tmp_path / "out"
    photo = raw.images / "cat" / "cat_3.JPEG"
    photo.write_bytes(whole := image_bytes(3, size=(64, 48)))
    assert main(raw.arguments(tmp_path / "whole", "--shards=4")) == 0
    photo.write_bytes(damaged(whole))
    assert main(raw.arguments(out, "--shards=4", "--strict")) == ExitCode.FAILED
    assert "cat/cat_3.JPEG: image is cut off or damaged" in capsys.readouterr().err
    photo.write_bytes(whole)
    assert main(raw.arguments(out, "--shards=4", "--strict")) == 0
    assert "3 of 4 shards are there already" in capsys.readouterr().out
    assert shard_bytes(out) == shard_bytes(tmp_path / "whole")


def test_a_finished_split_tells_what_it_left_out(
    make_raw: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, out = make_raw(), tmp_path / "out"
    (raw.images / "cat" / "cat_3.JPEG").write_bytes(damaged(image_bytes(3, size=(64, 48))))
    assert main(raw.arguments(out)) == 0
    capsys.readouterr()
    assert main(raw.arguments(out)) == 0
    printed = capsys.readouterr().out
    assert "1 file(s) of split 'train' were damaged" in printed and "delete train.manifest.json" in printed


def test_a_split_of_the_version_that_did_not_decode_is_kept(
    make_raw: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its fingerprint is that of version 1."""
    raw, out = make_raw(), tmp_path / "out"
    assert main(raw.arguments(out)) == 0
    path = manifest_path(out, "train")
    old = plan_of(raw, out).fingerprint(version=1)
    path.write_text(path.read_text().replace(read_manifest(out, "train").fingerprint, old))
    capsys.readouterr()
    assert main(raw.arguments(out)) == 0
    assert "is of a version that did not decode the images; `python -m data_prep verify" in capsys.readouterr().out
    assert main(raw.arguments(out, "--no_decode_check")) == 0


@pytest.mark.parametrize("smaller", [(), ("--max_side=48",)])
def test_a_split_that_differs_by_the_decode_check_alone_need_not_be_prepared_again(
    make_raw: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], smaller: tuple[str, ...]
) -> None:
    raw = make_raw()
    decoded, quick = tmp_path / "decoded", tmp_path / "quick"
    assert main(raw.arguments(decoded, *smaller)) == 0
    assert main(raw.arguments(decoded, "--no_decode_check", *smaller)) == 0
    assert "was prepared with the decode check, and stays so" in capsys.readouterr().out
    assert main(raw.arguments(quick, "--no_decode_check", *smaller)) == 0
    assert main(raw.arguments(quick, *smaller)) == ExitCode.FAILED
    error = capsys.readouterr().err
    assert f"`python -m data_prep verify {quick}` does that" in error and "same input with --no_decode_check" in error
    assert "delete" not in error and "Then -> now" not in error
    assert "Then -> now" in refused(raw.arguments(quick, "--shards=2", *smaller), capsys)


def plan_of(raw: RawData, out: Path) -> Plan:
    inputs = open_inputs(
        str(raw.images), str(raw.byproducts), None, read_class_list(str(raw.classes)), out=out, val_labels=None
    )
    job = Job(out=out, split="train", dataset="imagenet_ab", classes=read_class_list(str(raw.classes)), workers=1)
    return plan_folders(list_images(inputs, job.classes, min_match=0.5), inputs, job)
