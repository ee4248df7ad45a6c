"""Names that people and their machines give to files: kept to the letter, matched, or listed as what cannot be kept."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep.__main__ import main
from data_prep.problems import Reason
from luab_jax.byproducts.records import ImageRecord
from luab_jax.data.dataset import open_split, read_manifest
from luab_jax.data.features import Example
from luab_jax.data.pipeline import Reading, eval_batches
from luab_jax.data.transforms import Preprocessing
from luab_jax.errors import ExitCode
from tests.data_prep.conftest import REPOSITORY, RawData, annotation_xml, image_bytes, metadata_xml, shard_bytes
from tests.data_prep.packing import nested_tar, tar, zipped

Make = Callable[..., RawData]
Capture = pytest.CaptureFixture[str]

NFC, NFD = (unicodedata.normalize(form, "Schäferhündin é") for form in ("NFC", "NFD"))
STEMS = {
    "spaces": "a  b ",
    "quotes": 'it\'s "quoted" `so`',
    "composed": NFC,
    "decomposed": NFD,
    "other scripts": "猫 कुत्ता 🐱",
    "line break": "a\nb\r\nc",
    "dash": "-rf --out=x",
    "percent": "100%s %20 %(name)s",
    "hash": "#1?x=y&z;{0}[*]",
    "long": "n" * 250,
    "dots": "a..b.",
    "backslash": "a\\b",
    "line separator": "a\u2028b",
}


def records(directory: Path, split: str = "train") -> dict[str, ImageRecord]:
    opened = open_split(directory, split)
    found = (Example(opened.records[i]).record() for i in range(len(opened.records)))
    return {record.file_name: record for record in found}


def add_image(raw: RawData, stem: str, *, xml_stem: str | None = None, suffix: str = ".xml") -> None:
    (raw.images / "cat" / f"{stem}.jpg").write_bytes(image_bytes(len(stem)))
    xml = annotation_xml(metadata_xml("").replace("<imageID></imageID>", ""))
    (raw.byproducts / "cat" / f"{stem if xml_stem is None else xml_stem}{suffix}").write_bytes(xml)


@pytest.fixture
def odd(make_raw: Make) -> RawData:
    raw = make_raw(per_class=2)
    for stem in STEMS.values():
        add_image(raw, stem)
    return raw


@pytest.mark.parametrize("packing", ["folder", "tar", "pax tar", "tar of tars", "tar.gz", "zip"])
def test_every_name_is_kept_and_has_its_byproduct(odd: RawData, tmp_path: Path, packing: str) -> None:
    images, byproducts = odd.images, odd.byproducts
    match packing:
        case "tar" | "pax tar":
            form = tarfile.PAX_FORMAT if packing.startswith("pax") else tarfile.GNU_FORMAT
            images, byproducts = (tar(p, tmp_path / f"{p.name}.tar", form=form) for p in (images, byproducts))
        case "tar of tars":
            images = nested_tar(images, tmp_path / "images.tar")
        case "tar.gz":
            byproducts = tar(byproducts, tmp_path / "xml.tar.gz", mode="w:gz")
        case "zip":
            images, byproducts = (zipped(p, tmp_path / f"{p.name}.zip") for p in (images, byproducts))
    out = tmp_path / "an out folder#1 %20 é"
    arguments = odd.arguments(out, "--strict", "--shards=2", f"--images={images}", f"--byproducts={byproducts}")
    assert main(arguments) == 0
    found = records(out)
    for stem in STEMS.values():
        assert [len(s.clicks) for s in found[f"cat/{stem}.jpg"].showings] == [1], stem
    assert len(found) == 4 + len(STEMS)
    assert main(["verify", str(out), "--workers=1"]) == main(["inspect", str(out), "--workers=1"]) == 0
    assert main(arguments) == 0  # nothing to do
    assert main(odd.arguments(tmp_path / "plain", "--shards=2")) == 0
    assert shard_bytes(out) == shard_bytes(tmp_path / "plain")


def test_an_evaluation_knows_images_by_these_names(odd: RawData, tmp_path: Path) -> None:
    assert main(odd.arguments(tmp_path / "out")) == 0
    batches = eval_batches(
        open_split(tmp_path / "out", "train"),
        preprocessing=Preprocessing(image_size=4, resize_side=4),
        batch_size=8,
        reading=Reading(num_threads=1),
    )
    names = {truth.file_name for _, truths in batches for truth in truths}
    assert names >= {f"cat/{stem}.jpg" for stem in STEMS.values()}


@pytest.mark.parametrize("stems", [(NFC, NFD), (NFD, NFC)])
def test_accents_match_however_they_are_written(make_raw: Make, tmp_path: Path, stems: tuple[str, str]) -> None:
    raw = make_raw(per_class=2)
    add_image(raw, stems[0], xml_stem=stems[1])
    assert main(raw.arguments(tmp_path / "out", "--strict")) == 0
    assert len(records(tmp_path / "out")[f"cat/{stems[0]}.jpg"].showings) == 1
    table = tmp_path / "clicks.csv"
    table.write_text(f"file_name,x,y\ncat/{stems[1]}.jpg,0.5,0.5\n", encoding="utf-8")
    for name in (f"cat/{stems[1]}.jpg", f"{stems[1]}.jpg"):
        table.write_text(f"file_name,x,y\n{name},0.5,0.5\n", encoding="utf-8")
        out = tmp_path / name.replace("/", "-")
        own = ["folder", f"--source={raw.images}", f"--byproducts={table}", f"--out={out}", "--workers=1", "--strict"]
        assert main(own) == 0
        assert len(records(out)[f"cat/{stems[0]}.jpg"].showings) == 1


def test_two_spellings_of_one_name_are_two_images(odd: RawData, tmp_path: Path) -> None:
    (odd.byproducts / "cat" / f"{NFD}.xml").unlink()
    assert main(odd.arguments(tmp_path / "out", "--strict")) == 0
    found = records(tmp_path / "out")
    assert found[f"cat/{NFC}.jpg"].showings and not found[f"cat/{NFD}.jpg"].showings


def test_xml_in_capitals(make_raw: Make, tmp_path: Path) -> None:
    raw = make_raw(per_class=2)
    add_image(raw, "loud", suffix=".XML")
    assert main(raw.arguments(tmp_path / "out", "--strict")) == 0
    assert records(tmp_path / "out")["cat/loud.jpg"].showings


@pytest.mark.parametrize("packing", ["folder", "tar"])
def test_names_that_are_no_utf8_are_counted_and_listed(
    make_raw: Make, tmp_path: Path, packing: str, capsys: Capture
) -> None:
    raw = make_raw(per_class=2)
    for folder, suffix in ((raw.images, b".JPEG"), (raw.byproducts, b".xml")):
        Path(os.fsdecode(os.fsencode(folder / "cat") + b"/caf\xe9" + suffix)).write_bytes(image_bytes())
    images, byproducts = raw.images, raw.byproducts
    if packing == "tar":
        images, byproducts = (tar(p, tmp_path / f"{p.name}.tar") for p in (images, byproducts))
    flags = (f"--images={images}", f"--byproducts={byproducts}")
    assert main(raw.arguments(tmp_path / "out", *flags)) == 0
    manifest = read_manifest(tmp_path / "out", "train")
    assert manifest.num_records == 4
    listed = {skipped.reason: skipped.file for skipped in manifest.skipped}
    assert listed == {Reason.NAME_NOT_UTF8: r"cat/b'caf\xe9.JPEG'", Reason.XML_ORPHAN: "cat/caf�.xml"}
    printed = capsys.readouterr().out
    assert all(f"1  {reason}, such as {name}" in printed for reason, name in listed.items())


def test_a_terminal_that_cannot_show_a_name_still_gets_the_summary(make_raw: Make, tmp_path: Path) -> None:
    raw = make_raw(per_class=2)
    (raw.images / "cat" / "猫\n.JPEG").write_bytes(b"")
    done = subprocess.run(
        [sys.executable, "-m", "data_prep", *raw.arguments(tmp_path / "out")],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert r"such as 'cat/\u732b\n.JPEG'" in done.stdout


@pytest.mark.parametrize("name", ["two\nlines", "tab\tbed", " space", "space ", "separated\u2028", b"caf\xe9"])
def test_a_class_that_no_list_can_hold_is_refused(make_raw: Make, tmp_path: Path, name: str, capsys: Capture) -> None:
    raw = make_raw(per_class=2)
    (raw.images / "cat").rename(raw.images / os.fsdecode(name))
    assert main(["folder", f"--source={raw.images}", f"--out={tmp_path / 'out'}", "--workers=1"]) == ExitCode.FAILED
    message = capsys.readouterr().err
    assert "class folder" in message and "rename" in message and message.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["my cats", "it's", "-dash", "100%", "#1", "猫", NFD, "c" * 255, "a\\b", "{x}[*]"])
def test_a_class_of_any_other_name(make_raw: Make, tmp_path: Path, name: str) -> None:
    raw, out = make_raw(per_class=2), tmp_path / "out"
    (raw.images / "cat").rename(raw.images / name)
    (raw.byproducts / "cat").rename(raw.byproducts / name)
    xml = annotation_xml(metadata_xml(f"{name}/cat_0".replace("&", "&amp;")))
    (raw.byproducts / name / "cat_0.xml").write_bytes(xml)
    for split in ("train", "val"):  # the second reads the list that the first wrote
        flags = [f"--out={out}", "--workers=1", f"--split={split}", f"--byproducts={raw.byproducts}"]
        assert main(["folder", f"--source={raw.images}", *flags]) == 0
    assert name in read_manifest(out, "val").classes.ids
    assert records(out)[f"{name}/cat_0.JPEG"].showings


def test_a_zip_of_another_encoding_keeps_its_images_apart(make_raw: Make, tmp_path: Path) -> None:
    """Names without the UTF-8 flag are read as code page 437, as the format says: other letters, no loss."""
    raw = make_raw(per_class=2)
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(zipped(raw.images, path), "a") as archive:
        archive.writestr("cat/xxxx.JPEG", image_bytes(1))
    path.write_bytes(path.read_bytes().replace(b"cat/xxxx", b"cat/caf\xe9"))
    assert main(raw.arguments(tmp_path / "out", f"--images={path}")) == 0
    assert "cat/cafΘ.JPEG" in records(tmp_path / "out")
