"""Archives as they are downloaded, read without unpacking: the same shards as from folders, and clear refusals."""

from __future__ import annotations

import pickle
import resource
import subprocess
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep.__main__ import main
from data_prep.problems import Reason
from data_prep.sources.archive_tree import open_source
from data_prep.sources.tree import walk
from luab_jax.data.class_lists import imagenet
from luab_jax.data.dataset import manifest_path, open_split, read_manifest
from luab_jax.data.features import Example
from luab_jax.errors import DataError, ExitCode
from tests.data_prep.conftest import RawData, image_bytes, shard_bytes
from tests.data_prep.packing import add, nested_tar, tar, zipped

Make = Callable[..., RawData]
Capture = pytest.CaptureFixture[str]


def prepared(raw: RawData, out: Path, *flags: str) -> dict[str, bytes]:
    assert main(raw.arguments(out, "--shards=2", *flags)) == 0
    return shard_bytes(out)


@pytest.mark.parametrize("workers", ["--workers=1", "--workers=2"])
def test_train_tar_and_byproducts_give_the_bytes_of_folders(make_raw: Make, tmp_path: Path, workers: str) -> None:
    raw = make_raw()
    (raw.byproducts / "cat" / "._cat_0.xml").write_bytes(b"AppleDouble")
    images = nested_tar(raw.images, tmp_path / "ILSVRC2012_img_train.tar")
    prefix = "./imagenet_ab_v1_0/train_enriched/"
    xml = tar(raw.byproducts, tmp_path / "imagenet_ab_v1_0.tar.gz", prefix=prefix, mode="w:gz")
    packed = prepared(raw, tmp_path / "packed", f"--images={images}", f"--byproducts={xml}", workers)
    assert packed == prepared(raw, tmp_path / "plain")
    assert not list((tmp_path / "packed").glob("scratch*"))
    assert read_manifest(tmp_path / "packed", "train").counts["images_with_usable_click"] == 12
    assert main(raw.arguments(tmp_path / "packed", "--shards=2")) == 0  # a folder continues what a tar began


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_in_every_kind_of_tar(make_raw: Make, tmp_path: Path, form: int) -> None:
    raw = make_raw(per_class=1)
    deep = "d" * 60 + "/" + "e" * 60 + "/"
    if form != tarfile.USTAR_FORMAT:
        (raw.images / "cat" / ("n" * 120 + ".jpg")).write_bytes(image_bytes(5))
        (raw.images / "cat" / "wéiß 猫.png").write_bytes(image_bytes(6))
    images = tar(raw.images, tmp_path / "images.tar", prefix=deep, form=form)
    assert prepared(raw, tmp_path / "packed", f"--images={images}") == prepared(raw, tmp_path / "plain")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip(make_raw: Make, tmp_path: Path, method: int) -> None:
    raw = make_raw(per_class=3)
    images = zipped(raw.images, tmp_path / "images.zip", prefix="top/", method=method)
    assert prepared(raw, tmp_path / "packed", f"--images={images}") == prepared(raw, tmp_path / "plain")


def test_zip_written_as_a_stream(make_raw: Make, tmp_path: Path) -> None:
    """Sizes and CRC then stand behind the data."""
    raw = make_raw(per_class=2)

    class Pipe:
        def __init__(self, path: Path):
            self.file = path.open("wb")

        def write(self, data: bytes) -> int:
            return self.file.write(data)

        def flush(self) -> None:
            self.file.flush()

    pipe = Pipe(tmp_path / "images.zip")
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[call-overload]
        for path in sorted(raw.images.rglob("*.JPEG")):
            archive.write(path, path.relative_to(raw.images).as_posix())
    pipe.file.close()
    images = tmp_path / "images.zip"
    assert prepared(raw, tmp_path / "packed", f"--images={images}") == prepared(raw, tmp_path / "plain")


