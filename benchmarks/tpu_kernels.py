"""Where the cycles of a compiled step go: `python -m benchmarks.tpu_kernels FILE.hlo.gz [...] [--top=20]`.

Reads programs that preflight keeps below `config.compilation_cache` (folder `preflight`). First the cycles by what they
are for, then the kernels with most of them.
"""

from __future__ import annotations

import argparse
import gzip
import re
import sys
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from luab_jax.errors import DataError, reason_of
from luab_jax.preflight.kernels import Kernel, kernels


def purpose(kernel: Kernel) -> str:
    """By where in the step it was traced; forward and backward pass are below `jvp`."""
    if re.search(r"\brand_augment\b", kernel.operation):
        return "RandAugment"
    if kernel.is_product:
        return "matrix products and convolutions, and what is fused with them"
    if "jvp" in kernel.operation:
        return "other parts of forward and backward pass"
    return "optimiser, moving average, plan of the augmentation"


def read(path: Path) -> list[Kernel]:
    """The kernels of a program that preflight kept. Raises `DataError`."""
    try:
        text = gzip.decompress(path.read_bytes()).decode()
    except (OSError, EOFError, ValueError, zlib.error) as e:
        raise DataError(f"{path}: no program that preflight kept ({reason_of(e)}); name a preflight/*.hlo.gz") from e
    found = kernels(text)
    if not found:
        raise DataError(f"{path}: its compiler states no cycles; only a program for a TPU has them")
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE", type=Path)
    parser.add_argument("--top", type=int, default=20)
    arguments = parser.parse_args(argv)
    for path in arguments.files:
        try:
            found = read(path)
        except DataError as e:
            sys.exit(str(e))
        total = sum(kernel.cycles for kernel in found)
        print(f"{path.name}: {total:,} cycles")
        by_purpose: Counter[str] = Counter()
        for kernel in found:
            by_purpose[purpose(kernel)] += kernel.cycles
        for name, cycles in by_purpose.most_common():
            print(f"  {cycles / total:6.1%}  {name}")
        for kernel in sorted(found, key=lambda kernel: -kernel.cycles)[: arguments.top]:
            print(f"  {kernel.cycles:12,} in {kernel.times:3}  {kernel.name}  {kernel.operation[-70:]}")


if __name__ == "__main__":
    main()
