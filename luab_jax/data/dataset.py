"""A prepared split on disk: its manifest, its index, and the names of its files.

DIR/dataset_info.json, features.json            TFDS's metadata (written by data_prep)
DIR/<dataset>-<split>.tfrecord-00000-of-00008   the shards
DIR/<split>.index.npz                           offset and length of every record, for random access
DIR/<split>.manifest.json                       what was kept, what was skipped and why; written last
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from etils import epath

from luab_jax.data import tfds_directory
from luab_jax.data.arrays import read_arrays
from luab_jax.data.class_lists import ClassList
from luab_jax.data.texts import read_text
from luab_jax.data.tfrecord import FOOTER_BYTES, HEADER_BYTES, RandomAccessTFRecords
from luab_jax.errors import DataError
from luab_jax.io import storage
from luab_jax.io.atomic import atomic_file

MANIFEST_VERSION = 1
DECODE_CHECK = "decode_check"
"""The fact of a preparation that images were not decoded, so that damaged ones may be among them."""
STORED_SMALLER = "stored_smaller"
"""The fact of a preparation that images are not stored as they came, and how."""
IMAGES_WITH_REAL_LABELS = "images_with_real_labels"
"""Among the counts of a set that was prepared with ReaL's labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One file of a split."""

    file_name: str
    num_records: int
    num_bytes: int
    crc32c: int
    """Of the whole file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """One input that is not in the shards, or not as a whole."""

    file: str
    reason: str
    """A short fixed phrase, the key under which it is counted."""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a prepared split holds and how it came to be."""

    dataset: str
    split: str
    classes: ClassList
    shards: tuple[Shard, ...]
    counts: Mapping[str, int] = field(default_factory=dict)
    """Facts of the preparation, such as `images` and `images_with_selected_byproduct`."""
    skipped: tuple[Skipped, ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict)
    """The arguments of the preparation."""
    fingerprint: str = ""
    """Hash of the input listing and the arguments: the same input needs no second preparation."""
    expected_records: int | None = None
    """The published count of a public set; `None` where there is none."""

    @property
    def num_records(self) -> int:
        return sum(shard.num_records for shard in self.shards)

    @property
    def partial(self) -> bool:
        """Whether images of a public set are missing; every result on such a set says so."""
        return self.expected_records is not None and self.num_records < self.expected_records

    @property
    def stored_smaller(self) -> str:
        """How images were made smaller than they came, so that no result on them is one of the protocol; or nothing."""
        return str(self.source.get(STORED_SMALLER, ""))

    def to_json(self) -> str:
        values = {"manifest_version": MANIFEST_VERSION, "num_records": self.num_records, "partial": self.partial}
        values |= dataclasses.asdict(self)
        values["class_list_hash"] = self.classes.hash
        values["classes"] = [list(pair) for pair in zip(self.classes.ids, self.classes.names, strict=True)]
        text = json.dumps(values, indent=1, ensure_ascii=False) + "\n"
        # What no UTF-8 can hold, a lone surrogate of a name from outside, stands there as JSON's escape of it.
        return text.encode("utf-8", "backslashreplace").decode()

    @classmethod
    def from_json(cls, text: str, where: str) -> Manifest:
        """Reads what `to_json` wrote; raises `DataError` naming `where` and the field."""
        try:
            values = json.loads(text)
            version = values["manifest_version"]
            if version != MANIFEST_VERSION:
                raise DataError(
                    f"{where}: manifest version {version}, this version of luab_jax reads {MANIFEST_VERSION};"
                    " prepare the data again"
                )
            expected = values["expected_records"]
            if not (expected is None or type(expected) is int) or not isinstance(values["source"], dict):
                raise TypeError(f"expected_records {expected!r} or source {values['source']!r:.60}")
            return cls(
                dataset=str(values["dataset"]),
                split=str(values["split"]),
                classes=_classes(values["classes"]),
                shards=tuple(_shard(shard) for shard in values["shards"]),
                counts={str(name): int(count) for name, count in values["counts"].items()},
                skipped=tuple(_skipped(skipped) for skipped in values["skipped"]),
                source=values["source"],
                fingerprint=str(values["fingerprint"]),
                expected_records=expected,
            )
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, OverflowError) as e:
            raise DataError(f"{where}: not a manifest of a prepared split ({type(e).__name__}: {e})") from e


