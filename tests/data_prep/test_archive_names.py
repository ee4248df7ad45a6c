"""Names in archives, kinds of compression, and how much an archive may become."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep.__main__ import main
from data_prep.problems import Reason
from data_prep.sources.scratch_tar import MAX_RATIO, Scratch
from luab_jax.data.dataset import read_manifest
from luab_jax.errors import ExitCode
from tests.data_prep.conftest import RawData, image_bytes, shard_bytes
from tests.data_prep.packing import add, files_below, tar, zipped

Make = Callable[..., RawData]
Capture = pytest.CaptureFixture[str]


def packed_by_windows(folder: Path, to: Path, prefix: str = "") -> Path:
    """As some programs of Windows do, also for folders."""
    with zipfile.ZipFile(to, "w") as archive:
        for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
            archive.writestr(zipfile.ZipInfo(f"{prefix}{inner.name}\\"), b"")
        for path in files_below(folder):
            name = prefix + str(path.relative_to(folder)).replace("/", "\\")
            archive.writestr(zipfile.ZipInfo(name), path.read_bytes())
    return to


def test_backslashes_of_windows_are_folders(make_raw: Make, tmp_path: Path) -> None:
    raw = make_raw()
    images = packed_by_windows(raw.images, tmp_path / "win.zip", "train\\")
    byproducts = packed_by_windows(raw.byproducts, tmp_path / "xml.zip")
    assert main(raw.arguments(tmp_path / "folders")) == 0
    archives = raw.arguments(tmp_path / "out", f"--images={images}", f"--byproducts={byproducts}", "--strict")
    assert main(archives) == 0
    assert shard_bytes(tmp_path / "out") == shard_bytes(tmp_path / "folders")


def test_backslashes_in_a_tar_of_slashes_are_part_of_the_name(make_raw: Make, tmp_path: Path) -> None:
    raw = make_raw()
    (raw.images / "cat" / "a\\b.JPEG").write_bytes(image_bytes())
    for images in (raw.images, tar(raw.images, tmp_path / "images.tar")):
        out = tmp_path / f"{images.name}_out"
        assert main(raw.arguments(out, f"--images={images}")) == 0
        assert read_manifest(out, "train").num_records == 17


@pytest.mark.parametrize("name", ["\\cat\\x.JPEG", "C:\\cat\\x.JPEG", "..\\cat\\x.JPEG", "cat\\..\\..\\x.JPEG"])
def test_unsafe_names_stay_unsafe_behind_backslashes(name: str, make_raw: Make, tmp_path: Path) -> None:
    raw = make_raw()
    packed_by_windows(raw.images, tmp_path / "win.zip")
    with zipfile.ZipFile(tmp_path / "win.zip", "a") as archive:
        archive.writestr(zipfile.ZipInfo(name), image_bytes())
    assert main(raw.arguments(tmp_path / "out", f"--images={tmp_path / 'win.zip'}")) == 0
    (skipped,) = read_manifest(tmp_path / "out", "train").skipped
    assert skipped.reason == Reason.ARCHIVE_NAME and skipped.file.endswith("x.JPEG")


@pytest.mark.parametrize("prefix", ["/data/train/", "../train/", "C:/train/"])
def test_an_archive_of_refused_names_alone_says_so(
    prefix: str, make_raw: Make, tmp_path: Path, capsys: Capture
) -> None:
    raw = make_raw()
    images = tar(raw.images, tmp_path / "images.tar", prefix=prefix)
    assert main(raw.arguments(tmp_path / "out", f"--images={images}")) == ExitCode.FAILED
    message = capsys.readouterr().err
    assert Reason.ARCHIVE_NAME in message and f"{prefix}cat/cat_0.JPEG" in message and "15 more" in message


def test_devices_and_pipes_are_listed(make_raw: Make, tmp_path: Path) -> None:
    raw = make_raw()
    images = tar(raw.images, tmp_path / "images.tar")
    with tarfile.open(images, "a") as archive:
        for kind, name in ((tarfile.FIFOTYPE, "cat/pipe.JPEG"), (tarfile.CHRTYPE, "cat/zero.JPEG")):
            info = tarfile.TarInfo(name)
            info.type = kind
            archive.addfile(info)
    assert main(raw.arguments(tmp_path / "out", f"--images={images}")) == 0
    skipped = read_manifest(tmp_path / "out", "train").skipped
    assert [(s.file, s.reason) for s in skipped] == [
        ("cat/pipe.JPEG", Reason.NOT_A_FILE),
        ("cat/zero.JPEG", Reason.NOT_A_FILE),
    ]


def test_names_of_macos_in_a_zip_are_utf_8(make_raw: Make, tmp_path: Path) -> None:
    """Finder writes UTF-8 without the flag that says so."""
    raw = make_raw()
    (raw.images / "cat" / "caf\u00e9.JPEG").write_bytes(image_bytes(99))
    path = zipped(raw.images, tmp_path / "images.zip")
    data = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        start = 0
        while (start := data.find(signature, start)) >= 0:
            data[start + flags + 1] &= ~0x08
            start += 4
    path.write_bytes(data)
    assert main(raw.arguments(tmp_path / "folder")) == main(raw.arguments(tmp_path / "zip", f"--images={path}")) == 0
    assert shard_bytes(tmp_path / "zip") == shard_bytes(tmp_path / "folder")


@pytest.mark.parametrize(("method", "words"), [(9, "Deflate64"), (99, "AES"), (93, "Zstandard"), (1, "method 1")])
def test_a_compression_that_python_lacks_is_named(
    method: int, words: str, make_raw: Make, tmp_path: Path, capsys: Capture
) -> None:
    """Windows' explorer packs files beyond 2 GB with Deflate64."""
    raw = make_raw()
    path = zipped(raw.images, tmp_path / "images.zip")
    data = bytearray(path.read_bytes())
    for signature, place in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        start = 0
        while (start := data.find(signature, start)) >= 0:
            data[start + place] = method
            start += 4
    path.write_bytes(data)
    assert main(raw.arguments(tmp_path / "out", f"--images={path}")) == ExitCode.FAILED
    message = capsys.readouterr().err
    assert f"cat/cat_0.JPEG is packed with {words}" in message and "unpack the archive" in message
    assert not (tmp_path / "out").exists()


