"""Directories that TFDS prepared, read in place: an index is made by one pass over the record headers.

    DIR/dataset_info.json                       the directory of a version
    DIR/<version>/dataset_info.json             its parent; of several versions the highest
    DIR/<config>/<version>/dataset_info.json    config `matched-frequency` read as split `matched_frequency`; else the
                                                only config that has the split, as `coco/2014` if 2017 is not there

The fields of the records are those in `tfds_examples.py`. The split `val` is TFDS's `validation`. The pass reads 16
bytes a record (of a bucket whole shards, several at a time): where it lies, and the checksum of its content, by which
one set is told from another of the same name. The result, 16 bytes a record, is kept in `$XDG_CACHE_HOME/luab_jax` (or
`~/.cache/luab_jax`), never in the directory itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from etils import epath
from jaxtyping import UInt32, UInt64

from luab_jax.data.arrays import read_arrays
from luab_jax.data.class_lists import ClassList, imagenet
from luab_jax.data.coco_classes import coco
from luab_jax.data.texts import read_text
from luab_jax.data.tfrecord import FOOTER_BYTES, HEADER_BYTES, masked_crc32c
from luab_jax.errors import DataError, WriteError, reason_of
from luab_jax.io import storage
from luab_jax.io.atomic import atomic_file

_VERSION = re.compile(r"\d+\.\d+\.\d+")
_ALIASES = {"val": "validation"}
_REQUESTS = 16
"""Shards that are looked at or passed at a time."""
_CLASSES = {
    **dict.fromkeys(
        ("imagenet2012", "imagenet2012_real", "imagenet_v2", "imagenet_a", "imagenet_r", "imagenet_sketch", "siscore"),
        imagenet,
    ),
    "coco": coco,
}
"""TFDS's data set to what its labels mean. Those of imagenet_a and imagenet_r are indices among all 1,000 classes too
(`names_file` of every builder), and siscore's `label` as well; its `dataset_label`, 0 to 60, is not used."""

_PUBLISHED = {
    "imagenet2012": {"train": 1_281_167, "validation": 50_000},
    "imagenet2012_real": {"validation": 50_000},
    "imagenet_v2": {"test": 10_000},
    "imagenet_a": {"test": 7500},
    "imagenet_r": {"test": 30_000},
    "imagenet_sketch": {"test": 50_889},
    "siscore/size": {"test": 92_884},
    "siscore/location": {"test": 541_548},
    "siscore/rotation": {"test": 39_540},
    "coco/2014": {"train": 82_783, "validation": 40_504},
    "coco/2017": {"train": 118_287, "validation": 5000},
}
"""Images by split, of a data set or of one of its configs."""


def find(directory: epath.PathLike, split: str) -> tuple[epath.Path, str] | None:
    """The directory of a version and its name for the split; `None` where TFDS prepared no such split here."""
    root = epath.Path(directory)
    places = [(root, split), (root, _ALIASES.get(split, split))]
    configs = [child for child in _folders(root) if _plain(child.name) == _plain(split)]
    places += [(config, "test") for config in configs]
    for place, name in places:
        version = _version(place)
        if version is not None and name in _info(version).splits:
            return version, name
    return _in_only_config(root, _ALIASES.get(split, split))


def _in_only_config(root: epath.Path, name: str) -> tuple[epath.Path, str] | None:
    """The split where one config alone has it: with two, whoever gives their common folder has not chosen."""
    having = [version for version in _configs(root).values() if name in _info(version).splits]
    return (having[0], name) if len(having) == 1 else None


def _configs(root: epath.Path) -> dict[str, epath.Path]:
    """The version of every config that says of itself that it is one; other data sets below `root` do not."""
    versions = {folder.name: version for folder in _folders(root) if (version := _version(folder)) is not None}
    return {name: version for name, version in versions.items() if _info(version).config == name}


def splits(directory: epath.PathLike) -> list[str]:
    """The names by which `find` finds the splits that TFDS prepared here."""
    root = epath.Path(directory)
    version = _version(root)
    if version is not None:
        return sorted(_info(version).splits)
    configs = _configs(root)
    names = {name for version in configs.values() for name in _info(version).splits}
    if names == {"test"}:  # every config is a test set of its own: imagenet_v2, siscore
        return sorted(configs)
    return sorted(name for name in names if _in_only_config(root, name) is not None)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _folders(path: epath.Path) -> list[epath.Path]:
    try:
        return sorted(child for child in path.iterdir() if child.is_dir())
    except OSError:
        return []


