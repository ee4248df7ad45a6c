"""How predictions can be kept, as a zip of arrays or as parquet: `python -m benchmarks.prediction_store`.

Both hold the same columns of drawn predictions and are written batch by batch, as an evaluation does; what is read is
every logit, then the second half alone, as a resumed evaluation does. Parquet needs pyarrow, which TFDS requires.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

BATCH = 256


def batches(num_images: int, num_classes: int) -> Iterator[dict[str, np.ndarray]]:
    """float16 logits less the largest, and the small columns."""
    rng = np.random.default_rng(0)
    for start in range(0, num_images, BATCH):
        rows = min(BATCH, num_images - start)
        logits = rng.normal(0, 3, (rows, num_classes)).astype(np.float16)
        largest = logits.max(axis=-1, keepdims=True)
        names = np.asarray([f"n{i % num_classes:08d}/{i:08d}.JPEG" for i in range(start, start + rows)])
        yield {
            "logits": logits - largest,
            "largest": largest[:, 0].astype(np.float32),
            "file_names": names,
            "label": np.arange(start, start + rows, dtype=np.int32) % num_classes,
        }


def write_zip(path: Path, parts: list[dict[str, np.ndarray]]) -> None:
    """As `evaluation.saved_predictions` does: logits as they come, small columns at the end."""
    shape = (sum(len(part["label"]) for part in parts), parts[0]["logits"].shape[1])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("logits.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
            for part in parts:
                file.write(part["logits"].tobytes())
        for name in ("largest", "file_names", "label"):
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as file:
                np.save(file, np.concatenate([part[name] for part in parts]))


def read_zip(path: Path, first: int) -> np.ndarray:
    """Logits from an image on."""
    with zipfile.ZipFile(path) as archive, archive.open("logits.npy") as file:
        np.lib.format.read_magic(file)
        (num_images, num_classes), _, _ = np.lib.format.read_array_header_1_0(file)
        file.seek(2 * num_classes * first, 1)
        return np.frombuffer(file.read(), np.float16).reshape(num_images - first, num_classes)


def write_parquet(path: Path, parts: list[dict[str, np.ndarray]], compression: str = "none") -> None:
    """A row group for every batch; logits as rows of bytes, which is less work than lists of half floats."""
    import pyarrow as pa
    from pyarrow import parquet

    writer = None
    for part in parts:
        width = 2 * part["logits"].shape[1]
        rows = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(width), len(part["label"]), [None, pa.py_buffer(part["logits"].tobytes())]
        )
        small = {name: pa.array(part[name]) for name in ("largest", "label")}
        table = pa.table({"logits": rows, "file_names": pa.array(part["file_names"].tolist()), **small})
        writer = writer or parquet.ParquetWriter(path, table.schema, compression=compression, use_dictionary=False)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def read_parquet(path: Path, first: int) -> np.ndarray:
    """Logits from an image on, which begins a row group."""
    from pyarrow import parquet

    file = parquet.ParquetFile(path)
    groups = list(range(first // BATCH, file.num_row_groups))
    column = file.read_row_groups(groups, columns=["logits"]).column("logits").combine_chunks()
    width = column.type.byte_width
    return np.frombuffer(column.buffers()[1], np.float16).reshape(-1, width // 2)[: len(column)]


def least(call: Callable[[], object], rounds: int) -> float:
    """Seconds of the quickest round."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return min(taken)


def main() -> None:
    """Prints a row for each format."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_240)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    parts = list(batches(arguments.images, arguments.classes))
    half = arguments.images // (2 * BATCH) * BATCH
    logits = np.concatenate([part["logits"] for part in parts])
    formats = {
        "zip of arrays": (write_zip, read_zip),
        "parquet": (write_parquet, read_parquet),
        "parquet, zstd": (lambda path, given: write_parquet(path, given, "zstd"), read_parquet),
    }
    print(f"{arguments.images:,} images, {arguments.classes:,} classes, the least of {arguments.rounds} rounds\n")
    print(f"{'':<16}{'MB':>8}{'s to write':>12}{'s to read':>12}{'s, 2nd half':>13}")
    with tempfile.TemporaryDirectory() as folder:
        for name, (write, read) in formats.items():
            path = Path(folder, "predictions")
            seconds = [
                least(lambda: write(path, parts), arguments.rounds),  # noqa: B023
                least(lambda: read(path, 0), arguments.rounds),  # noqa: B023
                least(lambda: read(path, half), arguments.rounds),  # noqa: B023
            ]
            assert np.array_equal(read(path, 0), logits) and np.array_equal(read(path, half), logits[half:])
            size = path.stat().st_size / 1e6
            print(f"{name:<16}{size:>8.1f}{seconds[0]:>12.2f}{seconds[1]:>12.3f}{seconds[2]:>13.3f}")


if __name__ == "__main__":
    main()
