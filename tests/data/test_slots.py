"""Memory of batches: used again when nobody sees it any more, and not before."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from luab_jax.data.batch import Batch
from luab_jax.data.feed import Feed
from luab_jax.data.slots import Column, Layout, Mapped, Slots

COLUMNS = {
    "images": Column((5, 5, 3), np.dtype(np.uint8)),
    "targets": Column((0, 0), np.dtype(np.float32)),
    "index": Column((), np.dtype(np.int32)),
}


@pytest.fixture
def slots() -> Slots:
    return Slots(Layout(COLUMNS, 3))


def test_columns_have_their_shapes_and_do_not_overlap(slots: Slots) -> None:
    _, rows = slots.take()
    assert {name: (column.shape, column.dtype) for name, column in rows.items()} == {
        "images": ((3, 5, 5, 3), np.uint8),
        "targets": ((3, 0, 0), np.float32),
        "index": ((3,), np.int32),
    }
    rows["images"][:], rows["index"][:] = 7, -1
    assert (rows["images"] == 7).all()
    assert all(column.ctypes.data % 64 == 0 for column in rows.values() if column.size)


def test_a_slot_is_not_used_again_while_any_part_of_it_is_seen(slots: Slots) -> None:
    number, rows = slots.take()
    rows["images"][:] = 9
    part = rows["images"][1:, :2]
    del rows
    gc.collect()
    other, others = slots.take()
    assert other != number
    others["images"][:] = 1
    assert (part == 9).all()
    del part
    gc.collect()
    assert slots.take()[0] == number


def test_whoever_keeps_batches_gets_more_memory(slots: Slots) -> None:
    kept = [slots.take() for _ in range(5)]
    for number, rows in kept:
        rows["index"][:] = number
    assert [rows["index"].tolist() for _, rows in kept] == [[number] * 3 for number in range(5)]


def test_what_is_handed_out_stays_when_the_slots_are_closed(slots: Slots) -> None:
    _, rows = slots.take()
    rows["index"][:] = 4
    slots.close()
    slots.close()
    del slots
    gc.collect()
    assert rows["index"].tolist() == [4, 4, 4]


def test_another_process_sees_the_same_memory_as_it_grows(slots: Slots) -> None:
    seen = Mapped(slots.descriptor, slots.layout)
    taken = [slots.take() for _ in range(2)]
    for number, rows in taken:
        rows["index"][:] = 10 + number
        assert slots.layout.views(seen.bytes_of(number))["index"].tolist() == [10 + number] * 3


def test_whoever_keeps_the_indices_of_batches_keeps_no_images() -> None:
    """As the loop does between two log lines."""
    row = {name: Column((), np.dtype(np.int32)) for name in ("labels", "targets", "valid", "mask", "index")}
    slots = Slots(Layout({"images": COLUMNS["images"]} | row, 4))
    numbers: list[int] = []

    def batches() -> Iterator[Batch]:
        for step in range(40):
            number, rows = slots.take()
            numbers.append(number)
            rows["index"][:] = step
            yield Batch(**rows)

    sharding = NamedSharding(Mesh(np.asarray(jax.devices()[:1]), "data"), PartitionSpec("data"))
    kept = [index for _, index in Feed(batches(), sharding)]
    assert [index.tolist() for index in kept] == [[step] * 4 for step in range(40)]
    assert max(numbers) < 10
