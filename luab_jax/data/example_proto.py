"""The messages of `tf.train.Example`. TensorFlow Datasets has them too, but takes half a second to import.

In a pool of their own, so that those of TFDS or TensorFlow in the same process do not collide with them.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

_PACKAGE = "luab_jax"


def _file() -> FileDescriptorProto:
    """As tensorflow/core/example/{feature,example}.proto number the fields; proto3 packs repeated numbers."""
    kinds = FieldDescriptorProto
    file = FileDescriptorProto(name="luab_jax/example.proto", package=_PACKAGE, syntax="proto3")
    for name, kind in (
        ("BytesList", kinds.TYPE_BYTES),
        ("FloatList", kinds.TYPE_FLOAT),
        ("Int64List", kinds.TYPE_INT64),
    ):
        file.message_type.add(name=name).field.add(
            name="value", number=1, label=kinds.LABEL_REPEATED, type=kind, json_name="value"
        )
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("bytes_list", "float_list", "int64_list"), start=1):
        message = "".join(part.capitalize() for part in name.split("_"))
        _add_message(feature, name, number, message).oneof_index = 0
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=kinds.LABEL_OPTIONAL, type=kinds.TYPE_STRING)
    _add_message(entry, "value", 2, "Feature")
    _add_message(features, "feature", 1, "Features.FeatureEntry").label = kinds.LABEL_REPEATED
    _add_message(file.message_type.add(name="Example"), "features", 1, "Features")
    return file


def _add_message(to: DescriptorProto, name: str, number: int, message: str) -> FieldDescriptorProto:
    return to.field.add(
        name=name,
        number=number,
        label=FieldDescriptorProto.LABEL_OPTIONAL,
        type=FieldDescriptorProto.TYPE_MESSAGE,
        type_name=f".{_PACKAGE}.{message}",
    )


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file())

Example: Any = message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{_PACKAGE}.Example"))
"""A class that is made at run time, out of a type checker's sight."""
