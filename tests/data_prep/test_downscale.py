"""Images stored smaller (`--max_side`): which ones, what follows them, and that none is taken for a published one."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_prep.__main__ import main
from data_prep.downscale import Smaller, stored_smaller
from data_prep.images import BadImage, check_image
from data_prep.problems import Problems, Reason
from luab_jax.byproducts.records import Box, ImageRecord, Size
from luab_jax.data.dataset import open_split, read_manifest
from luab_jax.data.decoding import decode
from luab_jax.data.features import Example
from luab_jax.errors import ExitCode
from tests.data_prep.conftest import RawData, annotation_xml, image_bytes, metadata_xml, shard_bytes

Make = Callable[..., RawData]
Capture = pytest.CaptureFixture[str]


def record(size: tuple[int, int] = (80, 60), kind: str = "JPEG", **fields: object) -> ImageRecord:
    fields = {
        "image": image_bytes(size=size, kind=kind),
        "file_name": "a.JPEG",
        "width": size[0],
        "height": size[1],
    } | fields
    return ImageRecord(**fields)  # type: ignore[arg-type]


def records(directory: Path) -> dict[str, ImageRecord]:
    opened = open_split(directory, "train")
    found = (Example(opened.records[i]).record() for i in range(len(opened.records)))
    return {r.file_name: r for r in found}


@given(st.integers(1, 60_000), st.integers(1, 60_000), st.integers(1, 1000))
def test_the_longer_side_is_limited_and_the_shape_kept(width: int, height: int, max_side: int) -> None:
    size = Smaller(max_side).size_of(Size(width, height))
    if max(width, height) <= max_side:
        assert size == (width, height)
        return
    assert max(size) == max_side and min(size) >= 1
    assert abs(size.width * height - size.height * width) <= max(width, height)  # a pixel's rounding


def test_a_small_image_keeps_its_bytes() -> None:
    image = record((64, 48))
    assert Smaller(64)(image, Problems()) is image


def test_pixels_are_the_antialiased_resize_of_what_training_decodes() -> None:
    y, x = np.mgrid[:300, :400]
    smooth = np.stack([x * 255 / 400, y * 255 / 300, (x + y) * 255 / 700], -1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(smooth).save(buffer, "PNG")
    stored = Smaller(100, 95)(record((400, 300), image=buffer.getvalue()), Problems())
    header = check_image(stored.image)
    assert header.size == (stored.width, stored.height) == (100, 75)
    seen = np.asarray(decode(stored.image, "a"), int)
    wanted = smooth.reshape(75, 4, 100, 4, 3).mean((1, 3))
    assert np.abs(seen - wanted).mean() < 2


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "I;16", "1"])
def test_every_kind_of_image(mode: str) -> None:
    buffer = io.BytesIO()
    kind = "JPEG" if mode in ("L", "CMYK") else "PNG"
    Image.effect_noise((40, 30), 50).convert("L" if mode == "I;16" else mode).convert(mode).save(buffer, kind)
    stored = Smaller(20)(record((40, 30), image=buffer.getvalue()), Problems())
    image = Image.open(io.BytesIO(stored.image))
    assert (image.format, image.size) == ("JPEG", (20, 15))
    assert image.mode == ("L" if mode in ("L", "I;16") else "RGB")


def test_quality_is_that_of_the_jpeg() -> None:
    low, high = (len(Smaller(64, quality)(record((128, 96)), Problems()).image) for quality in (10, 95))
    assert low < high / 2


def test_damage_that_a_header_does_not_show_is_found() -> None:
    data = image_bytes(size=(80, 60), kind="PNG")
    damaged = data[:200] + b"\0" * 50 + data[250:]
    check_image(damaged, decode=False)
    with pytest.raises(BadImage, match=Reason.IMAGE_TRUNCATED):
        Smaller(20)(record(image=damaged), Problems())


def runs(mask: np.ndarray) -> str:
    flat, counts, value = mask.T.ravel(), [0], False
    for pixel in flat:
        if pixel != value:
            counts.append(0)
            value = bool(pixel)
        counts[-1] += 1
    return json.dumps({"size": list(mask.shape), "counts": counts})


@given(st.integers(0, 2**32 - 1), st.sampled_from([(9, 7), (8, 8), (3, 10), (12, 1)]), st.integers(1, 12))
def test_run_lengths_are_those_of_the_nearest_pixels(seed: int, shape: tuple[int, int], max_side: int) -> None:
    mask = np.random.default_rng(seed).random(shape) < 0.5
    box = Box(x_min=0.0, y_min=0.0, x_max=1.0, y_max=1.0, label=0, mask=runs(mask))
    image = record((shape[1], shape[0]), boxes=(box,))
    stored = Smaller(max_side)(image, Problems())
    found = json.loads(stored.boxes[0].mask)
    wanted = np.asarray(Image.fromarray(mask).resize((stored.width, stored.height), Image.Resampling.NEAREST))
    assert found == json.loads(runs(wanted)) and sum(found["counts"]) == stored.width * stored.height


def test_polygons_shrink_with_the_image_and_a_mask_that_is_none_is_left_out_and_listed() -> None:
    boxes = tuple(
        Box(x_min=0.0, y_min=0.0, x_max=1.0, y_max=1.0, label=0, mask=mask)
        for mask in ("[[0,0,80,0,80,60]]", '{"size":[60,80],"counts":"abc"}', "")
    )
    problems, counts = Problems(), Counter[str]()
    stored = stored_smaller(record(boxes=boxes), Smaller(40), counts, problems)
    assert [box.mask for box in stored.boxes] == ["[[0.0,0.0,40.0,0.0,40.0,30.0]]", "", ""]
    assert Reason.OBJECT_MASK in problems and counts["images_made_smaller"] == 1
    assert [box.x_max for box in stored.boxes] == [1.0] * 3


def test_foreground_masks_have_the_image_s_size() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.eye(80, dtype=bool)[:60]).save(buffer, "PNG")
    stored = Smaller(40)(record(foreground_masks=(buffer.getvalue(),)), Problems())
    assert Image.open(io.BytesIO(stored.foreground_masks[0])).size == (40, 30)


def test_byproducts_stay_where_they_were_under_exif_too(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw = make_raw()
    exif = Image.Exif()
    exif[0x0112] = 6
    (raw.images / "cat" / "cat_0.JPEG").write_bytes(image_bytes(size=(80, 60), exif=exif))
    (raw.byproducts / "cat" / "cat_0.xml").write_bytes(annotation_xml(metadata_xml("cat/cat_0")))
    (raw.images / "cat" / "cat_1.JPEG").write_bytes(image_bytes(size=(60, 80)))
    assert main(raw.arguments(tmp_path / "whole")) == 0
    capsys.readouterr()
    assert main(raw.arguments(tmp_path / "small", "--max_side=40", "--quality=80")) == 0
    assert "2, to at most 40 pixels a side, JPEG quality 80" in capsys.readouterr().out
    whole, small = records(tmp_path / "whole"), records(tmp_path / "small")
    assert [r.showings for r in whole.values()] == [r.showings for r in small.values()]
    assert (small["cat/cat_0.JPEG"].width, small["cat/cat_0.JPEG"].height) == (40, 30)
    assert check_image(small["cat/cat_0.JPEG"].image).orientation == 1
    assert (small["cat/cat_1.JPEG"].width, small["cat/cat_1.JPEG"].height) == (30, 40)
    assert all(whole[name].image == r.image for name, r in small.items() if max(r.width, r.height) < 40)
    manifest = read_manifest(tmp_path / "small", "train")
    assert manifest.stored_smaller == "at most 40 pixels a side, JPEG quality 80"
    assert manifest.counts["images_made_smaller"] == 2
    assert not read_manifest(tmp_path / "whole", "train").stored_smaller
    assert main(["verify", str(tmp_path / "small"), "--workers=1"]) == 0
    assert main(["inspect", str(tmp_path / "small"), "--workers=1"]) == 0
    assert "images stored with at most 40 pixels" in capsys.readouterr().out


def test_sizes_and_qualities_never_mix(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw, out = make_raw(), tmp_path / "out"
    (raw.images / "cat" / "cat_0.JPEG").write_bytes(image_bytes(size=(80, 60)))
    assert main(raw.arguments(out, "--max_side=40")) == 0
    before = shard_bytes(out)
    assert main(raw.arguments(out, "--max_side=40", "--quality=90")) == 0  # the default, said aloud
    for other in ([], ["--max_side=41"], ["--max_side=40", "--quality=89"]):
        assert main(raw.arguments(out, *other)) == ExitCode.FAILED
        assert "stored_smaller: at most 40 pixels a side, JPEG quality 90 -> " in capsys.readouterr().err
    assert shard_bytes(out) == before


def test_quality_alone_is_refused(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    assert main(make_raw().arguments(tmp_path / "out", "--quality=80")) == ExitCode.FAILED
    assert "--max_side" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(make_raw(name="b").arguments(tmp_path / "out", "--max_side=9", "--quality=101"))


def test_own_folders_and_suites_take_it_too(make_raw: Make, tmp_path: Path) -> None:
    top = tmp_path / "imagenetv2-matched-frequency-format-val"
    (top / "0").mkdir(parents=True)
    (top / "0" / "a.jpeg").write_bytes(image_bytes(size=(80, 60)))
    suite = ["suite", "imagenet_v2", f"--source={top}", f"--out={tmp_path}", "--workers=1", "--max_side=20"]
    own = ["folder", f"--source={make_raw().images}", f"--out={tmp_path / 'own'}", "--workers=1", "--max_side=4"]
    assert main(suite) == main(own) == 0
    assert read_manifest(tmp_path / "imagenet_v2", "matched_frequency").counts["images_made_smaller"] == 1
    assert {(r.width, r.height) for r in records(tmp_path / "own").values()} == {(4, 3)}


def test_coco_with_its_masks(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "coco_ab_mini"
    flags = [f"--images={source}/train", f"--instances={source}/annotations/instances_train.json", "--workers=1"]
    flags.append("--min_match=0")
    assert main(["coco_ab", *flags, f"--out={tmp_path / 'whole'}"]) == 0
    assert main(["coco_ab", *flags, f"--out={tmp_path / 'small'}", "--max_side=64"]) == 0
    whole, small = records(tmp_path / "whole"), records(tmp_path / "small")
    assert whole.keys() == small.keys()
    for name, r in small.items():
        assert max(r.width, r.height) <= 64 and len(r.boxes) == len(whole[name].boxes)
        for box, before in zip(r.boxes, whole[name].boxes, strict=True):
            assert bool(box.mask) == bool(before.mask)
            if box.mask.startswith("{"):
                assert json.loads(box.mask)["size"] == [r.height, r.width]
            elif box.mask:
                xs = [x for polygon in json.loads(box.mask) for x in polygon[::2]]
                assert box.x_min * r.width - 1 <= min(xs) and max(xs) <= box.x_max * r.width + 1
