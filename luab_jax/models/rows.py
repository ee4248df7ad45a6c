"""How the rows of a batch are spread over devices, for what XLA should not divide among them by itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

import jax
from jax.sharding import NamedSharding

T = TypeVar("T")
_rows: ContextVar[NamedSharding | None] = ContextVar("rows", default=None)


@contextlib.contextmanager
def spread_over(rows: NamedSharding | None) -> Iterator[None]:
    """Within it, the images of a network that is traced are spread like this; `None` for one device."""
    token = _rows.set(rows)
    try:
        yield
    finally:
        _rows.reset(token)


def on_each_device(function: Callable[..., T], rows: NamedSharding | None, *arguments: Any) -> T:
    """function(*arguments), by every device for its own rows; `rows` is how they are spread, `None` for one device."""
    if rows is None or rows.mesh.size == 1:
        return function(*arguments)
    return jax.shard_map(
        function, mesh=rows.mesh, in_specs=(rows.spec,) * len(arguments), out_specs=rows.spec, check_vma=False
    )(*arguments)


def for_own_rows(function: Callable[..., T], *arguments: Any) -> T:
    """`on_each_device` with the rows of `spread_over`."""
    return on_each_device(function, _rows.get(), *arguments)
