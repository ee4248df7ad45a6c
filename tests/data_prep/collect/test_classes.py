"""The class list of a project: what is written comes back, whatever folders are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.__main__ import main
from data_prep.collect.classes import ClassInfo, read_classes, read_similar, write_classes
from data_prep.collect.project import open_project
from luab_jax.errors import DataError, ExitCode
from tests.data_prep.collect.conftest import write_pictures


@pytest.mark.parametrize("name", ["salt, pepper", "a,b", "back\\slash", "end\\", "\\,", "1,000", "tab-less", "ünï"])
def test_names_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    classes = [ClassInfo(name, name, (f"other {name}", name), "a, gloss \\, too", "set"), ClassInfo("b", "b")]
    write_classes(classes, tmp_path / "classes.txt")
    assert read_classes(tmp_path / "classes.txt") == classes


def test_a_comma_still_parts_a_name_from_its_synonyms(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("n1\tgoldfish, Carassius auratus,\tsmall, golden\nn2\tC:\\dir\n")
    first, second = read_classes(tmp_path / "classes.txt")
    assert (first.name, first.synonyms, first.gloss) == ("goldfish", ("Carassius auratus",), "small, golden")
    assert second.name == "C:\\dir"


def test_an_id_alone_is_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("salt, pepper\n")
    (info,) = read_classes(tmp_path / "classes.txt")
    assert (info.id, info.name, info.synonyms) == ("salt, pepper", "salt, pepper", ())


@pytest.mark.parametrize("name", ["a\tb", "a\nb", " a", "a ", "a\u2028b", "a\x85b"])
def test_an_id_that_no_line_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="rename"):
        write_classes([ClassInfo(name, name)], tmp_path / "classes.txt")
    assert not (tmp_path / "classes.txt").exists()


def test_folders_with_commas_become_classes_of_that_name(tmp_path: Path) -> None:
    images = write_pictures(tmp_path / "images", {"salt, pepper": 2, "dog_": 2})
    assert main(["collect", "init", str(tmp_path / "p"), "--task=imagenet", f"--images={images}"]) == ExitCode.DONE
    found = {info.id: (info.name, info.synonyms) for info in open_project(tmp_path / "p").classes}
    assert found == {"salt, pepper": ("salt, pepper", ()), "dog_": ("dog", ())}


def test_similar_classes_may_have_commas_in_their_ids(tmp_path: Path) -> None:
    (tmp_path / "similar.txt").write_text("cup\tsalt\\, pepper, dog\n")
    assert read_similar(tmp_path / "similar.txt", {"cup", "dog", "salt, pepper"}) == {"cup": ("salt, pepper", "dog")}
