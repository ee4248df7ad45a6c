"""A prepared split opens if all its parts agree; otherwise one message says which do not."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from etils import epath
from hypothesis import given, settings
from hypothesis import strategies as st

from luab_jax.data.class_lists import ClassList
from luab_jax.data.dataset import (
    Manifest,
    Shard,
    Skipped,
    index_path,
    manifest_path,
    open_split,
    read_manifest,
    shard_name,
    splits,
    write_index,
)
from luab_jax.data.features import Example
from luab_jax.errors import DataError
from tests import tiny

words = st.text(st.characters(codec="utf-8"), max_size=6)
counts = st.integers(0, 2**40)
plain = st.recursive(
    st.none() | st.booleans() | counts | words, lambda inner: st.dictionaries(words, inner, max_size=2), max_leaves=3
)
manifests = st.builds(
    Manifest,
    dataset=words,
    split=words,
    classes=st.lists(st.tuples(words, words), max_size=3).map(
        lambda pairs: ClassList(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))
    ),
    shards=st.lists(
        st.builds(
            Shard,
            file_name=words.filter(lambda name: "/" not in name),
            num_records=counts,
            num_bytes=counts,
            crc32c=counts,
        ),
        max_size=2,
    ).map(tuple),
    counts=st.dictionaries(words, counts, max_size=2),
    skipped=st.lists(st.builds(Skipped, file=words, reason=words, detail=words), max_size=2).map(tuple),
    source=st.dictionaries(words, plain, max_size=2),
    fingerprint=words,
    expected_records=st.none() | counts,
)


@pytest.mark.filterwarnings("ignore:Do not use the `random` module")  # the type checker samples the items of lists
@settings(max_examples=50, deadline=None)
@given(manifests)
def test_a_manifest_survives_its_json(manifest: Manifest) -> None:
    assert Manifest.from_json(manifest.to_json(), "m.json") == manifest


def manifest(**fields: object) -> Manifest:
    shards = (
        Shard(file_name="a", num_records=3, num_bytes=10, crc32c=1),
        Shard(file_name="b", num_records=2, num_bytes=10, crc32c=2),
    )
    return Manifest(**{"dataset": "d", "split": "val", "classes": ClassList(("x",), ("x",)), "shards": shards} | fields)


def test_a_manifest_says_how_much_there_is_and_whether_that_is_all() -> None:
    assert manifest().num_records == 5
    assert not manifest().partial  # nobody published a count
    assert not manifest(expected_records=5).partial
    assert manifest(expected_records=6).partial
    written = json.loads(manifest(expected_records=6).to_json())
    assert (written["num_records"], written["partial"]) == (5, True)
    assert written["class_list_hash"] == ClassList(("x",), ("x",)).hash


def test_a_manifest_of_another_version_says_so() -> None:
    values = json.loads(manifest().to_json()) | {"manifest_version": 99}
    with pytest.raises(DataError, match=r"^dir/m\.json: manifest version 99, this version of luab_jax reads 1"):
        Manifest.from_json(json.dumps(values), "dir/m.json")


@pytest.mark.parametrize("field", sorted(set(json.loads(manifest().to_json())) - {"num_records", "partial"}))
def test_a_manifest_without_a_field_is_refused(field: str) -> None:
    values = json.loads(manifest().to_json())
    del values[field]
    if field == "class_list_hash":
        Manifest.from_json(json.dumps(values), "m.json")  # for people to read; it follows from the classes
    else:
        with pytest.raises(DataError, match=rf"^m\.json: not a manifest .*{field}"):
            Manifest.from_json(json.dumps(values), "m.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"manifest_version": 1, "shards": 3}', "null"])
def test_a_file_that_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"^m\.json: not a manifest"):
        Manifest.from_json(text, "m.json")


def test_shards_are_named_as_tfds_expects() -> None:
    assert shard_name("imagenet_ab", "train", 7, 1024) == "imagenet_ab-train.tfrecord-00007-of-01024"


def test_an_index_is_written_in_shard_order(tmp_path: Path) -> None:
    path = epath.Path(tmp_path / "index.npz")
    write_index(
        path, [np.array([0, 20]), np.array([]), np.array([2**33])], [np.array([4, 5]), np.array([]), np.array([6])]
    )
    with np.load(path) as index:
        assert index["offsets"].tolist() == [0, 20, 2**33]
        assert index["lengths"].tolist() == [4, 5, 6]


# --- opening


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("prepared")
    return tiny.prepare_data(directory, num_train=5, num_val=3)


@pytest.fixture
def mine(prepared: Path, tmp_path: Path) -> Path:
    """A copy that the test may break."""
    return Path(shutil.copytree(prepared, tmp_path / "prepared"))


def test_a_prepared_split_opens_with_every_record(prepared: Path) -> None:
    assert splits(prepared) == ["train", "val"]
    for split, count in (("train", 5), ("val", 3)):
        opened = open_split(prepared, split)
        names = {Example(opened.records[i]).file_name for i in range(len(opened.records))}
        assert names == {f"{tiny.CLASSES.ids[i % 3]}/{i:04d}.png" for i in range(count)}
        assert opened.manifest.classes == tiny.CLASSES
        assert opened.manifest.num_records == count


def test_a_directory_without_the_split_tells_which_there_are(prepared: Path) -> None:
    with pytest.raises(DataError, match=r"no prepared split 'test'; it has the split\(s\) train, val\."):
        open_split(prepared, "test")


def test_a_directory_without_anything_says_how_to_prepare(tmp_path: Path) -> None:
    for directory, there in (
        (tmp_path, "it holds no prepared split"),
        (tmp_path / "nowhere", "there is no such folder"),
    ):
        with pytest.raises(DataError, match=rf"{there}\. Prepare it with `python -m data_prep`"):
            open_split(directory, "train")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="it holds no prepared split"):
        read_manifest(tmp_path / "file", "train")


def test_an_index_of_other_length_than_the_manifest_is_refused(mine: Path) -> None:
    path = index_path(mine, "val")
    write_index(path, [np.zeros(2)], [np.zeros(2)])
    with pytest.raises(DataError, match=r"val\.index\.npz: 2 records, but the manifest has 3"):
        open_split(mine, "val")


def test_a_broken_index_is_refused_by_name(mine: Path) -> None:
    path = index_path(mine, "val")
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(b"NUMPY") + 130] ^= 0xFF  # in the offsets
    for content in (b"", b"text", whole[:-30], whole[:100], bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"val\.index\.npz: cannot be read as an index"):
            open_split(mine, "val")
    path.unlink()
    with pytest.raises(DataError, match=r"val\.index\.npz: cannot be read as an index"):
        open_split(mine, "val")


def test_a_manifest_that_is_no_text_is_refused_by_name(mine: Path) -> None:
    manifest_path(mine, "val").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"val\.manifest\.json: not a manifest"):
        open_split(mine, "val")


def test_the_index_of_another_preparation_is_noticed_at_the_record(mine: Path) -> None:
    """Equal counts and sizes of shards, other records: no read returns bytes that were not written as a record."""
    with np.load(index_path(mine, "val")) as index:
        offsets, lengths = index["offsets"], index["lengths"].copy()
    second = int(np.flatnonzero(offsets)[0])  # of its shard
    lengths[second - 1] += 1
    lengths[second] -= 1
    offsets[second] += 1
    write_index(index_path(mine, "val"), [offsets], [lengths])
    opened = open_split(mine, "val")
    with pytest.raises(DataError, match=r"record 0 at byte 0: its header is not that of the record in the index"):
        opened.records[second - 1]


def repeated(offsets: np.ndarray, lengths: np.ndarray) -> None:
    offsets[2] = offsets[1]
    lengths[2] = lengths[1]


def overlapping(offsets: np.ndarray, lengths: np.ndarray) -> None:
    second = int(np.flatnonzero(offsets)[0])  # of its shard
    offsets[second] -= np.uint64(1)


def beyond(offsets: np.ndarray, lengths: np.ndarray) -> None:
    lengths[-1] = 4_000_000_000


def wrapped(offsets: np.ndarray, lengths: np.ndarray) -> None:
    offsets[0] = 2**64 - 1


@pytest.mark.parametrize("change", [repeated, overlapping, beyond, wrapped])
def test_an_index_that_no_shard_can_have_is_refused_when_it_is_opened(
    mine: Path, change: Callable[[np.ndarray, np.ndarray], None]
) -> None:
    with np.load(index_path(mine, "val")) as index:
        offsets, lengths = index["offsets"].copy(), index["lengths"].copy()
    change(offsets, lengths)
    write_index(index_path(mine, "val"), [offsets], [lengths])
    with pytest.raises(DataError, match=r"val\.index\.npz: (places record|ends tiny-val).* prepare the split again"):
        open_split(mine, "val")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_index_that_declares_more_than_it_holds_is_not_read(mine: Path, compression: int) -> None:
    """10^12 offsets would take 8 TB; 200 MB of zeros deflate to 200 kB."""
    path = index_path(mine, "val")
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name in ("offsets", "lengths"):
            header = io.BytesIO()
            count = 10**12 if compression == zipfile.ZIP_STORED else 25_000_000
            np.lib.format.write_array_header_1_0(header, {"descr": "<u8", "fortran_order": False, "shape": (count,)})
            zeros = b"" if compression == zipfile.ZIP_STORED else bytes(8 * count)
            archive.writestr(f"{name}.npy", header.getvalue() + zeros)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"val\.index\.npz: cannot be read as an index \(offsets"):
        open_split(mine, "val")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("shards", 0, "num_records"), "5"),
        (("shards", 0, "num_records"), -1),
        (("shards", 0, "num_records"), 2**63),
        (("shards", 0, "num_bytes"), None),
        (("shards", 0, "file_name"), "../elsewhere"),
        (("shards", 0), []),
        (("counts",), []),
        (("counts", "images"), [1]),
        (("counts", "images"), float("inf")),
        (("skipped",), [[]]),
        (("classes",), [{}]),
        (("classes",), [["\ud800", "a"]]),
        (("expected_records",), [3]),
        (("source",), "folder"),
    ],
)
def test_a_manifest_of_other_types_is_refused(mine: Path, place: tuple[str | int, ...], value: object) -> None:
    path = manifest_path(mine, "val")
    values = json.loads(path.read_text())
    holder = values
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    path.write_text(json.dumps(values))
    with pytest.raises(DataError, match=r"val\.manifest\.json: not a manifest"):
        open_split(mine, "val")


def test_a_manifest_nested_too_deep_is_refused() -> None:
    with pytest.raises(DataError, match="not a manifest"):
        Manifest.from_json("[" * 100_000, "m.json")


def test_a_name_that_no_file_can_have_survives_in_a_manifest() -> None:
    """As JSON's escape of it; a lone surrogate has no UTF-8."""
    odd = dataclasses.replace(manifest(), skipped=(Skipped(file="a\ud800\n猫", reason="r"),))
    text = odd.to_json().encode().decode()
    assert Manifest.from_json(text, "m.json").skipped == odd.skipped


@pytest.mark.parametrize(
    "array", [np.zeros((3, 1)), np.zeros(3), np.array(["a", "b", "c"]), np.zeros((), np.int64)], ids=str
)
def test_an_index_that_is_no_list_of_numbers_is_refused(mine: Path, array: np.ndarray) -> None:
    np.savez(Path(index_path(mine, "val")), offsets=array, lengths=np.zeros(3, np.uint32))
    with pytest.raises(DataError, match=r"val\.index\.npz: cannot be read as an index"):
        open_split(mine, "val")
