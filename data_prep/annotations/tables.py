"""Clicks from a table of the user's own: CSV with a header, or JSON lines, one click a line.

    file_name,x,y[,time_ms][,worker_id]          {"file_name": …, "x": …, "y": …, "time_ms": …, "worker_id": …}

`file_name` is `<class>/<name>`, or a name alone where it is unique; x and y are fractions of the image. All clicks of
one worker on one image are one showing, in the order of lines. Held in memory: about 0.4 kB a click.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

from data_prep.annotations.numbers import count, ratio
from data_prep.problems import Problems, Reason
from luab_jax.byproducts.records import Showing, TimedPoint
from luab_jax.data import texts
from luab_jax.errors import DataError, reason_of
from luab_jax.io import storage
from luab_jax.io.console import say
from luab_jax.io.storage import Place
from luab_jax.io.wording import counted


class TablePoint(NamedTuple):
    """One line, as text, so that what is wrong with it is found and counted with its image."""

    worker_id: str
    x: str
    y: str
    time_ms: str


Points = tuple[TablePoint, ...]


def is_table(path: Place) -> bool:
    return path.suffix.lower() in (".csv", ".jsonl", ".ndjson")


def read_table(path: Place) -> dict[str, Points]:
    """Clicks by file name; raises `DataError` naming file and line for what is no table of clicks."""
    points: dict[str, list[TablePoint]] = {}
    num_rows, num_bad, first_bad = 0, 0, ""
    try:
        with storage.open_forwards(path) as raw, _text_of(raw) as file:
            for where, row in _csv(file, path) if path.suffix.lower() == ".csv" else _json_lines(file, path):
                missing = [name for name in ("file_name", "x", "y") if row.get(name) in (None, "")]
                if missing:
                    raise DataError(f"{where}: has no {' and no '.join(missing)}; expected file_name, x and y")
                point = _point(row)
                points.setdefault(text_of(row["file_name"]), []).append(point)
                num_rows += 1
                if ratio(point.x) is None or ratio(point.y) is None:
                    first_bad = first_bad or f"x {point.x[:40]!r}, y {point.y[:40]!r} at {where}"
                    num_bad += 1
    except UnicodeError as e:
        raise DataError(f"{path}: cannot be read as a table of clicks ({e}); save it as UTF-8") from e
    except (OSError, csv.Error) as e:
        raise DataError(f"{path}: cannot be read as a table of clicks ({reason_of(e)})") from e
    if not num_rows:
        raise DataError(f"{path}: holds no click; expected lines with file_name, x and y")
    if num_bad * 2 > num_rows:
        raise DataError(
            f"{path}: {num_bad} of {num_rows} clicks are not between 0 and 1; x and y are fractions of the image's"
            " width and height, not pixels"
        )
    if num_bad:
        say(
            f"{path}: {counted(num_bad, 'click')} of {num_rows:,} not between 0 and 1, left out; the first is"
            f" {first_bad}. x and y are fractions of the image's width and height, not pixels"
        )
    return {name: tuple(rows) for name, rows in points.items()}


def _text_of(raw: IO[bytes]) -> io.TextIOWrapper:
    """By the byte order mark that editors leave."""
    encoding = texts.encoding_of(raw.read(texts.MARK_BYTES))
    raw.seek(0)
    return io.TextIOWrapper(raw, encoding=encoding, newline="")


def _point(row: dict[str, Any]) -> TablePoint:
    worker_id, x, y, time_ms = (row.get(name) for name in ("worker_id", "x", "y", "time_ms"))
    return TablePoint(*map(text_of, (worker_id, x, y, time_ms)))


def text_of(value: Any) -> str:
    """Empty for what is missing, which Python's `json.dumps` writes as NaN where pandas had it.

    Lone surrogates, which no file can hold, become question marks.
    """
    is_missing = value is None or (isinstance(value, float) and math.isnan(value))
    return "" if is_missing else str(value).encode("utf-8", "replace").decode()


def _csv(file: Any, path: Place) -> Iterator[tuple[str, dict[str, Any]]]:
    reader = csv.DictReader(file)
    header = reader.fieldnames or ()
    if header and not {"file_name", "x", "y"} <= set(header):
        raise DataError(
            f"{path}:1: {','.join(header)[:60]!r} is no header with file_name, x and y, commas between them"
        )
    for row in reader:
        yield f"{path}:{reader.line_num}", row


def _json_lines(file: Any, path: Place) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as e:
            raise DataError(f"{path}:{number}: not JSON ({e})") from e
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: {line[:60]!r} is no object with file_name, x and y")
        yield f"{path}:{number}", row


def showings(points: Points, problems: Problems) -> tuple[Showing, ...]:
    """One selected showing for each worker, in the order of their first clicks."""
    by_worker: dict[str, list[TimedPoint]] = {}
    for point in points:
        x, y = ratio(point.x), ratio(point.y)
        time_ms = count(point.time_ms)
        clicks = by_worker.setdefault(point.worker_id, [])
        if point.time_ms and time_ms is None:
            problems.add(Reason.TIME, f"time_ms {point.time_ms[:40]!r}")
        if x is None or y is None:
            problems.add(Reason.CLICK, f"x {point.x[:40]!r}, y {point.y[:40]!r}")
        else:
            clicks.append(TimedPoint(x, y, time_ms))
    return tuple(Showing(selected=True, clicks=tuple(clicks), worker_id=worker) for worker, clicks in by_worker.items())
