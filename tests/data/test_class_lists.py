"""Which class a label means: the order of ImageNet, and lists of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luab_jax.data import label_tables
from luab_jax.data.class_lists import ClassList, imagenet, read_class_list, readable_names
from luab_jax.errors import DataError


@pytest.mark.parametrize(
    ("wnid", "label"),
    [
        ("n01440764", 0),  # tench
        ("n01498041", 6),  # stingray
        ("n02123045", 281),  # tabby
        ("n02504458", 386),  # African elephant
        ("n03888257", 701),  # parachute
        ("n15075141", 999),  # toilet tissue
    ],
)
def test_known_classes_of_imagenet_have_their_published_labels(wnid: str, label: int) -> None:
    assert imagenet().ids[label] == wnid
    assert imagenet().label_of()[wnid] == label


def test_imagenet_is_a_thousand_different_wnids_in_sorted_order() -> None:
    ids = imagenet().ids
    assert len(imagenet()) == len(set(ids)) == 1000
    assert list(ids) == sorted(ids)
    assert all(len(wnid) == 9 and wnid[0] == "n" and wnid[1:].isdigit() for wnid in ids)
    assert read_class_list("imagenet") == imagenet()


def test_the_hash_tells_ids_and_their_order_and_nothing_else() -> None:
    classes = ClassList(("a", "b"), ("ant", "bee"))
    assert classes.hash == ClassList(("a", "b"), ("Ameise", "Biene")).hash
    assert classes.hash != ClassList(("b", "a"), ("bee", "ant")).hash
    assert classes.hash != ClassList(("a",), ("ant",)).hash
    assert len(classes.hash) == 12


words = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(words, words, min_size=1, max_size=5))
def test_a_written_list_is_read_in_its_own_order(tmp_path_factory: pytest.TempPathFactory, names: dict) -> None:
    path = tmp_path_factory.mktemp("classes") / "classes.txt"
    path.write_text("".join(f"{class_id}\t{name}\n" for class_id, name in names.items()), encoding="utf-8")
    classes = read_class_list(path)
    assert classes.ids == tuple(names)
    assert classes.names == tuple(names.values())
    assert classes.label_of() == {class_id: label for label, class_id in enumerate(names)}


def test_a_class_without_a_name_is_called_by_its_id_and_empty_lines_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("10\tten\n\n9\n2\t\n")
    classes = read_class_list(tmp_path / "classes.txt")
    assert classes.ids == ("10", "9", "2")
    assert classes.names == ("ten", "9", "2")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a\tant\nb\ta\tx\na\tape\n", "class id 'a' stands twice"),
        (b"", "holds no class"),
        (b"\n  \n", "holds no class"),
        (b"\xff\xfe\x00", "cannot be read as a class list"),
    ],
    ids=["duplicate", "empty", "blank", "not text"],
)
def test_a_bad_list_is_refused_by_name(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"classes\.txt: {told}"):
        read_class_list(path)


def test_a_missing_list_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.txt: no such file; expected a class list"):
        read_class_list(tmp_path / "nowhere.txt")


def test_imagenet_has_names_for_people_that_tell_its_classes_apart() -> None:
    names = readable_names(imagenet())
    assert len(set(names)) == 1000 and not set(names) & set(imagenet().ids)
    assert names[0] == "tench" and names[134] == "crane (bird)" and names[517] == "crane (machine)"
    assert {names[638], names[639]} == {"maillot", "maillot, tank suit"}
    same = [label for label, index in label_tables.SI_SCORE.items() if names[index] == label]
    assert len(same) > 30, "the indices of another table"


def test_names_that_a_list_has_stay() -> None:
    own = ClassList(imagenet().ids, tuple(f"class {i}" for i in range(1000)))
    assert readable_names(own) == own.names
    small = ClassList(("n1", "n2"), ("n1", "n2"))
    assert readable_names(small) == small.names
