"""Photos damaged as disks and copies damage them, through preparation: `python -m tools.damage --photos=1500`.

Every photo of `--source` (class folders of JPEG and PNG) is damaged in one way, in turns: a block of 4 KiB of 0xFF, of
zeros or of noise, a single byte, flipped bits, an end that is missing, a hole. The damaged photos are prepared by
`data_prep folder`, and each that was kept must then be decoded by everything that reads it: evaluation, crops of
training in both modes, a page of `inspect`, `verify`. Each that was left out must be one that evaluation cannot decode.
The exit code is 1 if any photo was kept and fails later, or was left out though it decodes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np

from data_prep.__main__ import main as data_prep
from data_prep.argument_types import positive
from data_prep.inspect.gallery.card import thumbnail
from luab_jax.byproducts.records import ImageRecord
from luab_jax.data.dataset import open_split
from luab_jax.data.decoding import decode
from luab_jax.data.features import Example
from luab_jax.data.resampling import ResizeFilter
from luab_jax.data.transforms import EncodedImage, crop_and_resize, sample_crop
from luab_jax.errors import DataError

BLOCK = 4096
NUM_CROPS = 8
SIDE = 64


def block(value: bytes | None) -> Callable[[bytearray, Random], None]:
    """A block of a disk, or what is left of it at the end of the file; noise if None."""

    def damage(data: bytearray, rng: Random) -> None:
        start = rng.randrange(max(1, len(data) - BLOCK // 8))
        length = min(BLOCK, len(data) - start)
        data[start : start + length] = rng.randbytes(length) if value is None else value * length

    return damage


def one_byte(data: bytearray, rng: Random) -> None:
    data[rng.randrange(len(data))] = rng.randrange(256)


def flipped_bits(data: bytearray, rng: Random) -> None:
    for _ in range(rng.choice([1, 8, 64])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def cut_off(data: bytearray, rng: Random) -> None:
    del data[rng.randrange(1, len(data)) :]


def hole(data: bytearray, rng: Random) -> None:
    """What a copy lost."""
    start = rng.randrange(len(data))
    del data[start : start + rng.choice([1, 512, BLOCK])]


def stale_end(data: bytearray, rng: Random) -> None:
    """The first part of a file in the blocks of a longer one: its end is that of the other."""
    start = rng.randrange(1, len(data))
    rest = bytes(data[start:])
    data[start:] = rest[len(rest) // 2 :] + rest[: len(rest) // 2] + b"\xff\xd9"


DAMAGES: dict[str, Callable[[bytearray, Random], None]] = {
    "4 KiB of 0xFF": block(b"\xff"),
    "4 KiB of zeros": block(b"\0"),
    "4 KiB of noise": block(None),
    "one byte": one_byte,
    "flipped bits": flipped_bits,
    "cut off": cut_off,
    "hole": hole,
    "stale end": stale_end,
}


def write_damaged(source: Path, target: Path, count: int, seed: int) -> dict[str, str]:
    """Writes `count` damaged photos; returns what was done to each, by file name. A function of the seed."""
    photos = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not photos:
        raise SystemExit(f"{source}: no photos; give a folder of them with --source")
    done = {}
    for number in range(count):
        kind, photo = list(DAMAGES)[number % len(DAMAGES)], photos[number % len(photos)]
        data = bytearray(photo.read_bytes())
        DAMAGES[kind](data, Random(f"{seed}/{number}"))
        name = f"damaged/{number:06d}{photo.suffix}"
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(data)
        done[name] = kind
    return done


def failures(record: ImageRecord, seed: int) -> list[str]:
    """Whatever cannot read a record that was kept."""
    failed = []

    def attempt(what: str, read: Callable[[], object]) -> None:
        try:
            read()
        except Exception as e:  # nothing may fail, in whatever way
            failed.append(f"{what}: {type(e).__name__}: {e}")

    def crops() -> None:
        rng = np.random.default_rng(seed)
        image = EncodedImage(record.image, record.file_name)
        for number in range(NUM_CROPS):
            mode = (ResizeFilter.BICUBIC, ResizeFilter.BILINEAR_PLAIN)[number % 2]
            crop_and_resize(image, sample_crop(rng, image.size, (0.08, 1.0)), SIDE, mode, flip=False)

    attempt("evaluation", lambda: decode(record.image, record.file_name))
    attempt("training", crops)
    attempt("page", lambda: thumbnail(record))
    return failed


def decodes(data: bytes) -> bool:
    try:
        decode(data, "")
    except DataError:
        return False
    return True


def campaign(source: Path, scratch: Path, count: int, seed: int, flags: list[str]) -> tuple[list[str], int]:
    """Lines of a table, and how many photos the check and the decoders do not agree on."""
    done = write_damaged(source, scratch / "photos", count, seed)
    out = scratch / "prepared"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        data_prep(["folder", f"--source={scratch / 'photos'}", f"--out={out}", *flags])
        verified = data_prep(["verify", str(out), *[f for f in flags if f.startswith("--workers")]])
    records = open_split(out, "train").records
    kept: Counter[str] = Counter()
    later: Counter[str] = Counter()
    names, found = set(), []
    for index in range(len(records)):
        record = Example(records[index]).record()
        names.add(record.file_name)
        kind = done[record.file_name]
        kept[kind] += 1
        if problems := failures(record, index):
            later[kind] += 1
            found.append(f"{record.file_name} ({kind}): {problems[0]}")
    refused = {name: kind for name, kind in done.items() if name not in names}
    wrongly = Counter(kind for name, kind in refused.items() if decodes((scratch / "photos" / name).read_bytes()))
    total = Counter(done.values())
    lines = [
        f"{'damage':<16} {'photos':>7} {'left out':>9} {'kept':>6} {'kept, fail later':>17} {'left out, decode':>17}"
    ]
    for kind in DAMAGES:
        lines.append(
            f"{kind:<16} {total[kind]:>7,} {total[kind] - kept[kind]:>9,} {kept[kind]:>6,} {later[kind]:>17,}"
            f" {wrongly[kind]:>17,}"
        )
    num_later, num_wrongly = later.total(), wrongly.total()
    lines.append(f"{'all':<16} {count:>7,} {len(refused):>9,} {kept.total():>6,} {num_later:>17,} {num_wrongly:>17,}")
    lines += found[:10]
    lines.append(f"verify of what was kept: exit {int(verified)}")
    return lines, num_later + num_wrongly + (verified != 0)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.damage", description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="folder of photos")
    parser.add_argument("--photos", type=positive, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--flags", default="", help="more flags of data_prep folder, such as --no_decode_check")
    arguments = parser.parse_args(argv)
    scratch = Path(tempfile.mkdtemp(prefix="damage_"))
    try:
        with warnings.catch_warnings(action="ignore"):  # what Pillow says of odd metadata
            lines, wrong = campaign(
                arguments.source, scratch, arguments.photos, arguments.seed, arguments.flags.split()
            )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print("\n".join(lines))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
