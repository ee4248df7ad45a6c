"""The suite `coco`: COCO 2014 with sets of labels, boxes and masks, from its two downloads, without byproducts.

val2014.zip, or a folder of its images, or a folder with `val2014` in it
instances_val2014.json, or annotations_trainval2014.zip which holds it
"""

from __future__ import annotations

import contextlib
import shutil
import zipfile
import zlib
from collections.abc import Iterator

from data_prep.commands import Job, prepare_coco
from data_prep.datasets.suites import COCO_PUBLISHED
from data_prep.downscale import Smaller
from data_prep.sources.archives import too_large
from data_prep.sources.scratch_tar import Scratch
from luab_jax.data.coco_classes import coco
from luab_jax.data.dataset import Manifest
from luab_jax.errors import DataError, WriteError, reason_of
from luab_jax.io import storage
from luab_jax.io.atomic import atomic_file
from luab_jax.io.storage import Place


def prepare_coco_suite(
    source: str,
    instances: str | None,
    data: Place,
    *,
    split: str,
    workers: int,
    num_shards: int | None = None,
    strict: bool = False,
    beam_options: tuple[str, ...] | None = None,
    smaller: Smaller | None = None,
    decode: bool = True,
    max_unpacked: int | None = None,
) -> Manifest:
    """Prepares one split into `data/coco`. A part of the images is usable, and marked as partial."""
    if split not in COCO_PUBLISHED:
        raise DataError(f"coco has no split {split!r}, but {', '.join(COCO_PUBLISHED)}")
    job = Job(
        out=data / "coco",
        split=split,
        dataset="coco",
        classes=coco(),
        workers=workers,
        num_shards=num_shards,
        strict=strict,
        expected=COCO_PUBLISHED[split],
        beam_options=beam_options,
        smaller=smaller,
        decode=decode,
        max_unpacked=max_unpacked,
    )
    inside = storage.place(source) / f"{split}2014"
    images = str(inside) if inside.is_dir() else source
    with _instances(source, instances, split, job.scratch) as file:
        return prepare_coco(images, file, None, job, min_match=0)


@contextlib.contextmanager
def _instances(source: str, given: str | None, split: str, out: Scratch) -> Iterator[Place]:
    """The instances file as a file; one inside an archive is unpacked to `out` for the time of the preparation."""
    path = storage.place(given) if given is not None else _found(storage.place(source), split)
    if not path.is_file():
        raise DataError(f"--instances={path}: {'a folder, expected a file' if path.is_dir() else 'no such file'}")
    with path.open("rb") as file:
        packed = zipfile.is_zipfile(file)
    if not packed:
        yield path
        return
    scratch = out.folder / f"scratch-{_name(split)}"
    facts = storage.facts(path)
    try:
        _unpack(path, _name(split), scratch, out.limit(facts.size if facts else 0))
        yield scratch
    finally:
        scratch.unlink(missing_ok=True)


def _unpack(path: Place, name: str, to: Place, limit: int) -> None:
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            member = next((m for m in archive.namelist() if m.rpartition("/")[2] == name), None)
            if member is None:
                raise DataError(f"--instances={path}: holds no {name}")
            if archive.getinfo(member).file_size > limit:
                raise too_large(f"--instances={path}", limit)
            with (
                archive.open(member) as packed,
                atomic_file(to, make_folder=True) as temporary,
                temporary.open("wb") as unpacked,
            ):
                shutil.copyfileobj(packed, unpacked, 2**20)
    except (OSError, WriteError, zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, zlib.error) as e:
        raise DataError(f"--instances={path}: {name} cannot be unpacked to {to} ({reason_of(e)})") from e


def _name(split: str) -> str:
    return f"instances_{split}2014.json"


def _found(source: Place, split: str) -> Place:
    """Where it lies beside or inside what was given, unpacked or not."""
    if not source.exists():
        raise DataError(f"--source={source}: no such file or folder")
    names = (_name(split), f"annotations/{_name(split)}", "annotations_trainval2014.zip")
    folders = [source, source.parent] if source.is_dir() else [source.parent]
    for path in (folder / name for folder in folders for name in names):
        if path.is_file():
            return path
    raise DataError(
        f"coco: no {_name(split)} beside {source}; give it with --instances, as it is or in"
        " annotations_trainval2014.zip"
    )
