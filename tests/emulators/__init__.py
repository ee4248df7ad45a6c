"""Stores on loopback for tests: one server of a kind for all tests of a process, a bucket of its own for each.

tensorstore reads the address of its server once, so a process has one.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import fsspec
from etils.epath import backend as etils_backend

_numbers = itertools.count(1)


@functools.cache
def server_of(scheme: str) -> Any:
    """`gs` or `s3`; it ends with the process."""
    if scheme == "gs":
        from tests.emulators.cloud_storage import CloudStorage

        return CloudStorage().__enter__()
    from tests.emulators.s3 import S3

    return S3().__enter__()


@contextmanager
def emulated(scheme: str) -> Iterator[tuple[Any, str]]:
    """The server, and the name of a new bucket in it, which this process and those that it starts will find."""
    server = server_of(scheme)
    name = f"bucket{next(_numbers)}"
    server.make_bucket(name)
    before = dict(os.environ)
    os.environ |= server.environment()
    _forget()
    try:
        yield server, name
    finally:
        _forget()
        os.environ.clear()
        os.environ |= before


def _forget() -> None:
    """File systems keep what they were made with."""
    etils_backend._FileSystemSpecBackend._get_filesystem.cache_clear()  # type: ignore[attr-defined]
    for scheme in ("gs", "s3"):
        with suppress(ImportError):
            fsspec.get_filesystem_class(scheme).clear_instance_cache()
