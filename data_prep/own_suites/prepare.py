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


def print_problems(problems: Sequence[Skipped], out: Place, splits: Sequence[str]) -> None:
    """By reason, with an example; `splits` are those whose manifests list them."""
    by_reason: dict[str, list[Skipped]] = {}
    for problem in problems:
        by_reason.setdefault(problem.reason, []).append(problem)
    for reason, of_reason in by_reason.items():
        first = of_reason[0]
        detail = f" ({first.detail})" if first.detail else ""
        print(f"  left out: {len(of_reason):>7,}  {reason}, such as {first.file}{detail}")
    if problems:
        files = " and ".join(f"{split}.manifest.json" for split in splits)
        print(f"  all that is left out stands in {files} of {out}")
