"""The XML reader: the facts of the release, hostile files, and anything at all."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.annotations.imagenet_ab import Annotation, read_annotation
from data_prep.annotations.numbers import count, counts, number, ratio, ratios
from data_prep.problems import Problems, Reason
from luab_jax.byproducts.records import Hover, PagePosition, Size, TimedPoint
from luab_jax.errors import DataError
from tests.data_prep.conftest import annotation_xml, metadata_xml, record_xml

ID = "cat/cat_1"


def read(data: bytes, image_id: str = ID) -> tuple[Annotation, set[str]]:
    problems = Problems()
    annotation = read_annotation(data, image_id, problems)
    return annotation, {problem.reason for problem in problems.listed("file")}


def test_everything_is_kept() -> None:
    extra = (
        "<assignment_id>A</assignment_id><hit_id>H</hit_id><hit_submit_time>1641247308</hit_submit_time>"
        "<hoveredCount>1</hoveredCount><hoveredRecord><action>enter</action><time>5</time></hoveredRecord>"
        "<hoveredRecord><action>leave</action><time>9</time></hoveredRecord>"
        "<imageHeight>201</imageHeight><imageWidth>202</imageWidth><imagePosition><x>28</x><y>944</y></imagePosition>"
        "<image_idx>12</image_idx><imagenet_hit_id>S</imagenet_hit_id><originalImageHeight>375</originalImageHeight>"
        "<originalImageWidth>500</originalImageWidth><page_idx>2</page_idx><selectedCount>2</selectedCount>"
    )
    clicks = record_xml("selectedRecord", "2.5E-1", 0.5, "1.641244077E12")
    clicks += record_xml("selectedRecord", 1.02, -0.01, 7)
    trace = record_xml("mouseTracking", 0.1, 0.2, 6)
    annotation, problems = read(annotation_xml(metadata_xml(ID, clicks=clicks, trace=trace, extra=extra)))
    (showing,) = annotation.showings
    assert problems == set()
    assert showing.clicks == (TimedPoint(0.25, 0.5, 1641244077000), TimedPoint(1.02, -0.01, 7))
    assert showing.trace == (TimedPoint(0.1, 0.2, 6),)
    assert showing.hovers == (Hover(True, 5), Hover(False, 9))
    assert (showing.worker_id, showing.assignment_id, showing.hit_id, showing.source_hit_id) == ("W1", "A", "H", "S")
    assert (showing.time_spent_ms, showing.submit_time_s) == (700, 1641247308)
    assert (showing.selected_count, showing.hovered_count) == (2, 1)
    assert (showing.page_index, showing.image_index, showing.position_on_page) == (2, 12, PagePosition(28, 944))
    assert (showing.display_size, showing.original_size) == (Size(202, 201), Size(500, 375))


@pytest.mark.parametrize("trace", ["<mouseTracking>None</mouseTracking>", "<mouseTracking/>", " "])
def test_empty_list(trace: str) -> None:
    annotation, problems = read(annotation_xml(metadata_xml(ID, trace=trace)))
    assert annotation.showings[0].trace == ()
    assert problems == set()


@pytest.mark.parametrize("text, selected, counted", [
    ("True", True, False), (" true\n", True, False), ("FALSE", False, False), ("1", False, True), ("", False, True),
])  # fmt: skip
def test_selected_spellings(text: str, selected: bool, counted: bool) -> None:
    annotation, problems = read(annotation_xml(metadata_xml(ID, selected=text)))
    assert annotation.showings[0].selected is selected
    assert annotation.showings[0].clicks  # kept whole, selected or not
    assert (Reason.SELECTED in problems) is counted


@pytest.mark.parametrize("x", [
    "nan", "inf", "-3.7", "812.5", "1e308", "1e999", "abc", "0,5", "", "1_0", "\u0660", "9" * 500,
])  # fmt: skip
def test_invalid_click_is_left_out(x: str) -> None:
    clicks = record_xml("selectedRecord", x, 0.5) + record_xml("selectedRecord", 0.5, 0.5)
    annotation, problems = read(annotation_xml(metadata_xml(ID, clicks=clicks)))
    assert [click[:2] for click in annotation.showings[0].clicks] == [(0.5, 0.5)]
    assert problems == {Reason.CLICK}


def test_selected_without_click_stays_selected() -> None:
    annotation, problems = read(annotation_xml(metadata_xml(ID, clicks="<selectedRecord>None</selectedRecord>")))
    assert annotation.showings[0].selected
    assert problems == {Reason.NO_CLICK}


@pytest.mark.parametrize("named, used", [
    (ID, True), ("cat_1", True), (f"{ID}.JPEG", True), ("dog/cat_1", False), ("cat/cat_2", False), ("cat_2", False),
])  # fmt: skip
def test_image_id(named: str, used: bool) -> None:
    annotation, problems = read(annotation_xml(metadata_xml(named)))
    assert len(annotation.showings) == used
    assert problems == (set() if used else {Reason.XML_OTHER_IMAGE})


def test_any_root_but_no_web_page() -> None:
    assert len(read(annotation_xml(metadata_xml(ID), root="photo"))[0].showings) == 1
    assert read(b"<annotation/>")[0].num_metadata == 0
    with pytest.raises(DataError, match="HTML page"):
        read(b"<html><body>404 Not Found</body></html>")


def test_boxes() -> None:
    size = "<size><width>500</width><height>375</height></size>"
    box = "<object><name>cat</name><bndbox><xmin>50</xmin><ymin>0</ymin><xmax>{}</xmax><ymax>375</ymax></bndbox>"
    box += "</object>"
    annotation, problems = read(annotation_xml(size, *(box.format(x_max) for x_max in (500, 10, "nan", 9000))))
    (found,) = annotation.boxes
    assert (found.name, found.x_min, found.y_min, found.x_max, found.y_max) == ("cat", 0.1, 0.0, 1.0, 1.0)
    assert problems == {Reason.BOX}
    assert read(annotation_xml(box.format(500)))[0].boxes == ()  # without <size> pixels mean nothing


@pytest.mark.parametrize("data", [
    b"", b"   ", b"<a", b"\xff\xfe\x00", b"\x80abc", b"<?xml version='1.0' encoding='nonsense'?><annotation/>",
    b"<?xml version='1.0' encoding='utf-7'?><annotation/>",
    b"<!DOCTYPE a><annotation/>", b"<!DOCTYPE a [<!ENTITY e 'x'>]><annotation>&e;</annotation>",
    b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'><annotation/>",
    "<?xml version='1.0' encoding='utf-16'?><!DOCTYPE a [<!ENTITY e 'x'>]><annotation/>".encode("utf-16"),
    b"<annotation>" + b" " * (9 << 20),
])  # fmt: skip
def test_refused_files(data: bytes) -> None:
    with pytest.raises(DataError):
        read(data)


@pytest.mark.parametrize(
    ("image_id", "named", "used"),
    [
        ("cat/cat_1.jpg", "cat/cat_1.jpg", True),
        ("cat/cat_1.jpg", "cat_1.jpg", True),
        ("cat/cat_1.jpg", "cat/cat_1.jpg.JPEG", True),
        ("cat/cat_1.jpg", "cat/cat_2.jpg", False),
        ("cat/cat_1.jpg", "cat/cat_1", False),
        ("cat/cat_1.png.jpg", "cat/cat_1.png.jpg", True),
        ("cat/ cat_1 ", "cat/ cat_1 ", True),
        ("cat/cat_1", "cat/cat_1.png.jpg", True),
    ],
)
def test_an_image_whose_name_has_two_suffixes_is_itself(image_id: str, named: str, used: bool) -> None:
    """The key of cat_1.jpg.jpg is cat/cat_1.jpg."""
    annotation, _ = read(annotation_xml(metadata_xml(named)), image_id)
    assert len(annotation.showings) == used


WORDS = ["None", "nan", "-1", "1e400", "True", "0.5", "", "9" * 30, "\u0663", "cat/cat_1", "enter"]
TAGS = ["annotation", "metadata", "object", "size", "bndbox", "xmin", "width", "height", "selectedRecord"]
TAGS += ["mouseTracking", "hoveredRecord", "imageID", "selected", "x", "y", "time", "estimateTime", "imagePosition"]


def tree(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def element(tag: str, inner: list[str]) -> str:
        return f"<{tag}>{''.join(inner)}</{tag}>"

    return st.builds(element, st.sampled_from(TAGS), st.lists(children, max_size=5))


@settings(max_examples=300, deadline=None)
@given(st.recursive(st.sampled_from(WORDS), tree, max_leaves=30))
def test_any_tree_gives_usable_showings(text: str) -> None:
    try:
        annotation, _ = read(f"<annotation>{text}</annotation>".encode())
    except DataError:
        return
    for showing in annotation.showings:
        for point in (*showing.clicks, *showing.trace):
            assert -0.1 <= point.x <= 1.1 and -0.1 <= point.y <= 1.1
            assert point.time_ms is None or 0 <= point.time_ms < 2**53
    for box in annotation.boxes:
        assert 0 <= box.x_min < box.x_max <= 1 and 0 <= box.y_min < box.y_max <= 1


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_file_gives_a_result_or_a_data_error(data: st.DataObject) -> None:
    mutated = bytearray(annotation_xml(metadata_xml(ID)))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(mutated)))
        mutated[start : start + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=4))
    with contextlib.suppress(DataError):
        read(bytes(mutated))


def test_numbers() -> None:
    assert [number(t) for t in ("1", " -2.5e-1 ", "+.5", "1.")] == [1, -0.25, 0.5, 1]
    assert [number(t) for t in ("0x1", "1e", None)] == [None, None, None]
    assert [count(t) for t in ("12", "1.5e3", "-1", "1e17", "9007199254740992")] == [12, 1500, None, None, None]
    assert [ratio(t) for t in ("1.1", "1.11", "-0.1", "-0.11")] == [1.1, None, -0.1, None]


_TEXTS = st.lists(
    st.none()
    | st.text("0123456789.-+e_ \n", max_size=6)
    | st.sampled_from(["nan", "inf", "1e999", "\u0663", "1.1", "1.11", "-0.1", "9007199254740991", "9007199254740992"])
    | st.floats(-0.2, 1.2).map(str)
    | st.integers(0, 2**54).map(str),
    max_size=4,
)


@given(_TEXTS)
def test_lists_of_numbers_are_those_of_each_number_or_left_to_them(texts: list[str | None]) -> None:
    for of_all, of_one in ((ratios, ratio), (counts, count)):
        found = of_all(texts)
        assert found is None or found == [of_one(text) for text in texts]


def test_plain_lists_are_read_at_once() -> None:
    assert ratios(["0.5", "-0.01", "1e-05", "1"]) == [0.5, -0.01, 1e-05, 1]
    assert counts(["1641244077060", "0"]) == [1641244077060, 0]
    assert ratios([]) == []
