"""Class folders of the user's own, and the ten lines of the README about them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from data_prep.__main__ import main
from luab_jax.data.dataset import open_split, read_manifest
from luab_jax.data.features import Example
from luab_jax.errors import ExitCode
from tests.data_prep.conftest import REPOSITORY, annotation_xml, image_bytes, metadata_xml, shard_bytes
from tests.data_prep.packing import zipped

Capture = pytest.CaptureFixture[str]


def pictures(root: Path) -> Path:
    for split in ("train", "val"):
        for name in ("dog/rex.jpg", "cat/tom.jpg", "cat/same.png", "dog/same.png"):
            path = root / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image_bytes(len(name), kind="PNG" if name.endswith("png") else "JPEG"))
    return root / "train"


def examples(out: Path, split: str = "train") -> dict[str, Example]:
    records = open_split(out, split).records
    found = [Example(records[i]) for i in range(len(records))]
    return {example.file_name: example for example in found}


def folder(source: Path, out: Path, *flags: str) -> int:
    return main(["folder", f"--source={source}", f"--out={out}", "--workers=1", *flags])


def test_commands_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (REPOSITORY / "data_prep" / "README.md").read_text()
    section = text.partition("## Your own data")[2].partition("\n## ")[0]
    commands = [line.strip() for line in section.splitlines() if line.startswith("    python -m data_prep ")]
    assert len(commands) == 3
    pictures(tmp_path / "pictures")
    (tmp_path / "clicks.csv").write_text("file_name,x,y\ncat/tom.jpg,0.25,0.75\nrex.jpg,0.5,0.5\n")
    monkeypatch.chdir(tmp_path)
    for command in commands:
        assert main([*shlex.split(command)[3:], "--workers=1"]) == 0
    assert (tmp_path / "prepared" / "classes.txt").read_text() == "cat\tcat\ndog\tdog\n"
    found = examples(tmp_path / "prepared")
    assert {name: e.label for name, e in found.items()} == {
        "cat/same.png": 0, "cat/tom.jpg": 0, "dog/rex.jpg": 1, "dog/same.png": 1
    }  # fmt: skip
    (showing,) = found["cat/tom.jpg"].record().showings
    assert showing.selected and showing.clicks[0][:2] == (0.25, 0.75)
    assert not found["cat/same.png"].record().showings
    assert read_manifest(tmp_path / "prepared", "train").counts["images_with_usable_click"] == 2


def test_csv_and_json_lines_are_the_same(tmp_path: Path) -> None:
    source = pictures(tmp_path)
    rows = [
        {"file_name": "cat/tom.jpg", "x": 0.25, "y": 0.75, "time_ms": 5, "worker_id": "A"},
        {"file_name": "cat/tom.jpg", "x": 0.5, "y": 0.5, "time_ms": 9, "worker_id": "A"},
        {"file_name": "cat/tom.jpg", "x": 0.125, "y": 1.0, "time_ms": 7, "worker_id": 0},
        {"file_name": "cat/tom.jpg", "x": 0.75, "y": 1.0, "time_ms": 8, "worker_id": ""},
    ]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [",".join(rows[0])] + [",".join(map(str, row.values())) for row in rows]
    (tmp_path / "c.csv").write_text("\n".join(lines))
    for name in ("c.csv", "c.jsonl"):
        assert folder(source, tmp_path / f"out_{name}", f"--byproducts={tmp_path / name}") == 0
    assert shard_bytes(tmp_path / "out_c.csv") == shard_bytes(tmp_path / "out_c.jsonl")
    first, second, third = examples(tmp_path / "out_c.csv")["cat/tom.jpg"].record().showings
    assert (first.worker_id, [c.time_ms for c in first.clicks]) == ("A", [5, 9])
    assert (second.worker_id, third.worker_id) == ("0", ""), "0 is a worker, and not the one without a name"


def test_what_is_wrong_in_a_table_is_counted(tmp_path: Path, capsys: Capture) -> None:
    source, table = pictures(tmp_path), tmp_path / "c.csv"
    table.write_text(
        "file_name,x,y,time_ms\ncat/tom.jpg,0.5,nan,1\ncat/tom.jpg,0.5,0.5,soon\nrex.jpg,0.1,0.1,\n"
        "same.png,0.5,0.5,\nnobody.jpg,0.5,0.5,\n"
    )
    assert folder(source, tmp_path / "out", f"--byproducts={table}") == 0
    manifest = read_manifest(tmp_path / "out", "train")
    reasons = {(s.file, s.reason) for s in manifest.skipped}
    assert reasons == {
        ("cat/tom.jpg", "invalid click"),
        ("cat/tom.jpg", "invalid time"),
        ("same.png", "several images share one byproduct name"),
        ("nobody.jpg", "byproduct without image"),
    }
    assert (
        f"{table}: 1 click of 5 not between 0 and 1, left out; the first is x '0.5', y 'nan' at"
        in capsys.readouterr().err
    )


def test_clicks_of_which_half_are_pixels_are_told_before_the_work_begins(tmp_path: Path, capsys: Capture) -> None:
    source, table = pictures(tmp_path), tmp_path / "c.csv"
    table.write_text("file_name,x,y\ncat/tom.jpg,120,80\nrex.jpg,0.1,0.1\n")
    assert folder(source, tmp_path / "out", f"--byproducts={table}") == 0
    told = capsys.readouterr().err
    assert "1 click of 2 not between 0 and 1" in told and "not pixels" in told


@pytest.mark.parametrize(
    "text, words",
    [
        ("name,x,y\na,1,1\n", "c.csv:1: 'name,x,y' is no header with file_name, x and y"),
        ("file_name;x;y\ncat/tom.jpg;0.5;0.5\n", "c.csv:1: 'file_name;x;y' is no header"),
        ("cat/tom.jpg,0.5,0.5\n", "c.csv:1: 'cat/tom.jpg,0.5,0.5' is no header"),
        ("", "c.csv: holds no click"),
        ("file_name,x,y\n", "c.csv: holds no click"),
        ("file_name,x,y\ncat/tom.jpg,120,80\n", "not pixels"),
        ("file_name,x,y\ncat/tim.jpg,0.5,0.5\n", "'cat/tim.jpg' here, 'cat/same.png' there"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, capsys: Capture, text: str, words: str) -> None:
    source = pictures(tmp_path)
    (tmp_path / "c.csv").write_text(text)
    assert folder(source, tmp_path / "out", f"--byproducts={tmp_path / 'c.csv'}") == ExitCode.FAILED
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_a_table_with_the_mark_of_its_encoding(tmp_path: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (tmp_path / "c.csv").write_bytes(f"{mark}file_name,x,y\ncat/tom.jpg,0.5,0.5\n".encode(encoding))
    assert folder(pictures(tmp_path), tmp_path / "out", f"--byproducts={tmp_path / 'c.csv'}") == 0
    assert read_manifest(tmp_path / "out", "train").counts["images_with_usable_click"] == 1


def test_a_table_of_another_encoding(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "c.csv").write_bytes("file_name,x,y\ncat/Jos\u00e9.jpg,0.5,0.5\n".encode("latin-1"))
    assert folder(pictures(tmp_path), tmp_path / "out", f"--byproducts={tmp_path / 'c.csv'}") == ExitCode.FAILED
    assert "save it as UTF-8" in capsys.readouterr().err


def test_the_summary_says_that_no_byproducts_were_given(tmp_path: Path, capsys: Capture) -> None:
    assert folder(pictures(tmp_path), tmp_path / "out") == 0
    out = capsys.readouterr().out
    assert "byproducts                 none given" in out and "with a" not in out
    assert main(["inspect", str(tmp_path / "out"), "--workers=1"]) == 0
    out = capsys.readouterr().out
    assert "  byproducts   none\n" in out and "clicks" not in out and "2 of 2, 2 images each" in out


def test_xml_beside_the_images_and_an_archive(tmp_path: Path) -> None:
    source = pictures(tmp_path)
    (source / "cat" / "tom.xml").write_bytes(annotation_xml(metadata_xml("cat/tom")))
    assert folder(source, tmp_path / "out", f"--byproducts={source}") == 0
    assert len(examples(tmp_path / "out")["cat/tom.jpg"].record().showings) == 1
    archive = zipped(source, tmp_path / "mine.zip")
    assert folder(archive, tmp_path / "packed", f"--byproducts={archive}") == 0
    assert shard_bytes(tmp_path / "out") == shard_bytes(tmp_path / "packed")


def test_order_of_classes_is_what_the_user_says(tmp_path: Path, capsys: Capture) -> None:
    source = pictures(tmp_path)
    (source / "classes.txt").write_text("dog\nbird\ncat\n")
    assert folder(source, tmp_path / "out") == 0
    assert examples(tmp_path / "out")["cat/tom.jpg"].label == 2
    assert folder(tmp_path / "val", tmp_path / "out", "--split=val") == 0  # the list of the first split
    assert examples(tmp_path / "out", "val")["cat/tom.jpg"].label == 2
    (tmp_path / "val" / "horse").mkdir()
    assert folder(tmp_path / "val", tmp_path / "out", "--split=more") == ExitCode.FAILED
    assert "'horse' is not in the list of 3 classes" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert folder(tmp_path / "empty", tmp_path / "no") == ExitCode.FAILED
    assert "holds no class folders" in capsys.readouterr().err


def test_a_line_nested_too_deep_is_named(tmp_path: Path, capsys: Capture) -> None:
    source, table = pictures(tmp_path), tmp_path / "c.jsonl"
    table.write_text('{"file_name": "cat/tom.jpg", "x": 0.5, "y": 0.5}\n' + "[" * 100_000)
    assert folder(source, tmp_path / "out", f"--byproducts={table}") == ExitCode.FAILED
    assert "c.jsonl:2: not JSON" in capsys.readouterr().err


def test_text_that_no_file_can_hold_becomes_question_marks(tmp_path: Path) -> None:
    source, table = pictures(tmp_path), tmp_path / "c.jsonl"
    rows = ['{"file_name": "cat/tom.jpg", "x": 0.5, "y": 0.5, "worker_id": "\\ud800"}']
    rows.append('{"file_name": "\\udfff.jpg", "x": 0.5, "y": 0.5}')
    table.write_text("\n".join(rows))
    assert folder(source, tmp_path / "out", f"--byproducts={table}") == 0
    assert [s.file for s in read_manifest(tmp_path / "out", "train").skipped] == ["?.jpg"]
