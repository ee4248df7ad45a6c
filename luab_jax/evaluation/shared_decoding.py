"""Work on images that all hosts need whole: each host does its part of it, and the results are exchanged.

Decoding an image costs milliseconds of a core, sending its pixels to the other hosts a fraction of one. Every host gets
all results in the order of the items, so what follows is the same as on one host. To be called on all hosts alike.
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import UInt8

from luab_jax.data.batch import Batch
from luab_jax.data.pipeline import Truth
from luab_jax.distributed import sharding
from luab_jax.errors import DataError
from luab_jax.io.threads import in_threads

PER_HOST = 32
"""Items that a host does between two exchanges: images of 224 px are 5 MB then."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def host() -> tuple[int, int]:
    """The number of this host, from 0, and how many there are."""
    return jax.process_index(), jax.process_count()


def exchange(own: Any) -> list[Any]:
    """What every host has, in the order of hosts."""
    if host()[1] == 1:
        return [own]
    return [pickle.loads(message) for message in sharding.gather_bytes(pickle.dumps(own))]


def on_all_hosts(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """As `in_threads`, by all hosts together. A `DataError` of one is raised on all, after the results before it."""
    number, num_hosts = host()
    if num_hosts == 1:
        yield from in_threads(function, items, threads)
        return

    def own_part(of_round: list[Item]) -> tuple[list[Result], DataError | None]:
        part = -(-len(of_round) // num_hosts)
        results: list[Result] = []
        try:
            results.extend(in_threads(function, of_round[number * part : (number + 1) * part], threads))
        except DataError as e:
            return results, e
        return results, None

    source = iter(items)
    rounds = iter(lambda: list(itertools.islice(source, PER_HOST * num_hosts)), [])
    with ThreadPoolExecutor(1) as ahead:  # the next part, while this one is exchanged and used
        running = None
        for of_round in itertools.chain(rounds, [None]):
            before, running = running, None if of_round is None else ahead.submit(own_part, of_round)
            if before is None:
                continue
            for results, error in exchange(before.result()):
                yield from results
                if error is not None:
                    raise error


def whole_batches(
    batches: Iterator[tuple[Batch, list[Truth]]],
) -> Iterator[tuple[UInt8[np.ndarray, "n h w 3"], list[Truth]]]:
    """Pixels and truths of whole batches in the order of the records, from the rows of each host."""
    while True:
        try:
            batch, truths = next(batches)
            own: Any = (batch.index[batch.mask], batch.images[batch.mask], truths)
        except StopIteration:
            return
        except DataError as e:
            own = e
        everyones = exchange(own)
        for each in everyones:
            if isinstance(each, DataError):
                raise each
        order = np.argsort(np.concatenate([index for index, _, _ in everyones]), kind="stable")
        pixels = np.concatenate([images for _, images, _ in everyones])
        found = [truth for _, _, of_host in everyones for truth in of_host]
        yield pixels[order], [found[i] for i in order]