def _version(path: epath.Path) -> epath.Path | None:
    if (path / "dataset_info.json").exists():
        return path
    versions = [child for child in _folders(path) if _VERSION.fullmatch(child.name)]
    versions = [child for child in versions if (child / "dataset_info.json").exists()]
    return max(versions, key=lambda child: [int(n) for n in child.name.split(".")], default=None)


class _Info(NamedTuple):
    """What `dataset_info.json` says."""

    name: str
    config: str
    """Empty where the data set has none."""
    splits: dict[str, list[int]]
    """Records of every shard, by split."""


def _info(version: epath.Path) -> _Info:
    path = version / "dataset_info.json"
    try:
        info = json.loads(read_text(path))
        if not isinstance(info, dict) or not isinstance(info.get("name"), str):
            raise ValueError("no object with a `name`")
        splits = {s["name"]: [int(n) for n in s.get("shardLengths", [])] for s in info.get("splits", [])}
        if any(not isinstance(name, str) or min(counts, default=-1) < 0 for name, counts in splits.items()):
            raise ValueError("a split without name or shards")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as e:
        raise DataError(f"{path}: cannot be read as TFDS's description of a data set ({reason_of(e)})") from e
    return _Info(info["name"], str(info.get("configName", "")), splits)


class _Index(NamedTuple):
    """Of all records, in the order of the shards."""

    offsets: UInt64[np.ndarray, " n"]
    """Of the record's header in its shard."""
    lengths: UInt32[np.ndarray, " n"]
    checksums: UInt32[np.ndarray, " n"]
    """The masked CRC-32C of its content, as the record states it."""

    def content(self, records: slice = slice(None)) -> str:
        """A hash of what these records hold."""
        digest = hashlib.blake2b(digest_size=16)
        for column in (self.lengths, self.checksums):
            digest.update(column[records].tobytes())
        return digest.hexdigest()


class TfdsSplit(NamedTuple):
    """What is needed to read a split."""

    directory: epath.Path
    dataset: str
    classes: ClassList
    paths: list[epath.Path]
    counts: list[int]
    """Records of each shard."""
    sizes: list[int]
    """Bytes of each shard."""
    index: _Index
    published: int | None
    """Images of the public set."""

    @property
    def fingerprint(self) -> str:
        """Of what the split holds, wherever it lies."""
        digest = hashlib.sha256(repr((self.dataset, self.classes.hash, self.counts)).encode())
        for column in (self.index.lengths, self.index.checksums):
            digest.update(column.tobytes())
        return digest.hexdigest()

    @property
    def contents(self) -> tuple[str, ...]:
        """Of each shard, as `content_of` finds it in the file."""
        ends = np.cumsum(self.counts).tolist()
        return tuple(self.index.content(slice(end - n, end)) for n, end in zip(self.counts, ends, strict=True))


def read_split(directory: epath.PathLike, split: str) -> TfdsSplit | None:
    """A split that TFDS prepared, or `None` where there is none. Raises `DataError` for a damaged one."""
    found = find(directory, split)
    if found is None:
        return None
    version, name = found
    dataset, config, splits = _info(version)
    counts, classes = splits[name], _classes(version, dataset)
    published = _PUBLISHED.get(f"{dataset}/{config}", {}).get(name, _PUBLISHED.get(dataset, {}).get(name))
    total = len(counts)
    paths = [version / f"{dataset}-{name}.tfrecord-{i:05d}-of-{total:05d}" for i in range(total)]
    found_shards = _facts(paths)
    index = _index(paths, counts, found_shards)
    sizes = [shard.size for shard in found_shards]
    return TfdsSplit(version, dataset, classes, paths, counts, sizes, index, published)


def _classes(version: epath.Path, dataset: str) -> ClassList:
    """By the table, which names beside the features must not contradict; of another data set by these names."""
    names = _names(version)
    if dataset not in _CLASSES:
        if not names:
            raise DataError(f"{version}: no names of labels beside its features, so its labels mean nothing here")
        return ClassList(names, names)
    classes = _CLASSES[dataset]()
    if names not in ((), classes.ids, tuple(map(str, range(len(classes))))):
        pairs = enumerate(zip(names, classes.ids, strict=False))
        label = next((i for i, (there, here) in pairs if there != here), 0)
        raise DataError(
            f"{version}: {len(names)} names of labels, label {label} is {names[label]!r}; {dataset} has"
            f" {len(classes)}, label {label} is {classes.ids[label]!r}"
        )
    return classes


