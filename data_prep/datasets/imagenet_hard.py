"""ImageNet-Hard (Taesiri et al. 2023): parquet files with images, sets of labels, and the sets that images come from.

Columns `image` (a struct with `bytes`), `label` (a list of ImageNet's indices) and `origin`, as the card of
taesiri/imagenet-hard lists them. Parquet has no cheap way to one row, so the images are copied into a tar once, which
lies in --out while the set is prepared.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from data_prep.datasets.listing import Item, Listing
from data_prep.problems import Reason
from data_prep.sources.tree import Source
from luab_jax.errors import DataError
from luab_jax.io import storage
from luab_jax.io.atomic import atomic_file
from luab_jax.io.storage import Place

PUBLISHED = 10_980
SPLIT = "test"
COLUMNS = ("image", "label", "origin")
_ROWS = 32
"""Read at a time: images are some hundred kB each."""


@dataclass(slots=True)
class Rows:
    """The parquet files of the set, in the order of their names."""

    files: list[Place]
    labels: list[tuple[int, ...]] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)


def open_rows(source: str) -> Rows:
    """Reads all but the images. Raises `DataError` for what is not the set, with the file and the row."""
    rows = Rows(_parquet_files(storage.place(source)))
    for file, row, values in _read(rows.files, ("label", "origin")):
        labels, origin = values["label"], values["origin"]
        if not (isinstance(labels, list) and labels and all(type(i) is int and 0 <= i < 1000 for i in labels)):
            raise DataError(f"{file}: row {row}: label is {str(labels)[:40]}, expected indices from 0 to 999")
        rows.labels.append(tuple(dict.fromkeys(labels)))
        rows.origins.append(re.sub(r"[^\w.-]+", "_", str(origin)).strip("._") or "unknown")
    if len(rows.labels) > PUBLISHED:
        raise DataError(f"{source}: {len(rows.labels):,} images, imagenet_hard was published with {PUBLISHED:,}")
    return rows


def _parquet_files(place: Place) -> list[Place]:
    """Those of a folder, of its `data`, or the one that is given."""
    facts = storage.facts(place)
    if facts is None:
        raise DataError(f"--source={place}: no such folder or archive")
    if not facts.is_folder:
        return [place]
    for folder in (place, place / "data"):
        found = sorted(folder.glob("*.parquet")) if (it := storage.facts(folder)) and it.is_folder else []
        if found:
            return found
    raise DataError(f"--source={place}: holds no parquet file of imagenet_hard, such as validation-00000-of-*.parquet")


def _read(files: list[Place], columns: tuple[str, ...]) -> Iterator[tuple[Place, int, dict[str, Any]]]:
    """Every row with its file and its number there."""
    import pyarrow as pa
    from pyarrow import parquet

    for file in files:
        try:
            with file.open("rb") as opened:
                table = parquet.ParquetFile(opened)
                missing = set(columns) - set(table.schema_arrow.names)
                if missing:
                    raise DataError(f"{file}: has no column {min(missing)}, but {', '.join(table.schema_arrow.names)}")
                row = 0
                for batch in table.iter_batches(_ROWS, columns=list(columns)):
                    for values in batch.to_pylist():
                        yield file, row, values
                        row += 1
        except (pa.ArrowException, OSError, ValueError) as e:  # the last: of texts that are not UTF-8
            raise DataError(f"{file}: cannot be read as a parquet file of imagenet_hard ({e})") from e


def tar_of(rows: Rows, out: Place) -> Place:
    """The images as a tar of `<number>`, written if it is not there already."""
    facts = repr([(file.name, *(storage.facts(file) or ())) for file in rows.files])
    key = hashlib.blake2b(facts.encode(), digest_size=8).hexdigest()
    path = storage.scratch_folder(out) / f"imagenet_hard-{key}.tar"
    if not path.exists():
        with (
            atomic_file(path, make_folder=True) as partial,
            partial.open("wb") as written,
            tarfile.TarFile(fileobj=written, mode="w") as tar,
        ):
            for number, (file, row, values) in enumerate(_read(rows.files, ("image",))):
                data = _bytes_of(values["image"], file, row)
                member = tarfile.TarInfo(_name(number))
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


def _bytes_of(image: Any, file: Place, row: int) -> bytes:
    """Of a struct, or of a column that is binary itself; none where the row has no image, which is then left out."""
    found = image.get("bytes") if isinstance(image, dict) else image
    if found is not None and not isinstance(found, bytes):
        raise DataError(
            f"{file}: row {row}: image is {type(found).__name__}, expected bytes, or a struct with bytes; take the"
            " parquet files of taesiri/imagenet-hard as they are published"
        )
    return found or b""


def remove(tar: Place) -> None:
    """After all is prepared."""
    tar.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # --out itself is not empty
        tar.parent.rmdir()


def _name(number: int) -> str:
    """JPEG or PNG by content, whatever the suffix."""
    return f"{number:05d}.jpg"


def list_rows(rows: Rows, tar: Source) -> Listing:
    """One item for each row; a class of its own where there is one label."""
    listing, spans = Listing(), {file.name: file.span for file in tar.files()}
    for number, (labels, origin) in enumerate(zip(rows.labels, rows.origins, strict=True)):
        name = _name(number)
        if name not in spans:
            listing.skip(f"{origin}/{name}", Reason.IMAGE_MISSING)
            continue
        label = labels[0] if len(labels) == 1 else -1
        listing.items.append(Item(f"{origin}/{name}", label, spans[name], labels=labels, group=origin, path=name))
    return listing
