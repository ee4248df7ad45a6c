"""`data_prep verify`: every kind of damage is found and named, and counted in records, shards and bytes."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
from tensorflow_datasets.proto import tf_example_pb2

from data_prep.__main__ import main
from data_prep.verify import Checked, verify
from luab_jax.data.dataset import index_path, manifest_path, open_split, write_index
from luab_jax.data.features import Example, encode
from luab_jax.data.tfrecord import FOOTER_BYTES, HEADER_BYTES, frame
from luab_jax.errors import DataError, ExitCode
from tests.data_prep.conftest import REPOSITORY, RawData, image_bytes

Capture = pytest.CaptureFixture[str]
Make = Callable[..., RawData]
Change = Callable[[Any], None]


@pytest.fixture
def prepared(make_raw: Make, tmp_path: Path) -> Path:
    assert main(make_raw().arguments(tmp_path / "out", "--shards=2")) == 0
    return tmp_path / "out"


def check(directory: Path) -> Checked:
    return verify(directory, workers=1)


def rewrite(directory: Path, change: Callable[[int, bytes], bytes]) -> None:
    """Both shards anew, each with good CRCs, an index and a manifest that agree: only what a record says is wrong."""
    opened = open_split(directory, "train")
    datas = [change(i, opened.records[i]) for i in range(len(opened.records))]
    lengths = [len(data) for data in datas]
    offsets, shards, first = [], [], 0
    for shard in opened.manifest.shards:
        own = slice(first, first + shard.num_records)
        content = b"".join(map(frame, datas[own]))
        sizes = [HEADER_BYTES + length + FOOTER_BYTES for length in lengths[own]]
        offsets.append(np.cumsum([0, *sizes[:-1]]))
        (directory / shard.file_name).write_bytes(content)
        crc = int(google_crc32c.value(content))
        shards.append(dataclasses.replace(shard, num_bytes=len(content), crc32c=crc))
        first += shard.num_records
    write_index(index_path(directory, "train"), offsets, [np.asarray(lengths)])
    manifest = dataclasses.replace(opened.manifest, shards=tuple(shards))
    manifest_path(directory, "train").write_text(manifest.to_json())


def changed(change: Change) -> Callable[[int, bytes], bytes]:
    """Record 9, the second of the second shard, after `change` to its columns."""

    def of_record(index: int, data: bytes) -> bytes:
        if index != 9:
            return data
        example = tf_example_pb2.Example.FromString(data)  # type: ignore[attr-defined]
        change(example.features.feature)
        return example.SerializeToString(deterministic=True)

    return of_record


def test_what_is_good_is_counted(prepared: Path, capsys: Capture) -> None:
    rewrite(prepared, lambda _, data: data)
    capsys.readouterr()
    assert main(["verify", str(prepared), "--workers=2"]) == ExitCode.DONE
    printed = capsys.readouterr().out
    assert "16 records in 2 shards" in printed and "records/s" in printed and "every record is" in printed
    size = sum(path.stat().st_size for path in prepared.glob("*.tfrecord-*"))
    assert (found := check(prepared)).num_bytes == size and not found.failures()


def drop(name: str) -> Change:
    return lambda columns: columns.pop(name)


def as_integers(columns: Any) -> None:
    columns["clicks/x"].int64_list.value.append(1)


def other_image(columns: Any) -> None:
    columns["image"].bytes_list.value[0] = image_bytes(size=(9, 9))


def no_image(columns: Any) -> None:
    columns["image"].bytes_list.value[0] = b"GIF89a"


def damaged_photo(columns: Any) -> None:
    """Its header and its end are whole."""
    data = bytearray(image_bytes(size=(64, 64)))
    start = data.index(b"\xff\xda") + 200
    data[start : start + 400] = b"\xff" * 399 + b"\xce"
    columns["image"].bytes_list.value[0] = bytes(data)
    for side in ("width", "height"):
        columns[side].int64_list.value[0] = 64


def click_at(x: float, y: float) -> Change:
    def change(columns: Any) -> None:
        columns["clicks/x"].float_list.value[0] = x
        columns["clicks/y"].float_list.value[0] = y

    return change


def add_box(*edges: float, label: int = 0, mask: str | None = None) -> Change:
    def change(columns: Any) -> None:
        for name, edge in zip(("x_min", "y_min", "x_max", "y_max"), edges, strict=True):
            columns[f"boxes/{name}"].float_list.value.append(edge)
        columns["boxes/label"].int64_list.value.append(label)
        columns["boxes/is_crowd"].int64_list.value.append(0)
        if mask is not None:
            columns["masks/box"].int64_list.value.append(0)
            columns["masks/segmentation"].bytes_list.value.append(mask.encode())

    return change


def foreground(mask: bytes) -> Change:
    return lambda columns: columns["foreground_mask"].bytes_list.value.append(mask)


def add_action(kind: int, x: float, y: float) -> Change:
    def change(columns: Any) -> None:
        for name, value in (("showing", 0), ("time_ms", 1), ("kind", kind), ("label", 0)):
            columns[f"actions/{name}"].int64_list.value.append(value)
        columns["actions/icon"].bytes_list.value.append(b"dog")
        for name, value in (("from_x", nan), ("from_y", nan), ("to_x", x), ("to_y", y)):
            columns[f"actions/{name}"].float_list.value.append(value)

    return change


nan, inf = float("nan"), float("inf")


@pytest.mark.parametrize(
    "change, words",
    [
        (drop("clicks/x"), "columns clicks/x are missing or unknown"),
        (drop("file_name"), "columns file_name are missing or unknown"),
        (lambda columns: columns["weather"].bytes_list.value.append(b"rain"), "columns weather are missing or unknown"),
        (as_integers, "column clicks/x is a int64_list, a float_list is expected"),
        (lambda columns: columns["clicks/x"].float_list.value.append(0.5), "does not fit the schema"),
        (lambda columns: columns["height"].int64_list.value.pop(), "does not fit the schema"),
        (other_image, "width and height 8 x 6, the image has"),
        (no_image, "not a JPEG or PNG image"),
        (lambda columns: columns["label"].int64_list.value.__setitem__(0, 7), "label 7, but there are 2 classes"),
        (lambda columns: columns["labels"].int64_list.value.append(-3), "labels (-3,), but there are 2 classes"),
        (damaged_photo, "image is cut off or damaged"),
        (click_at(nan, 0.5), "clicks: (nan, 0.5) is no place in the image"),
        (click_at(0.5, inf), "clicks: (0.5, inf) is no place in the image"),
        (click_at(-inf, 0.5), "clicks: (-inf, 0.5) is no place"),
        (click_at(320.0, 200.0), "clicks: (320, 200) is no place"),
        (lambda columns: columns["clicks/showing"].int64_list.value.__setitem__(0, 5), "clicks of showing 5"),
        (add_box(nan, 0, 1, 1), "box nan, 0, 1, 1 is none"),
        (add_box(0, 0, inf, 1), "box 0, 0, inf, 1 is none"),
        (add_box(0.5, 0, 0.5, 1), "box 0.5, 0, 0.5, 1 is none"),
        (add_box(0.1, 0, 0.5, 1, label=2), "a box of label 2, but there are 2 classes"),
        (add_box(0, 0, 1, 1, mask="[1, 2]"), "not a COCO segmentation"),
        (add_box(0, 0, 1, 1, mask='{"size": [9, 9], "counts": [81]}'), "not a COCO segmentation"),
        (foreground(b"no picture"), "foreground mask: neither JPEG nor PNG"),
        (foreground(image_bytes(size=(8, 6))), "foreground mask: neither JPEG nor PNG: a mask is a PNG"),
        (foreground(image_bytes(size=(9, 9), kind="PNG")), "foreground mask: cut off or damaged: a mask of (9, 9)"),
        (add_action(0, nan, 0.5), "actions (to): (nan, 0.5) is no place"),
        (add_action(-1, 0.5, 0.5), "actions of kind -1"),
    ],
)
def test_a_record_that_is_wrong_in_itself(prepared: Path, change: Change, words: str) -> None:
    rewrite(prepared, changed(change))
    found = check(prepared)
    assert found.failures() == "1 of 16 records, in 1 of 2 shards"
    (line,) = found.lines
    assert "-00001-of-00002: record 1 at byte" in line and words in line


def test_what_a_record_may_hold_passes(prepared: Path) -> None:
    """The mouse leaves a picture by a pixel, and a place that was not recorded is twice NaN."""
    for change in (click_at(-0.1, 1.1), add_box(0, 0, 1, 1, label=-1), add_action(2, nan, nan)):
        rewrite(prepared, changed(change))
        assert not check(prepared).lines


def test_images_need_not_be_decoded(prepared: Path) -> None:
    rewrite(prepared, changed(damaged_photo))
    assert verify(prepared, workers=1).bad_records == 1
    assert verify(prepared, workers=1, decode=False).bad_records == 0
    assert main(["verify", str(prepared), "--no_decode_check", "--workers=1"]) == 0


def test_a_shard_of_another_schema(prepared: Path, capsys: Capture) -> None:
    """Every record of it fails, and only the first lines are listed."""
    schema = {"inputs": b"x", "targets": b"y"}

    def foreign(index: int, data: bytes) -> bytes:
        if index < 8:
            return data
        example = tf_example_pb2.Example()  # type: ignore[attr-defined]
        for name, value in schema.items():
            example.features.feature[name].bytes_list.value.append(value)
        return example.SerializeToString()

    rewrite(prepared, foreign)
    assert main(["verify", str(prepared), "--workers=1"]) == ExitCode.FAILED
    captured = capsys.readouterr()
    assert "8 of 16 records, in 1 of 2 shards fail" in captured.err
    assert captured.out.count("missing or unknown") == 8


def test_many_failures_are_all_counted_and_some_are_listed(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_prep.verify.MAX_SHOWN", 3)
    rewrite(prepared, lambda _, data: encode(dataclasses.replace(Example(data).record(), label=9)))
    found = check(prepared)
    assert found.failures() == "16 of 16 records, in 2 of 2 shards"
    assert len(found.lines) == 8 and sum("... and 5 more" in line for line in found.lines) == 2


def test_a_shard_as_a_whole(prepared: Path) -> None:
    shard = sorted(prepared.glob("*.tfrecord-*"))[0]
    good = shard.read_bytes()
    shard.write_bytes(good + b"more")
    found = check(prepared)
    assert found.failures() == "0 of 16 records, in 1 of 2 shards" and "length or CRC of the file" in found.lines[0]
    shard.write_bytes(good[: len(good) // 2])
    assert check(prepared).bad_records >= 4
    shard.unlink()
    found = check(prepared)
    assert found.failures() == "8 of 16 records, in 1 of 2 shards" and "cannot be read" in found.lines[0]


def test_manifest_and_index_that_do_not_agree(prepared: Path) -> None:
    path = manifest_path(prepared, "train")
    values = json.loads(path.read_text())
    values["shards"][0]["num_records"] += 1
    path.write_text(json.dumps(values))
    with pytest.raises(DataError, match="16 records, but the manifest has 17"):
        check(prepared)


def test_a_stop_changes_nothing_and_says_so(prepared: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for command, module in (("verify", "verify"), ("inspect", "inspect.directory")):
        monkeypatch.setattr(f"data_prep.{module}.{command}", stop)
        assert main([command, str(prepared)]) == ExitCode.STOPPED_RESUMABLE
        assert capsys.readouterr().err.splitlines()[-1] == "stopped; nothing was changed"


def test_lines_that_nobody_reads_end_it_without_a_word(prepared: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        command = [sys.executable, "-m", "data_prep", "verify", str(prepared), "--workers=1"]
        result = subprocess.run(command, cwd=REPOSITORY, text=True, stdout=pipe, stderr=subprocess.PIPE, check=False)
    assert "Error" not in result.stderr and result.returncode == 128 + signal.SIGPIPE
