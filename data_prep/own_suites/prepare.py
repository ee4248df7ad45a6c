"""Writes what a prepared split was made into as another prepared split."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_prep.own_suites.splits import SplitSource
from data_prep.writing import publish, shards
from data_prep.writing.shards import Outcome
from luab_jax.data.class_lists import ClassList
from luab_jax.data.dataset import Manifest, Skipped
from luab_jax.data.schema import SCHEMA_VERSION
from luab_jax.io.console import format_seconds
from luab_jax.io.storage import Place
from luab_jax.io.wording import joined

_NUM_TRIED = 24
"""Images that are made to tell about how large all will be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Where a suite goes, and how it is written."""

    out: Place
    """The folder of this suite."""
    dataset: str
    source: SplitSource
    workers: int
    num_shards: int | None = None
    strict: bool = False

    @property
    def classes(self) -> ClassList:
        return self.source.opened().manifest.classes


def write_set(
    job: Job,
    split: str,
    items: Sequence[Any],
    read: Callable[[Any], Outcome],
    *,
    facts: Mapping[str, str | int | float | None],
    problems: Sequence[Skipped] = (),
) -> Manifest:
    """One split of a suite; `facts` say what its images depend on besides the split that they are made of.

    A line says what came of it. Raises `DataError` as `publish.prepare` does.
    """
    start = time.monotonic()
    source = {**job.source.facts(), **facts, "class_list": job.classes.hash, "shard_schema": SCHEMA_VERSION}
    num_shards = min(job.num_shards or shards.default_num_shards(len(items)), len(items))
    plan = shards.Plan(
        directory=job.out,
        dataset=job.dataset,
        split=split,
        classes=job.classes,
        items=items,
        read=read,
        num_shards=num_shards,
        source=source | {"num_shards": num_shards},
        problems=tuple(problems),
        reads=(job.source.fingerprint, *(f"{name}={value}" for name, value in sorted(facts.items()))),
        places=(job.source.directory,),
    )
    manifest, written = publish.prepare(plan, workers=job.workers, strict=job.strict)
    size = sum(shard.num_bytes for shard in manifest.shards)
    how = f"{format_seconds(time.monotonic() - start)}" if written else "already there"
    print(f"  {split:<14} {manifest.num_records:>9,} images {size / 1e6:>9,.1f} MB   {how}", flush=True)
    return manifest


def print_left_out(manifests: Sequence[Manifest], out: Place) -> None:
    """What each set leaves out by reason, with an example and the manifest that lists it."""
    found = [manifest for manifest in manifests if manifest.skipped]
    for manifest in found:
        for reason in dict.fromkeys(problem.reason for problem in manifest.skipped):
            first = next(problem for problem in manifest.skipped if problem.reason == reason)
            detail = f" ({first.detail})" if first.detail else ""
            count = manifest.counts[reason]
            print(f"  left out of {manifest.split}: {count:>7,}  {reason}, such as {first.file}{detail}")
    if found:
        files = [f"{manifest.split}.manifest.json" for manifest in found]
        print(f"  all that is left out is listed in {joined(files)} of {out}")


def expected_bytes(items: Sequence[Any], read: Callable[[Any], Outcome]) -> int:
    """Of all images to be written, from a few of them that are made."""
    few = items[:: max(1, len(items) // _NUM_TRIED)]
    sizes = [len(outcome.record.image) for outcome in map(read, few) if outcome.record is not None]
    return sum(sizes) * len(items) // max(1, len(sizes))
