"""Preparation as a whole: determinism, resuming, refusing, and what others make of the result."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep.__main__ import main
from data_prep.datasets.boxes import open_boxes
from data_prep.datasets.class_folders import list_images
from data_prep.datasets.listing import Inputs
from data_prep.sources.tree import Folder
from luab_jax.data.class_lists import ClassList, read_class_list
from luab_jax.data.dataset import open_split, read_manifest
from luab_jax.data.features import Example
from luab_jax.errors import ExitCode
from luab_jax.io.lease import Lease
from tests.data_prep.conftest import REPOSITORY, RawData, image_bytes, shard_bytes

Make = Callable[..., RawData]
Capture = pytest.CaptureFixture[str]


def records(directory: Path, split: str = "train") -> dict[str, Example]:
    source = open_split(directory, split).records
    examples = [Example(source[i]) for i in range(len(source))]
    return {example.file_name: example for example in examples}


def test_counts_labels_and_bytes(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw, out = make_raw(), tmp_path / "out"
    assert main(raw.arguments(out, "--shards=3")) == 0
    manifest = read_manifest(out, "train")
    assert (manifest.num_records, len(manifest.shards), manifest.skipped) == (16, 3, ())
    assert manifest.counts["images_with_selected_byproduct"] == 12
    assert manifest.counts["images_without_byproduct_file"] == 4
    assert "with a selected byproduct  12 (75.0%)" in capsys.readouterr().out
    examples = records(out)
    example = examples["dog/dog_2.JPEG"]
    assert (example.label, tuple(example.size)) == (1, (8, 6))
    assert example.image == (raw.images / "dog" / "dog_2.JPEG").read_bytes()
    assert example.record().showings[0].clicks[0][:2] == (0.25, 0.75)
    assert {p.name for p in out.iterdir() if "part" in p.name or "tmp" in p.name} == set()


def test_shards_do_not_depend_on_workers_or_place(make_raw: Make, tmp_path: Path) -> None:
    first, second = make_raw(name="here"), make_raw(name="there")
    assert main(first.arguments(tmp_path / "one", "--shards=3")) == 0
    assert main(second.arguments(tmp_path / "two", "--shards=3", "--workers=2")) == 0
    assert shard_bytes(tmp_path / "one") == shard_bytes(tmp_path / "two")


SLOW_READER = """
import sys, time
from data_prep.writing import shards
from data_prep.__main__ import main
from luab_jax.data import features
encode = features.encode
def slow(record):
    time.sleep(0.05)
    return encode(record)
features.encode = slow
sys.exit(main(sys.argv[1:]))
"""


def start_slow(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SLOW_READER, *arguments], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True
    )


def wait_for_a_part(out: Path) -> None:
    deadline = time.monotonic() + 60
    while not list(out.glob("*.part.npz")):
        assert time.monotonic() < deadline, "no shard was finished in a minute"
        time.sleep(0.02)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("number, exit_code", [(signal.SIGKILL, -9), (signal.SIGINT, 3), (signal.SIGTERM, 3)])
def test_stopped_run_is_continued(
    make_raw: Make, tmp_path: Path, capsys: Capture, number: signal.Signals, exit_code: int
) -> None:
    raw, out, whole = make_raw(), tmp_path / "out", tmp_path / "whole"
    process = start_slow(raw.arguments(out, "--shards=8"))
    wait_for_a_part(out)
    process.send_signal(number)
    _, printed = process.communicate(timeout=20)
    assert process.returncode == exit_code
    assert "same command goes on" in printed or number == signal.SIGKILL
    finished = {p.name: p.stat().st_mtime_ns for p in out.glob("*.part.npz")}
    assert 0 < len(finished) < 8
    shard_times = {name: (out / name.removesuffix(".part.npz")).stat().st_mtime_ns for name in finished}
    assert main(raw.arguments(out, "--shards=8")) == 0
    assert f"{len(finished)} of 8 shards are there already" in capsys.readouterr().out
    for name, modified in shard_times.items():
        assert (out / name.removesuffix(".part.npz")).stat().st_mtime_ns == modified
    assert main(raw.arguments(whole, "--shards=8")) == 0
    assert shard_bytes(out) == shard_bytes(whole)


def test_a_second_preparation_into_one_directory_is_refused(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw, out = make_raw(), tmp_path / "out"
    with Lease(out, remedy="choose another --out"):
        assert main(raw.arguments(out)) == ExitCode.FAILED
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {out}: in use by process {os.getpid()} on ") and "another --out" in line
        assert main(raw.arguments(tmp_path / "other")) == 0
        assert [path.name for path in out.iterdir()] == ["lease"]
    assert main(raw.arguments(out)) == 0
    assert not (out / "lease").exists()


def test_second_run_writes_nothing(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw, out = make_raw(), tmp_path / "out"
    assert main(raw.arguments(out)) == 0
    before = {p.name: p.stat().st_mtime_ns for p in out.iterdir()}
    assert main(raw.arguments(out)) == 0
    assert "already prepared" in capsys.readouterr().out
    assert {p.name: p.stat().st_mtime_ns for p in out.iterdir()} == before


def test_other_input_is_refused_with_the_difference(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw, out = make_raw(), tmp_path / "out"
    assert main(raw.arguments(out)) == 0
    (raw.images / "cat" / "new.jpg").write_bytes(image_bytes(99))
    assert main(raw.arguments(out)) == ExitCode.FAILED
    message = capsys.readouterr().err
    assert "images_listed: 16 -> 17" in message and "--out" in message
    raw.classes.write_text("dog\ncat\n")
    assert main(raw.arguments(out, "--split=val")) == ExitCode.FAILED
    assert "class list" in capsys.readouterr().err


def test_two_splits_share_a_directory_that_tfds_opens(make_raw: Make, tmp_path: Path) -> None:
    raw, out = make_raw(), tmp_path / "out"
    assert main(raw.arguments(out, "--shards=2")) == 0
    # An unfinished split must not disturb the metadata of the others.
    (out / "imagenet_ab-other.tfrecord-00000-of-00001").write_bytes(b"")
    assert main(raw.arguments(out, "--split=val")) == 0
    script = f"""
