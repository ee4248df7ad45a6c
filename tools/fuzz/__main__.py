"""Feeds damaged input to every reader of files from outside: `python -m tools.fuzz --inputs=100000 --seed=0`.

Input number i of a reader is a function of seed, reader and i alone. A worker process takes the inputs of one reader;
one that hangs over an input, or dies of it, is noted, ended and followed by another. Whatever is found is printed with
the command that replays it, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from pathlib import Path

from data_prep.argument_types import positive
from luab_jax.errors import UserError
from tools.fuzz.workers import HEADER, fuzz, rng_of

MAX_SHOWN = 10
"""Kinds of crashes of one reader that are printed."""


def replay(reader: str, seed: int, index: int, save: str | None) -> None:
    """One input again, in this process, with its traceback."""
    from tools.fuzz.readers import READERS

    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        made = READERS[reader](Path(folder))
        data = made.input(rng_of(seed, reader, index))
        print(f"{len(data):,} bytes: {data[:2000]!r}", flush=True)
        if save:
            Path(save).write_bytes(data)
        try:
            made.read(data)
        except UserError as e:
            print(f"refused: {e}")
        else:
            print("accepted")


def by_kind(crashes: list[tuple[int, str]]) -> dict[str, list[tuple[int, str]]]:
    """Crashes that are alike: one class, one place in the code."""
    kinds: dict[str, list[tuple[int, str]]] = {}
    for index, detail in crashes:
        kinds.setdefault(f"{detail.partition(':')[0]} {detail.rpartition('(')[2].rstrip(')')}", []).append(
            (index, detail)
        )
    return kinds


def main(argv: list[str] | None = None) -> int:
    from tools.fuzz.readers import READERS

    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=positive, default=100_000, help="in total, shared out among the readers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", default=",".join(READERS), help=f"some of {','.join(READERS)}")
    parser.add_argument("--workers", type=positive, default=1, help="processes")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds for one input")
    parser.add_argument("--replay", metavar="READER:INDEX", help="one input again, with its traceback")
    parser.add_argument("--save", metavar="FILE", help="with --replay: where the input is written")
    arguments = parser.parse_args(argv)
    names = arguments.readers.split(",")
    name, _, index = (arguments.replay or "").partition(":")
    if arguments.replay:
        names = [name]
    if unknown := [name for name in names if name not in READERS]:
        parser.error(f"no reader {', '.join(unknown)}")
    if arguments.replay:
        replay(name, arguments.seed, int(index), arguments.save)
        return 0
    start, crashes, total = time.monotonic(), 0, 0
    print(HEADER, flush=True)
    for result in fuzz(
        {name: READERS[name] for name in names},
        inputs=arguments.inputs,
        seed=arguments.seed,
        workers=arguments.workers,
        timeout=arguments.timeout,
    ):
        print(result.row(), flush=True)
        total += int(result.sums["refused"] + result.sums["accepted"]) + len(result.crashes)
        crashes += len(result.crashes)
        for kind, found in itertools.islice(by_kind(result.crashes).items(), MAX_SHOWN):
            command = f"python -m tools.fuzz --seed={arguments.seed} --replay={result.reader}:{found[0][0]}"
            print(f"    {len(found)} x {kind}: {found[0][1]}\n        {command}", flush=True)
    print(f"{total:,} inputs, {crashes} crashes, seed {arguments.seed}, {(time.monotonic() - start) / 60:.1f} minutes")
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main())