def _classes(pairs: Sequence[Sequence[Any]]) -> ClassList:
    classes = ClassList(*(tuple(str(pair[i]) for pair in pairs) for i in (0, 1)))
    "".join((*classes.ids, *classes.names)).encode()  # raises ValueError for what no class list can hold
    return classes


def _shard(values: Mapping[str, Any]) -> Shard:
    shard = Shard(**values)
    if not isinstance(shard.file_name, str) or "/" in shard.file_name:
        raise ValueError(f"shard file_name {shard.file_name!r}")
    for number in (shard.num_records, shard.num_bytes, shard.crc32c):
        if type(number) is not int or not 0 <= number < 1 << 63:
            raise ValueError(f"{number!r} in shard {shard.file_name!r} is no number")
    return shard


def _skipped(values: Mapping[str, Any]) -> Skipped:
    return Skipped(**{name: str(value) for name, value in values.items()})


def shard_name(dataset: str, split: str, index: int, count: int) -> str:
    """TFDS's default template `{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}`."""
    return f"{dataset}-{split}.tfrecord-{index:05d}-of-{count:05d}"


def manifest_path(directory: epath.PathLike, split: str) -> epath.Path:
    return epath.Path(directory) / f"{split}.manifest.json"


def index_path(directory: epath.PathLike, split: str) -> epath.Path:
    return epath.Path(directory) / f"{split}.index.npz"


def write_index(path: epath.Path, offsets: Sequence[np.ndarray], lengths: Sequence[np.ndarray]) -> None:
    """Writes the index of a split from those of its shards, in shard order."""
    with atomic_file(path) as temporary, temporary.open("wb") as f:
        np.savez(
            f,
            offsets=np.concatenate([np.zeros(0, np.uint64), *offsets]).astype(np.uint64),
            lengths=np.concatenate([np.zeros(0, np.uint32), *lengths]).astype(np.uint32),
        )


def splits(directory: epath.PathLike) -> list[str]:
    """The prepared splits of a directory, by their manifests."""
    suffix = ".manifest.json"
    try:
        return sorted(p.name.removesuffix(suffix) for p in epath.Path(directory).iterdir() if p.name.endswith(suffix))
    except (FileNotFoundError, NotADirectoryError):
        return []


def folders_with_splits(directory: epath.PathLike) -> list[str]:
    """Folders of a directory that hold prepared splits: what was meant where their parent was given."""
    try:
        return sorted(child.name for child in epath.Path(directory).iterdir() if splits(child))
    except OSError:
        return []


def has_split(directory: epath.PathLike, split: str) -> bool:
    """Whether `open_split` finds this split, prepared by data_prep or by TFDS."""
    names = splits(directory)
    return split in names or (not names and tfds_directory.find(directory, split) is not None)


def readable_splits(directory: epath.PathLike) -> list[str]:
    """The splits that `open_split` finds, prepared by data_prep or by TFDS."""
    return splits(directory) or tfds_directory.splits(directory)


@dataclass(frozen=True, slots=True)
class PreparedSplit:
    """A split opened for reading."""

    directory: epath.Path
    manifest: Manifest
    records: RandomAccessTFRecords
    contents: tuple[str, ...] = ()
    """A hash of what each shard holds, where the manifest has no CRC of the file (see `tfds_directory.content_of`)."""


def read_manifest(directory: epath.PathLike, split: str) -> Manifest:
    """Reads a split's manifest; raises `DataError` that says what is there instead."""
    path = manifest_path(directory, split)
    try:
        text = read_text(path)
    except (FileNotFoundError, NotADirectoryError) as e:
        storage.check_bucket(directory)
        found = splits(directory)
        there = f"it has the split(s) {', '.join(found)}" if found else "it holds no prepared split"
        if not storage.is_remote(directory) and not os.path.exists(directory):
            there = "there is no such folder"
        if elsewhere := folders_with_splits(directory):
            there += f", but its folder {elsewhere[0]} does: is it {os.fspath(directory).rstrip('/')}/{elsewhere[0]}?"
            raise DataError(f"{os.fspath(directory)}: no prepared split {split!r}; {there}") from e
        raise DataError(
            f"{os.fspath(directory)}: no prepared split {split!r}; {there}. Prepare it with `python -m data_prep`"
        ) from e
    except ValueError as e:
        raise DataError(f"{path}: not a manifest of a prepared split ({e})") from e
    return Manifest.from_json(text, str(path))


