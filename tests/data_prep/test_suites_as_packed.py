"""Suites as their authors pack them: folders, side files, encryption and what operating systems add to an archive.

Layouts: objectnet-1.0.zip (ZipCrypto, `images/` and `mappings/`), backgrounds_challenge_data.tar.gz (`bg_challenge/`,
one mask for each `original`), rotation.zip, size.zip with folder `area`, location.zip (google-research/si-score).
"""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from data_prep.__main__ import main
from data_prep.datasets.suites import SUITES
from data_prep.problems import Reason
from luab_jax.data import label_tables
from luab_jax.data.dataset import open_split, read_manifest
from luab_jax.data.features import Example
from luab_jax.errors import ExitCode
from tests.data_prep.conftest import image_bytes
from tests.data_prep.packing import add

Capture = pytest.CaptureFixture[str]
PHRASE = b"the phrase of the page"


def crc_step(crc: int, byte: int) -> int:
    table = crc_step.__dict__.setdefault("table", _table())
    return (crc >> 8) ^ table[(crc ^ byte) & 0xFF]


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ 0xEDB88320 if value & 1 else value >> 1
        table.append(value)
    return table


def encrypted(data: bytes, check: int) -> bytes:
    """PKWARE's traditional encryption (APPNOTE.TXT, 6.1): twelve bytes go first, the last of which is `check`."""
    keys = [0x12345678, 0x23456789, 0x34567890]

    def update(byte: int) -> None:
        keys[0] = crc_step(keys[0], byte)
        keys[1] = ((keys[1] + (keys[0] & 0xFF)) * 134775813 + 1) & 0xFFFFFFFF
        keys[2] = crc_step(keys[2], keys[1] >> 24)

    for byte in PHRASE:
        update(byte)
    out = bytearray()
    for byte in bytes(11) + bytes([check]) + data:
        mask = keys[2] | 2
        out.append(byte ^ (((mask * (mask ^ 1)) >> 8) & 0xFF))
        update(byte)
    return bytes(out)


def encrypted_zip(files: dict[str, bytes], to: Path) -> Path:
    """Deflated and encrypted members, with the CRC in the header, as Info-ZIP writes them to a file."""
    with zipfile.ZipFile(to, "w") as archive:
        for name in files:
            archive.writestr(zipfile.ZipInfo(name), b"")
        infos = archive.infolist()
        body, central = bytearray(), bytearray()
        for info, data in zip(infos, files.values(), strict=True):
            packer = zlib.compressobj(6, zlib.DEFLATED, -15)
            crc = zlib.crc32(data)
            packed = encrypted(packer.compress(data) + packer.flush(), crc >> 24)
            info.header_offset = len(body)
            info.flag_bits, info.compress_type, info.CRC = 1, zipfile.ZIP_DEFLATED, crc
            info.file_size, info.compress_size = len(data), len(packed)
            body += _header(info, b"PK\x03\x04") + packed
            central += _header(info, b"PK\x01\x02")
    count = len(infos).to_bytes(2, "little")
    end = b"PK\x05\x06" + bytes(4) + count * 2 + len(central).to_bytes(4, "little") + len(body).to_bytes(4, "little")
    to.write_bytes(body + central + end + bytes(2))
    return to


def _header(info: zipfile.ZipInfo, signature: bytes) -> bytes:
    def little(value: int, size: int) -> bytes:
        return value.to_bytes(size, "little")

    name = info.filename.encode()
    central = signature == b"PK\x01\x02"
    common = b"".join(
        (
            *(little(20, 2), little(info.flag_bits, 2), little(info.compress_type, 2), bytes(4)),
            *(little(info.CRC, 4), little(info.compress_size, 4), little(info.file_size, 4)),
            *(little(len(name), 2), little(0, 2)),
        )
    )
    if not central:
        return signature + common + name
    return signature + little(20, 2) + common + bytes(10) + little(info.header_offset, 4) + name


def suite(name: str, source: Path, out: Path, *flags: str) -> int:
    return main(["suite", name, f"--source={source}", f"--out={out}", "--workers=1", *flags])


def examples(out: Path, name: str, split: str) -> dict[str, Example]:
    records = open_split(out / name, split).records
    return {(found := Example(records[i])).file_name: found for i in range(len(records))}


def objectnet() -> dict[str, bytes]:
    images = "objectnet-1.0/images"
    names = ("alarm_clock/0a1b.png", "t-shirt/7f.png", "air_freshener/00.png", "wheel/11.png")
    files = {f"{images}/{name}": image_bytes(k, kind="PNG") for k, name in enumerate(names)}
    mappings = ("objectnet_to_imagenet_1k.json", "folder_to_objectnet_label.json", "imagenet_to_label_2012_v2")
    files |= {f"objectnet-1.0/mappings/{name}": b"{}" for name in mappings}
    return files | {"objectnet-1.0/README": b"read", "objectnet-1.0/LICENSE": b"may"}


