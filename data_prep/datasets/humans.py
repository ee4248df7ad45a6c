"""What people answered to the images of a set of bethgelab/model-vs-human: its CSV files, one a subject and session.

`subj,session,trial,rt,object_response,category,condition,imagename`, as raw-data/<set>/<set>_subject-01_session_1.csv
has them; files of models, which lie beside these, are not read. An image is known by its name without what the
experiment put before it (helper/plotting_helper.py, `get_short_imagename`).
"""

from __future__ import annotations

import csv
import io

from data_prep.datasets.listing import Listing
from luab_jax.data.label_tables import SIXTEEN
from luab_jax.data.texts import read_text
from luab_jax.errors import DataError, reason_of
from luab_jax.io import storage
from luab_jax.io.storage import Place

NO_ANSWER = "na"
_COLUMNS = ("subj", "object_response", "imagename")


def attach_answers(listing: Listing, path: str) -> None:
    """Makes `<subject>=<category>` with `+` between the group of each image. Raises `DataError` that names the line."""
    of_image: dict[str, dict[str, str]] = {}
    for file in _files(storage.place(path)):
        _read(file, of_image)
    names = [short_name(item.file_name.rpartition("/")[2]) for item in listing.items]
    if not of_image.keys() & set(names):
        raise DataError(f"--humans={path}: none of its {len(of_image):,} images is {names[0]} or one beside it")
    listing.items = [
        item._replace(group="+".join(f"{subject}={said}" for subject, said in sorted(of_image.get(name, {}).items())))
        for item, name in zip(listing.items, names, strict=True)
    ]
    listing.counts["images_with_human_answers"] = sum(bool(item.group) for item in listing.items)


def short_name(name: str) -> str:
    """`0001_cue_dog10-bird2.png` to `dog10-bird2.png`; an ImageNet name keeps its wnid."""
    parts = name.split("_")
    return "_".join(parts[-2:]) if len(parts) > 1 and parts[-2].startswith("n0") else parts[-1]


def _files(folder: Place) -> list[Place]:
    facts = storage.facts(folder)
    if facts is None or not facts.is_folder:
        raise DataError(
            f"--humans={folder}: no such folder; expected raw-data/cue-conflict of bethgelab/model-vs-human"
        )
    files = sorted(path for path in folder.iterdir() if "_subject-" in path.name and path.name.endswith(".csv"))
    if not files:
        raise DataError(f"--humans={folder}: holds no file such as cue-conflict_subject-01_session_1.csv")
    return files


def _read(file: Place, of_image: dict[str, dict[str, str]]) -> None:
    try:
        rows = csv.DictReader(io.StringIO(read_text(str(file))))
        names = {name.lower(): name for name in rows.fieldnames or ()}
        subject, response, image = (names[column] for column in _COLUMNS)
        for number, row in enumerate(rows, 2):
            if absent := [column for column in (subject, response, image) if row[column] is None]:
                raise DataError(f"{file}:{number}: the row ends before its {absent[0]}; take a whole copy of the file")
            said = row[response]
            if said not in SIXTEEN and said != NO_ANSWER:
                known = f"one of the {len(SIXTEEN)} categories, or {NO_ANSWER}"
                raise DataError(f"{file}:{number}: object_response is {said!r}, expected {known}")
            if any(sign in row[subject] for sign in "+="):
                raise DataError(f"{file}:{number}: subj is {row[subject]!r}; a name without + and = is expected")
            answers = of_image.setdefault(short_name(row[image]), {})
            if answers.setdefault(row[subject], said) != said:
                raise DataError(f"{file}:{number}: {row[subject]} answered {row[image]} before, otherwise")
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as e:
        raise DataError(
            f"{file}: cannot be read as answers of a subject ({reason_of(e)}); expected {', '.join(_COLUMNS)}"
        ) from e
