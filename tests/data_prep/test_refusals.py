"""Paths that cannot be used, and parts of the input that cannot be listed: told in one line, or counted and listed."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_prep.__main__ import main
from data_prep.problems import Reason
from data_prep.sources import tree
from luab_jax.data.dataset import read_manifest
from luab_jax.errors import ExitCode
from tests.data_prep.conftest import RawData, image_bytes

Make = Callable[..., RawData]
Capture = pytest.CaptureFixture[str]


def failure(arguments: list[str], capsys: Capture) -> str:
    capsys.readouterr()
    assert main(arguments) == ExitCode.FAILED
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1, message
    return message


IMAGENET_AB = ("imagenet_ab", "--images=x", "--out=x")
BUCKETS: list[tuple[tuple[str, ...], str]] = [
    *((IMAGENET_AB, flag) for flag in ("images", "byproducts", "boxes", "val_labels", "classes", "out")),
    *((("coco_ab", "--images=x", "--instances=x", "--out=x"), flag) for flag in ("images", "instances", "byproducts")),
    *((("suite", "imagenet_real", "--source=x", "--out=x"), flag) for flag in ("source", "real", "boxes", "out")),
    *((("folder", "--source=x", "--out=x"), flag) for flag in ("source", "byproducts", "classes")),
    (("demo",), "out"),
]


@pytest.fixture
def no_s3fs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were not installed, also where an earlier test has used it."""
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(importlib.import_module("fsspec.registry")._registry, "s3", raising=False)


