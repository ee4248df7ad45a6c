"""The messages are those of `tf.train.Example`: what TFDS writes is read, and written again to the same bytes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tensorflow_datasets.proto import tf_example_pb2

from luab_jax.data import example_proto

_theirs: Any = tf_example_pb2

_LISTS = st.one_of(
    st.tuples(st.just("bytes_list"), st.lists(st.binary(max_size=5), max_size=4)),
    st.tuples(st.just("float_list"), st.lists(st.floats(width=32), max_size=4)),
    st.tuples(st.just("int64_list"), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4)),
)


def filled(example: Any, columns: dict[str, tuple[str, list[Any]]]) -> bytes:
    for name, (kind, values) in columns.items():
        column = getattr(example.features.feature[name], kind)
        column.value.extend(values)
        column.SetInParent()
    return example.SerializeToString(deterministic=True)


@given(st.dictionaries(st.text(max_size=5), _LISTS, max_size=4))
def test_bytes_are_those_of_tfds_in_both_directions(columns: dict[str, tuple[str, list[Any]]]) -> None:
    theirs, ours = filled(_theirs.Example(), columns), filled(example_proto.Example(), columns)
    assert ours == theirs
    assert example_proto.Example.FromString(theirs).SerializeToString(deterministic=True) == theirs
    assert _theirs.Example.FromString(ours).SerializeToString(deterministic=True) == ours


def test_reading_and_preparing_load_no_tfds() -> None:
    """Half a second of every start, and of that of every worker."""
    modules = "luab_jax.data.pipeline, data_prep.__main__, data_prep.commands"
    program = f"import sys, {modules}; print([name for name in sys.modules if name.startswith('tensorflow')])"
    done = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, check=True)
    assert done.stdout == "[]\n"
