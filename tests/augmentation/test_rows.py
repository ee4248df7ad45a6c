"""An image's random numbers and its partner hang on its place in the data order, not on where it lies."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from luab_jax.augmentation.rows import elements, for_each_row, pair_groups, partners
from luab_jax.errors import ConfigError


def test_rows_of_processes_hold_their_elements() -> None:
    assert elements(6, 1).tolist() == [0, 1, 2, 3, 4, 5]
    assert elements(6, 2).tolist() == [0, 2, 4, 1, 3, 5]
    assert elements(6, 3).tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize("processes", [2, 4])
def test_an_elements_numbers_are_the_same_on_any_number_of_processes(processes: int) -> None:
    def numbers(processes: int) -> dict[int, float]:
        rows = elements(8, processes)
        drawn = for_each_row(jax.random.key(0), rows, lambda key: jax.random.uniform(key))
        return dict(zip(rows.tolist(), drawn.tolist(), strict=True))

    assert numbers(processes) == numbers(1)
    assert len(set(numbers(1).values())) == 8


@pytest.mark.parametrize("batch_size", [128, 1024])
@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("microbatches", [1, 2])
def test_pairs_are_the_same_on_any_number_of_processes_and_microbatches(
    batch_size: int, processes: int, microbatches: int
) -> None:
    def pairs(processes: int, microbatches: int) -> set[tuple[int, int]]:
        groups = pair_groups(batch_size, processes=processes, microbatches=microbatches, crops_in_a_row=3)
        order = jnp.asarray(elements(batch_size, processes))
        found = []
        for start in range(microbatches):  # every n-th row, as gradients are accumulated
            rows = order[start::microbatches]
            found += zip(rows.tolist(), partners(rows, groups).tolist(), strict=True)
        return set(found)

    found = pairs(processes, microbatches)
    assert found == pairs(1, 1)
    assert all((b, a) in found and abs(a - b) >= 3 for a, b in found) and len(found) == batch_size


def test_partners_lie_on_the_same_device() -> None:
    """Of eight devices of a host, and on four hosts with eight each."""
    for processes, devices in ((1, 8), (4, 32)):
        groups = pair_groups(1024, processes=processes, crops_in_a_row=3)
        device = np.repeat(np.arange(devices), 1024 // devices)
        assert np.array_equal(partners(jnp.asarray(device), groups), device)


def test_columns_of_any_shape_are_taken() -> None:
    array = jnp.arange(24).reshape(4, 3, 2)
    assert np.array_equal(partners(array, 1), array[np.asarray([2, 3, 0, 1])])
    assert np.array_equal(partners(array, 2), array[np.asarray([1, 0, 3, 2])])


def test_what_cannot_be_paired_is_refused_with_a_size_that_can() -> None:
    with pytest.raises(
        ConfigError, match=r"batch_size=12 cannot .* 2 process\(es\) and 4 microbatch.*divide by 16; take 16"
    ):
        pair_groups(12, processes=2, microbatches=4)
    assert pair_groups(6, processes=1) == 1
