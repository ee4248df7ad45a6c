"""XML and protobuf that no program of good will writes: one error, in little memory and time."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from data_prep.annotations.imagenet_ab import read_annotation
from data_prep.annotations.safe_xml import MAX_TAGS, MAX_XML_BYTES
from data_prep.problems import Problems
from data_prep.record_check import record_problem
from luab_jax.byproducts.records import ImageRecord
from luab_jax.data.features import Example, encode
from luab_jax.errors import DataError
from tests.data_prep.conftest import annotation_xml, image_bytes, metadata_xml

XML = annotation_xml(metadata_xml("cat/a")).decode()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("declared", [True, False])
def test_an_annotation_in_any_encoding_that_xml_knows(encoding: str, declared: bool) -> None:
    name = "UTF-16" if "16" in encoding else "UTF-8"
    text = f'<?xml version="1.0" encoding="{name}"?>{XML}' if declared else XML
    found = read_annotation(text.encode(encoding), "cat/a", Problems())
    assert found.showings[0].clicks[0][:2] == (0.25, 0.75)


def test_a_declared_encoding_is_believed_only_where_it_fits() -> None:
    with pytest.raises(DataError, match="not well-formed XML"):
        read_annotation(f'<?xml version="1.0" encoding="UTF-16"?>{XML}'.encode(), "cat/a", Problems())
    with pytest.raises(DataError, match=r"not (well-formed|readable as) XML"):
        read_annotation(XML.encode("utf-32"), "cat/a", Problems())


TAGS = MAX_TAGS // 2 - 2
HOSTILE = {
    "deep": b"<annotation>" + b"<a>" * TAGS + b"</a>" * TAGS + b"</annotation>",
    "deeper": b"<annotation>" + b"<a>" * (2 * MAX_TAGS),
    "never closed": b"<annotation>" + b"<a>" * (MAX_TAGS - 9),
    "many": b"<annotation>" + b"<a/>" * (2 * MAX_TAGS) + b"</annotation>",
    "a huge attribute": b'<annotation a="' + b"x" * (MAX_XML_BYTES - 99) + b'"/>',
    "many attributes": b"<annotation " + b" ".join(b'a%d="1"' % i for i in range(100_000)) + b"/>",
    "a huge name": b"<annotation><" + b"x" * (MAX_XML_BYTES - 99) + b"/></annotation>",
    "a huge number": annotation_xml(metadata_xml("cat/a", clicks="<selectedRecord><x>0." + "1" * 4_000_000 + "</x>")),
    "a huge comment": b"<annotation><!--" + b"-x" * 4_000_000 + b"--></annotation>",
    "entities": b"<!DOCTYPE a [<!ENTITY b 'c'>]><annotation>&b;</annotation>",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_xml_costs_little(kind: str) -> None:
    start = time.process_time()
    tracemalloc.start()
    try:
        assert not any(s.selected for s in read_annotation(HOSTILE[kind], "cat/a", Problems()).showings)
    except DataError as e:
        assert len(str(e)) < 300
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 250_000_000
    assert time.process_time() - start < 20


def varint(value: int) -> bytes:
    out = b""
    while True:
        value, low = value >> 7, value & 0x7F
        out += bytes([low | (0x80 if value else 0)])
        if not value:
            return out


def field(number: int, content: bytes) -> bytes:
    """Length-delimited."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def column(name: bytes, kind: int, content: bytes) -> bytes:
    """One entry of `Example.features.feature`; `kind`: 1 bytes, 2 floats, 3 integers."""
    return field(1, field(1, field(1, name) + field(2, field(kind, field(1, content)))))


GOOD = encode(ImageRecord(file_name="a.JPEG", image=image_bytes(), height=6, width=8, label=0))
REFUSED = {
    "a varint of eleven bytes": b"\x0a" + b"\xff" * 11 + b"\x01",
    "a varint of a megabyte": column(b"height", 3, b"\x80" * 1_000_000 + b"\x01"),
    "a length beyond the record": b"\x0a" + varint(1 << 40) + b"x",
    "the largest length": b"\x0a" + varint((1 << 63) - 1) + b"x",
    "a negative length": b"\x0a" + varint((1 << 64) - 1) + b"x",
    "groups in groups": b"\x0b" * 100_000 + b"\x0c" * 100_000,
    "a wire type that is none": b"\x0f\x01",
    "field number 0": b"\x02\x01x",
    "a key that is not UTF-8": GOOD + column(b"\xff\xfe", 3, b"\x01"),
    "a name that is not UTF-8": GOOD + column(b"file_name", 1, b"\xff\xfe"),
    "nothing": b"",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_hostile_protobuf_is_refused(kind: str) -> None:
    with pytest.raises(DataError):
        Example(REFUSED[kind]).record()
    assert record_problem(REFUSED[kind], 2, of_tfds=False, decode=True)


def nested(depth: int) -> bytes:
    content = b""
    for _ in range(depth):
        content = field(1, content)
    return content


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(DataError):
        Example(nested(5000)).record()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (b"label", 1 << 63, "label -9223372036854775808"),
        (b"label", (1 << 63) - 1, "label 9223372036854775807"),
        (b"height", (1 << 64) - 5, "width and height 8 x -5"),
        (b"height", 1 << 62, "width and height 8 x 4611686018427387904"),
        (b"labels", 1 << 63, "labels (-9223372036854775808,)"),
    ],
)
def test_numbers_at_the_edge_are_told(name: bytes, value: int, words: str) -> None:
    """The later of two entries of one name counts."""
    assert words in record_problem(GOOD + column(name, 3, varint(value)), 2, of_tfds=False, decode=True)
    assert not record_problem(GOOD, 2, of_tfds=False, decode=True)


def test_fields_that_protobuf_does_not_know_are_passed_over() -> None:
    unknown = b"".join(varint(number << 3) + varint(5) for number in range(2, 2000))
    assert not record_problem(GOOD + unknown, 2, of_tfds=False, decode=True)
