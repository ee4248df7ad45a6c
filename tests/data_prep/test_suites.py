"""Every suite, from a miniature of the layout that people download: as a folder and as its archive."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.__main__ import main
from data_prep.datasets.suites import NAMES, SUITES
from luab_jax.data import label_tables
from luab_jax.data.class_lists import imagenet
from luab_jax.data.dataset import open_split, read_manifest
from luab_jax.data.features import Example
from luab_jax.errors import ExitCode
from tests.data_prep.conftest import image_bytes, shard_bytes
from tests.data_prep.packing import nested_tar, tar, zipped

Capture = pytest.CaptureFixture[str]
IDS = imagenet().ids
SEED = iter(range(10_000))

GOLDFISH, KITE, CONSOLE = "n01443537", "n01608432", "n02951585"
A_IDS = tuple(IDS[i] for i in label_tables.IMAGENET_A)


def write(root: Path, *names: str, kind: str = "JPEG") -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(image_bytes(next(SEED), kind=kind))
    return root


def suite(name: str, source: Path, out: Path, *flags: str) -> int:
    return main(["suite", name, f"--source={source}", f"--out={out}", "--workers=1", *flags])


def examples(out: Path, name: str, split: str = "test") -> dict[str, Example]:
    records = open_split(out / name, split).records
    found = [Example(records[i]) for i in range(len(records))]
    return {example.file_name: example for example in found}


def same_from(name: str, tmp_path: Path, folder: Path, archive: Path, *flags: str) -> Path:
    """Prepares both; the shards must be the same. Returns where."""
    assert suite(name, folder, tmp_path / "a", *flags) == 0
    assert suite(name, archive, tmp_path / "b", *flags) == 0
    assert shard_bytes(tmp_path / "a" / name) == shard_bytes(tmp_path / "b" / name)
    assert not list((tmp_path / "b" / name).glob("scratch*"))
    return tmp_path / "a"


@pytest.mark.parametrize(
    "name, wnid, label",
    [("imagenet_a", "n01498041", 6), ("imagenet_r", "n01443537", 1), ("imagenet_sketch", "n15075141", 999)],
)
def test_wnid_folders(name: str, wnid: str, label: int, tmp_path: Path, capsys: Capture) -> None:
    top = "sketch" if name == "imagenet_sketch" else name.replace("_", "-")
    write(tmp_path / "x" / top, f"{wnid}/0.000_fox_0.9.jpg", f"{wnid}/art_1.jpg", f"{IDS[105]}/b.JPEG")
    (tmp_path / "x" / top / "README.txt").write_text("no image")
    if name == "imagenet_sketch":
        archive = zipped(tmp_path / "x", tmp_path / f"{name}.zip")
    else:
        archive = tar(tmp_path / "x", tmp_path / f"{name}.tar")
    out = same_from(name, tmp_path, tmp_path / "x" / top, archive)
    found = examples(out, name)
    assert {key: e.label for key, e in found.items()} == {
        f"{wnid}/0.000_fox_0.9.jpg": label,
        f"{wnid}/art_1.jpg": label,
        f"{IDS[105]}/b.JPEG": 105,
    }
    manifest = read_manifest(out / name, "test")
    assert manifest.partial and manifest.expected_records == SUITES[name].published["test"]
    assert manifest.classes.hash == imagenet().hash
    assert f"PARTIAL SET                3 of {manifest.expected_records:,} published" in capsys.readouterr().out


def test_imagenet_o_has_no_labels(tmp_path: Path) -> None:
    write(tmp_path / "imagenet-o", "n01443537/a.JPEG")
    out = same_from("imagenet_o", tmp_path, tmp_path / "imagenet-o", tar(tmp_path / "imagenet-o", tmp_path / "o.tar"))
    (example,) = examples(out, "imagenet_o").values()
    assert (example.label, example.group) == (-1, "n01443537")


def test_another_suite_is_refused_by_name(tmp_path: Path, capsys: Capture) -> None:
    source = write(tmp_path / "data", *(f"{wnid}/a.jpg" for wnid in A_IDS))
    assert suite("imagenet_r", source, tmp_path / "out") == ExitCode.FAILED
    assert "these are the classes of imagenet_a; 114 of its 200" in capsys.readouterr().err
    assert suite("imagenet_sketch", source, tmp_path / "out") == ExitCode.FAILED
    assert "these are the classes of imagenet_a" in capsys.readouterr().err
    other = write(tmp_path / "other", "n01440764/a.jpg")
    assert suite("imagenet_a", other, tmp_path / "out") == ExitCode.FAILED
    assert "not imagenet_a; 1 of its 1 classes" in capsys.readouterr().err
    assert suite("objectnet", source, tmp_path / "out") == ExitCode.FAILED
    assert "objectnet-1.0/images/<class>" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    packed = tar(other, tmp_path / "other.tar.gz", mode="w:gz")
    assert suite("imagenet_a", packed, tmp_path / "out") == ExitCode.FAILED
    assert not list((tmp_path / "out" / "imagenet_a").iterdir())


def test_more_images_than_published(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES["imagenet_a"].published, "test", 1)  # type: ignore[arg-type]
    source = write(tmp_path / "data", "n01498041/a.jpg", "n01498041/b.jpg")
    assert suite("imagenet_a", source, tmp_path / "out") == ExitCode.FAILED
    assert "was published with 1" in capsys.readouterr().err


def test_complete_set_is_not_partial(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES["imagenet_a"].published, "test", 2)  # type: ignore[arg-type]
    source = write(tmp_path / "data", "n01498041/a.jpg", "n01498041/b.jpg")
    assert suite("imagenet_a", source, tmp_path / "out") == 0
    assert not read_manifest(tmp_path / "out" / "imagenet_a", "test").partial
    assert "complete                   2 of 2" in capsys.readouterr().out


def test_imagenet_v2_folders_are_numbers(tmp_path: Path) -> None:
    """Sorted as text, `10` would come before `2` and be class 2 of 4."""
    top = "imagenetv2-matched-frequency-format-val"
    write(tmp_path / "x" / top, "0/h.jpeg", "2/g.jpeg", "10/f.jpeg", "999/e.jpeg")
    archive = tar(tmp_path / "x", tmp_path / "imagenetv2-matched-frequency.tar.gz", mode="w:gz")
    out = same_from("imagenet_v2", tmp_path, tmp_path / "x", archive)
    found = examples(out, "imagenet_v2", "matched_frequency")
    assert {key: e.label for key, e in found.items()} == {
        "0/h.jpeg": 0,
        "2/g.jpeg": 2,
        "10/f.jpeg": 10,
        "999/e.jpeg": 999,
    }


def test_imagenet_v2_variants(tmp_path: Path, capsys: Capture) -> None:
    root, out = tmp_path / "v2", tmp_path / "out"
    write(root, "imagenetv2-threshold0.7-format-val/7/a.jpeg", "imagenetv2-top-images-format-val/7/b.jpeg")
    assert suite("imagenet_v2", root, out) == 0
    for split, name in (("threshold_0_7", "7/a.jpeg"), ("top_images", "7/b.jpeg")):
        assert list(examples(out, "imagenet_v2", split)) == [name]
    renamed = write(tmp_path / "renamed", "7/a.jpeg")
    assert suite("imagenet_v2", renamed, tmp_path / "other") == ExitCode.FAILED
    assert "--split, one of matched_frequency" in capsys.readouterr().err
    assert suite("imagenet_v2", renamed, tmp_path / "other", "--split=top_images") == 0


def test_imagenet_c_groups(tmp_path: Path) -> None:
    """Tars by group of corruptions, in one folder."""
    write(tmp_path / "noise", "gaussian_noise/3/n01440764/a.JPEG", "shot_noise/5/n02951585/a.JPEG")
    write(tmp_path / "extra", "spatter/1/n02951585/a.JPEG")
    (tmp_path / "tars").mkdir()
    for name in ("noise", "extra"):
        tar(tmp_path / name, tmp_path / "tars" / f"{name}.tar")
        (tmp_path / "all").mkdir(exist_ok=True)
        for kind in (tmp_path / name).iterdir():
            kind.rename(tmp_path / "all" / kind.name)
    out = same_from("imagenet_c", tmp_path, tmp_path / "all", tmp_path / "tars")
    found = examples(out, "imagenet_c")
    assert {(e.label, e.group) for e in found.values()} == {
        (0, "gaussian_noise,severity=3"),
        (IDS.index(CONSOLE), "shot_noise,severity=5"),
    }
    assert [e.group for e in examples(out, "imagenet_c", "extra").values()] == ["spatter,severity=1"]
    assert read_manifest(out / "imagenet_c", "test").expected_records == 3_750_000


def test_objectnet(tmp_path: Path) -> None:
    images = "objectnet-1.0/images"
    write(
        tmp_path / "x",
        f"{images}/alarm_clock/1.png",
        f"{images}/banana/2.png",
        f"{images}/air_freshener/3.png",
        kind="PNG",
    )
    (tmp_path / "x" / "objectnet-1.0" / "mappings").mkdir()
    (tmp_path / "x" / "objectnet-1.0" / "mappings" / "objectnet_to_imagenet_1k.json").write_text("{}")
    out = same_from("objectnet", tmp_path, tmp_path / "x", zipped(tmp_path / "x", tmp_path / "objectnet-1.0.zip"))
    found = examples(out, "objectnet")
    facts = {e.group: (e.label, e.labels.tolist()) for e in found.values()}
    assert facts == {"alarm_clock": (-1, [409, 530]), "banana": (954, [954])}
    assert read_manifest(out / "objectnet", "test").counts["images_of_other_folders_left_out"] == 1


@pytest.mark.parametrize(
    "folder, split", [("area", "size"), ("rotation", "rotation"), ("location20_area02_min0pc", "location")]
)
def test_si_score(folder: str, split: str, tmp_path: Path) -> None:
    write(tmp_path / "x" / folder, "kite/12.jpg", "zucchini/13.jpg")
    out = same_from("si_score", tmp_path, tmp_path / "x" / folder, zipped(tmp_path / "x", tmp_path / f"{split}.zip"))
    found = examples(out, "si_score", split)
    assert {key: e.label for key, e in found.items()} == {"kite/12.jpg": 21, "zucchini/13.jpg": 939}
    assert read_manifest(out / "si_score", split).expected_records == SUITES["si_score"].published[split]


def test_backgrounds_with_masks(tmp_path: Path, capsys: Capture) -> None:
    top = tmp_path / "x" / "bg_challenge"
    variants = SUITES["backgrounds_challenge"].published
    write(top, *(f"{variant}/val/02_wheeled vehicle/fg_n1_1.JPEG" for variant in variants))
    write(top, "original/val/00_dog/fg_n2_7.JPEG")
    mask = np.random.default_rng(0).random((6, 8)) < 0.5
    for name, array in (("02_wheeled vehicle/fg_n1_1", mask), ("00_dog/fg_n2_7", mask[:3])):
        (top / "fg_mask" / "val" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(top / "fg_mask" / "val" / f"{name}.npy", array)
    archive = tar(tmp_path / "x", tmp_path / "backgrounds_challenge_data.tar.gz", mode="w:gz")
    out = same_from("backgrounds_challenge", tmp_path, top, archive)
    for variant in variants:
        found = examples(out, "backgrounds_challenge", variant)
        assert found["02_wheeled vehicle/fg_n1_1.JPEG"].label == 2
        assert len(found["02_wheeled vehicle/fg_n1_1.JPEG"].foreground_masks) == (variant == "original")
    found = examples(out, "backgrounds_challenge", "original")
    (png,) = found["02_wheeled vehicle/fg_n1_1.JPEG"].foreground_masks
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), mask)
    assert not found["00_dog/fg_n2_7.JPEG"].foreground_masks
    manifest = read_manifest(out / "backgrounds_challenge", "original")
    assert [s.detail for s in manifest.skipped] == ["shape (3, 8), the image has (6, 8)"]
    assert manifest.classes.ids[2] == "02_wheeled vehicle" and len(manifest.classes) == 9
    assert main(["verify", str(out / "backgrounds_challenge"), "--workers=1"]) == 0


def val_folder(root: Path) -> Path:
    return write(root, *(f"ILSVRC2012_val_{number:08d}.JPEG" for number in (1, 2, 50_000)))


def test_imagenet_val_with_boxes_and_real_labels(tmp_path: Path) -> None:
    folder = val_folder(tmp_path / "val")
    real: list[list[int]] = [[] for _ in range(50_000)]
    real[0], real[49_999] = [65, 60], [7]
    (tmp_path / "real.json").write_text(json.dumps(real))
    (tmp_path / "boxes.txt").write_text("ILSVRC2012_val_00000001.JPEG\t0\t0\t3\t5\n")
    archive = tar(folder, tmp_path / "ILSVRC2012_img_val.tar")
    flags = (f"--real={tmp_path / 'real.json'}", f"--boxes={tmp_path / 'boxes.txt'}")
    out = same_from("imagenet_real", tmp_path, folder, archive, *flags)
    found = {key.rpartition("/")[2]: e for key, e in examples(out, "imagenet_real", "val").items()}
    first, second = found["ILSVRC2012_val_00000001.JPEG"], found["ILSVRC2012_val_00000002.JPEG"]
    assert (first.label, first.labels.tolist(), second.label, second.labels.tolist()) == (65, [65, 60], 970, [])
    assert found["ILSVRC2012_val_00050000.JPEG"].labels.tolist() == [7]
    assert [box.x_max for box in first.record().boxes] == [0.5]
    manifest = read_manifest(out / "imagenet_real", "val")
    assert manifest.partial and manifest.counts["images_with_real_labels"] == 2


def test_imagenet_val_in_class_folders_is_the_same(tmp_path: Path) -> None:
    flat = val_folder(tmp_path / "flat")
    for name, wnid in (("00000001", "n01751748"), ("00000002", "n09193705"), ("00050000", "n02437616")):
        path = tmp_path / "classes" / wnid / f"ILSVRC2012_val_{name}.JPEG"
        path.parent.mkdir(parents=True)
        path.write_bytes((flat / path.name).read_bytes())
    same_from("imagenet", tmp_path, flat, tmp_path / "classes")
    same_from("imagenet", tmp_path / "t", flat, nested_tar(tmp_path / "classes", tmp_path / "nested.tar"))


@pytest.mark.parametrize(
    "text, words", [("[[1]]", "50,000 lists"), ("{", "cannot be read"), ("[" + "[1000]," * 49_999 + "[0]]", "0 to 999")]
)
def test_wrong_real_labels(tmp_path: Path, capsys: Capture, text: str, words: str) -> None:
    (tmp_path / "real.json").write_text(text)
    folder = val_folder(tmp_path / "val")
    assert suite("imagenet_real", folder, tmp_path / "out", f"--real={tmp_path / 'real.json'}") == ExitCode.FAILED
    assert words in capsys.readouterr().err


def test_real_labels_are_asked_for(tmp_path: Path, capsys: Capture) -> None:
    assert suite("imagenet_real", val_folder(tmp_path / "val"), tmp_path / "out") == ExitCode.FAILED
    assert "--real=real.json" in capsys.readouterr().err


def test_tables_are_those_of_the_protocols() -> None:
    """Counts and overlaps that the suites' authors or the tables' sources state."""
    a, o, r = (set(t) for t in (label_tables.IMAGENET_A, label_tables.IMAGENET_O, label_tables.IMAGENET_R))
    assert (len(a), len(o), len(r), len(a & o), len(a & r)) == (200, 200, 200, 59, 86)
    assert [len(indices) for indices in label_tables.IN9.values()] == [116, 52, 42, 36, 35, 27, 26, 20, 16]
    assert (len(label_tables.OBJECTNET), len({i for v in label_tables.OBJECTNET.values() for i in v})) == (113, 125)
    assert len(label_tables.SI_SCORE) == 61 and label_tables.SI_SCORE["kite"] == IDS.index(KITE)
    assert label_tables.IMAGENET_R[0] == IDS.index(GOLDFISH)
    assert set(NAMES) >= set(SUITES)