def test_folder_of_class_tars(make_raw: Make, tmp_path: Path) -> None:
    raw = make_raw(per_class=2)
    (tmp_path / "tars").mkdir()
    for name in ("cat", "dog"):
        tar(raw.images / name, tmp_path / "tars" / f"{name}.tar")
    assert prepared(raw, tmp_path / "packed", f"--images={tmp_path / 'tars'}") == prepared(raw, tmp_path / "plain")


@pytest.mark.parametrize("beside", [(), ("README.md", "SHA256SUMS", "md5.txt", ".DS_Store")])
def test_a_folder_of_compressed_archives_is_told_as_that(
    beside: tuple[str, ...], make_raw: Make, tmp_path: Path, capsys: Capture
) -> None:
    raw, packed = make_raw(), tmp_path / "packed"
    packed.mkdir()
    for name in ("fog", "rain"):
        tar(raw.images, packed / f"{name}.tar.gz", prefix=f"{name}/1/", mode="w:gz")
    for name in beside:
        (packed / name).touch()
    assert main(["suite", "imagenet_3dcc", f"--source={packed}", f"--out={tmp_path}"]) == ExitCode.FAILED
    message = capsys.readouterr().err
    assert message.startswith(f"error: --source={packed}: holds archives (fog.tar.gz, rain.tar.gz); give one of them,")


@pytest.mark.parametrize("name", ["a.JPEG", "labels.csv"])
def test_a_folder_of_images_or_tables_may_hold_an_archive_too(name: str, tmp_path: Path) -> None:
    for file in (name, "backup.zip"):
        (tmp_path / file).touch()
    found = open_source(str(tmp_path), "--images", scratch=tmp_path / "scratch")
    assert sorted(file.name for file in found.files()) == sorted((name, "backup.zip"))


