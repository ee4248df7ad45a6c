"""Corrupted and occluded images out of drawn ones, and objects moved, scaled and turned."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from data_prep.__main__ import main
from data_prep.own_suites.backgrounds import Photo, labels_on
from data_prep.own_suites.changed import cell_of, centre_of, half_of, list_changes
from data_prep.own_suites.commands import FOLDERS
from data_prep.own_suites.foregrounds import Rectangle
from data_prep.own_suites.grids import Placed, groups, list_placed, placed
from luab_jax.api import run_suites
from luab_jax.corruptions import frost_photos
from luab_jax.corruptions.corrupt import corrupt, image_keys
from luab_jax.corruptions.frost_photos import NAMES
from luab_jax.data.dataset import read_manifest
from luab_jax.data.decoding import decode_mask
from luab_jax.data.transforms import Preprocessing
from luab_jax.errors import ExitCode
from tests.data_prep.conftest import shard_bytes
from tests.data_prep.own_suites.drawn import CLASSES, SIDE, Drawn, examples, nine, pixels_of, prepare_drawn

Capture = pytest.CaptureFixture[str]
AS_STORED = Preprocessing(image_size=SIDE, resize_side=None)


def run(command: str, source: Path, out: Path, *flags: str) -> int:
    return main([command, f"--from={source}", f"--out={out}", "--workers=1", *flags])


def mean_of_first_channel(images: np.ndarray) -> np.ndarray:
    """Some function of the image whose answers differ."""
    return np.stack([images[..., c].mean(axis=(1, 2)) for c in range(3)], axis=-1) + images[:, 3, 3] / 9


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_drawn(tmp_path_factory.mktemp("drawn"), nine())


def test_with_sets_of_labels_an_object_brings_its_class_and_the_background_what_is_left_on_it() -> None:
    """The object of the background is tiled over; what was beside the object stays behind with its image."""
    own, other = Photo(0, "a.jpg", 1, (2, 5)), Photo(1, "b.jpg", 3, (4, 1))
    assert labels_on(own, other) == (1, 4) and labels_on(other, own) == (2, 3, 5)
    assert labels_on(Photo(0, "a.jpg", 1, None), Photo(1, "b.jpg", 3, None)) == ()
    assert {(item.label, item.labels) for item in list_placed("size", [own, other], 3, 0)} == {
        (1, (1, 4)),
        (3, (2, 3, 5)),
    }


def test_every_image_is_corrupted_at_its_size_as_the_library_does_it(source: Path, tmp_path: Path) -> None:
    flags = ("--kinds=brightness,gaussian_noise", "--severities=1,3")
    assert run("corruptions", source, tmp_path, *flags) == ExitCode.DONE
    made = tmp_path / "own_corruptions"
    found = examples(made, "test")
    assert len(found) == 4 * 9 and len(examples(made, "clean")) == 9
    for item in nine():
        for kind, severity in (("gaussian_noise", 3), ("brightness", 1)):
            example = found[f"{kind},severity={severity}/{item.file_name}"]
            keys = image_keys([f"{item.index:03d}"], kind, severity)
            expected = np.asarray(corrupt(jax.numpy.asarray(item.pixels[None]), keys, name=kind, severity=severity))[0]
            file = io.BytesIO()
            Image.fromarray(expected).save(file, "JPEG", quality=85, subsampling=0)
            assert example.image == file.getvalue() and example.group == f"{kind},severity={severity}"
            assert example.label == item.label
    manifest = read_manifest(made, "test")
    assert (
        manifest.source["corruptions"] == "gaussian_noise, brightness" and "corrupted" in manifest.source["generated"]
    )

    results = run_suites(mean_of_first_channel, tmp_path, "own_corruptions", preprocessing=AS_STORED, classes=CLASSES)
    result, right = results["own_corruptions"], {}
    for example in found.values():
        answer = int(mean_of_first_channel(pixels_of(example)[None])[0].argmax())
        right.setdefault(example.group, []).append(answer == example.label)
    shares = {group: np.mean(values) for group, values in right.items()}
    assert result["top1"] == pytest.approx(np.mean(list(shares.values())))
    assert result["top1_severity_3"] == pytest.approx(np.mean([v for g, v in shares.items() if g.endswith("3")]))
    assert result["loss"] == pytest.approx(result["top1_clean"] - result["top1"])
    assert {"ece_clean", "ece_severity_1", "ece_severity_3"} <= result.scores.keys()


def test_images_of_several_sizes_become_squares(tmp_path: Path) -> None:
    source = prepare_drawn(tmp_path, nine())
    assert run("corruptions", source, tmp_path, "--kinds=brightness", "--severities=1", "--side=16") == ExitCode.DONE
    assert {pixels_of(e).shape for e in examples(tmp_path / "own_corruptions", "clean").values()} == {(16, 16, 3)}


@pytest.mark.parametrize(
    ("command", "flags", "message"),
    [
        ("corruptions", ("--kinds=fogg",), "--kinds=fogg: there is no 'fogg', but gaussian_noise"),
        ("grids", ("--kinds=depth",), "there is no 'depth', but size, position, rotation"),
        ("grids", ("--places=1",), "has two on each side at least"),
        ("corruptions", ("--kinds=brightness", "--split=train"), "no prepared split 'train'"),
    ],
)
def test_what_does_not_exist_is_told_in_one_line(
    command: str, flags: tuple[str, ...], message: str, source: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert run(command, source, tmp_path, *flags) == ExitCode.FAILED
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_severities_are_numbers(source: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        run("corruptions", source, tmp_path, "--severities=6")
    assert end.value.code == ExitCode.USAGE


def test_other_photos_of_frost_are_other_images(source: Path, tmp_path: Path, capsys: Capture) -> None:
    rng = np.random.default_rng(0)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for name in NAMES:
            Image.fromarray(rng.integers(0, 256, (30, 30, 3), np.uint8)).save(tmp_path / folder / name)
    flags = ("--kinds=frost", "--severities=1", "--per_class=1")
    for _ in range(2):
        assert run("corruptions", source, tmp_path, *flags, f"--frost={tmp_path / 'a'}") == ExitCode.DONE
    assert run("corruptions", source, tmp_path, *flags, f"--frost={tmp_path / 'b'}") == ExitCode.FAILED
    assert "split 'test' was prepared from other input" in capsys.readouterr().err


def test_versions_of_an_image_are_of_one_image_though_its_name_has_no_folder() -> None:
    """Results tell images apart by the last two parts of their names, where groups are not to be seen."""
    photos = [Photo(i, f"{i}.png", 0, None) for i in range(2)] + [Photo(2, "val/red/0.png", 0, None)]
    made: list[list[Any]] = [list_changes(photos, of) for of in ([""], ["fog,severity=1", "fog,severity=2"])]
    made.append(list_placed("size", photos, 2, 0))
    for items in made:
        assert {"/".join(item.file_name.split("/")[-2:]) for item in items} == {
            "images/0.png",
            "images/1.png",
            "red/0.png",
        }


@pytest.fixture(scope="module")
def occluded(source: Path) -> Path:
    assert run("occlusions", source, source, "--fill=black") == ExitCode.DONE
    return source / "own_occlusions"


def test_what_a_group_names_is_hidden_and_nothing_else(occluded: Path) -> None:
    found = examples(occluded, "test")
    assert len(found) == 9 * (3 + 9 + 5)
    for item in nine():
        for group, (left, top, right, bottom) in {
            "centre=0.5": (6, 6, 18, 18),
            "cell=0,2": (16, 0, 24, 8),
            "cell=2,1": (8, 16, 16, 24),
            "object=left": (6, 9, 10, 19),
            "object=bottom": (6, 14, 14, 19),
            "object=all": item.box,
        }.items():
            expected = item.pixels.copy()
            expected[top:bottom, left:right] = 0
            assert np.array_equal(pixels_of(found[f"{group}/{item.file_name}"]), expected), group


def test_the_cells_are_the_image_and_halves_do_not_meet() -> None:
    covered = np.zeros((23, 31), int)
    for row in range(4):
        for column in range(4):
            covered[cell_of(f"{row},{column}", 4, 31, 23).slices] += 1
    assert (covered == 1).all()
    box = Rectangle(3, 4, 10, 9)
    assert half_of(box, "left") == (3, 4, 6, 9) and half_of(box, "right") == (7, 4, 10, 9)
    assert half_of(box, "top") == (3, 4, 10, 6) and half_of(box, "bottom") == (3, 7, 10, 9)
    assert centre_of(0.5, 224, 224) == (56, 56, 168, 168)  # as `cocc` has it


def test_occlusions_are_scored_by_kind(occluded: Path) -> None:
    results = run_suites(mean_of_first_channel, occluded.parent, "own_occlusions", preprocessing=AS_STORED,
                         classes=CLASSES)  # fmt: skip
    result = results["own_occlusions"]
    groups = result.groups
    cells = [v for g, v in groups.items() if g.startswith("cell")]
    assert len(cells) == 9 and result["cell"] == pytest.approx(np.mean(cells))
    assert result["object_all"] == groups["object=all"]
    assert result["object"] == pytest.approx(
        np.mean([groups[f"object={p}"] for p in ("left", "right", "top", "bottom")])
    )
    assert result["top1"] == pytest.approx(np.mean(list(groups.values())))


def test_without_objects_only_the_image_is_hidden(tmp_path: Path, capsys: Capture) -> None:
    source = prepare_drawn(tmp_path, nine("nothing"))
    assert run("occlusions", source, tmp_path, "--cells=2") == ExitCode.DONE
    assert "neither boxes nor masks" in capsys.readouterr().out
    assert {e.group.split("=")[0] for e in examples(tmp_path / "own_occlusions", "test").values()} == {"centre", "cell"}


def at(item: Drawn, **changes: float) -> Placed:
    values = {"area": float(item.mask.sum()) / SIDE**2, "x": 0.5, "y": 0.5, "angle": 0.0} | changes
    return Placed(item.file_name, item.index, item.label, 0, group="g", **values)


def test_an_object_of_its_own_size_is_moved_without_a_changed_pixel() -> None:
    item = Drawn(0, 1)
    background = np.full((SIDE, SIDE, 3), 9, np.uint8)
    pixels, mask = placed(item.pixels, item.mask, background, at(item, x=0.25, y=0.5))
    expected_mask = np.roll(item.mask, (12 - 14, 6 - 10), axis=(0, 1))
    assert np.array_equal(mask, expected_mask)
    moved = np.roll(item.pixels, (12 - 14, 6 - 10), axis=(0, 1))
    assert np.array_equal(pixels, np.where(expected_mask[..., None], moved, background))
    _, cut = placed(item.pixels, item.mask, background, at(item, x=0.0))
    assert cut.sum() == item.mask[:, 10:14].sum()  # the other half lies beyond the frame


@pytest.mark.parametrize("area", [0.05, 0.3])
def test_the_area_is_the_one_that_was_asked_for(area: float) -> None:
    big = np.kron(Drawn(0, 1).mask, np.ones((8, 8), bool))
    image = np.where(big[..., None], np.uint8(200), np.uint8(0)) * np.ones(3, np.uint8)
    for angle in (0.0, 61.0):
        pixels, mask = placed(image, big, np.zeros_like(image), at(Drawn(0, 1), area=area, angle=angle))
        assert mask.mean() == pytest.approx(area, rel=0.03)
        assert np.median(pixels[mask]) == 200


def test_angles_turn_clockwise() -> None:
    """The missing corners of the drawn object are at the upper left and the lower right; a bar tells the turn."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[12, 4:20] = mask[11, 4:20] = True
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[:, 12:] = 255  # the right end is white
    item = Placed("x", 0, 0, 0, mask.sum() / SIDE**2, 0.5, 0.5, 90.0, "g")
    pixels, turned = placed(image, mask, np.full_like(image, 99), item)
    assert turned[4:20, 11:13].all() and turned.sum() == mask.sum()
    assert (pixels[15:19, 11:13] > 250).all() and (pixels[5:9, 11:13] < 5).all()


