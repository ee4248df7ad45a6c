"""Turns finished shards into a prepared split: index, TFDS metadata, and last the manifest that says it is complete."""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from data_prep.problems import MENDABLE
from data_prep.writing.shards import Part, Plan, name_of, with_other_check, write_shard, write_shards
from data_prep.writing.workers import run_tasks
from luab_jax.data import dataset
from luab_jax.data.dataset import DECODE_CHECK, Manifest, Shard, Skipped
from luab_jax.data.schema import example_features
from luab_jax.errors import DataError, StorageError, UserError, WriteError
from luab_jax.io import storage
from luab_jax.io.atomic import atomic_file, write_errors, write_text
from luab_jax.io.storage import Place

MAX_LISTED = 10_000
"""Problems of one kind that a manifest lists; the others are counted."""


def prepare(
    plan: Plan, *, workers: int, strict: bool, beam_options: Sequence[str] | None = None
) -> tuple[Manifest, bool]:
    """Prepares a split, or finds it prepared. Returns its manifest and whether anything had to be written.

    Shards are written by processes of this machine, or with `beam_options` wherever Beam's runner has them written.

    Raises `DataError` if the directory holds something else under this split's name, and, with `strict`, if any input
    was skipped or damaged (the shards are kept, so the same command without `strict` need not write them again).
    """
    fingerprint = plan.fingerprint()
    others = _check_directory(plan)
    manifest = _existing(plan, fingerprint)
    if manifest is not None:
        _refuse_problems(manifest.skipped, manifest.counts, strict=strict)
        _remove_leftovers(plan, manifest)
        return manifest, False
    try:
        storage.make_folder(plan.directory)
    except OSError as e:
        raise DataError(f"{plan.directory}: cannot be made a folder to write into ({e.strerror or e})") from e
    if beam_options is None:
        run = functools.partial(run_tasks, write_shard, workers=workers, name_of=name_of)
    else:
        from data_prep.writing.beam import run_on_beam  # apache_beam is an extra

        run = functools.partial(run_on_beam, options=beam_options, places=plan.places)
    parts = write_shards(plan, fingerprint=fingerprint, run=run)
    manifest = _manifest(plan, fingerprint, parts)
    _refuse_problems(manifest.skipped, manifest.counts, strict=strict)
    if not manifest.num_records:
        raise DataError(
            f"{plan.directory}: none of {len(plan.items)} images of split {plan.split!r} is usable;"
            f" the first: {manifest.skipped[0].file}: {manifest.skipped[0].reason} {manifest.skipped[0].detail}"
        )
    _publish(plan, manifest, parts, others)
    return manifest, True


def _check_directory(plan: Plan) -> list[Manifest]:
    """The other splits of the directory, which must be of the same data set and classes."""
    others = [dataset.read_manifest(plan.directory, name) for name in dataset.splits(plan.directory)]
    others = [manifest for manifest in others if manifest.split != plan.split]
    for other in others:
        if (other.dataset, other.classes.hash) != (plan.dataset, plan.classes.hash):
            raise DataError(
                f"{plan.directory}: holds split {other.split!r} of data set {other.dataset!r} with class list"
                f" {other.classes.hash} ({len(other.classes)} classes); this is {plan.dataset!r} with class list"
                f" {plan.classes.hash} ({len(plan.classes)} classes), and one directory has one class list:"
                " choose another --out or the same --classes"
            )
    return others


def _existing(plan: Plan, fingerprint: str) -> Manifest | None:
    if plan.split not in dataset.splits(plan.directory):
        return None
    manifest = dataset.read_manifest(plan.directory, plan.split)
    is_the_same = manifest.fingerprint in (fingerprint, plan.fingerprint(version=1))
    has_other_check = not is_the_same and _differs_by_check(plan, manifest)
    if has_other_check and DECODE_CHECK in manifest.source:
        raise DataError(
            f"{plan.directory}: split {plan.split!r} was prepared from the same input with --no_decode_check, so its"
            f" images have not been decoded; `python -m data_prep verify {plan.directory}` does that without preparing"
            " it again, and with --no_decode_check this command takes the split as it is"
        )
    if is_the_same or has_other_check:
        there = storage.names(plan.directory)
        damaged = [text for shard in manifest.shards if (text := _damage(there, shard))]
        if damaged:
            raise DataError(
                f"{plan.directory}: prepared, but {len(damaged)} shard(s) are gone or changed, such as {damaged[0]};"
                f" delete {dataset.manifest_path(plan.directory, plan.split).name} to prepare the split again"
            )
        if num_mendable := sum(manifest.counts.get(reason, 0) for reason in MENDABLE):
            print(
                f"{plan.directory}: {num_mendable:,} file(s) of split {plan.split!r} were damaged or not readable; if"
                f" they have been replaced since, delete {dataset.manifest_path(plan.directory, plan.split).name} to"
                " prepare the split again"
            )
        if has_other_check:
            print(f"{plan.directory}: split {plan.split!r} was prepared with the decode check, and stays so")
        elif manifest.fingerprint != fingerprint:
            print(
                f"{plan.directory}: split {plan.split!r} is of a version that did not decode the images;"
                f" `python -m data_prep verify {plan.directory}` does"
            )
        return manifest
    difference = _difference(manifest.source, plan.source)
    difference = (
        difference
        or "  the files below these folders, or what tables of labels, clicks, boxes, masks or categories say of them"
    )
    raise DataError(
        f"{plan.directory}: split {plan.split!r} was prepared from other input. Then -> now:\n{difference}\n"
        f"Choose another --out or --split, or delete {dataset.manifest_path(plan.directory, plan.split).name} and the"
        f" shards of split {plan.split!r} to prepare it again"
    )


