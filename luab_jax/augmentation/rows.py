"""Random numbers for each image of a batch, and which images are mixed: functions of a key and of the row alone.

The rows of a process follow each other in the global batch, and its i-th row is element p + h · i of the data order
(process p of h). The numbers of an image hang on that element, so they are the same on any number of processes and
devices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from luab_jax.errors import ConfigError


def elements(num_rows: int, processes: int) -> Int[np.ndarray, " b"]:
    """The element of the data order that each row holds, counted from the first of the batch."""
    if num_rows % processes:
        return np.arange(num_rows)
    return np.arange(num_rows).reshape(-1, processes).T.ravel()


def for_each_row(key: Key[Array, ""], rows: Int[Any, " b"], draw: Callable[[Key[Array, ""]], Any]) -> Any:
    """What `draw` makes of a key of each row's own, stacked along a new first axis."""
    return jax.vmap(lambda row: draw(jax.random.fold_in(key, row)))(jnp.asarray(rows))


def pair_groups(batch_size: int, *, processes: int = 1, microbatches: int = 1, crops_in_a_row: int = 1) -> int:
    """In how many groups of rows the global batch is cut, in whose halves partners face each other; see `partners`.

    Eight per process where the batch is large enough, so that partners lie on the same device on hosts of up to eight;
    and the same pairs on any number of processes and microbatches, for a batch size that divides by 16 times both.
    Raises `ConfigError` for one that cannot be paired.
    """
    for groups in (8, 4, 2, 1):
        distance, rest = divmod(batch_size, 2 * groups)
        if not rest and distance % (processes * microbatches) == 0 and (distance >= crops_in_a_row or groups == 1):
            return groups * processes
    multiple = 2 * processes * microbatches
    raise ConfigError(
        f"config.batch_size={batch_size} cannot be cut into pairs of images for config.augmentation.mixup or cutmix:"
        f" with {processes} process(es) and {microbatches} microbatch(es) it must divide by {multiple}; take"
        f" {-(-batch_size // multiple) * multiple}"
    )


def partners(array: Array, groups: int) -> Array:
    """Every row's partner: the one in the other half of its group of rows, and back; shapes stay.

    timm flips the batch instead, which on several devices would send every image to another one. Crops of one image
    that follow each other (repeated augmentation) are not each other's partners, unless the batch is smaller than two
    such rows of crops.
    """
    halves = array.reshape(groups, 2, len(array) // (2 * groups), *array.shape[1:])
    return halves[:, ::-1].reshape(array.shape)
