"""Damage that checksums would hide from a reader: the format is taken apart, altered inside and put together again."""

from __future__ import annotations

import io
import struct
import zlib
from random import Random
from typing import Any

import numpy as np
from tensorflow_datasets.proto import tf_example_pb2

from luab_jax.data.tfrecord import frame, masked_crc32c
from tools.fuzz.mutations import flip

_proto: Any = tf_example_pb2
_BLOCK = 512
_LENGTHS = (0, 1, 2**31 - 1, 2**31, 2**32, 2**40, 2**63, 2**64 - 1)


def record_with_good_crc(data: bytes, rng: Random) -> bytes:
    """One TFRecord whose bytes are others, or whose length is, with checksums that agree."""
    if rng.random() < 0.5:
        return frame(flip(data[12:-4], rng))
    length = struct.pack("<Q", rng.choice(_LENGTHS))
    return length + struct.pack("<I", masked_crc32c(length)) + data[12:]


def odd_example(data: bytes, rng: Random) -> bytes:
    """A `tf.train.Example` with a column dropped, longer, shorter, of other values or of another type."""
    example = _proto.Example()
    try:
        example.ParseFromString(data)
    except Exception:  # protobuf's DecodeError has no stable import path
        return flip(data, rng)
    columns = example.features.feature
    name = rng.choice(sorted(columns) or [""])
    column = columns[name]
    match rng.randrange(4):
        case 0:
            del columns[name]
        case 1:
            column.Clear()
            if rng.random() < 0.5:
                column.bytes_list.value.append(rng.choice((b"", b"\xff", b"x" * 1000)))
        case 2:
            column.int64_list.value.extend(rng.choices((-1, 0, 1, 7, 2**63 - 1, -(2**63)), k=rng.choice((1, 3))))
        case _:
            column.float_list.value.extend(rng.choices((float("nan"), float("inf"), -1.0, 1e38), k=rng.choice((1, 3))))
    return example.SerializeToString()


def png_with_good_crc(data: bytes, rng: Random) -> bytes:
    """The chunks of a PNG altered, dropped, repeated or swapped, each with the right checksum."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return flip(data, rng)
    i = rng.randrange(len(chunks))
    match rng.randrange(4):
        case 0:
            del chunks[i]
        case 1:
            chunks.insert(rng.randrange(len(chunks)), chunks[i])
        case 2:
            chunks.insert(i, (rng.choice((b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"iCCP", b"acTL")), rng.randbytes(40)))
        case _:
            chunks[i] = (chunks[i][0], flip(chunks[i][1], rng))
    packed = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return data[:8] + b"".join(packed)


def tar_with_good_checksum(data: bytes, rng: Random) -> bytes:
    """One header block of a tar altered, with the checksum that belongs to it."""
    if len(data) < _BLOCK:
        return flip(data, rng)
    start = _BLOCK * rng.randrange(len(data) // _BLOCK)
    block = bytearray(data[start : start + _BLOCK])
    match rng.randrange(4):
        case 0:  # type
            block[156] = rng.choice(b"01234567LKxgSXN\0")
        case 1:  # size, octal or binary
            block[124:136] = rng.choice(
                (b"77777777777\0", b"\xff" * 12, b"\x80" + b"\0" * 10 + b"\1", b"0" * 11 + b"\0")
            )
        case 2:  # name
            block[:100] = rng.choice((b"../../x", b"/etc/passwd", b"\xff\xfe.JPEG", b"", b"a" * 100)).ljust(100, b"\0")
        case _:
            block = bytearray(flip(bytes(block), rng))
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return data[:start] + bytes(block) + data[start + _BLOCK :]


def odd_npz(data: bytes, rng: Random) -> bytes:
    """The arrays of an index of another length, type, shape or name, or with other values."""
    try:
        with np.load(io.BytesIO(data)) as arrays:
            columns = {name: arrays[name] for name in arrays.files}
    except Exception:  # an earlier damage
        return flip(data, rng)
    if not columns:
        return flip(data, rng)
    name = rng.choice(sorted(columns))
    match rng.randrange(5):
        case 0:
            columns.pop(name, None)
        case 1:
            columns[name] = columns[name][:-1] if columns[name].ndim else columns[name]
        case 2:
            columns[name] = columns[name].astype(rng.choice(("f4", "i1", "S3", "i8", "c8", "?")))
        case 3:
            columns[name] = columns[name].reshape(rng.choice(((-1, 1), (1, -1), (1, 1, -1))))
        case _:
            columns[name] = np.full(columns[name].shape, rng.choice((0, 1, 2**31)))
    buffer = io.BytesIO()
    np.savez(buffer, **columns)  # type: ignore[arg-type]
    return buffer.getvalue()
