"""The folder that --data names: prepared, or what it holds instead and how that is prepared."""

from __future__ import annotations

import os

from etils import epath

from luab_jax.data.dataset import readable_splits
from luab_jax.errors import DataError, option
from luab_jax.io import storage

_IMAGES = (".jpg", ".jpeg", ".png")
_LOOKED_AT = 50
"""Entries of a folder that are looked at, in search of images."""
GET_OWN = "python -m data_prep folder --source=PHOTOS --split=val --out=DATA"


def check_prepared(data: epath.PathLike) -> None:
    """Raises `DataError` for a folder that holds no prepared data at all, with what is in it instead."""
    name, root = os.fspath(data), epath.Path(data)
    with storage.explained(root):
        try:
            folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
        except FileNotFoundError as e:
            raise DataError(f"{option('data', name)}: no such folder") from e
        except NotADirectoryError as e:
            raise DataError(f"{option('data', name)}: a file, expected the folder of the prepared data") from e
        if any(readable_splits(folder) for folder in _with_suites(folders)):
            return
        with_images = next((folder for folder in folders if _has_images(folder)), None)
    if with_images is None:
        raise DataError(
            f"{option('data', name)}: holds no prepared data; `python -m data_prep --help` says how it is made"
        )
    classes = [folder.name for folder in folders[1:4]]
    seen = f"folders of images ({', '.join(classes)} ...)" if with_images is not root else "images"
    raise DataError(
        f"{option('data', name)}: holds {seen} that are not prepared. Prepare them first, with a folder per class:"
        f" python -m data_prep folder --source={name} --split=val --out=DATA; then {option('data', 'DATA')}"
    )


def _with_suites(folders: list[epath.Path]) -> list[epath.Path]:
    """Also the folders below `suites`, where the demo has its own."""
    return folders + [path for folder in folders if folder.name == "suites" for path in folder.iterdir()]


def _has_images(folder: epath.Path) -> bool:
    seen = (path for path, _ in zip(folder.iterdir(), range(_LOOKED_AT), strict=False))
    return any(path.suffix.lower() in _IMAGES for path in seen)
