"""Digests of all files of a folder, in the format of `sha256sum`, which can check them too.

Orbax's storage format (OCDBT) has checksums of its index but none of the arrays in it, and nothing guards the JSON
files beside it: of random bit flips in the file of arrays nearly half are restored without a word as other numbers.
"""

from __future__ import annotations

import hashlib

from etils import epath

SUMS = "SHA256SUMS"
_MAY_COME_LATER = "metrics/"
"""Of an evaluation that was made up for after the checkpoint was complete."""


def write_sums(folder: epath.Path) -> None:
    """Writes `SHA256SUMS` beside the files; as a whole or, if the process dies, not at all."""
    lines = [f"{_digest(folder / name)}  {name}\n" for name in _files(folder)]
    part = folder / f"{SUMS}.tmp"
    part.write_text("".join(lines))
    part.replace(folder / SUMS)


def has_sums(folder: epath.Path) -> bool:
    return (folder / SUMS).exists()


def damage(folder: epath.Path, *, part: int = 0, num_parts: int = 1) -> list[str]:
    """What is wrong with the files, in words; empty if nothing is, or if there are no digests to tell.

    Of several hosts each may read its `part` of the files.
    """
    if not has_sums(folder):
        return []
    try:
        rows = [line.split("  ", 1) for line in (folder / SUMS).read_text().splitlines()]
        expected = {name: digest for digest, name in rows}
    except ValueError:  # not UTF-8, or not two columns
        return [f"{SUMS} itself cannot be read"]
    found = set(_files(folder))
    wrong = [f"{name} is missing" for name in sorted(expected.keys() - found)]
    wrong += [
        f"{SUMS} lacks {name}" for name in sorted(found - expected.keys()) if not name.startswith(_MAY_COME_LATER)
    ]
    for name in sorted(expected.keys() & found)[part::num_parts]:
        if _digest(folder / name) != expected[name]:
            wrong.append(f"{name} is not what was written")
    return wrong


def _digest(path: epath.Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]


def _files(folder: epath.Path) -> list[str]:
    """Names relative to the folder, sorted; without those of the digests."""
    names: list[str] = []
    for path in folder.iterdir():
        if path.is_dir():
            names += [f"{path.name}/{name}" for name in _files(path)]
        elif not path.name.startswith(SUMS):
            names.append(path.name)
    return sorted(names)
