"""Tables joined to images: by whole names or their ends, never by a name that two images share."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from data_prep.datasets.matching import match

folders = st.sampled_from(["0", "1", "a/0", "a/1", "b"])
names = st.builds("{}/{}".format, folders, st.sampled_from(["0.jpeg", "1.jpeg", "2.jpeg"]))


def test_folders_above_do_not_matter() -> None:
    images = ["0/0.jpeg", "0/1.jpeg", "1/0.jpeg"]
    found = match([f"val2/{image}" for image in images], images)
    assert found.of_image == {image: f"val2/{image}" for image in images}
    assert not found.ambiguous and not found.unmatched


def test_a_name_alone_that_several_images_share_is_of_none() -> None:
    found = match(["0.jpeg", "1.jpeg"], ["0/0.jpeg", "0/1.jpeg", "1/0.jpeg"])
    assert found.of_image == {"0/1.jpeg": "1.jpeg"}
    assert list(found.ambiguous) == ["0.jpeg"] and "0/0.jpeg and 1/0.jpeg" in found.ambiguous["0.jpeg"]


def test_a_name_alone_is_enough_where_it_is_one() -> None:
    """ILSVRC's validation images lie without classes, and are listed under the class of their label."""
    images = ["n01/ILSVRC2012_val_00000001.JPEG", "n02/ILSVRC2012_val_00000002.JPEG"]
    for prefix in ("", "val/", "ILSVRC/Data/CLS-LOC/val/"):
        rows = [f"{prefix}ILSVRC2012_val_0000000{k}.JPEG" for k in (1, 2, 3)]
        found = match(rows, images)
        assert found.of_image == dict(zip(images, rows, strict=False)) and found.unmatched == (rows[2],)


def test_rows_of_several_folders_mean_these_folders() -> None:
    """Of a part of the images, `0/0.jpeg` is not `2/0.jpeg`, although it is the only `0.jpeg` there."""
    found = match(["val2/1/0.jpeg", "val2/2/0.jpeg"], ["0/0.jpeg", "1/0.jpeg"])
    assert found.of_image == {"1/0.jpeg": "val2/1/0.jpeg"} and found.unmatched == ("val2/2/0.jpeg",)


def test_two_rows_that_may_be_of_one_image_are_of_none_unless_one_is_exact() -> None:
    assert match(["a/0/0.jpeg", "b/0/0.jpeg"], ["0/0.jpeg"]).of_image == {}
    found = match(["a/0/0.jpeg", "0/0.jpeg"], ["0/0.jpeg"])
    assert found.of_image == {"0/0.jpeg": "0/0.jpeg"} and list(found.ambiguous) == ["a/0/0.jpeg"]


def test_accents_are_the_same_however_they_are_written() -> None:
    assert match(["cafe\u0301.jpg"], ["x/caf\u00e9.jpg"]).of_image == {"x/caf\u00e9.jpg": "cafe\u0301.jpg"}


@given(st.lists(names, unique=True), st.lists(names, unique=True))
def test_every_row_is_used_once_or_reported(rows: list[str], images: list[str]) -> None:
    found = match(rows, images)
    used = list(found.of_image.values())
    assert sorted([*used, *found.ambiguous, *found.unmatched]) == sorted(rows)
    assert found.of_image.keys() <= set(images)
    for image, row in found.of_image.items():
        assert image.rpartition("/")[2] == row.rpartition("/")[2]
    assert all(found.of_image[image] == image for image in set(images) & set(rows))