def bomb(path: Path, num_megabytes: int) -> Path:
    """A compressed tar of zeros, written without holding them."""
    opened = gzip.open if path.suffix == ".gz" else lzma.open
    with opened(path, "wb") as file:
        info = tarfile.TarInfo("cat/bomb.JPEG")
        info.size = num_megabytes << 20
        file.write(info.tobuf())
        for _ in range(num_megabytes):
            file.write(bytes(1 << 20))
        file.write(bytes(1024))
    return path


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_a_bomb_is_stopped_at_the_stated_ratio(suffix: str, make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw, packed = make_raw(), bomb(tmp_path / f"images.tar{suffix}", 120)
    assert packed.stat().st_size < 1 << 20
    assert main(raw.arguments(tmp_path / "out", f"--images={packed}")) == ExitCode.FAILED
    limit = max(64 << 20, MAX_RATIO * packed.stat().st_size)
    assert f"unpacks to more than {limit:,} bytes" in (message := capsys.readouterr().err)
    assert "--max_unpacked=BYTES" in message
    assert not list((tmp_path / "out").glob("scratch*"))


def test_the_limit_is_the_users(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw = make_raw()
    images = tar(raw.images, tmp_path / "images.tar.gz", mode="w:gz")
    assert main(raw.arguments(tmp_path / "a", f"--images={images}", "--max_unpacked=2K")) == ExitCode.FAILED
    assert "unpacks to more than 2,048 bytes" in capsys.readouterr().err
    assert main(raw.arguments(tmp_path / "a", f"--images={images}", "--max_unpacked=1G")) == 0
    zip_file = zipped(raw.images, tmp_path / "images.zip")
    assert main(raw.arguments(tmp_path / "b", f"--images={zip_file}", "--max_unpacked=2K")) == ExitCode.FAILED
    for odd in ("0", "x", "-1", "1Q", "inf"):
        with pytest.raises(SystemExit):
            main(raw.arguments(tmp_path / "b", f"--max_unpacked={odd}"))


def test_real_archives_are_far_from_the_limit() -> None:
    """ImageNet-AB: 555 MB become about 12 GB; an archive of photos hardly shrinks."""
    scratch = Scratch(Path("out"))
    assert scratch.limit(555_000_000) > 100 << 30
    assert scratch.limit(1) == 64 << 20 and Scratch(Path("out"), 5).limit(1 << 40) == 5


def test_a_long_run_of_headers_counts_too(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    """A bomb of empty files."""
    raw, packed = make_raw(), tmp_path / "images.tar.xz"
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        add(archive, "cat/a.JPEG", b"")
    header = whole.getvalue()[:512]
    with lzma.open(packed, "wb") as file:
        file.write(header * 4096)
        file.write(bytes(1024))
    assert main(raw.arguments(tmp_path / "out", f"--images={packed}", "--max_unpacked=1M")) == ExitCode.FAILED
    assert "unpacks to more than" in capsys.readouterr().err
