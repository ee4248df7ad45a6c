"""Writes a split as shards, in parallel, and goes on where an earlier run was stopped.

A shard is a function of the input alone: images are ordered by a hash of their names (so that every shard is a fair
sample of the split), cut into equal runs, and each run is read and written by one task. Beside a finished shard lies
`<shard>.part.npz` with what the index and the manifest need to know of it; a later run of the same input skips it.
Both files appear by renaming, or in a bucket when their upload is complete, so a shard is there as a whole or not at
all.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
import math
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Protocol

import google_crc32c
import numpy as np

from data_prep.problems import MENDABLE
from luab_jax.byproducts.records import ImageRecord
from luab_jax.data import features, tfrecord
from luab_jax.data.arrays import read_arrays
from luab_jax.data.class_lists import ClassList
from luab_jax.data.dataset import Shard, Skipped, shard_name
from luab_jax.data.schema import SCHEMA_VERSION
from luab_jax.errors import WriteError
from luab_jax.io import storage
from luab_jax.io.atomic import atomic_file, remove_abandoned
from luab_jax.io.console import Progress
from luab_jax.io.storage import Place
from luab_jax.io.threads import in_threads

IMAGES_PER_SHARD = 1250
"""1.28 M images make 1,024 shards of about 140 MB."""

PREPARATION_VERSION = 2
"""Raised when the same input gives other shards: those of an interrupted older run are then not continued.

2: images are decoded, and damaged ones left out."""

NOT_DECODED = "images not decoded"
"""Among `Plan.reads` where the images were not decoded to see that they are whole."""


_REQUESTS = 16
"""Files of a bucket that are asked for at a time; each takes a round trip."""


class Item(Protocol):
    """One image to read: anything with a name, picklable, whose `repr` shows all that its record depends on.

    That is the size of every file that is read for it, and what tables (labels, clicks, boxes) say of it.
    """

    @property
    def file_name(self) -> str: ...


class Outcome(NamedTuple):
    """What became of one item."""

    record: ImageRecord | None
    """`None` if the image is left out; a problem then says why."""
    counts: Mapping[str, int]
    """Facts to be summed over the split."""
    problems: tuple[Skipped, ...]

    @classmethod
    def left_out(cls, file_name: str, reason: str, detail: str) -> Outcome:
        """Of an image that is not usable."""
        skipped = Skipped(file=file_name, reason=reason, detail=detail)
        return cls(None, {"images_found": 1, "images_skipped": 1}, (skipped,))


def _nothing() -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A split to be prepared: the input as listed, and how one image of it is read."""

    directory: Place
    dataset: str
    split: str
    classes: ClassList
    items: Sequence[Any]
    """`Item`s, in any order."""
    read: Callable[[Any], Outcome]
    """A pure, picklable function of an item."""
    num_shards: int
    source: Mapping[str, Any]
    """The arguments, for the manifest and for messages."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What listing found."""
    problems: tuple[Skipped, ...] = ()
    expected_records: int | None = None
    """The published count of a public set."""
    reads: tuple[str, ...] = ()
    """What records depend on beside the items and the class list: how other input is found and read."""
    places: tuple[str, ...] = ()
    """Files and folders that `read` opens, as absolute paths: what every worker must be able to reach."""
    make_readable: Callable[[], None] = _nothing
    """Called before the first image is read: unpacks what has so far been listed only."""

    def fingerprint(self, version: int = PREPARATION_VERSION) -> str:
        """Hash of everything the shards depend on; the place of the input is not part of it.

        Or that of an earlier version, which never decoded.
        """
        reads = self.reads if version > 1 else tuple(text for text in self.reads if text != NOT_DECODED)
        facts = (
            version,
            SCHEMA_VERSION,
            self.dataset,
            self.split,
            self.classes.hash,
            self.num_shards,
            reads,
        )
        digest = hashlib.blake2b(repr(facts).encode(), digest_size=12)
        for item in sorted(self.items, key=lambda item: item.file_name):
            digest.update(repr(item).encode())
        return digest.hexdigest()


def with_other_check(plan: Plan) -> Iterator[Plan]:
    """The same preparation with the decode check, if this is one without it, and the other way round.

    There its mark can stand at several places of `reads`.
    """
    if NOT_DECODED in plan.reads:
        yield dataclasses.replace(plan, reads=tuple(text for text in plan.reads if text != NOT_DECODED))
        return
    for place in reversed(range(len(plan.reads) + 1)):
        yield dataclasses.replace(plan, reads=(*plan.reads[:place], NOT_DECODED, *plan.reads[place:]))


def default_num_shards(num_images: int) -> int:
    return max(1, math.ceil(num_images / IMAGES_PER_SHARD))


@dataclass(frozen=True, slots=True)
class Part:
    """A finished shard: its place in the manifest and in the index, and what was met on the way."""

    shard: Shard
    offsets: np.ndarray
    lengths: np.ndarray
    counts: Mapping[str, int]
    problems: tuple[Skipped, ...]


@dataclass(frozen=True, slots=True)
class ShardTask:
    """One shard to be written: all that a worker needs, here or elsewhere."""

    path: Place
    items: tuple[Any, ...]
    read: Callable[[Any], Outcome]
    fingerprint: str
    from_bucket: bool = False
    """Whether reading an item mostly means to wait."""

    @property
    def name(self) -> str:
        return self.path.name


def name_of(task: ShardTask) -> str:
    """For messages about tasks at hand."""
    return task.name