def test_a_grid_is_on_disk_and_scored_by_its_groups(source: Path, tmp_path: Path) -> None:
    assert run("grids", source, tmp_path, "--places=3", "--kinds=position,size") == ExitCode.DONE
    made = tmp_path / "own_grids"
    found = examples(made, "position")
    assert {e.group for e in found.values()} == {name for name, *_ in groups("position", 3)} and len(found) == 81
    example = found["x=0.50,y=0.50/red/000.png"]
    assert decode_mask(example.foreground_masks[0]).mean() == pytest.approx(0.2, rel=0.1)
    assert run("grids", source, tmp_path / "b", "--places=3", "--kinds=position,size") == ExitCode.DONE
    assert shard_bytes(tmp_path / "b" / "own_grids") == shard_bytes(made)
    results = run_suites(mean_of_first_channel, tmp_path, "own_position,own_size,own_rotation",
                         preprocessing=AS_STORED, classes=CLASSES)  # fmt: skip
    assert len(results["own_position"].groups) == 9 and len(results["own_size"].groups) == 9
    assert "data_prep grids" in results.missing["own_rotation"] or "data_prep folder" in results.missing["own_rotation"]


def test_what_leaves_the_image_is_counted_set_by_set_and_every_manifest_is_named(
    tmp_path: Path, capsys: Capture
) -> None:
    """An object of two distant pixels has none left where it is large, or where its corner is the image's centre."""
    items = [*nine(), Drawn(9, 0, "nothing"), Drawn(10, 1, "apart")]
    source = prepare_drawn(tmp_path, items)
    for _ in range(2):  # a finished set says it again
        assert run("grids", source, tmp_path, "--places=3", "--kinds=size,position") == ExitCode.DONE
        told = capsys.readouterr().out
        missing: dict[str, int] = {}
        for kind in ("size", "position"):
            manifest = read_manifest(tmp_path / "own_grids", kind)
            missing[kind] = len(items[1:]) * 9 - manifest.num_records
            lines = [line for line in told.splitlines() if f"left out of {kind}:" in line]
            outside = [line for line in lines if "object lies outside of the image, such as" in line]
            counts = [int(line.split(":")[1].split()[0]) for line in outside]
            assert counts == ([missing[kind]] if missing[kind] else [])
        assert "left out of size:       1  no object to cut out, such as red/009.png" in told
        assert missing["size"] and missing["position"] and "size.manifest.json and position.manifest.json of " in told