@pytest.mark.usefixtures("no_s3fs")
@pytest.mark.parametrize(("arguments", "flag"), BUCKETS)
def test_a_bucket_without_its_package_is_one_line(
    arguments: tuple[str, ...], flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    message = failure([*arguments, f"--{flag}=s3://bucket/a"], capsys)
    assert f"--{flag}=s3://bucket/a: cannot be read: s3:// needs the package s3fs: pip install s3fs" in message
    assert "ftp:// is not supported" in failure([*arguments, f"--{flag}=ftp://host/a"], capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_s3fs")
@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_a_prepared_directory_in_a_bucket_without_its_package(command: str, capsys: Capture) -> None:
    assert "s3:// needs the package s3fs" in failure([command, "s3://bucket/a"], capsys)


@pytest.mark.parametrize("below", ["", "below"])
def test_out_that_is_a_file(make_raw: Make, tmp_path: Path, capsys: Capture, below: str) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    assert f"{file} is a file" in failure(make_raw(1).arguments(file / below), capsys)
    assert f"{file} is a file" in failure(["demo", f"--out={file / below}"], capsys)
    assert file.read_text() == "mine"


def test_out_that_cannot_be_made(
    make_raw: Make, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = make_raw(1)

    def denied(self: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", denied)
    assert "Permission denied" in failure(raw.arguments(tmp_path / "out"), capsys)
    assert "Permission denied" in failure(["demo", f"--out={tmp_path / 'out'}"], capsys)


def test_demo_refuses_in_one_line(tmp_path: Path, capsys: Capture) -> None:
    small = ["--num_train=8", "--num_val=8", "--side=8", "--workers=1"]
    raw = tmp_path / "raw"
    raw.mkdir()
    assert "--seed=-1" in failure(["demo", f"--out={tmp_path}", "--seed=-1", *small], capsys)
    for torn in ('{"seed": 0, "num_tr', "[]", ""):
        (raw / "STARTED.json").write_text(torn)
        assert "STARTED.json" in failure(["demo", f"--out={tmp_path}", *small], capsys)
    (raw / "STARTED.json").write_text('{"seed": 1}')
    assert "seed: 1 there, 0 asked" in failure(["demo", f"--out={tmp_path}", *small], capsys)
    (raw / "STARTED.json").rename(raw / "photo.jpg")
    assert "is not empty" in failure(["demo", f"--out={tmp_path}", *small], capsys)


def test_what_cannot_be_listed_is_counted_and_listed(
    make_raw: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, out = make_raw(), tmp_path / "out"
    (raw.images / "cat" / "gone.JPEG").symlink_to(tmp_path / "nowhere.JPEG")
    (raw.images / "cat" / "itself.JPEG").symlink_to("itself.JPEG")
    (raw.images / "cat" / ".hidden.JPEG").symlink_to("nowhere")
    (raw.images / "cat" / "good.JPEG").symlink_to(raw.images / "dog" / "dog_0.JPEG")
    os.mkfifo(raw.images / "cat" / "pipe.JPEG")
    (raw.byproducts / "dog" / "gone.xml").symlink_to(tmp_path / "nowhere.xml")
    scandir = os.scandir

    def denied(path: Any) -> Any:
        if path == raw.images / "dog":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(tree.os, "scandir", denied)
    assert main(raw.arguments(out, "--min_match=0")) == 0
    manifest = read_manifest(out, "train")
    assert manifest.num_records == 9
    assert manifest.counts[Reason.NOT_A_FILE] == 4 and manifest.counts[Reason.FOLDER_UNREADABLE] == 1
    listed = {s.file: s.detail for s in manifest.skipped if s.reason in (Reason.NOT_A_FILE, Reason.FOLDER_UNREADABLE)}
    assert listed == {
        "cat/gone.JPEG": f"link to {tmp_path / 'nowhere.JPEG'}",
        "cat/itself.JPEG": "link to itself.JPEG",
        "cat/pipe.JPEG": "",
        "dog": "Permission denied",
        "dog/gone.xml": f"link to {tmp_path / 'nowhere.xml'}",
    }
    assert main(raw.arguments(tmp_path / "strict", "--min_match=0", "--strict")) == ExitCode.FAILED


def test_broken_links_of_a_suite_and_of_a_folder_above_the_classes(tmp_path: Path) -> None:
    top = tmp_path / "imagenetv2-matched-frequency-format-val"
    for index in ("0", "1"):
        (top / index).mkdir(parents=True)
        (top / index / "a.jpeg").write_bytes(image_bytes(int(index)))
    (top / "0" / "b.jpeg").symlink_to("nowhere")
    assert main(["suite", "imagenet_v2", f"--source={top}", f"--out={tmp_path}", "--workers=1"]) == 0
    manifest = read_manifest(tmp_path / "imagenet_v2", "matched_frequency")
    assert [(s.file, s.reason) for s in manifest.skipped] == [("0/b.jpeg", Reason.NOT_A_FILE)]


def test_a_folder_that_links_to_itself_ends(make_raw: Make, tmp_path: Path) -> None:
    raw = make_raw()
    (raw.images / "cat" / "again").symlink_to(raw.images / "cat")
    (raw.images / "dog" / "cats").symlink_to(raw.images / "cat")
    assert main(raw.arguments(tmp_path / "out")) == 0
    listed = {(s.file, s.reason) for s in read_manifest(tmp_path / "out", "train").skipped}
    assert listed == {
        ("cat/again", Reason.NOT_A_FILE),
        ("dog/cats/again", Reason.NOT_A_FILE),
        ("dog/cats/cat_0.JPEG", Reason.IMAGE_ELSEWHERE),
    }
    assert main(raw.arguments(tmp_path / "strict", "--strict")) == ExitCode.FAILED


def test_classes_without_images_are_counted(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw = make_raw()
    assert main(raw.arguments(tmp_path / "whole")) == 0
    assert read_manifest(tmp_path / "whole", "train").counts["classes_without_images"] == 0
    assert "classes without images" not in capsys.readouterr().out
    raw.classes.write_text("cat\ncow\ndog\nhorse\n")
    assert main(raw.arguments(tmp_path / "part")) == 0
    assert read_manifest(tmp_path / "part", "train").counts["classes_without_images"] == 2
    assert "classes without images     2 of 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        *((IMAGENET_AB, flag) for flag in ("images", "byproducts", "boxes", "val_labels", "classes", "out")),
        (("folder", "--source=x", "--out=x"), "source"),
        (("inspect", "x"), "html"),
    ],
)
def test_a_path_of_no_letters_is_not_the_folder_one_is_in(
    command: tuple[str, ...], flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"--{flag}= is empty; expected a path" in failure([*command, f"--{flag}="], capsys)
    assert "the directory is empty; expected a path" in failure(["verify", ""], capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [*IMAGENET_AB, "--byproductz=y"],
            "imagenet_ab: error: unrecognized arguments: --byproductz=y; did you mean --byp",
        ),
        (["verify", "x", "y"], "verify: error: unrecognized arguments: y\n"),
        ([*IMAGENET_AB, "--max_side=big"], "--max_side: 'big' is not a whole number of at least 1"),
        ([*IMAGENET_AB, "--workers=0"], "--workers: '0' is not a whole number of at least 1"),
        ([*IMAGENET_AB, "--quality=101"], "--quality: '101' is not a whole number from 1 to 100"),
        ([*IMAGENET_AB, "--min_match=half"], "--min_match: 'half' is not a number from 0 to 1"),
        ([*IMAGENET_AB, "--min_match=nan"], "--min_match: 'nan' is not a number from 0 to 1"),
    ],
)
def test_wrong_usage_says_what_was_expected(arguments: list[str], message: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == ExitCode.USAGE
    assert message in capsys.readouterr().err


def test_a_text_given_as_an_archive_was_not_cut_off(tmp_path: Path, capsys: Capture) -> None:
    text = tmp_path / "list.dat"
    text.write_text("a\n")
    message = failure(["imagenet_ab", f"--images={text}", f"--out={tmp_path / 'out'}"], capsys)
    assert "list.dat: not an archive (a file of 2 bytes)" in message


def test_the_folder_of_all_splits_is_told_from_one_split(tmp_path: Path, capsys: Capture) -> None:
    parent = tmp_path / "photos"
    (parent / "train" / "cat").mkdir(parents=True)
    (parent / "train" / "cat" / "a.jpg").write_bytes(image_bytes())
    message = failure(["folder", f"--source={parent}", f"--out={tmp_path / 'out'}"], capsys)
    assert f"is it {parent}/train?" in message
