"""Hard ImageNet, CounterAnimal and ImageNet-Hard from their archives' layouts to their scores, against plain loops."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from data_prep.datasets.hard_imagenet import box_of
from luab_jax.data.class_lists import imagenet
from luab_jax.data.dataset import open_split, read_manifest, splits
from luab_jax.data.decoding import decode_mask
from luab_jax.data.features import Example
from luab_jax.errors import DataError, ExitCode
from luab_jax.evaluation.answers import Answers
from luab_jax.evaluation.scores.foreground import object_reliance, relative_sensitivity
from tests.data_prep.test_tiles import by_coordinates
from tests.evaluation.test_more_suites import evaluated, logits_of, model, picture, prepare, quarters

IDS = imagenet().ids
Capture = pytest.CaptureFixture[str]


def answer(pixels: np.ndarray) -> int:
    return int(model(pixels[None])[0].argmax())


@pytest.fixture(scope="module")
def outlined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty validation images in the folders of their answers or of others, and a mask of 24 of them."""
    root = tmp_path_factory.mktemp("hard")
    rng = np.random.default_rng(0)
    for i in range(30):
        pixels = np.asarray(Image.fromarray(quarters(i)).resize((120 + i, 100), Image.Resampling.NEAREST))
        label = answer(_squashed(Image.fromarray(pixels))) if i % 3 else int(rng.integers(1000))
        name = f"ILSVRC2012_val_{i + 1:08d}.JPEG"
        for folder, of in ((f"val/{IDS[label]}/{name}", pixels), (f"masks/val/{IDS[label]}_{name}", _mask(pixels, i))):
            if of is not None:
                (root / folder).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(of).save(root / folder, "PNG")
    Image.fromarray(quarters(0)).save(root / "masks" / "ranks.png")  # what else lies there is no mask
    return root


def _mask(pixels: np.ndarray, i: int) -> np.ndarray | None:
    height, width = pixels.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    mask[10 + i : 70, 20 : width - 30 - i] = 255
    mask = mask if i % 4 else mask[::2, ::3]  # both are squashed, whatever their sizes
    return mask if i % 5 else None


def _squashed(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((256, 256), Image.Resampling.BILINEAR))[16:240, 16:240]