def test_objectnet_as_it_is_downloaded(tmp_path: Path, capsys: Capture) -> None:
    """Its 200 classes that ImageNet has not are left out by the protocol, which --strict knows."""
    packed = encrypted_zip(objectnet(), tmp_path / "objectnet-1.0.zip")
    assert suite("objectnet", packed, tmp_path / "out") == ExitCode.FAILED
    assert "is encrypted; give the phrase of its download page with --password" in capsys.readouterr().err
    assert suite("objectnet", packed, tmp_path / "out", "--password=another") == ExitCode.FAILED
    assert "--password is not the phrase of this archive" in capsys.readouterr().err
    assert suite("objectnet", packed, tmp_path / "out", f"--password={PHRASE.decode()}", "--strict") == 0
    found = examples(tmp_path / "out", "objectnet", "test")
    assert {name: e.labels.tolist() for name, e in found.items()} == {
        "alarm_clock/0a1b.png": [409, 530],
        "t-shirt/7f.png": [610],
        "wheel/11.png": [479, 694],
    }
    assert "in other folders, left out 1" in capsys.readouterr().out


def test_what_macos_adds_to_a_zip_is_ignored(tmp_path: Path) -> None:
    """An archive that someone unpacked and packed again in Finder."""
    path = tmp_path / "objectnet-1.0.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in objectnet().items():
            archive.writestr(name, data)
            folder, _, last = name.rpartition("/")
            archive.writestr(f"__MACOSX/{folder}/._{last}", b"resource fork")
        archive.writestr("objectnet-1.0/.DS_Store", b"Bud1")
    assert suite("objectnet", path, tmp_path / "out", "--strict") == 0
    assert len(examples(tmp_path / "out", "objectnet", "test")) == 3


def backgrounds(to: Path, *, masks: bool = True) -> Path:
    classes = list(label_tables.IN9)
    with tarfile.open(to, "w:gz") as archive:
        for folder in ("bg_challenge/", *(f"bg_challenge/{name}/val/" for name in ("original", "fg_mask"))):
            info = tarfile.TarInfo(folder)
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
        for k, name in enumerate(classes):
            for variant in SUITES["backgrounds_challenge"].published:
                add(archive, f"bg_challenge/{variant}/val/{name}/fg_n0{k}_7.JPEG", image_bytes(k, size=(224, 224)))
            if masks:
                mask, buffer = np.zeros((224, 224), bool), io.BytesIO()
                mask[50:99, 20 + k : 99] = True
                np.save(buffer, mask)
                add(archive, f"bg_challenge/fg_mask/val/{name}/fg_n0{k}_7.npy", buffer.getvalue())
    return to


def test_the_backgrounds_challenge_as_it_is_downloaded(tmp_path: Path) -> None:
    packed = backgrounds(tmp_path / "backgrounds_challenge_data.tar.gz")
    assert suite("backgrounds_challenge", packed, tmp_path / "out", "--strict") == 0
    for variant in SUITES["backgrounds_challenge"].published:
        found = examples(tmp_path / "out", "backgrounds_challenge", variant)
        assert {e.label for e in found.values()} == set(range(9))
        assert all(len(e.foreground_masks) == (variant == "original") for e in found.values())
    assert main(["verify", str(tmp_path / "out" / "backgrounds_challenge"), "--workers=1"]) == 0


def test_a_second_copy_of_the_masks_is_refused(tmp_path: Path, capsys: Capture) -> None:
    packed = backgrounds(tmp_path / "a.tar.gz")
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path / "x", filter="data")
    masks = tmp_path / "x" / "bg_challenge" / "fg_mask"
    (masks / "train" / "00_dog").mkdir(parents=True)
    (masks / "val" / "00_dog" / "fg_n00_7.npy").replace(masks / "train" / "00_dog" / "fg_n00_7.npy")
    (masks / "val" / "00_dog" / "fg_n00_7.npy").write_bytes((masks / "train/00_dog/fg_n00_7.npy").read_bytes())
    assert suite("backgrounds_challenge", tmp_path / "x", tmp_path / "out") == ExitCode.FAILED
    assert "is the second mask of one image" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("archive", "folder", "split"),
    [
        ("rotation.zip", "rotation", "rotation"),
        ("size.zip", "area", "size"),
        ("location.zip", "location20_area02_min0pc", "location"),
    ],
)
def test_si_score_as_it_is_downloaded(archive: str, folder: str, split: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / archive, "w", zipfile.ZIP_STORED) as packed:
        packed.writestr(f"{folder}/", b"")
        for k, label in enumerate(label_tables.SI_SCORE):
            packed.writestr(f"{folder}/{label}/{k}.jpg", image_bytes(k))
    assert suite("si_score", tmp_path / archive, tmp_path / "out", "--strict") == 0
    found = examples(tmp_path / "out", "si_score", split)
    assert {name.partition("/")[0]: e.label for name, e in found.items()} == label_tables.SI_SCORE


def test_a_folder_that_no_table_knows_is_told(tmp_path: Path, capsys: Capture) -> None:
    """Images that were left out without a word would only be missed in a count."""
    with zipfile.ZipFile(tmp_path / "rotation.zip", "w") as packed:
        for name in ("kite/1.jpg", "zebra/2.jpg", "zebras/3.jpg", "zebras/4.jpg"):
            packed.writestr(f"rotation/{name}", image_bytes(int(name[-5])))
    assert suite("si_score", tmp_path / "rotation.zip", tmp_path / "out") == 0
    (skipped,) = read_manifest(tmp_path / "out" / "si_score", "rotation").skipped
    assert (skipped.file, skipped.reason, skipped.detail) == ("rotation/zebras", Reason.FOLDER_UNUSED, "2 images")
    assert suite("si_score", tmp_path / "rotation.zip", tmp_path / "strict", "--strict") == ExitCode.FAILED
