"""What is one model's own in a pass of several: where its results and its unfinished work lie.

The first host alone writes there. What fails is exchanged, so that all hosts give up the same model and go on together
with the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from luab_jax.errors import StorageError
from luab_jax.evaluation.shared_decoding import exchange


def of_any_host(own: StorageError | None) -> StorageError | None:
    """This host's error; else the one of the first host that has one. To be called on all hosts alike."""
    everyones = exchange(None if own is None else str(own))
    if own is not None:
        return own
    for host, message in enumerate(everyones, 1):
        if message is not None:
            return StorageError(f"host {host} of {len(everyones)}: {message}")
    return None


@contextlib.contextmanager
def agreed() -> Iterator[None]:
    """What cannot be read or written within by one host raises `StorageError` on all of them.

    Within must be nothing that hosts do together: one that fails would leave the others waiting there.
    """
    error = None
    try:
        yield
    except StorageError as e:
        error = e
    if (error := of_any_host(error)) is not None:
        raise error
