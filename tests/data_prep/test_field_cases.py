"""The rows of `field_cases/MANIFEST.md` that concern the data, each with the value that is right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep.problems import Reason
from luab_jax.data.decoding import decode
from luab_jax.data.transforms import EncodedImage, PixelBox
from luab_jax.errors import DataError, ExitCode
from tools.field_cases import CASES, Observed, observe, zero_height


@pytest.fixture(scope="session")
def field_cases(shared_data: Path) -> Path:
    if not (shared_data / "field_cases").is_dir():
        pytest.skip("no field_cases among the shared data")
    return shared_data / "field_cases"


def own_box(seen: Observed) -> None:
    """The text counts as ILSVRC's XML does, whose last pixel is the edge."""
    first = {"0/0.jpeg": (0, 0, 40, 40), "0/1.jpeg": (1, 1, 40, 40), "1/0.jpeg": (10, 10, 50, 50)}
    second = {"1/1.jpeg": (11, 11, 50, 50), "2/0.jpeg": (20, 20, 60, 60), "2/1.jpeg": (21, 21, 60, 60)}
    boxes = seen.boxes_in_pixels()
    assert all(len(found) == 1 for found in boxes.values())
    for name, expected in (first | second).items():
        record = seen.records[name]
        clipped = [min(edge, side) for edge, side in zip(expected, (record.width, record.height) * 2, strict=True)]
        assert boxes[name] == [tuple(clipped)], name


def keeps_its_mean(seen: Observed) -> None:
    assert seen.code == 0 and len(seen.records) == 1
    assert all(abs(mean - 127) < 1 for mean in seen.means())


def six_images(seen: Observed) -> None:
    assert seen.manifest is not None and seen.manifest.num_records == 6 and not seen.manifest.skipped


def unlabelled_are_told(seen: Observed) -> None:
    assert seen.manifest is None and seen.code == ExitCode.FAILED
    assert seen.message.count(Reason.IMAGE_LABEL) == 2 and "ILSVRC2012_val_00000006.JPEG" in seen.message


def unlabelled_are_listed(seen: Observed) -> None:
    assert seen.manifest is not None and seen.manifest.num_records == 4
    assert {(s.file, s.reason) for s in seen.manifest.skipped} == {
        (f"ILSVRC2012_val_0000000{number}.JPEG", Reason.IMAGE_LABEL) for number in (5, 6)
    }
    assert f"2  {Reason.IMAGE_LABEL}, such as ILSVRC2012_val_00000005.JPEG" in seen.printed


def two_boxes(seen: Observed) -> None:
    assert sum(len(record.boxes) for record in seen.records.values()) == 2
    assert seen.code == 0 and len(seen.records) == 6


def no_annotations(seen: Observed) -> None:
    assert seen.code == ExitCode.FAILED and "noann.json: has no list `annotations`" in seen.message


def names_are_ids(seen: Observed) -> None:
    six_images(seen)
    assert all(len(record.showings) == 1 for record in seen.records.values())
    icons = {name: record.showings[0].actions[0].icon for name, record in seen.records.items()}
    assert icons["000000000001.jpg"] == "person" and icons["000000000002.jpg"] == "dog"


def sizes_of_the_files(seen: Observed) -> None:
    six_images(seen)
    assert seen.boxes_in_pixels()["000000000001.jpg"] == [(8, 8, 28, 28)]
    assert "size not stated            6, taken from the image files" in seen.printed


def refused_as_damaged(seen: Observed) -> None:
    assert seen.code == ExitCode.FAILED and seen.manifest is None
    assert "none of 2 images" in seen.message and Reason.IMAGE_TRUNCATED in seen.message


def found_by_verify(seen: Observed) -> None:
    """Whoever does not look at preparation is told by `verify`, and every decoder refuses them."""
    assert seen.code == 0 and len(seen.records) == 2 and seen.verified == ExitCode.FAILED
    for name, record in seen.records.items():
        with pytest.raises(DataError, match=name):
            decode(record.image, name)
        image = EncodedImage(record.image, name)
        with pytest.raises(DataError, match=name):
            image.region(PixelBox(0, 0, *image.size))


RIGHT: dict[str, Callable[[Observed], None]] = {
    "01": own_box,
    "02": keeps_its_mean,
    "02, --max_side=60": keeps_its_mean,
    "02, --max_side=119": keeps_its_mean,
    "03, vl_bom.txt": six_images,
    "03, vl_missing.txt": unlabelled_are_told,
    "03, LOC_val_solution.csv": six_images,
    "03, timm1081.csv": six_images,
    "03, vl_missing.txt without --strict": unlabelled_are_listed,
    "04": two_boxes,
    "05": six_images,
    "06": no_annotations,
    "06, suite": no_annotations,
    "07": names_are_ids,
    "08, nosize.json": sizes_of_the_files,
    "08, zerosize.json": sizes_of_the_files,
    "12": refused_as_damaged,
    "12, --no_decode_check": found_by_verify,
}


@pytest.mark.parametrize("row", CASES)
def test_row(row: str, field_cases: Path, tmp_path: Path) -> None:
    seen = observe(CASES[row], field_cases, tmp_path / "out")
    RIGHT[row](seen)
    if seen.manifest is not None and row != "12, --no_decode_check":
        assert seen.verified == 0


def test_row_14(field_cases: Path) -> None:
    assert zero_height(field_cases).startswith("DataError: zero_height.jpg: the image cannot be decoded")
