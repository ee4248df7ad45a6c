"""Shards on disk: what is written is read, and what was changed is noticed."""

from __future__ import annotations

import errno
import io
import os
import pickle
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest
from etils import epath
from hypothesis import given, settings
from hypothesis import strategies as st

from luab_jax.data.tfrecord import FOOTER_BYTES, HEADER_BYTES, RandomAccessTFRecords, frame, masked_crc32c, scan
from luab_jax.errors import DataError, ShardError
from luab_jax.io import storage

RECORDS = [b"", b"a", b"some record", bytes(range(40))]


def bitwise_crc32c(data: bytes) -> int:
    """CRC-32C by its definition, bit by bit (RFC 3720, polynomial 0x1EDC6F41 reflected)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def write_shards(directory: Path, shards: list[list[bytes]]) -> RandomAccessTFRecords:
    paths, offsets, lengths = [], [], []
    for number, records in enumerate(shards):
        path = directory / f"shard-{number}"
        path.write_bytes(b"".join(map(frame, records)))
        paths.append(epath.Path(path))
        ends = np.cumsum([len(frame(record)) for record in records])
        offsets += [0, *ends[:-1].tolist()] if records else []
        lengths += [len(record) for record in records]
    counts = np.array([len(records) for records in shards], np.int64)
    return RandomAccessTFRecords(paths, np.array(offsets, np.uint64), np.array(lengths, np.uint32), counts)


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=60))
def test_a_frame_is_what_the_format_says(data: bytes) -> None:
    def masked(crc: int) -> int:
        return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32

    assert masked_crc32c(data) == masked(bitwise_crc32c(data))
    length = struct.pack("<Q", len(data))
    expected = length + struct.pack("<I", masked(bitwise_crc32c(length))) + data
    assert frame(data) == expected + struct.pack("<I", masked(bitwise_crc32c(data)))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=5))
def test_scanning_returns_the_records_and_where_they_stand(records: list[bytes]) -> None:
    content = b"".join(map(frame, records))
    found = list(scan(io.BytesIO(content), "shard"))
    assert [data for _, data in found] == records
    for offset, data in found:
        assert content[offset:].startswith(frame(data))


def test_random_access_over_shards_of_any_length(tmp_path: Path) -> None:
    shards = [[b"a", b"bb"], [], [b""], [b"ccc", b"dddd"], []]
    records = write_shards(tmp_path, shards)
    flat = [record for shard in shards for record in shard]
    assert len(records) == len(flat)
    assert [records[i] for i in (4, 0, 2, 3, 1)] == [flat[i] for i in (4, 0, 2, 3, 1)]
    assert [records[i] for i in range(len(records))] == flat
    with pytest.raises(IndexError):
        records[len(flat)]


def flipped(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0x10
    path.write_bytes(content)


TOTAL_BYTES = sum(len(frame(record)) for record in RECORDS)


def test_scanning_finds_every_flipped_byte(tmp_path: Path) -> None:
    content = b"".join(map(frame, RECORDS))
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        starts = np.cumsum([0, *(len(frame(record)) for record in RECORDS)])
        start = starts[np.searchsorted(starts, position, side="right") - 1]
        with pytest.raises(DataError, match=rf"^dir/shard-3: .*at byte {start}\b"):
            list(scan(io.BytesIO(damaged), "dir/shard-3"))


def test_random_access_finds_every_flipped_byte_and_names_shard_record_and_offset(tmp_path: Path) -> None:
    records = write_shards(tmp_path, [[b"first"], RECORDS])
    path = tmp_path / "shard-1"
    position = 0
    for number, record in enumerate(RECORDS):
        start = position
        for position in range(start, start + len(frame(record))):
            flipped(path, position)
            with pytest.raises(DataError, match=rf"shard-1: record {number} at byte {start}:"):
                records[1 + number]
            # Its neighbours are as good as before.
            assert records[1 + (number + 1) % len(RECORDS)] == RECORDS[(number + 1) % len(RECORDS)]
            flipped(path, position)
        position = start + len(frame(record))
    assert position == TOTAL_BYTES
    assert [records[1 + i] for i in range(len(RECORDS))] == RECORDS


def test_a_file_cut_anywhere_is_noticed(tmp_path: Path) -> None:
    content = b"".join(map(frame, RECORDS))
    ends = np.cumsum([0, *(len(frame(record)) for record in RECORDS)]).tolist()
    for length in range(len(content)):
        if length in ends:  # nothing in the file itself tells that records are missing at its end
            assert len(list(scan(io.BytesIO(content[:length]), "shard"))) == ends.index(length)
        else:
            with pytest.raises(DataError, match=r"shard: .*at byte \d+"):
                list(scan(io.BytesIO(content[:length]), "shard"))
    records = write_shards(tmp_path, [RECORDS])
    for length in (0, ends[-2], ends[-1] - 1, ends[-2] + HEADER_BYTES, ends[-1] - FOOTER_BYTES):
        (tmp_path / "shard-0").write_bytes(content[:length])
        with pytest.raises(DataError, match=rf"shard-0: record 3 at byte {ends[-2]}: the file ends"):
            records[3]


def test_a_shard_that_is_gone_is_named(tmp_path: Path) -> None:
    records = write_shards(tmp_path, [RECORDS, RECORDS])
    (tmp_path / "shard-1").unlink()
    assert records[0] == RECORDS[0]
    with pytest.raises(DataError, match=r"shard-1: cannot be read .*No such file"):
        records[len(RECORDS)]


@pytest.mark.parametrize("damage", ["header", "data", "cut", "folder"])
def test_a_copy_that_cannot_be_read_gives_way_to_its_shard(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, copy = write_shards(tmp_path, [RECORDS]), tmp_path / "copy"
    records = whole.with_copies([str(copy)])
    content = (tmp_path / "shard-0").read_bytes()
    if damage == "folder":
        copy.mkdir()
    else:
        copy.write_bytes(content[:-1] if damage == "cut" else content)
    if damage in ("header", "data"):
        flipped(copy, 0 if damage == "header" else len(content) - FOOTER_BYTES - 1)
    for _ in range(2):
        assert [records[i] for i in range(len(RECORDS))] == RECORDS
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{copy}: " in said and f"read from {tmp_path / 'shard-0'}" in said
    assert copy.exists() == (damage == "folder"), "it is removed where it can be"


def test_a_copy_of_another_user_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    records = write_shards(tmp_path, [RECORDS]).with_copies([str(copy)])
    copy.write_bytes((tmp_path / "shard-0").read_bytes())
    read_range = storage.read_range

    def of_this_user(path: str, *where: int) -> bytes:
        if path == str(copy):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return read_range(path, *where)

    monkeypatch.setattr(storage, "read_range", of_this_user)
    assert [records[i] for i in range(len(RECORDS))] == RECORDS
    assert capsys.readouterr().err.count(f"{copy}: Permission denied") == 1
    assert copy.exists()


def test_where_copy_and_shard_are_damaged_the_shard_is_named(tmp_path: Path) -> None:
    copy, shard = tmp_path / "copy", tmp_path / "shard-0"
    records = write_shards(tmp_path, [RECORDS]).with_copies([str(copy)])
    for path in (copy, shard):
        path.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(ShardError, match=f"{shard}: record 3 at byte .*: the file ends"):
        records[3]
    assert copy.exists(), "nobody knows which of them is wrong"


def test_pickled_records_open_their_own_files(tmp_path: Path) -> None:
    records = write_shards(tmp_path, [RECORDS[:2], RECORDS[2:]])
    assert records[3] == RECORDS[3]
    copy = pickle.loads(pickle.dumps(records))
    del records
    assert [copy[i] for i in range(len(copy))] == RECORDS
    assert len(pickle.dumps(copy)) < 2000


def test_many_threads_read_the_same_shards(tmp_path: Path) -> None:
    contents = [bytes([i]) * (i + 1) for i in range(100)]
    records = write_shards(tmp_path, [contents[i : i + 25] for i in range(0, 100, 25)])
    wanted = np.random.default_rng(0).integers(0, 100, 2000).tolist()
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(records.__getitem__, wanted)) == [contents[i] for i in wanted]


def test_shards_elsewhere_are_read_by_ranged_requests(tmp_path: Path) -> None:
    local = write_shards(tmp_path, [RECORDS, RECORDS[::-1]])
    memory = fsspec.filesystem("memory")
    for path in tmp_path.iterdir():
        memory.pipe_file(f"/shards/{path.name}", path.read_bytes())
    remote = pickle.loads(pickle.dumps(local))
    remote._paths = [f"memory://shards/{Path(path).name}" for path in local._paths]
    assert [remote[i] for i in range(len(remote))] == [local[i] for i in range(len(local))]
    remote._paths = ["memory://shards/gone"] * 2
    with pytest.raises(DataError, match="memory://shards/gone: cannot be read"):
        remote[0]


def test_more_shards_than_open_files_are_allowed(tmp_path: Path) -> None:
    import resource

    records = write_shards(tmp_path, [[b"x"]] * 300)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 200), hard))
    try:
        assert {records[i] for i in range(300)} == {b"x"}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("length", [61, 2**31, 2**40, 2**63, 2**64 - 1])
def test_a_length_that_no_file_holds_reserves_no_memory_even_with_a_good_crc(length: int) -> None:
    packed = struct.pack("<Q", length)
    data = packed + struct.pack("<I", masked_crc32c(packed)) + bytes(64)
    with pytest.raises(DataError, match="the file ends before the record does"):
        list(scan(io.BytesIO(data), "a.tfrecord"))
