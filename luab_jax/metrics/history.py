"""metrics.jsonl read again: one JSON object a line, by step."""

from __future__ import annotations

import json
import math
from typing import Any

from etils import epath


def step_of(line: str) -> float:
    """The step of a line of metrics.jsonl; infinite if a crash tore the line."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def read_metrics(workdir: epath.PathLike) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, oldest first."""
    path = epath.Path(workdir) / "metrics.jsonl"
    return [json.loads(line) for line in read_lines(path) if math.isfinite(step_of(line))]


def read_lines(path: epath.Path) -> list[str]:
    """All lines, also one that a crash tore, which may hold any bytes; empty if there is no file."""
    lines = path.read_bytes().decode(errors="replace").split("\n") if path.exists() else [""]
    return lines if lines[-1] else lines[:-1]