@pytest.fixture(scope="module")
def scored(outlined: Path, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """The prepared data, and its result."""
    data = tmp_path_factory.mktemp("data")
    assert prepare("hard_imagenet", outlined / "val", data, f"--masks={outlined / 'masks'}") == ExitCode.DONE
    return data, evaluated(data, "hard_imagenet")


def test_hard_imagenet(outlined: Path, scored) -> None:  # type: ignore[no-untyped-def]
    data, result = scored
    counts = read_manifest(data / "hard_imagenet", "grey").counts
    assert counts["images_without_mask_left_out"] == 6 and counts["images_with_mask"] == 24
    right: dict[str, list[bool]] = {}
    by_class: dict[str, dict[str, list[bool]]] = {}
    for split in ("original", "grey", "grey_box", "tile", "noisy_object", "noisy_background"):
        opened = open_split(data / "hard_imagenet", split)
        for example in (Example(opened.records[i]) for i in range(len(opened.records))):
            wnid, name = example.file_name.split("/")
            pixels = _squashed(Image.open(outlined / "val" / wnid / name).convert("RGB"))
            where = _squashed(Image.open(outlined / "masks" / "val" / f"{wnid}_{name}").convert("RGB"))[..., 0] > 0
            stored = np.asarray(Image.open(io.BytesIO(example.image)))
            assert np.array_equal(decode_mask(example.foreground_masks[0]), where)
            if split == "original":
                assert np.array_equal(stored, pixels)
            elif split.startswith("grey"):
                hidden = where if split == "grey" else box_of(where)
                assert np.array_equal(stored, np.where(hidden[..., None], 128, pixels))
            elif split == "tile":
                assert np.array_equal(stored, by_coordinates(pixels, where))
            else:
                noisy = where if split == "noisy_object" else ~where
                assert np.array_equal(stored[~noisy], pixels[~noisy])
                middle = (pixels[noisy] > 120) & (pixels[noisy] < 135)  # neither end cuts the noise there
                if middle.sum() > 2000:
                    assert np.std((stored[noisy].astype(float) - pixels[noisy])[middle]) == pytest.approx(60, abs=6)
            is_right = IDS[answer(stored)] == wnid
            right.setdefault(split, []).append(is_right)
            by_class.setdefault(split, {}).setdefault(wnid, []).append(is_right)
    assert 0 < np.mean(right["original"]) < 1 and result["n"] == 24
    assert result["top1"] == pytest.approx(np.mean(right["original"]))
    assert result["top1_grey"] == pytest.approx(np.mean(right["grey"]))
    assert result["top1_tile"] == pytest.approx(np.mean(right["tile"]))
    assert result["top1_grey_box"] == pytest.approx(np.mean(right["grey_box"]))
    noisy = {name: np.mean([np.mean(of) for of in by_class[name].values()]) for name in by_class}
    assert result["noisy_object"] == pytest.approx(noisy["noisy_object"])
    middle = (noisy["noisy_object"] + noisy["noisy_background"]) / 2
    expected = (noisy["noisy_background"] - noisy["noisy_object"]) / (2 * min(middle, 1 - middle)) if middle else 0
    assert result["rfs"] == pytest.approx(expected)


def test_hard_imagenet_that_was_prepared_without_tiles_is_scored_without_them(scored, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data, whole = scored
    shutil.copytree(data, tmp_path, dirs_exist_ok=True)
    for file in (tmp_path / "hard_imagenet").glob("*tile*"):
        file.unlink()
    assert "tile" not in splits(tmp_path / "hard_imagenet")
    without = evaluated(tmp_path, "hard_imagenet")
    assert {*whole.scores} - {*without.scores} == {"top1_tile"}
    assert without.scores == {name: score for name, score in whole.scores.items() if name != "top1_tile"}


@pytest.mark.parametrize("name", ["grey", "grey_box", "tile", "noisy_object", "noisy_background"])
def test_a_set_of_other_images_than_the_original_s_is_refused(name: str) -> None:
    """As where one split was prepared again from fewer files."""

    def answers(images: list[str]) -> Answers:
        return Answers(np.zeros(len(images), np.int64), np.ones(len(images)), [""] * len(images), images)

    images = ["n01/a", "n01/b", "n02/c"]
    parts = {part: answers(images) for part in ("original", "grey", "tile", "noisy_object", "noisy_background")}
    assert object_reliance(parts)["top1_tile"] == 1
    with pytest.raises(DataError, match=f"^{name} and original have other images; prepare the set again"):
        object_reliance(parts | {name: answers(["n01/a", "n01/b", "n02/d"])})


def test_the_grey_box_leaves_out_its_last_row_and_column_as_the_authors_slice_does() -> None:
    mask = np.zeros((8, 8), bool)
    assert not box_of(mask).any()
    mask[2, 3] = mask[5, 6] = True
    expected = np.zeros((8, 8), bool)
    expected[2:5, 3:6] = True
    assert np.array_equal(box_of(mask), expected)


def test_relative_sensitivity_is_1_where_noise_on_the_object_alone_costs_all_that_it_can() -> None:
    assert relative_sensitivity(0.0, 0.5) == 1 and relative_sensitivity(0.5, 1.0) == 1
    assert relative_sensitivity(0.5, 0.0) == -1 and relative_sensitivity(0.3, 0.3) == 0
    assert relative_sensitivity(0.0, 0.0) == relative_sensitivity(1.0, 1.0) == 0


def test_hard_imagenet_without_masks_of_its_images_is_refused(outlined: Path, tmp_path: Path, capsys: Capture) -> None:
    assert prepare("hard_imagenet", outlined / "val", tmp_path) == ExitCode.FAILED
    assert "give its masks with --masks=hardImageNet.zip" in capsys.readouterr().err
    assert prepare("hard_imagenet", outlined / "val", tmp_path, f"--masks={outlined / 'val'}") == ExitCode.FAILED
    assert "it holds no masks; expected val/<wnid>_<image>" in capsys.readouterr().err
    masks = tmp_path / "hardImageNet" / "val"
    masks.mkdir(parents=True)
    (masks / f"{IDS[0]}_a.JPEG").write_bytes(b"")
    assert prepare("hard_imagenet", masks.parent, tmp_path, f"--masks={masks}") == ExitCode.FAILED
    message = capsys.readouterr().err
    assert "give ILSVRC's validation images with --source" in message and "--classes" not in message


def test_counteranimal(tmp_path: Path) -> None:
    right: dict[str, dict[int, list[bool]]] = {"common": {}, "counter": {}}
    labels = [int(logits_of(s).argmax()) for s in range(3)]
    for seed in range(40):
        split, label = ("common", "counter")[seed % 2], labels[seed % 3]
        folder = f"LAION-final/{label} some animal/{split}-{('snow', 'grass')[seed % 2]}"
        picture(tmp_path / "archive", f"{folder}/{seed}.jpeg", seed)
        right[split].setdefault(label, []).append(int(logits_of(seed).argmax()) == label)
    (tmp_path / "archive" / "LAION-final" / "imagenet_names.txt").write_text("names")
    assert prepare("counteranimal", tmp_path / "archive", tmp_path / "data") == ExitCode.DONE
    result = evaluated(tmp_path / "data", "counteranimal")
    share = {name: np.mean([r for of in classes.values() for r in of]) for name, classes in right.items()}
    mean = {name: np.mean([np.mean(of) for of in classes.values()]) for name, classes in right.items()}
    assert result["top1_common"] == pytest.approx(share["common"]) and share["common"] > share["counter"] > 0
    assert result["drop"] == pytest.approx(share["common"] - share["counter"]) and result["n"] == 20
    assert result["drop_of_classes"] == pytest.approx(mean["common"] - mean["counter"])
    low, high = result.scores["drop"].interval
    assert low < result["drop"] < high


def write_parquet(path: Path, rows: list[tuple[int, list[int], str]]) -> None:
    def png(seed: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(quarters(seed)).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()

    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        "image": [{"bytes": png(seed), "path": None} for seed, _, _ in rows],
        "label": [labels for _, labels, _ in rows],
        "origin": [origin for _, _, origin in rows],
        "english_label": [["a name"] for _ in rows],
    }
    parquet.write_table(pa.table(columns), path, row_group_size=4)


def test_imagenet_hard(tmp_path: Path) -> None:
    rows = []
    for i in range(22):
        found = int(logits_of(i).argmax())
        labels = [[found], [(found + 1) % 1000, found], [(found + 1) % 1000], [7, 8, 9]][i % 4]
        rows.append((i, labels, ("imagenet_a", "objectnet", "imagenet-sketch")[i % 3]))
    for number, part in enumerate((rows[:9], rows[9:])):
        write_parquet(tmp_path / "imagenet-hard" / "data" / f"validation-{number:05d}-of-00002.parquet", part)
    assert prepare("imagenet_hard", tmp_path / "imagenet-hard", tmp_path / "data") == ExitCode.DONE
    assert not list((tmp_path / "data" / "imagenet_hard").glob("*.tar"))
    result = evaluated(tmp_path / "data", "imagenet_hard")
    right = [int(logits_of(seed).argmax()) in labels for seed, labels, _ in rows]
    assert result["top1"] == pytest.approx(np.mean(right)) and 0 < sum(right) < 22
    assert result["n"] == 22 and result.data.partial
    for origin in ("imagenet_a", "objectnet", "imagenet-sketch"):
        of_origin = [r for r, row in zip(right, rows, strict=True) if row[2] == origin]
        assert result.groups[origin] == pytest.approx(np.mean(of_origin))
    assert prepare("imagenet_hard", tmp_path / "imagenet-hard", tmp_path / "data") == ExitCode.DONE  # and once more


def test_an_image_column_that_is_binary_itself_is_read_and_texts_are_refused(tmp_path: Path, capsys: Capture) -> None:
    write_parquet(tmp_path / "struct" / "a.parquet", [(0, [5], "a"), (1, [6], "b")])
    table = parquet.read_table(tmp_path / "struct" / "a.parquet")
    images = [value["bytes"] for value in table["image"].to_pylist()]
    for folder, column in (("binary", images), ("text", ["a.png", "b.png"]), ("later", [{"bytes": "x"}] * 2)):
        (tmp_path / folder).mkdir()
        parquet.write_table(table.set_column(0, "image", pa.array(column)), tmp_path / folder / "a.parquet")
    assert prepare("imagenet_hard", tmp_path / "binary", tmp_path / "data") == ExitCode.DONE
    opened = open_split(tmp_path / "data" / "imagenet_hard", "test")
    assert sorted(Example(opened.records[i]).image for i in range(2)) == sorted(images)
    capsys.readouterr()
    for folder in ("text", "later"):
        assert prepare("imagenet_hard", tmp_path / folder, tmp_path / folder / "data") == ExitCode.FAILED
        told = capsys.readouterr().err
        assert "a.parquet: row 0: image is str, expected bytes, or a struct with bytes; take the parquet" in told


def test_imagenet_hard_has_one_split(tmp_path: Path, capsys: Capture) -> None:
    write_parquet(tmp_path / "raw" / "a.parquet", [(0, [5], "a")])
    assert prepare("imagenet_hard", tmp_path / "raw", tmp_path / "data", "--split=val") == ExitCode.FAILED
    assert "--split=val: imagenet_hard has the split test alone" in capsys.readouterr().err


def test_parquet_files_of_something_else_are_refused(tmp_path: Path, capsys: Capture) -> None:
    write_parquet(tmp_path / "wrong" / "a.parquet", [(0, [5], "a"), (1, [1000], "b")])
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.parquet").write_text("no parquet")
    (tmp_path / "other").mkdir()
    parquet.write_table(pa.table({"image": [b""], "label": [[1]]}), tmp_path / "other" / "a.parquet")
    (tmp_path / "empty").mkdir()
    (tmp_path / "latin").mkdir()
    table = parquet.read_table(tmp_path / "wrong" / "a.parquet")
    latin = pa.array([b"\xe9"] * len(table), pa.binary()).view(pa.string())  # as writers that check nothing leave it
    parquet.write_table(table.set_column(2, "origin", latin), tmp_path / "latin" / "a.parquet")
    for folder, message in (
        ("latin", "a.parquet: cannot be read as a parquet file of imagenet_hard ('utf-8' codec"),
        ("wrong", "a.parquet: row 1: label is [1000], expected indices from 0 to 999"),
        ("text", "a.parquet: cannot be read as a parquet file of imagenet_hard"),
        ("other", "a.parquet: has no column origin, but image, label"),
        ("empty", "holds no parquet file of imagenet_hard, such as validation-00000-of-"),
        ("nothing", "no such folder or archive"),
    ):
        assert prepare("imagenet_hard", tmp_path / folder, tmp_path / "data") == ExitCode.FAILED
        assert message in capsys.readouterr().err, folder
