"""Results of the GPU kit: one JSON object per line, on disk as soon as it is measured, so a run cut short keeps it."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

RESULTS = "results.jsonl"
_START = time.perf_counter()


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options that all steps have."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu_out"), help=f"folder of {RESULTS}, which is appended to")
    parser.add_argument("--rehearse", action="store_true", help="toy sizes that a CPU finishes in seconds")
    return parser


class Results:
    """Appends the results of one step, each line with the device and the versions that it was measured with."""

    def __init__(self, out: Path, step: str, *, device: str, versions: dict[str, str]):
        self.out = out
        out.mkdir(parents=True, exist_ok=True)
        self._common = {"step": step, "device": device, "versions": versions}

    def add(self, what: str, **values: Any) -> None:
        """Writes and prints one result; `what` names it within the step."""
        line = self._common | {"what": what, "elapsed_s": round(time.perf_counter() - _START, 1)} | values
        with (self.out / RESULTS).open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        shown = "  ".join(f"{key}={_short(value)}" for key, value in values.items())
        print(f"{line['elapsed_s']:7.1f} s  {self._common['step']}: {what}  {shown}", flush=True)

    def failed(self, what: str, error: BaseException) -> None:
        """Records why a part of the step has no result; the others go on."""
        self.add(what, error=f"{type(error).__name__}: {error}"[:2000])


def read(out: Path) -> list[dict[str, Any]]:
    """All results of a folder, in the order in which they were measured."""
    path = out / RESULTS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    text = str(value)
    return text if len(text) <= 160 else text[:157] + "..."
