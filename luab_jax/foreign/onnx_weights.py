"""The names of the files that an ONNX model keeps weights in, beside its own.

onnxruntime reads them but does not name them; the package `onnx` would, and is needed for nothing else. So the few
fields are found in the message itself (protobuf's wire format; onnx.proto: ModelProto.graph 7, GraphProto.initializer
5, TensorProto.external_data 13, StringStringEntryProto key 1, value 2).
"""

from __future__ import annotations

from collections.abc import Iterator

_GRAPH, _INITIALIZER, _EXTERNAL_DATA, _KEY, _VALUE = 7, 5, 13, 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def external_files(content: bytes) -> list[str]:
    """Relative to the model's folder, each once. Raises ValueError for what is no message of protobuf."""
    found: dict[str, None] = {}
    graphs = list(_fields(memoryview(content), _GRAPH))
    if not graphs:
        raise ValueError("it holds no graph")
    for graph in graphs:
        for tensor in _fields(graph, _INITIALIZER):
            for entry in _fields(tensor, _EXTERNAL_DATA):
                key, value = (bytes(next(_fields(entry, n), b"")).decode() for n in (_KEY, _VALUE))
                if key == "location":
                    found[value] = None
    return list(found)


def _fields(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """The values of one field of a message, those that are strings, bytes or messages."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            _, at = _varint(message, at)
        elif kind == _FIXED64:
            at += 8
        elif kind == _FIXED32:
            at += 4
        elif kind == _BYTES:
            size, at = _varint(message, at)
            if at + size > len(message):
                raise ValueError("it is cut short")
            if tag >> 3 == wanted:
                yield message[at : at + size]
            at += size
        else:
            raise ValueError("its bytes are no message of protobuf")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise ValueError("it is cut short")
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if not byte & 128:
            return value, at