def _differs_by_check(plan: Plan, manifest: Manifest) -> bool:
    """Whether one of both decoded the images, the other not, and nothing else differs."""
    if (DECODE_CHECK in manifest.source) == (DECODE_CHECK in plan.source):
        return False
    return any(other.fingerprint() == manifest.fingerprint for other in with_other_check(plan))


def _damage(there: Mapping[str, int], shard: Shard) -> str:
    """What can be seen of it without reading the shard; nothing if it looks whole. `there`: sizes by name."""
    size = there.get(shard.file_name)
    if size is None:
        return f"{shard.file_name} (No such file)"
    return "" if size == shard.num_bytes else f"{shard.file_name} ({size:,} of {shard.num_bytes:,} bytes)"


def _difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    keys = sorted(then.keys() | now.keys())
    return "\n".join(f"  {k}: {then.get(k)} -> {now.get(k)}" for k in keys if then.get(k) != now.get(k))


def _refuse_problems(skipped: tuple[Skipped, ...], counts: Mapping[str, int], *, strict: bool) -> None:
    if not strict or not skipped:
        return
    lines = [f"  {s.file}: {s.reason}" + (f" ({s.detail})" if s.detail else "") for s in skipped[:20]]
    if len(skipped) > len(lines):
        lines.append(f"  ... and {len(skipped) - len(lines)} more")
    listed = "\n".join(lines)
    raise UserError(
        f"--strict: {counts['problems']} problem(s) in the input, and nothing was published:\n{listed}\n"
        "Mend these files, or run without --strict to leave them out"
    )


def _manifest(plan: Plan, fingerprint: str, parts: list[Part]) -> Manifest:
    counts = Counter(dict(plan.counts))
    problems = list(plan.problems)
    for part in parts:
        counts.update(part.counts)
        problems.extend(part.problems)
    # By file, not by shard: the list reads the same whatever the number of shards.
    problems.sort(key=lambda problem: (problem.reason, problem.file, problem.detail))
    listed: list[Skipped] = []
    by_reason: Counter[str] = Counter()
    for problem in problems:
        by_reason[problem.reason] += 1
        if by_reason[problem.reason] <= MAX_LISTED:
            listed.append(problem)
    counts["problems"] = len(problems)
    return Manifest(
        dataset=plan.dataset,
        split=plan.split,
        classes=plan.classes,
        shards=tuple(part.shard for part in parts),
        counts=dict(counts) | dict(by_reason),
        skipped=tuple(listed),
        source=plan.source,
        fingerprint=fingerprint,
        expected_records=plan.expected_records,
    )


def _publish(plan: Plan, manifest: Manifest, parts: list[Part], others: list[Manifest]) -> None:
    try:
        index = dataset.index_path(plan.directory, plan.split)
        dataset.write_index(index, [p.offsets for p in parts], [p.lengths for p in parts])
        with write_errors(plan.directory):  # TFDS writes into a temporary folder first
            write_tfds_metadata(plan.directory, [*others, manifest])
        write_text(dataset.manifest_path(plan.directory, plan.split), manifest.to_json())
    except WriteError as e:
        raise WriteError(f"{e}. The shards are kept: run the same command again") from e
    _remove_leftovers(plan, manifest)


def _remove_leftovers(plan: Plan, manifest: Manifest) -> None:
    """Sidecars, and whatever a killed run or one with another number of shards left behind; they do no harm."""
    kept = {shard.file_name for shard in manifest.shards}
    for name in storage.names(plan.directory):
        if name.startswith(f"{plan.dataset}-{plan.split}.tfrecord-") and name not in kept:
            with contextlib.suppress(OSError, StorageError):
                storage.remove(plan.directory / name)


def write_tfds_metadata(directory: Place, manifests: list[Manifest]) -> None:
    """Writes `dataset_info.json` and `features.json` for all splits, so that TFDS opens the directory.

    TFDS insists that the shards it finds belong to the splits it is given, which does not hold while another split is
    in the making; so it writes beside an empty stand-in for each split, and the result is brought into place.
    """
    import tensorflow_datasets as tfds  # takes half a second, which no worker has to spend
    from tensorflow_datasets.core import naming

    with tempfile.TemporaryDirectory(prefix="tfds_metadata_") as folder:
        scratch = Path(folder)
        first = manifests[0]
        template = naming.ShardedFileTemplate(
            data_dir=epath.Path(scratch), dataset_name=first.dataset, filetype_suffix="tfrecord"
        )
        for manifest in manifests:
            (scratch / manifest.shards[0].file_name).touch()
        tfds.folder_dataset.write_metadata(
            data_dir=scratch,
            features=example_features(first.classes.ids),
            split_infos=[
                tfds.core.SplitInfo(
                    name=manifest.split,
                    shard_lengths=[shard.num_records for shard in manifest.shards],
                    num_bytes=sum(shard.num_bytes for shard in manifest.shards),
                    filename_template=template,
                )
                for manifest in sorted(manifests, key=lambda manifest: manifest.split)
            ],
            version="1.0.0",
            filename_template=template,
            check_data=False,
        )
        for path in scratch.iterdir():
            if ".tfrecord-" not in path.name:
                with atomic_file(directory / path.name) as temporary:
                    shutil.copyfile(path, temporary)
