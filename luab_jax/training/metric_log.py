"""What a run leaves to read: metrics.jsonl always, TensorBoard where installed, one line for the person who waits."""

from __future__ import annotations

import importlib.util
import json
import math
import os

from etils import epath

from luab_jax.io.atomic import append_line, write_text
from luab_jax.io.console import format_seconds, say
from luab_jax.metrics.history import read_lines, read_metrics, step_of


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

            try:
                self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=resume_step + 1)
            except ImportError as e:  # for a bucket it has a client of its own
                say(f"{workdir}: no TensorBoard there ({e}); metrics.jsonl has every value")

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Appends one line `{"step": …, "train/loss": …}`; values that are not finite become null."""
        if not self._active:
            return
        line = {"step": step} | {k: v if math.isfinite(v) else None for k, v in scalars.items()}
        self._append(json.dumps(line))
        if self._board is not None:
            for name, value in scalars.items():
                self._board.add_scalar(name, value, step)

    def written(self, step: int, prefix: str) -> dict[str, float]:
        """The values of this kind that were written for a step, perhaps by a run before this one."""
        lines = [line for line in read_metrics(self._path.parent) if line["step"] == step]
        return {k: math.nan if v is None else v for line in lines for k, v in line.items() if k.startswith(prefix)}

    def _append(self, line: str) -> None:
        if _can_append(self._path):
            append_line(self._path, line)
        else:
            self._lines.append(line + "\n")
            write_text(self._path, "".join(self._lines))

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
    lines = read_lines(path)
    kept = [line + "\n" for line in lines if step_of(line) <= step]
    if len(kept) < len(lines) or not path.read_bytes().endswith(b"\n"):
        write_text(path, "".join(kept))
    return kept


def train_line(step: int, total_steps: int, scalars: dict[str, float]) -> str:
    """`step 1,200/112,500  loss 5.913  top1 4.1 %  812 images/s  1261 ms/step  data wait 2 %  31h02m left`."""
    parts = [f"step {step:,}/{total_steps:,}", f"loss {scalars['train/loss']:.4f}"]
    for name, value in scalars.items():
        if name.startswith("train/byproduct_loss"):
            parts.append(f"{name.removeprefix('train/byproduct_loss').strip('/') or 'byproduct'} {value:.4f}")
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