def write_shards(plan: Plan, *, fingerprint: str, run: Callable[[Sequence[ShardTask]], Iterator[Part]]) -> list[Part]:
    """Writes the shards that are not there yet, and returns all of them in order.

    `run` has `write_shard` done for each task, wherever it likes, and yields what came of it in any order.
    """
    remove_abandoned(plan.directory)  # by workers that were ended or killed in the middle of a shard
    tasks = _tasks(plan, fingerprint)
    parts = _parts_there(tasks, plan.directory)
    missing = [task for task in tasks if task.name not in parts]
    if parts:
        print(f"{plan.directory}: {len(parts)} of {len(tasks)} shards are there already", flush=True)
    if missing:
        plan.make_readable()
    done = len(plan.items) - sum(len(task.items) for task in missing)
    sizes = {task.name: len(task.items) for task in missing}
    with Progress(f"prepare {plan.split}", len(plan.items), done=done) as progress:
        for part in run(missing):
            parts[part.shard.file_name] = part
            progress.advance(sizes[part.shard.file_name])
    return [parts[task.name] for task in tasks]


def _parts_there(tasks: Sequence[ShardTask], directory: Place) -> dict[str, Part]:
    """Finished shards of this very preparation, by name. One listing tells which sidecars are worth a request."""
    there = storage.names(directory)
    sought = [task for task in tasks if task.name in there and part_path(task.path).name in there]
    with ThreadPoolExecutor(_REQUESTS) as pool:
        found = pool.map(lambda task: read_part(task, there[task.name]), sought)
        return {part.shard.file_name: part for part in found if part is not None}


def _tasks(plan: Plan, fingerprint: str) -> list[ShardTask]:
    ordered = sorted(plan.items, key=lambda item: (_stable_hash(item.file_name), item.file_name))
    from_bucket = any(map(storage.is_remote, plan.places))
    cuts = [len(ordered) * i // plan.num_shards for i in range(plan.num_shards + 1)]
    return [
        ShardTask(
            plan.directory / shard_name(plan.dataset, plan.split, i, plan.num_shards),
            tuple(ordered[cuts[i] : cuts[i + 1]]),
            plan.read,
            fingerprint,
            from_bucket,
        )
        for i in range(plan.num_shards)
    ]


def _stable_hash(file_name: str) -> bytes:
    """The same on every machine and in every process, unlike `hash`."""
    return hashlib.blake2b(file_name.encode(), digest_size=8).digest()


def write_shard(task: ShardTask) -> Part:
    try:
        with atomic_file(task.path) as temporary, temporary.open("wb") as file:
            part = _write_records(task, file)
            file.flush()
        _write_part(task.path, part, task.fingerprint)
    except WriteError as e:
        raise WriteError(f"{e}. The shards finished before it are kept: run the same command again") from e
    return part


def _write_records(task: ShardTask, file: Any) -> Part:
    crc, offset = 0, 0
    offsets, lengths = [], []
    counts: Counter[str] = Counter()
    problems: list[Skipped] = []
    for outcome in _outcomes(task):
        counts.update(outcome.counts)
        problems.extend(outcome.problems)
        if outcome.record is None:
            continue
        data = features.encode(outcome.record)
        framed = tfrecord.frame(data)
        file.write(framed)
        crc = google_crc32c.extend(crc, framed)
        offsets.append(offset)
        lengths.append(len(data))
        offset += len(framed)
    shard = Shard(file_name=task.name, num_records=len(offsets), num_bytes=offset, crc32c=crc)
    return Part(shard, np.asarray(offsets, np.uint64), np.asarray(lengths, np.uint32), counts, tuple(problems))


def _outcomes(task: ShardTask) -> Iterator[Outcome]:
    """Of the task's items, in their order; those of a bucket are read several at a time."""
    if not task.from_bucket:
        yield from (_read(task, item) for item in task.items)
        return
    yield from in_threads(functools.partial(_read, task), task.items, _REQUESTS)


def _read(task: ShardTask, item: Any) -> Outcome:
    try:
        return task.read(item)
    except Exception as e:
        e.add_note(f"while reading {item.file_name} for shard {task.name}")
        raise


def part_path(shard: Place) -> Place:
    return shard.with_name(f"{shard.name}.part.npz")


def _write_part(path: Place, part: Part, fingerprint: str) -> None:
    facts = {
        "fingerprint": fingerprint,
        "shard": asdict(part.shard),
        "counts": dict(part.counts),
        "problems": [asdict(problem) for problem in part.problems],
    }
    with atomic_file(part_path(path)) as temporary, temporary.open("wb") as file:
        np.savez(file, offsets=part.offsets, lengths=part.lengths, facts=np.asarray(json.dumps(facts)))


def read_part(task: ShardTask, num_bytes: int) -> Part | None:
    """The sidecar of a finished shard of this very preparation; `None` means that the shard must be written.

    So must one for which a file could not be read, since that may have been mended.

    `num_bytes` is the size of the shard that is there.
    """
    path = part_path(task.path)
    try:
        arrays = read_arrays(io.BytesIO(storage.read_all(path)), ("offsets", "lengths", "facts"))
        facts = json.loads(str(arrays["facts"]))
        part = Part(
            Shard(**facts["shard"]),
            arrays["offsets"],
            arrays["lengths"],
            facts["counts"],
            tuple(Skipped(**problem) for problem in facts["problems"]),
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
    if any(problem.reason in MENDABLE for problem in part.problems):
        return None
    return part if facts["fingerprint"] == task.fingerprint and num_bytes == part.shard.num_bytes else None