def test_folder_inside_an_archive(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw = make_raw(per_class=2)
    images = tmp_path / "both.tar"
    with tarfile.open(images, "w") as archive:
        for split in ("train", "val"):
            for path in sorted(raw.images.rglob("*.JPEG")):
                add(archive, f"x/{split}/{path.relative_to(raw.images).as_posix()}", path.read_bytes())
    assert main(raw.arguments(tmp_path / "out", f"--images={images}")) == ExitCode.FAILED
    assert f"{images}/x/train" in capsys.readouterr().err
    assert prepared(raw, tmp_path / "packed", f"--images={images}/x/train") == prepared(raw, tmp_path / "plain")
    assert main(raw.arguments(tmp_path / "out", f"--images={images}/nowhere")) == ExitCode.FAILED
    assert "holds no folder 'nowhere'" in capsys.readouterr().err


def test_scratch_of_a_stopped_run_is_found_again(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw, out = make_raw(), tmp_path / "out"
    xml = tar(raw.byproducts, tmp_path / "ab.tgz", mode="w:gz")
    flags = raw.arguments(out, "--shards=2", f"--byproducts={xml}")
    (out / "imagenet_ab-train.tfrecord-00001-of-00002").mkdir(parents=True)  # stands in the way of a shard
    assert main(flags) == ExitCode.FAILED
    (scratch,) = out.glob("scratch-*.bin")
    written = scratch.stat().st_mtime_ns
    capsys.readouterr()
    (out / "imagenet_ab-train.tfrecord-00001-of-00002").rmdir()
    assert scratch.stat().st_mtime_ns == written
    assert main(flags) == 0
    assert "unpacking" not in capsys.readouterr().err
    assert not list(out.glob("scratch-*"))


def test_compressed_archive_of_a_finished_split_is_not_unpacked_again(
    make_raw: Make, tmp_path: Path, capsys: Capture
) -> None:
    raw, out = make_raw(), tmp_path / "out"
    inner = tar(raw.byproducts / "cat", tmp_path / "cat.tar")
    with tarfile.open(tmp_path / "ab.tgz", "w:gz") as archive:  # with a tar in it, and a name that is refused
        add(archive, "ab/cat.tar", inner.read_bytes())
        add(archive, "../x.xml", b"")
        for path in sorted((raw.byproducts / "dog").iterdir()):
            add(archive, f"ab/dog/{path.name}", path.read_bytes())
    flags = raw.arguments(out, "--shards=2", f"--byproducts={tmp_path / 'ab.tgz'}")

    def runs_with_unpacking() -> bool:
        capsys.readouterr()
        assert main(flags) == 0
        assert not list(out.glob("scratch-*"))
        return "unpacking" in capsys.readouterr().err

    assert runs_with_unpacking()
    expected, manifest = shard_bytes(out), read_manifest(out, "train")
    assert manifest.counts["images_with_usable_click"] == 12
    assert not runs_with_unpacking()
    (listing,) = out.glob("archive-*.listing")
    listing.write_bytes(listing.read_bytes()[:-30])
    assert runs_with_unpacking()  # a damaged listing is made anew
    next(out.glob("*.tfrecord-00001-*")).unlink()
    manifest_path(out, "train").unlink()
    assert runs_with_unpacking()  # what is only listed cannot be read
    assert shard_bytes(out) == expected and read_manifest(out, "train") == manifest
    assert main([*flags, f"--images={raw.byproducts}", "--out", str(tmp_path / "refused")]) == ExitCode.FAILED
    assert not list((tmp_path / "refused").glob("*"))


def val_images(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number in (1, 2, 49_999):
        (folder / f"ILSVRC2012_val_{number:08d}.JPEG").write_bytes(image_bytes(number))


def labels(out: Path) -> dict[str, int]:
    records = open_split(out, "val").records
    examples = (Example(records[i]) for i in range(len(records)))
    return {example.file_name: example.label for example in examples}


def test_val_tar_is_labelled_by_file_number(tmp_path: Path) -> None:
    """Image 1 is a sea snake (65), image 2 an alp (970): the first two of the published ground truth."""
    val_images(tmp_path / "val")
    images = tar(tmp_path / "val", tmp_path / "ILSVRC2012_img_val.tar")
    for source, out in ((tmp_path / "val", "a"), (images, "b")):
        flags = [f"--images={source}", f"--out={tmp_path / out}", "--split=val", "--workers=1"]
        assert main(["imagenet_ab", *flags]) == 0
    found = labels(tmp_path / "a")
    assert found["n01751748/ILSVRC2012_val_00000001.JPEG"] == 65
    assert found["n09193705/ILSVRC2012_val_00000002.JPEG"] == 970
    assert shard_bytes(tmp_path / "a") == shard_bytes(tmp_path / "b")


def test_val_labels_of_the_user(tmp_path: Path, capsys: Capture) -> None:
    val_images(tmp_path / "val")
    given = tmp_path / "labels.txt"
    flags = [f"--images={tmp_path / 'val'}", f"--out={tmp_path / 'out'}", "--split=val", "--workers=1"]
    flags.append(f"--val_labels={given}")
    given.write_text("490\n361\n")
    assert main(["imagenet_ab", *flags]) == ExitCode.FAILED
    assert "development kit's own order" in capsys.readouterr().err
    given.write_text("ILSVRC2012_val_00000001.JPEG n01440764\nILSVRC2012_val_00000002 n01443537\n")
    assert main(["imagenet_ab", *flags]) == 0
    assert sorted(labels(tmp_path / "out").values()) == [0, 1]
    assert read_manifest(tmp_path / "out", "val").counts["files_without_label_ignored"] == 1


def test_val_boxes_from_their_archive(tmp_path: Path) -> None:
    val_images(tmp_path / "val")
    (tmp_path / "boxes" / "val").mkdir(parents=True)
    box = (
        "<annotation><size><width>8</width><height>6</height></size><object><name>n01751748</name><bndbox>"
        "<xmin>0</xmin><ymin>0</ymin><xmax>4</xmax><ymax>3</ymax></bndbox></object></annotation>"
    )
    (tmp_path / "boxes" / "val" / "ILSVRC2012_val_00000001.xml").write_text(box)
    packed = tar(tmp_path / "boxes", tmp_path / "ILSVRC2012_bbox_val_v3.tgz", mode="w:gz")
    for boxes, out in ((packed, "a"), (tmp_path / "boxes", "b")):
        flags = [f"--images={tmp_path / 'val'}", f"--boxes={boxes}", f"--out={tmp_path / out}", "--split=val"]
        assert main(["imagenet_ab", *flags, "--workers=1"]) == 0
    records = open_split(tmp_path / "a", "val").records
    boxes_of = {(e := Example(records[i]).record()).label: e.boxes for i in range(3)}
    assert [(b.x_max, b.y_max, b.label) for b in boxes_of[65]] == [(0.5, 0.5, 65)] and not boxes_of[970]
    assert shard_bytes(tmp_path / "a") == shard_bytes(tmp_path / "b")


def failure(raw: RawData, images: Path, capsys: Capture) -> str:
    assert main(raw.arguments(images.parent / "never", f"--images={images}")) == ExitCode.FAILED
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error: ") and images.name in message
    return message


def test_broken_archives_get_one_clear_message(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw = make_raw(per_class=4)
    good = tar(raw.images, tmp_path / "good.tar").read_bytes()
    bad = tmp_path / "bad.tar"

    def message(data: bytes) -> str:
        bad.write_bytes(data)
        return failure(raw, bad, capsys)

    assert "not a tar archive" in message(b"<html>Please log in</html>" * 40)
    assert "cut off inside 'cat/cat_0.JPEG'" in message(good[:600])
    assert "cut off at byte 700" in message(good[:512] + b"x" * 188) or "cut off" in message(good[:700])
    last = good.rstrip(b"\0")
    assert "cut off at byte" in message(last + bytes(-len(last) % 512))  # no end-of-archive mark
    second = good.index(b"cat/cat_1")
    assert f"damaged at byte {second:,}" in message(good[:second] + b"\xff" * 300 + good[second + 300 :])
    packed = tar(raw.images, tmp_path / "good.tar.gz", mode="w:gz").read_bytes()
    assert "cut off or damaged" in message(packed[: len(packed) // 2])
    assert "not a tar archive" in message(subprocess.run(["gzip"], input=b"x" * 999, capture_output=True).stdout)
    assert "not a whole zip" in message(zipped(raw.images, tmp_path / "g.zip").read_bytes()[:-40])
    assert not list(tmp_path.glob("never/scratch*.bin"))


def test_member_that_stands_twice_is_refused(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw, images = make_raw(per_class=1), tmp_path / "twice.tar"
    with tarfile.open(images, "w") as archive:
        for seed in (1, 2):
            add(archive, "cat/a.jpg", image_bytes(seed))
    assert "cat/a.jpg stands twice" in failure(raw, images, capsys)


def test_unsafe_names_and_links_are_named_and_not_followed(make_raw: Make, tmp_path: Path) -> None:
    raw, images, out = make_raw(per_class=1), tmp_path / "odd.tar", tmp_path / "out"
    with tarfile.open(images, "w") as archive:
        add(archive, "cat/a.jpg", image_bytes(1))
        for name in ("/etc/cat/b.jpg", "../cat/c.jpg", "cat/../../d.jpg"):
            add(archive, name, image_bytes(2))
        link = tarfile.TarInfo("cat/e.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert main(raw.arguments(out, f"--images={images}", "--min_match=0")) == 0
    manifest = read_manifest(out, "train")
    assert (manifest.num_records, manifest.counts["archive member is a link"]) == (1, 1)
    unsafe = [s.file for s in manifest.skipped if "absolute" in s.reason]
    assert unsafe == ["../cat/c.jpg", "/etc/cat/b.jpg", "cat/../../d.jpg"]
    assert {p.name for p in tmp_path.iterdir()} == {"raw", "odd.tar", "out"}


def test_index_memory_and_a_reader_that_travels(tmp_path: Path) -> None:
    """About 45 bytes an entry and its name, as the module says; a worker is sent no index."""
    images = tmp_path / "many.tar"
    with tarfile.open(images, "w", format=tarfile.USTAR_FORMAT) as archive:
        for k in range(5000):
            add(archive, f"n{k % 10:08d}/n{k % 10:08d}_{k}.JPEG", b"%d" % k)
    tracemalloc.start()
    source = open_source(str(images), "--images", scratch=tmp_path)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held / 5000 < 65
    sent = pickle.dumps(source.reader)
    assert len(sent) < 500
    reader = pickle.loads(sent)
    folder, files = list(walk(source))[3]
    assert (folder, files[0].name) == ("n00000003", "n00000003_1003.JPEG")
    assert reader("", files[0].span) == b"1003"


ENCRYPTED = (
    "504b03041400090008005b68765d3b7c8adf170000001200000005001c00612e7478745554090003fde7026bfde7026b7578"
    "0b0001040000000004000000003a52c41570075dbfdafd0c69c8488d96031f6930cebeb9504b07083b7c8adf170000001200"
    "0000504b01021e031400090008005b68765d3b7c8adf1700000012000000050018000000000001000000a48100000000612e"
    "7478745554050003fde7026b75780b000104000000000400000000504b050600000000010001004b000000660000000000"
)


def test_encrypted_zip_wants_its_phrase(tmp_path: Path) -> None:
    """The archive was made by Info-ZIP: `zip -P phrase`."""
    data = bytes.fromhex(ENCRYPTED)
    path = tmp_path / "objectnet.zip"
    path.write_bytes(data)
    with pytest.raises(DataError, match="--password"):
        open_source(str(path), "--source", scratch=tmp_path)
    source = open_source(str(path), "--source", scratch=tmp_path, password="phrase")
    ((_, files),) = walk(source)
    assert source.reader("", files[0].span) == b"hello hello hello\n"
    with pytest.raises(DataError, match="--password is not the phrase of this archive"):
        open_source(str(path), "--source", scratch=tmp_path, password="other")


def test_class_ids_are_those_of_the_archives() -> None:
    assert imagenet().ids[65] == "n01751748"


@pytest.mark.parametrize(
    ("at", "value"),
    [(6, b"\xff\0"), (42, b"\xff\xff\xff\x7f"), (28, b"\0\0"), (30, b"\xff\xff"), (8, b"\x01\0")],
    ids=["version", "place", "no name", "extra field", "encrypted"],
)
def test_a_damaged_directory_of_a_zip_gets_one_clear_message(
    make_raw: Make, tmp_path: Path, capsys: Capture, at: int, value: bytes
) -> None:
    raw, images = make_raw(per_class=2), tmp_path / "images.zip"
    data = bytearray(zipped(raw.images, images).read_bytes())
    entry = data.index(b"PK\1\2") + at
    data[entry : entry + len(value)] = value
    images.write_bytes(data)
    code = main(raw.arguments(tmp_path / "out", f"--images={images}", "--min_match=0"))
    message = capsys.readouterr().err.splitlines()[-1]
    assert code == 0 or (message.startswith("error: ") and str(images) in message)


def test_a_zip_bomb_is_not_read(make_raw: Make, tmp_path: Path) -> None:
    """Its 300 MB of zeros take 0.3 MB in the archive, and no memory here."""
    raw, images = make_raw(per_class=2), tmp_path / "images.zip"
    path = zipped(raw.images, images)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("cat/bomb.JPEG", "w") as member:
        for _ in range(300):
            member.write(bytes(1 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert main(raw.arguments(tmp_path / "out", f"--images={images}")) == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
    (skipped,) = read_manifest(tmp_path / "out", "train").skipped
    assert (skipped.file, skipped.reason) == ("cat/bomb.JPEG", Reason.IMAGE_TOO_LARGE)