def test_an_image_without_a_label_is_listed(tmp_path: Path, capsys: Capture) -> None:
    source = prepare_drawn(tmp_path, [*nine(), Drawn(9, -1)])
    for command, flags in (("occlusions", ()), ("corruptions", ("--kinds=brightness", "--severities=1"))):
        assert run(command, source, tmp_path, *flags) == ExitCode.DONE
        told = capsys.readouterr().out
        assert "left out of test:       1  image without a label, such as blue/009.png" in told
        assert f"is listed in test.manifest.json of {tmp_path / FOLDERS[command]}" in told


def test_cells_have_pixels_and_the_size_is_told_before_it_is_written(tmp_path: Path, capsys: Capture) -> None:
    source = prepare_drawn(tmp_path, nine())
    assert run("occlusions", source, tmp_path, "--cells=25") == ExitCode.FAILED
    assert "--cells=25: a side of 24 pixels, the smallest in split 'val', has no more cells" in capsys.readouterr().err
    assert run("occlusions", source, tmp_path, "--cells=2") == ExitCode.DONE
    told = capsys.readouterr().out
    found = float(re.search(r"to be written: 108 images, about ([\d.]+) MB", told).group(1))  # pyright: ignore
    sizes = [len(example.image) for example in examples(tmp_path / "own_occlusions", "test").values()]
    assert found == pytest.approx(sum(sizes) / 1e6, abs=0.06)


