"""What --data names is prepared data, or one message says what it is and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from luab_jax.errors import DataError
from luab_jax.evaluation.data_folder import check_prepared
from tests import tiny


def test_prepared_data_is_found_in_the_folder_and_below(tmp_path: Path) -> None:
    for place in (".", "prepared", "suites/size"):
        root = tmp_path / place.replace("/", "-")
        tiny.prepare_split(root / place, "val", 3)
        check_prepared(root)


def test_photos_are_answered_with_the_command_that_prepares_these_photos(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.JPEG").write_bytes(b"")
    with pytest.raises(DataError, match=r"folders of images \(cat, dog .*data_prep folder --source=") as caught:
        check_prepared(tmp_path)
    assert "ILSVRC" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_other_folders_and_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, message in (
        (tmp_path, "holds no prepared data"),
        (tmp_path / "none", "no such folder"),
        (tmp_path / "file", "a file, expected the folder"),
    ):
        with pytest.raises(DataError, match=message):
            check_prepared(path)