def _names(version: epath.Path) -> tuple[str, ...]:
    """The names that TFDS keeps beside the features, one a line."""
    for feature in ("label", "original_label", "objects-label"):
        path = version / f"{feature}.labels.txt"
        if path.exists():
            try:
                names = tuple(read_text(path).split("\n"))
            except ValueError as e:
                raise DataError(f"{path}: cannot be read as names of labels ({e})") from e
            return names[:-1] if not names[-1] else names
    return ()


def _facts(paths: list[epath.Path]) -> list[storage.Facts]:
    """Size and version of every shard, asked for once; of a bucket many at a time, since each is a round trip."""
    try:
        with ThreadPoolExecutor(_REQUESTS) as pool:
            found = list(pool.map(storage.facts, paths))
    except (OSError, ValueError) as e:  # ValueError: a name that no file can have
        raise DataError(f"{paths[0].parent}: a shard cannot be read ({e})") from e
    shards = [facts for facts in found if facts is not None]
    if len(shards) < len(paths):
        missing = paths[found.index(None)].name
        raise DataError(f"{paths[0].parent}: a shard is missing ({missing}); is the data set complete?")
    return shards


def _index(paths: list[epath.Path], counts: list[int], found: Sequence[storage.Facts]) -> _Index:
    """From the cache or by one pass."""
    names = map(str, paths)
    facts = [(name, of.size, of.version, count) for name, of, count in zip(names, found, counts, strict=True)]
    key = hashlib.blake2b(repr(facts).encode(), digest_size=12).hexdigest()
    cache = _cache_path(key)
    # There is none yet, one of an older version, or a damaged one, of which numpy raises nearly anything.
    with contextlib.suppress(Exception), Path(cache or "").open("rb") as file:
        arrays = read_arrays(file, _Index._fields)
        return _Index(**{name: arrays[name] for name in _Index._fields})
    with ThreadPoolExecutor(_REQUESTS) as pool:
        shards = list(pool.map(_scan, paths, counts, (of.size for of in found)))
    index = _Index(*map(np.concatenate, zip(_EMPTY, *shards, strict=True)))
    if cache is not None:
        # One that cannot be written costs the next run a pass.
        with contextlib.suppress(WriteError), atomic_file(cache, make_folder=True) as partial, partial.open("wb") as f:
            np.savez(f, **index._asdict())
    return index


def _cache_path(key: str) -> Path | None:
    """None for a user without a home, as in some containers."""
    try:
        folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    return Path(folder) / "luab_jax" / f"tfds-{key}.npz"


def content_of(path: epath.PathLike, count: int, size: int) -> str:
    """Of a shard of so many records and bytes, by one pass. Raises `DataError` for a file that is none."""
    return _scan(epath.Path(path), count, size).content()


_EMPTY = _Index(np.zeros(0, np.uint64), np.zeros(0, np.uint32), np.zeros(0, np.uint32))


def _scan(path: epath.Path, count: int, size: int) -> _Index:
    offsets, lengths, checksums, offset = [], [], [], 0
    with storage.open_forwards(path) as file:
        header = file.read(HEADER_BYTES)
        while offset < size:
            if len(header) < HEADER_BYTES or struct.unpack_from("<I", header, 8)[0] != masked_crc32c(header[:8]):
                raise DataError(f"{path}: no record at byte {offset:,}; the shard is cut off or damaged")
            (length,) = struct.unpack_from("<Q", header)
            offsets.append(offset)
            lengths.append(length)
            offset += HEADER_BYTES + length + FOOTER_BYTES
            file.seek(offset - FOOTER_BYTES)
            footer_and_header = file.read(FOOTER_BYTES + HEADER_BYTES)
            checksums.append(int.from_bytes(footer_and_header[:FOOTER_BYTES], "little"))
            header = footer_and_header[FOOTER_BYTES:]
    if len(offsets) != count or offset != size:
        raise DataError(f"{path}: {len(offsets)} records, dataset_info.json says {count}; the shard is cut off")
    return _Index(np.asarray(offsets, np.uint64), np.asarray(lengths, np.uint32), np.asarray(checksums, np.uint32))