def test_the_suites_named_are_those_that_were_written(tmp_path: Path, capsys: Capture) -> None:
    source = prepare_drawn(tmp_path, nine())
    assert run("grids", source, tmp_path, "--places=2", "--kinds=position") == ExitCode.DONE
    assert "--suites=own_position --data" in capsys.readouterr().out
    assert run("backgrounds", source, tmp_path, "--sets=original,only_bg_t") == ExitCode.DONE
    assert "--suites=own_bgc_accuracy --data" in capsys.readouterr().out
    assert run("backgrounds", source, tmp_path, "--sets=mixed_same,mixed_rand") == ExitCode.DONE
    assert "--suites=own_backgrounds,own_bgc_accuracy --data" in capsys.readouterr().out
    assert run("backgrounds", source, tmp_path / "b", "--sets=only_fg") == ExitCode.DONE
    assert "--suites" not in capsys.readouterr().out


def test_frost_without_photos_names_the_options(
    source: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frost_photos, "PACKAGE", "no_such_package")
    frost_photos.packaged_photos.cache_clear()
    assert run("corruptions", source, tmp_path, "--kinds=frost") == ExitCode.FAILED
    told = capsys.readouterr().err
    assert "--frost=DIR" in told and "leave frost out of --kinds" in told


def test_grids_need_masks(tmp_path: Path, capsys: Capture) -> None:
    assert run("grids", prepare_drawn(tmp_path, nine("box")), tmp_path) == ExitCode.FAILED
    said = capsys.readouterr().err
    assert "has masks of its object; 9 have boxes: grids cut objects out by masks alone" in said and "--by" not in said
