"""A prepared split that is read from copies of its shards on this host, where these are."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.tfds_directory import content_of
from luab_jax.errors import ConfigError, UserError, option
from luab_jax.io.host_cache import HostCache, RemoteShard, parse


def shards_of(split: PreparedSplit) -> list[RemoteShard]:
    """As the manifest describes them, or the index where TFDS prepared them."""
    shards = []
    contents = split.contents or [""] * len(split.manifest.shards)
    for shard, content in zip(split.manifest.shards, contents, strict=True):
        path = os.fspath(split.directory / shard.file_name)
        found = partial(content_of, count=shard.num_records, size=shard.num_bytes) if content else None
        shards.append(RemoteShard(path, shard.num_bytes, shard.crc32c, content, found))
    return shards


def from_copies(split: PreparedSplit, cache: HostCache) -> PreparedSplit:
    """The same split, whose shards the cache is to fetch once it is started."""
    return dataclasses.replace(split, records=split.records.with_copies(cache.add(shards_of(split))))


class SplitCache:
    """Reads one split after the other, in order, through a cache of whole shards; on several hosts by all together."""

    def __init__(self, text: str, *, active: bool = True, everyones: Callable[[Any], list[Any]] = lambda own: [own]):
        """Raises `ConfigError`.

        text: `DIR` or `DIR:SIZE`. active: Whether this process tells of what it does. everyones: What every host has,
            from what this one has; a host whose cache fails would else leave the others waiting for it.
        """
        self._name, self._active, self._everyones = option("cache"), active, everyones
        self._folder, self._limit = parse(text, self._name)

    @contextlib.contextmanager
    def reading(self, split: PreparedSplit) -> Iterator[PreparedSplit]:
        """The split as it is to be read while this is entered, in which its shards are fetched, the first ones first.

        Raises `ConfigError` for a folder that cannot be written, and `DataError` at the end if a shard is not the
        manifest's; of any host, on all hosts.
        """
        cache = HostCache(self._folder, self._limit, active=self._active, name=self._name)
        with contextlib.closing(cache):
            copied, error = split, None
            try:
                copied = from_copies(split, cache)
                cache.start()
            except ConfigError as e:
                error = e
            self._raise_first(error)
            yield copied
            self._raise_first(cache.error)

    def _raise_first(self, own: UserError | None) -> None:
        """The error of the first host that has one."""
        for error in self._everyones(own):
            if error is not None:
                raise error
