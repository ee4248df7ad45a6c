"""Hosts share the work on images: each is done once, and every host has all results. Hosts are threads here."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from luab_jax.data.batch import Batch
from luab_jax.errors import DataError
from luab_jax.evaluation import shared_decoding

HOSTS = 3


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], Any]], list[Any]]:
    """Calls a function on every host, with its number."""
    here = threading.local()
    barrier, messages = threading.Barrier(HOSTS, timeout=60), [b""] * HOSTS

    def gather_bytes(message: bytes) -> list[bytes]:
        messages[here.number] = message
        barrier.wait()
        everyones = list(messages)
        barrier.wait()
        return everyones

    monkeypatch.setattr(shared_decoding, "host", lambda: (here.number, HOSTS))
    monkeypatch.setattr(shared_decoding.sharding, "gather_bytes", gather_bytes)
    monkeypatch.setattr(shared_decoding, "PER_HOST", 4)

    def call(function: Callable[[int], Any], number: int) -> Any:
        here.number = number
        try:
            return function(number)
        except DataError as e:
            return e

    def on_every_host(function: Callable[[int], Any]) -> list[Any]:
        with ThreadPoolExecutor(HOSTS) as pool:
            return [each.result(60) for each in [pool.submit(call, function, number) for number in range(HOSTS)]]

    return on_every_host


@pytest.mark.parametrize("count", [0, 1, 5, 12, 13, 40])
def test_each_item_is_done_once_and_all_hosts_have_all_results_in_order(run: Any, count: int) -> None:
    done: list[int] = []

    def square(item: int) -> int:
        done.append(item)
        return item**2

    found = run(lambda number: list(shared_decoding.on_all_hosts(square, range(count), threads=2)))
    assert found == [[item**2 for item in range(count)]] * HOSTS
    assert sorted(done) == list(range(count))


def test_an_error_of_one_host_is_raised_on_all_after_the_results_before_it(run: Any) -> None:
    def work(item: int) -> int:
        if item == 18:
            raise DataError("record 18 is broken")
        return item

    seen: list[list[int]] = [[] for _ in range(HOSTS)]

    def consume(number: int) -> None:
        for result in shared_decoding.on_all_hosts(work, range(40), threads=2):
            seen[number].append(result)

    assert [str(error) for error in run(consume)] == ["record 18 is broken"] * HOSTS
    assert seen == [list(range(18))] * HOSTS


def rows(index: list[int]) -> tuple[Batch, list[int]]:
    """A host's rows of a batch; -1 is padding."""
    of_rows = np.asarray(index, np.int32)
    pixels = np.broadcast_to(np.maximum(of_rows, 0).astype(np.uint8)[:, None, None, None], (len(index), 2, 2, 3))
    none = np.zeros((len(index), 0), np.float32)
    batch = Batch(
        images=np.ascontiguousarray(pixels),
        labels=of_rows,
        targets=none[..., None],
        valid=none.astype(bool),
        mask=of_rows >= 0,
        index=of_rows,
        weights=None,
    )
    return batch, [i for i in index if i >= 0]


def test_batches_are_whole_and_in_the_order_of_the_records(run: Any) -> None:
    own = [[rows([0, 3]), rows([6, -1])], [rows([1, 4]), rows([7, -1])], [rows([2, 5]), rows([-1, -1])]]
    for found in run(lambda number: list(shared_decoding.whole_batches(iter(own[number])))):
        assert [truths for _, truths in found] == [[0, 1, 2, 3, 4, 5], [6, 7]]
        assert [pixels[:, 0, 0, 0].tolist() for pixels, _ in found] == [[0, 1, 2, 3, 4, 5], [6, 7]]


def test_errors_can_be_exchanged() -> None:
    assert str(pickle.loads(pickle.dumps(DataError("a, b")))) == "a, b"
