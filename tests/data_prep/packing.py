"""Folders packed as the archives in which people download them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def tar(folder: Path, to: Path, *, prefix: str = "", mode: str = "w", form: int = tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(to, mode, format=form) as archive:  # type: ignore[call-overload]
        for path in files_below(folder):
            add(archive, prefix + path.relative_to(folder).as_posix(), path.read_bytes())
    return to


def nested_tar(folder: Path, to: Path) -> Path:
    """`<class>.tar` inside a tar, each holding bare names, as `ILSVRC2012_img_train.tar`."""
    with tarfile.open(to, "w") as archive:
        for inner in sorted(p for p in folder.iterdir() if p.is_dir()):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as of_class:
                for path in files_below(inner):
                    add(of_class, path.name, path.read_bytes())
            add(archive, f"{inner.name}.tar", buffer.getvalue())
    return to


def zipped(folder: Path, to: Path, *, prefix: str = "", method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(to, "w", method) as archive:
        for path in files_below(folder):
            archive.write(path, prefix + path.relative_to(folder).as_posix())
    return to