def open_split(directory: epath.PathLike, split: str) -> PreparedSplit:
    """Opens a split for random access, after checking that index and manifest agree.

    A directory that TFDS prepared, which has no manifest, is read in place.
    """
    directory = epath.Path(directory)
    if not splits(directory) and (found := tfds_directory.read_split(directory, split)) is not None:
        return _from_tfds(found, split)
    manifest = read_manifest(directory, split)
    path = index_path(directory, split)
    try:
        with path.open("rb") as f:
            index = read_arrays(f, ("offsets", "lengths"))
        offsets, lengths = index["offsets"], index["lengths"]
        if any(array.ndim != 1 or array.dtype.kind not in "ui" for array in (offsets, lengths)):
            raise ValueError("its arrays are no lists of numbers")
    except Exception as e:  # of a damaged file zipfile and numpy's parser of headers raise nearly anything
        raise DataError(f"{path}: cannot be read as an index ({e}); prepare the split again") from e
    counts = np.asarray([shard.num_records for shard in manifest.shards], np.int64)
    if not len(offsets) == len(lengths) == manifest.num_records:
        raise DataError(
            f"{path}: {len(offsets)} records, but the manifest has {manifest.num_records}; prepare the split again"
        )
    if problem := _misplaced(offsets, lengths, manifest.shards):
        raise DataError(f"{path}: {problem}; index and shards are of different preparations, prepare the split again")
    paths = [directory / shard.file_name for shard in manifest.shards]
    return PreparedSplit(directory, manifest, RandomAccessTFRecords(paths, offsets, lengths, counts))


def _misplaced(offsets: np.ndarray, lengths: np.ndarray, shards: Sequence[Shard]) -> str:
    """What of an index cannot be so: records follow each other from the first byte of a shard to its last."""
    first = 0
    for shard in shards:
        own = slice(first, first + shard.num_records)
        sizes = lengths[own].astype(np.uint64) + np.uint64(HEADER_BYTES + FOOTER_BYTES)
        ends = np.cumsum(sizes, dtype=np.uint64)
        wrong = offsets[own].astype(np.uint64) != ends - sizes
        if wrong.any():
            record = int(np.argmax(wrong))
            return (
                f"places record {record} of {shard.file_name} at byte {offsets[own][record]:,}, but the one before it"
                f" ends at byte {(ends - sizes)[record]:,}"
            )
        end = int(ends[-1]) if len(ends) else 0
        if end != shard.num_bytes:
            return f"ends {shard.file_name} at byte {end:,}, but it has {shard.num_bytes:,} bytes"
        first += shard.num_records
    return ""


def is_of_tfds(manifest: Manifest) -> bool:
    """Whether TFDS prepared the split, with a schema and without a manifest of its own."""
    return manifest.source.get("layout") == "tfds"


def _from_tfds(found: tfds_directory.TfdsSplit, split: str) -> PreparedSplit:
    shards = tuple(
        Shard(file_name=path.name, num_records=count, num_bytes=size, crc32c=0)
        for path, count, size in zip(found.paths, found.counts, found.sizes, strict=True)
    )
    manifest = Manifest(
        dataset=found.dataset,
        split=split,
        classes=found.classes,
        shards=shards,
        source={"layout": "tfds", "directory": str(found.directory)},
        fingerprint=found.fingerprint,
        expected_records=found.published,
    )
    index = found.index
    records = RandomAccessTFRecords(found.paths, index.offsets, index.lengths, np.asarray(found.counts))
    return PreparedSplit(found.directory, manifest, records, found.contents)
