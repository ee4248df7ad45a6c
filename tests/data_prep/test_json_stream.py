"""Elements of a JSON file with the bytes they stand in, whatever the window that reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep.annotations import json_stream
from data_prep.annotations.json_stream import list_elements, object_elements, parse
from luab_jax.errors import DataError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
per_example = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@per_example
@given(st.lists(values, max_size=6), st.booleans(), st.sampled_from([None, 2]), st.integers(1, 40))
def test_elements_are_those_of_the_list(
    tmp_path: Path, content: list[Any], ascii_only: bool, indent: int | None, chunk: int
) -> None:
    path = tmp_path / "list.json"
    data = json.dumps(content, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(json_stream, "CHUNK_BYTES", chunk)
        elements = list(list_elements(path, "a list"))
    assert all(data[e.offset : e.offset + len(e.raw)] == e.raw for e in elements)
    try:
        assert [parse(e.raw) for e in elements] == content
    except DataError:
        assert "\\ud" in repr(content)  # lone surrogates are no UTF-8


@per_example
@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), values, max_size=4), st.integers(1, 40))
def test_elements_of_an_object_are_those_of_its_lists(tmp_path: Path, content: dict[str, Any], chunk: int) -> None:
    path = tmp_path / "object.json"
    path.write_text(json.dumps(content))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(json_stream, "CHUNK_BYTES", chunk)
        found = [(e.key, parse(e.raw)) for e in object_elements(path, "an object")]
    assert found == [(key, row) for key, rows in content.items() if isinstance(rows, list) for row in rows]


@per_example
@given(st.data())
def test_a_damaged_file_is_refused_or_read_but_never_anything_else(tmp_path: Path, data: st.DataObject) -> None:
    good = json.dumps([{"image_id": 1, "a": [1.5, "x", None]}, {"image_id": 2}]).encode()
    cut = good[: data.draw(st.integers(0, len(good)))]
    place = data.draw(st.integers(0, max(0, len(cut) - 1)))
    path = tmp_path / "bad.json"
    path.write_bytes(cut[:place] + data.draw(st.binary(max_size=3)) + cut[place + 1 :])
    try:
        list(list_elements(path, "a list"))
    except DataError as e:
        assert str(path) in str(e)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; expected a list"),
        (" \n", "is empty; expected a list"),
        ('{"a": []}', "begins with an object; expected a list"),
        ("7", "begins with '7'"),
        ('[{"a": 1}', "is cut off or damaged in what begins at byte 9"),
        ('[{"a": 1', "is cut off or damaged in what begins at byte 1"),
        ("[1, 2,]", "damaged in what begins at byte 6"),
        ("[1 2]", "in what begins at byte 3: expected ','"),
        ("[1] 2", "in what begins at byte 4: more text follows after the end"),
        ("[" * 100_000, "nested too deeply"),
        (f"[{'9' * 5000}]", "Exceeds the limit"),
    ],
)
def test_the_error_names_the_file_and_the_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"bad\.json") as error:
        list(list_elements(path, "a list"))
    assert message in str(error.value)


def test_an_element_larger_than_the_limit_ends_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "CHUNK_BYTES", 64)
    monkeypatch.setattr(json_stream, "MAX_ELEMENT_BYTES", 1000)
    path = tmp_path / "large.json"
    path.write_text(json.dumps(["x" * 900, "y" * 100_000]))
    elements = list_elements(path, "a list")
    assert len(next(elements).value) == 900
    with pytest.raises(DataError, match="is not valid JSON in what begins at byte 905"):
        next(elements)


def test_a_byte_order_mark_is_passed_over_and_offsets_stay_right(tmp_path: Path) -> None:
    path = tmp_path / "bom.json"
    path.write_bytes(b'\xef\xbb\xbf["\xc3\xa9", NaN]')
    first, second = list_elements(path, "a list")
    assert (first.offset, parse(first.raw)) == (4, "é")
    assert second.value != second.value
