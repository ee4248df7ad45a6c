"""Texts that people save: any mark of an encoding, and no more than a limit."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luab_jax.data.class_lists import read_class_list
from luab_jax.data.dataset import read_manifest
from luab_jax.data.texts import decode_text, read_text
from luab_jax.errors import DataError

MARKED = ("utf-8-sig", "utf-16", "utf-32")


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff")), st.sampled_from(("utf-8", *MARKED)))
def test_text_comes_back_from_every_encoding_with_a_mark(text: str, encoding: str) -> None:
    assert decode_text(text.encode(encoding)) == text


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "latin-1"])
def test_without_a_mark_only_utf_8_is_text(encoding: str) -> None:
    with pytest.raises(ValueError, match=r"UTF-8|utf-8"):
        decode_text("n01440764\tgr\u00f6\u00dfe\n".encode(encoding))


def test_no_more_is_read_than_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size is looked at first."""
    path = tmp_path / "classes.txt"
    with path.open("wb") as file:
        file.truncate(300 << 20)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("it was read"))
    with pytest.raises(ValueError, match="at most 1,000 are read"):
        read_text(path, limit=1000)
    with pytest.raises(DataError, match="cannot be read as a class list"):
        read_class_list(str(path))
    path.rename(tmp_path / "train.manifest.json")
    with pytest.raises(DataError, match="not a manifest of a prepared split"):
        read_manifest(tmp_path, "train")
