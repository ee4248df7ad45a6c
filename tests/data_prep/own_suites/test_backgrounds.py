"""A backgrounds challenge out of drawn images, whose every pixel is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_prep.__main__ import main
from luab_jax.api import run_suites
from luab_jax.data.class_lists import ClassList
from luab_jax.data.dataset import read_manifest, splits
from luab_jax.data.decoding import decode_mask
from luab_jax.data.transforms import Preprocessing
from luab_jax.errors import ExitCode, UserError
from tests.data_prep.conftest import shard_bytes
from tests.data_prep.own_suites.drawn import (
    CLASSES,
    SIDE,
    Drawn,
    background_level,
    examples,
    nine,
    pixels_of,
    prepare_drawn,
)

Capture = pytest.CaptureFixture[str]
AS_STORED = Preprocessing(image_size=SIDE, resize_side=None)
MIXED = ("mixed_same", "mixed_rand", "mixed_next")


def backgrounds(source: Path, out: Path, *flags: str) -> int:
    return main(["backgrounds", f"--from={source}", f"--out={out}", "--workers=1", *flags])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_drawn(tmp_path_factory.mktemp("drawn"), nine())


@pytest.fixture(scope="module")
def challenge(source: Path) -> Path:
    assert backgrounds(source, source) == ExitCode.DONE
    return source / "own_backgrounds"


def drawn_of(file_name: str) -> Drawn:
    index = int(file_name.split("/")[1][:3])
    return Drawn(index, index % 3)


def tiled_by_loop(item: Drawn) -> np.ndarray:
    """The largest strip beside the box is the one to its right, 10 columns of 24; it repeats in its own rows."""
    left, top, right, bottom = item.box
    pixels = item.pixels.copy()
    for y in range(top, bottom):
        for x in range(left, right):
            pixels[y, x] = item.pixels[y, right + (x - left) % (SIDE - right)]
    return pixels


def test_what_is_hidden_is_the_box_and_what_is_cut_out_is_the_mask(challenge: Path) -> None:
    for name in ("only_bg_b", "only_bg_t", "no_fg", "only_fg"):
        found = examples(challenge, name)
        assert len(found) == 9
        for file_name, example in found.items():
            item, pixels = drawn_of(file_name), pixels_of(example)
            expected = tiled_by_loop(item) if name == "only_bg_t" else item.pixels.copy()
            left, top, right, bottom = item.box
            for y in range(SIDE):
                for x in range(SIDE):
                    in_box, in_mask = left <= x < right and top <= y < bottom, item.mask[y, x]
                    if (name, True) in (("only_bg_b", in_box), ("no_fg", in_mask), ("only_fg", not in_mask)):
                        expected[y, x] = 0
            assert np.array_equal(pixels, expected), (name, file_name)
            assert example.label == item.label


def test_objects_keep_their_pixels_and_backgrounds_are_those_that_were_promised(challenge: Path) -> None:
    for name in MIXED:
        of_classes = set()
        for file_name, example in examples(challenge, name).items():
            item, pixels = drawn_of(file_name), pixels_of(example)
            other = drawn_of(f"x/{pixels[0, 0, 0]:03d}.png")
            assert np.array_equal(pixels, np.where(item.mask[..., None], item.pixels, tiled_by_loop(other)))
            assert other.index != item.index
            assert example.group == f"background={CLASSES.ids[other.label]}"
            assert np.array_equal(decode_mask(example.foreground_masks[0]), item.mask)
            of_classes.add((other.label - item.label) % 3)
        assert of_classes == {"mixed_same": {0}, "mixed_next": {1}}.get(name, of_classes)
        assert name != "mixed_rand" or len(of_classes) > 1


def test_the_originals_keep_their_bytes(source: Path, challenge: Path) -> None:
    before = examples(source, "val")
    assert {n: e.image for n, e in examples(challenge, "original").items()} == {n: e.image for n, e in before.items()}


def test_what_made_it_stands_in_the_manifest(challenge: Path) -> None:
    manifest = read_manifest(challenge, "mixed_rand")
    assert manifest.source["objects_by"] == "masks" and manifest.source["from_dataset"] == "drawn"
    assert "composites" in manifest.source["generated"] and manifest.source["notes"] == "objects by masks, of drawn val"


def test_the_same_again_is_the_same_and_another_seed_is_not(source: Path, challenge: Path, tmp_path: Path) -> None:
    assert backgrounds(source, tmp_path) == ExitCode.DONE
    assert shard_bytes(tmp_path / "own_backgrounds") == shard_bytes(challenge)
    assert backgrounds(source, tmp_path) == ExitCode.DONE  # nothing to do
    assert backgrounds(source, tmp_path / "other", "--seed=1", "--sets=mixed_rand") == ExitCode.DONE
    changed = examples(tmp_path / "other/own_backgrounds", "mixed_rand")
    assert any(changed[name].image != example.image for name, example in examples(challenge, "mixed_rand").items())


def test_another_seed_in_the_same_place_is_refused(source: Path, challenge: Path, capsys: Capture) -> None:
    assert backgrounds(source, source, "--seed=1") == ExitCode.FAILED
    assert "seed: 0 -> 1" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["box", "polygon"])
def test_boxes_and_polygons_cut_out_all_of_their_rectangle(kind: str, tmp_path: Path, capsys: Capture) -> None:
    source = prepare_drawn(tmp_path, nine(kind))
    assert backgrounds(source, tmp_path) == ExitCode.DONE
    by = {"box": "boxes", "polygon": "masks"}[kind]
    assert f"objects by {by}" in capsys.readouterr().out
    made = tmp_path / "own_backgrounds"
    assert ("no_fg" in splits(made)) == (kind == "polygon")
    for file_name, example in examples(made, "only_fg").items():
        item = drawn_of(file_name)
        left, top, right, bottom = item.box
        expected = np.zeros_like(item.pixels)
        expected[top:bottom, left:right] = item.pixels[top:bottom, left:right]
        assert np.array_equal(pixels_of(example), expected)


def test_a_model_that_looks_at_the_background_is_found_out_and_one_that_does_not_is_not(challenge: Path) -> None:
    def by_background(images: np.ndarray) -> np.ndarray:
        level = np.median(images.reshape(len(images), -1, 3).max(axis=-1), axis=1)
        return -np.abs(level[:, None] - np.array([background_level(c) + 3 for c in range(3)]))

    def by_object(images: np.ndarray) -> np.ndarray:
        return (images.max(axis=(1, 2)).astype(int) - images.min(axis=-1).max(axis=(1, 2))[:, None]).astype(np.float64)

    found = {}
    for function in (by_background, by_object):
        results = run_suites(function, challenge.parent, "own_backgrounds", preprocessing=AS_STORED, classes=CLASSES)
        found[function.__name__] = results["own_backgrounds"]
    fooled = sum(e.group != f"background={n.split('/')[0]}" for n, e in examples(challenge, "mixed_rand").items())
    of_background, of_object = found["by_background"], found["by_object"]
    assert of_background["mixed_same"] == 1 and of_background["mixed_next"] == 0 and of_background["only_bg_t"] == 1
    assert of_background["gap"] == pytest.approx(fooled / 9) and fooled
    assert of_object["gap"] == 0 and of_object["mixed_next"] == of_object["only_fg"] == of_object["original"] == 1
    assert of_object.data.generated and of_object.data.notes == ["objects by masks, of drawn val"]


def test_sets_of_labels_are_scored_by_what_their_object_is(tmp_path: Path) -> None:
    """Every image shows class 2 as well, so that its score tells nothing against a model."""
    items = [Drawn(i, i % 2, "polygon", labels=(i % 2, 2)) for i in range(8)]
    source = prepare_drawn(tmp_path, items)
    assert backgrounds(source, tmp_path) == ExitCode.DONE
    made = tmp_path / "own_backgrounds"
    label_sets = {name: {e.labels.tolist() and tuple(e.labels.tolist()) for e in examples(made, name).values()}
                  for name in ("original", "only_bg_b", "only_fg", "mixed_next")}  # fmt: skip
    assert label_sets == {"original": {(0, 2), (1, 2)}, "only_bg_b": {(2,)}, "only_fg": {(0,), (1,)},
                          "mixed_next": {(0, 2), (1, 2)}}  # fmt: skip
    assert {e.label for e in examples(made, "mixed_same").values()} == {0, 1}


def test_an_image_without_object_or_with_a_large_one_or_alone_in_its_class_is_left_out_and_listed(
    tmp_path: Path, capsys: Capture
) -> None:
    items = [*(Drawn(i, i % 2) for i in range(4)), Drawn(4, 0, "nothing"), Drawn(5, 1, box=(0, 0, 24, 23)),
             Drawn(6, 2)]  # fmt: skip
    source = prepare_drawn(tmp_path, items)
    assert backgrounds(source, tmp_path) == ExitCode.DONE
    told = capsys.readouterr().out
    assert "no object to cut out, such as red/004.png (has no masks of its object)" in told
    assert "object leaves too little background, such as green/005.png (its rectangle covers 96% of the image)" in told
    assert "no other image of its class to take a background from, such as blue/006.png" in told
    made = tmp_path / "own_backgrounds"
    assert len(examples(made, "original")) == 5
    assert {name: len(examples(made, name)) for name in MIXED} == dict.fromkeys(MIXED, 4)
    listed = {name: len(read_manifest(made, name).skipped) for name in ("original", *MIXED)}
    assert listed == {"original": 2, "mixed_same": 1, "mixed_rand": 0, "mixed_next": 0}
    assert backgrounds(source, tmp_path / "strict", "--strict") == ExitCode.FAILED


def test_masks_of_a_few_images_do_not_cost_the_others_their_boxes(tmp_path: Path) -> None:
    source = prepare_drawn(tmp_path, [Drawn(i, i % 3, "mask" if i < 2 else "box") for i in range(9)])
    assert backgrounds(source, tmp_path) == ExitCode.DONE
    manifest = read_manifest(tmp_path / "own_backgrounds", "original")
    assert manifest.source["objects_by"] == "boxes" and manifest.num_records == 9


def test_a_box_outside_of_the_image_is_no_object(tmp_path: Path, capsys: Capture) -> None:
    items = [*nine("box"), Drawn(9, 0, "outside")]
    assert backgrounds(prepare_drawn(tmp_path, items), tmp_path) == ExitCode.DONE
    assert "object lies outside of the image, such as red/009.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("items", "flags", "message"),
    [
        ([Drawn(i, i % 3, "nothing") for i in range(3)], (), "none of the 3 images of split 'val' has boxes or masks"),
        (nine("box"), ("--by=masks",), "has masks of its object; 9 have boxes: leave out --by"),
        ([Drawn(i, 0) for i in range(3)], (), "only one class has objects"),
        ([Drawn(i, i) for i in range(3)], (), "every class has a single image"),
        (nine("box"), ("--sets=no_fg",), "no_fg needs masks"),
        (nine(), ("--sets=mixed",), "there is no 'mixed', but original"),
        (nine(), ("--split=test",), "no prepared split 'test'; it has the split(s) val"),
        ([Drawn(0, 0, "outside"), Drawn(1, 1, "outside")], (), "object be cut out; the first: green/001.png"),
    ],
)
def test_what_no_challenge_can_be_made_of_is_told_in_one_line(
    items: list[Drawn], flags: tuple[str, ...], message: str, tmp_path: Path, capsys: Capture
) -> None:
    assert backgrounds(prepare_drawn(tmp_path, items), tmp_path / "out", *flags) == ExitCode.FAILED
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error
    assert not (tmp_path / "out" / "own_backgrounds" / "original.manifest.json").exists()


def test_per_class_keeps_the_same_images_when_more_come(tmp_path: Path) -> None:
    few = prepare_drawn(tmp_path / "few", nine())
    many = prepare_drawn(tmp_path / "many", [Drawn(i, i % 3) for i in range(15)])
    names = []
    for source in (few, many):
        assert backgrounds(source, source, "--per_class=2", "--sets=original") == ExitCode.DONE
        names.append(set(examples(source / "own_backgrounds", "original")))
    assert len(names[0]) == len(names[1]) == 6
    assert names[1] & set(examples(few, "val")) <= names[0]


def test_a_wrong_class_list_is_refused(challenge: Path) -> None:
    others = ClassList(("a", "b", "c"), ("a", "b", "c"))
    with pytest.raises(UserError, match="prepared with a class list of 3 classes"):
        run_suites(lambda x: np.zeros((len(x), 3)), challenge.parent, "own_backgrounds", preprocessing=AS_STORED,
                   classes=others, name="constant")  # fmt: skip