import sys
import tensorflow_datasets as tfds
from luab_jax.data.dataset import open_split
builder = tfds.builder_from_directory({str(out)!r})
splits = builder.info.splits
assert (splits["train"].num_examples, splits["train"].shard_lengths) == (16, [8, 8]), splits
assert splits["val"].num_examples == 16
assert builder.info.features["label"].names == ["cat", "dog"]
assert "clicks" in builder.info.features
record = open_split({str(out)!r}, "train").records[0]
example = builder.info.features.deserialize_example_np(record)
assert example["image"].shape == (6, 8, 3), example["image"].shape
assert example["file_name"].decode().split("/")[0] == ["cat", "dog"][example["label"]]
import data_prep.commands, data_prep.inspect.directory, data_prep.verify
unwanted = {{"tensorflow", "jax", "flax"}} & set(sys.modules)
assert "tensorflow" not in unwanted, unwanted
"""
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True)


def test_preparation_imports_neither_jax_nor_tensorflow() -> None:
    script = (
        "import sys, data_prep.commands, data_prep.inspect.directory, data_prep.verify, data_prep.__main__\n"
        "assert not {'tensorflow', 'jax', 'flax'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True)


def test_odd_names(make_raw: Make, tmp_path: Path) -> None:
    raw, out = make_raw(), tmp_path / "out"
    names = ['it\'s "quoted".JPEG', "wéiß 猫.png", "two.dots.jpg"]
    for name in names:
        (raw.images / "cat" / name).write_bytes(image_bytes())
    (raw.images / "cat" / "._cat_1.JPEG").write_bytes(b"AppleDouble")
    (raw.images / "cat" / "notes.txt").write_text("no image")
    assert main(raw.arguments(out)) == 0
    assert {f"cat/{name}" for name in names} < set(records(out))
    manifest = read_manifest(out, "train")
    assert manifest.num_records == 19
    assert manifest.counts["other_files_ignored"] == 1


def test_two_images_of_one_name_do_not_share_a_byproduct(make_raw: Make, tmp_path: Path) -> None:
    raw, out = make_raw(), tmp_path / "out"
    (raw.images / "cat" / "cat_0.png").write_bytes(image_bytes(kind="PNG"))
    assert main(raw.arguments(out)) == 0
    found = records(out)
    assert not found["cat/cat_0.png"].record().showings and not found["cat/cat_0.JPEG"].record().showings
    assert read_manifest(out, "train").counts["several images share one byproduct name"] == 2


def test_all_images_broken(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw = make_raw(per_class=1)
    for path in raw.images.rglob("*.JPEG"):
        path.write_bytes(b"text")
    assert main(raw.arguments(tmp_path / "out")) == ExitCode.FAILED
    assert "none of 2 images" in capsys.readouterr().err


def test_wrong_folders(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw = make_raw()
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.tar").write_bytes(b"")
    (tmp_path / "strange" / "horse").mkdir(parents=True)

    def failure(**flags: Path) -> str:
        changed = [f"--{name}={value}" for name, value in flags.items()]
        assert main(raw.arguments(tmp_path / "out", *changed)) == ExitCode.FAILED
        message = capsys.readouterr().err
        assert message.startswith("error: ") and "Traceback" not in message
        return message

    assert "no such folder" in failure(images=tmp_path / "nowhere")
    assert "no images found" in failure(images=tmp_path / "empty")
    assert "the file is empty" in failure(images=tmp_path / "file.tar")
    assert "'horse'" in (message := failure(images=tmp_path / "strange")) and "--classes" in message
    assert "the folder is empty" in failure(byproducts=tmp_path / "empty")
    assert "no such folder" in failure(byproducts=tmp_path / "nowhere")
    assert "--boxes" in failure(boxes=tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()


def test_ids_that_match_nothing_show_both_sides(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw = make_raw()
    for path in raw.byproducts.rglob("*.xml"):
        path.rename(path.with_name(f"other_{path.name}"))
    assert main(raw.arguments(tmp_path / "out")) == ExitCode.FAILED
    message = capsys.readouterr().err
    assert "'cat/cat_0.JPEG'" in message and "'cat/other_cat_0.xml'" in message and "--min_match" in message
    assert main(raw.arguments(tmp_path / "out", "--min_match=0")) == 0


def test_strict(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw, out = make_raw(), tmp_path / "out"
    assert main(raw.arguments(tmp_path / "clean", "--strict")) == 0
    (raw.images / "cat" / "cat_0.JPEG").write_bytes(b"text")
    assert main(raw.arguments(out, "--strict")) == ExitCode.FAILED
    assert "cat/cat_0.JPEG: not a JPEG or PNG image" in capsys.readouterr().err
    assert not (out / "train.manifest.json").exists()
    assert main(raw.arguments(out)) == 0
    assert main(raw.arguments(out, "--strict")) == ExitCode.FAILED


def test_full_disk_names_the_shard(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw, out = make_raw(), tmp_path / "out"
    out.mkdir()
    blocked = out / "imagenet_ab-train.tfrecord-00001-of-00002"
    blocked.mkdir()
    assert main(raw.arguments(out, "--shards=2")) == ExitCode.FAILED
    message = capsys.readouterr().err
    assert blocked.name in message and "same command" in message
    blocked.rmdir()
    assert main(raw.arguments(out, "--shards=2")) == 0


def test_boxes_win_in_both_layouts(make_raw: Make, tmp_path: Path) -> None:
    raw = make_raw(per_class=2)
    (tmp_path / "boxes").mkdir()
    (tmp_path / "boxes" / "cat.txt").write_text("cat_0.JPEG\t0\t0\t3\t5\ncat_1.JPEG\t4\t0\t99\t5\n")
    (tmp_path / "one.txt").write_text("cat_0.JPEG\tcat\t0\t0\t3\t5\n")
    for number, boxes in enumerate(("boxes", "one.txt")):
        out = tmp_path / f"out{number}"
        assert main(raw.arguments(out, f"--boxes={tmp_path / boxes}")) == 0
        (box,) = records(out)["cat/cat_0.JPEG"].record().boxes
        assert (box.x_min, box.y_min, box.x_max, box.y_max, box.label) == (0, 0, 0.5, 1, 0)
    assert read_manifest(tmp_path / "out0", "train").counts["invalid box"] == 1


def test_listing_memory(make_raw: Make) -> None:
    """What the docstring of `Item` promises, so that 1.28 million images fit."""
    import tracemalloc

    raw = make_raw(per_class=200)
    classes = read_class_list(str(raw.classes))
    tracemalloc.start()
    listing = list_images(Inputs(images=Folder(raw.images), byproducts=Folder(raw.byproducts)), classes, min_match=0.5)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held / len(listing.items) < 500


def test_flipped_byte_is_found(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw, out = make_raw(), tmp_path / "out"
    assert main(raw.arguments(out, "--shards=2")) == 0
    assert main(["verify", str(out), "--workers=1"]) == 0
    shard = out / "imagenet_ab-train.tfrecord-00001-of-00002"
    good = shard.read_bytes()
    for position in (3, 9, 500, len(good) - 1):
        data = bytearray(good)
        data[position] ^= 1
        shard.write_bytes(data)
        assert main(["verify", str(out), "--workers=1"]) == ExitCode.FAILED
        printed = capsys.readouterr().out
        record = 7 if position > 1000 else 0
        assert f"{shard}: record {record} at byte" in printed and "CRC" in printed
    shard.write_bytes(good[:-10])
    assert main(["verify", str(out), "--workers=1"]) == ExitCode.FAILED
    shard.unlink()
    assert main(["verify", str(out), "--workers=1"]) == ExitCode.FAILED


def test_inspect_prints_the_facts(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw, out = make_raw(), tmp_path / "out"
    assert main(raw.arguments(out)) == 0
    capsys.readouterr()
    assert main(["inspect", str(out), "--workers=1"]) == 0
    printed = capsys.readouterr().out
    assert "16 images" in printed and "12 of 16 (75.0%)" in printed and "0: 4, 1: 12" in printed
    assert main(["inspect", str(tmp_path)]) == ExitCode.FAILED


def test_usage() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["imagenet_ab", "--images=x"])
    assert caught.value.code == ExitCode.USAGE


def test_manifest_is_json_with_the_reason(make_raw: Make, tmp_path: Path) -> None:
    raw, out = make_raw(), tmp_path / "out"
    (raw.images / "cat" / "cat_0.JPEG").write_bytes(b"")
    assert main(raw.arguments(out)) == 0
    manifest = json.loads((out / "train.manifest.json").read_text())
    assert manifest["skipped"] == [{"file": "cat/cat_0.JPEG", "reason": "image file is empty", "detail": ""}]


def die(task: int) -> int:
    if task == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def test_killed_worker_is_named() -> None:
    from data_prep.writing.workers import run_tasks
    from luab_jax.errors import UserError

    with pytest.raises(UserError, match="task-1"):
        list(run_tasks(die, [0, 1, 2], workers=2, name_of=lambda task: f"task-{task}"))


def test_ilsvrc_box_files(make_raw: Make, tmp_path: Path) -> None:
    raw, out = make_raw(per_class=2), tmp_path / "out"
    (tmp_path / "boxes" / "cat").mkdir(parents=True)
    box = "<object><name>dog</name><bndbox><xmin>0</xmin><ymin>0</ymin><xmax>50</xmax><ymax>60</ymax></bndbox></object>"
    xml = f"<annotation><size><width>100</width><height>60</height></size>{box}</annotation>"
    (tmp_path / "boxes" / "cat" / "cat_0.xml").write_text(xml)
    (tmp_path / "boxes" / "cat" / "cat_1.xml").write_text("<html/>")
    assert main(raw.arguments(out, f"--boxes={tmp_path / 'boxes'}")) == 0
    found = {name: example.record() for name, example in records(out).items()}
    (kept,) = found["cat/cat_0.JPEG"].boxes
    assert (kept.x_max, kept.y_max, kept.label) == (0.5, 1, 1)
    assert found["cat/cat_0.JPEG"].showings  # the byproduct is still the byproduct file's
    assert read_manifest(out, "train").counts["box file is unreadable"] == 1


def test_demo_is_prepared_like_downloaded_data(tmp_path: Path) -> None:
    sizes = ["--num_train=16", "--num_val=8", "--side=16", "--workers=1"]
    assert main(["demo", f"--out={tmp_path}", *sizes]) == 0
    train, val = (read_manifest(tmp_path / "prepared", split) for split in ("train", "val"))
    assert (train.num_records, val.num_records) == (16, 8)
    assert train.skipped == val.skipped == ()
    assert val.counts["images_with_box"] == 8
    found = records(tmp_path / "suites" / "rotation", "test")
    assert {example.group for example in found.values()} > {"angle=000", "angle=090"}
    assert all(name.startswith(f"{example.group}/") for name, example in found.items())


def test_many_boxes_of_one_image_cost_no_more_than_of_many(tmp_path: Path) -> None:
    (tmp_path / "boxes.txt").write_text("a.JPEG\t0\t0\t3\t5\n" * 100_000)
    start = time.process_time()
    found = open_boxes(str(tmp_path / "boxes.txt"), ClassList(("cat",), ("cat",)), scratch=tmp_path)
    assert len(found.text["a.JPEG"]) == 100_000
    assert time.process_time() - start < 10  # a minute where the list is copied for every box


def test_byproducts_of_classes_without_images_are_told(
    make_raw: Callable[..., RawData], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = make_raw()
    shutil.rmtree(raw.images / "dog")
    assert main(raw.arguments(tmp_path / "out")) == 0
    assert "byproduct folders unused   1, no images of these classes\n" in capsys.readouterr().out
    assert read_manifest(tmp_path / "out", "train").counts["byproduct_folders_without_images"] == 1
