"""What a run leaves to read: metrics.jsonl always, TensorBoard where installed, one line for the person who waits."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import sys
from typing import Any

from etils import epath

from luab_jax.progress import format_seconds


class MetricLog:
    """Writes scalars of one run; on every process but the first all methods do nothing."""

    def __init__(self, workdir: epath.Path, *, resume_step: int, tensorboard: bool, active: bool = True):
        """Lines later than `resume_step` come from work that was lost with a crash and are cut."""
        self._path = workdir / "metrics.jsonl"
        self._active = active
        self._board = None
        if not active:
            return
        self._lines = _cut(self._path, resume_step)
        if tensorboard and importlib.util.find_spec("tensorboardX"):
            from tensorboardX import SummaryWriter

            self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=resume_step + 1)

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Appends one line `{"step": …, "train/loss": …}`; values that are not finite become null."""
        if not self._active:
            return
        line = {"step": step} | {k: v if math.isfinite(v) else None for k, v in scalars.items()}
        self._append(json.dumps(line) + "\n")
        if self._board is not None:
            for name, value in scalars.items():
                self._board.add_scalar(name, value, step)

    def written(self, step: int, prefix: str) -> dict[str, float]:
        """The values of this kind that were written for a step, perhaps by a run before this one."""
        lines = [line for line in read_metrics(self._path.parent) if line["step"] == step]
        return {k: math.nan if v is None else v for line in lines for k, v in line.items() if k.startswith(prefix)}

    def _append(self, line: str) -> None:
        try:
            self._write(line)
        except OSError as e:
            raise OSError(e.errno, e.strerror, os.fspath(self._path)) from e  # that of a full disk names no file

    def _write(self, line: str) -> None:
        if _can_append(self._path):
            with self._path.open("a") as f:
                f.write(line)
        else:
            self._lines.append(line)
            self._path.write_text("".join(self._lines))

    def close(self) -> None:
        if self._board is not None:
            self._board.close()


def _can_append(path: epath.Path) -> bool:
    """Objects in a bucket cannot grow: there the whole file is written again, a megabyte for a long run."""
    return "://" not in os.fspath(path)


def _cut(path: epath.Path, step: int) -> list[str]:
    """Keeps the lines up to `step`, and returns them."""
    if not path.exists():
        return []
    kept = [line + "\n" for line in path.read_text().splitlines() if _step_of(line) <= step]
    part = path.with_name(path.name + ".tmp")
    part.write_text("".join(kept))
    part.replace(path)
    return kept


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # a line torn by a crash


def read_metrics(workdir: epath.PathLike) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, oldest first."""
    path = epath.Path(workdir) / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if math.isfinite(_step_of(line))]


def say(message: str, *, active: bool = True) -> None:
    """A line for the person who waits, on stderr, so that stdout stays a command's result."""
    if active:
        print(message, file=sys.stderr, flush=True)


def train_line(step: int, total_steps: int, scalars: dict[str, float]) -> str:
    """`step 1,200/112,500  loss 5.913  top1 4.1 %  812 images/s  1261 ms/step  data wait 2 %  31h02m left`."""
    parts = [f"step {step:,}/{total_steps:,}", f"loss {scalars['train/loss']:.4f}"]
    if "train/byproduct_loss" in scalars:
        parts.append(f"byproduct {scalars['train/byproduct_loss']:.4f}")
    if "train/top1" in scalars:
        parts.append(f"top1 {scalars['train/top1']:.1%}")
    parts += [
        f"{scalars['time/images_per_s']:,.0f} images/s",
        f"{scalars['time/step_ms']:,.0f} ms/step",
        f"data wait {scalars['time/data_wait_share']:.0%}",
        f"{format_seconds(scalars['time/remaining_s'])} left",
    ]
    return "  ".join(parts)


def eval_line(step: int, scalars: dict[str, float]) -> str:
    values = [f"{name.removeprefix('eval/')} {value:.4f}" for name, value in scalars.items()]
    return f"step {step:,} evaluated: " + "  ".join(values)
