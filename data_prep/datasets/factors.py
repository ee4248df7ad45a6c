"""ImageNet-X's annotations of validation images: which factors make each unusual."""

from __future__ import annotations

import csv
import io
import json

from data_prep.datasets.listing import Listing
from luab_jax.data.label_tables import FACTORS
from luab_jax.data.texts import read_text
from luab_jax.errors import DataError, reason_of


def read_factors(path: str) -> dict[str, str]:
    """Factors with `+` between by file name. Raises `DataError` that names the line."""
    found: dict[str, str] = {}
    try:
        lines = read_text(path).splitlines()
    except (OSError, ValueError) as e:
        raise DataError(f"{path}: cannot be read as ImageNet-X's annotations ({reason_of(e)})") from e
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name, values = str(row["file_name"]), [row[factor] for factor in FACTORS]
        except (ValueError, KeyError, TypeError, RecursionError) as e:
            raise DataError(
                f"{path}:{number}: no line of ImageNet-X's annotations ({e}); expected file_name and {len(FACTORS)}"
                " factors of 0 or 1"
            ) from e
        if any(value not in (0, 1) for value in values):
            raise DataError(f"{path}:{number}: {name} has a factor that is neither 0 nor 1")
        found[name] = "+".join(factor for factor, value in zip(FACTORS, values, strict=True) if value)
    return found


def keep_annotated(listing: Listing, factors: str, prototypes: str | None) -> None:
    """Leaves the annotated images, with their factors as group; prototypes of their classes are no part of the set.

    Raises `DataError` if none is annotated.
    """
    of_image = read_factors(factors)
    typical = set() if prototypes is None else set(_read_prototypes(prototypes))
    for name in typical:
        of_image.pop(name, None)
    names = [item.file_name.rpartition("/")[2] for item in listing.items]
    kept = [item._replace(group=of_image[name]) for item, name in zip(listing.items, names, strict=True)
            if name in of_image]  # fmt: skip
    if not kept:
        raise DataError(f"--factors={factors}: none of its {len(of_image):,} images is {names[0]} or one beside it")
    num_typical = sum(name in typical for name in names)
    listing.counts["prototypes_left_out"] = num_typical
    listing.counts["images_without_annotation_left_out"] = len(listing.items) - len(kept) - num_typical
    listing.items = kept


def _read_prototypes(path: str) -> list[str]:
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path))))
        return [row["file_name"] for row in rows]
    except (OSError, ValueError, KeyError, csv.Error) as e:
        raise DataError(
            f"{path}: cannot be read as prototypical_paths.csv ({reason_of(e)}); expected a column file_name"
        ) from e
