"""What a directory holds, as text and as a page: counts, coverage, clicks against boxes and masks, times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from data_prep.inspect.counts import Statistics
from data_prep.inspect.gallery.write import write_gallery
from data_prep.inspect.rows import Row, rows
from data_prep.writing.anywhere import run_anywhere
from luab_jax.data import dataset, tfrecord
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.features import Example
from luab_jax.errors import DataError
from luab_jax.io import storage
from luab_jax.io.console import Progress
from luab_jax.io.storage import Place
from luab_jax.io.wording import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """Where to, and how much of each split."""

    path: Place
    num_images: int = 60
    seed: int = 0
    """Chooses the images."""
    show_workers: bool = False
    """Whether the page names annotators by their ids."""


def inspect(
    directory: Place,
    *,
    workers: int,
    split: str | None = None,
    gallery: Gallery | None = None,
    beam_options: Sequence[str] | None = None,
) -> str:
    """Reads every record of every split, or of one; returns the report and writes the gallery if there is to be one.

    The records are read by processes of this machine, or with `beam_options` by those of Beam's runner.
    """
    opened = open_splits(directory, split)
    if gallery is not None:
        _check_writable(gallery.path)
    reports = [(part, *_report(part, workers, beam_options)) for part in opened]
    if gallery is not None:
        write_gallery(
            gallery.path,
            reports,
            num_images=gallery.num_images,
            seed=gallery.seed,
            show_workers=gallery.show_workers,
        )
    return "\n\n".join("\n".join([title, *_lines(found)]) for _, title, found in reports)


def open_splits(directory: Place, split: str | None = None) -> list[PreparedSplit]:
    """The splits of a directory that data_prep or TFDS prepared, or the one that is asked for."""
    names = dataset.readable_splits(directory)
    if not names:
        deeper = dataset.folders_with_splits(directory)
        hint = f"; is it {directory}/{deeper[0]}?" if deeper else ""
        raise DataError(
            f"{directory}: no prepared split here (no <split>.manifest.json, nor TFDS's dataset_info.json){hint}"
        )
    if split is not None and not dataset.has_split(directory, split):
        raise DataError(f"{directory}: no split {split!r}; it has {', '.join(names)}")
    return [dataset.open_split(directory, name) for name in ([split] if split is not None else names)]


def _check_writable(path: Place) -> None:
    """Before the work, not after it."""
    if storage.is_remote(path):
        return
    if path.is_dir() or not path.parent.is_dir():
        raise DataError(f"--html={path}: {'is a folder' if path.is_dir() else f'{path.parent} is no local folder'}")


def _report(split: PreparedSplit, workers: int, beam_options: Sequence[str] | None) -> tuple[str, list[Row]]:
    """A title, and the rows below it."""
    manifest = split.manifest
    statistics = Statistics()
    paths = [split.directory / shard.file_name for shard in manifest.shards]
    with Progress(f"inspect {manifest.split}", manifest.num_records) as progress:
        for part in run_anywhere(_read_shard, paths, split.directory, workers, beam_options):
            statistics.merge(part)
            progress.advance(part.facts["records"])
    amount = f"{counted(manifest.num_records, 'image')} in {counted(len(paths), 'shard')}"
    title = f"{manifest.split} of {manifest.dataset}: {amount}"
    if manifest.partial:
        title += f", PARTIAL: {manifest.expected_records:,} are published"
    if manifest.stored_smaller:
        title += f", images stored with {manifest.stored_smaller}"
    problems = Counter(skipped.reason for skipped in manifest.skipped)
    skipped = [("skipped or damaged", f"{count:,}: {reason}") for reason, count in sorted(problems.items())]
    return title, [*rows(statistics, len(manifest.classes)), *skipped]


def _lines(found: Sequence[Row]) -> list[str]:
    width = max(len(name) for name, _ in found)
    return [f"  {name:<{width}}  {value}" for name, value in found]


def _read_shard(path: Place) -> Statistics:
    statistics = Statistics()
    try:
        with storage.open_forwards(path) as file:
            for offset, data in tfrecord.scan(file, str(path)):
                try:
                    statistics.add(Example(data).record())
                except DataError as e:
                    raise DataError(f"{path}: record at byte {offset}: {e}") from e
    except OSError as e:
        raise DataError(f"{path}: cannot be read ({e.strerror or e})") from e
    return statistics
