"""The steps between two log lines: exact means, rates, and the stop if a value is not finite."""

from __future__ import annotations

import json
import math
from typing import NoReturn

import jax
import numpy as np

from luab_jax.data.features import Example
from luab_jax.errors import UserError
from luab_jax.metrics import Means, summarise
from luab_jax.run import Run


class Window:
    """The steps since the last log line: their means, still on the device, and what they were fed."""

    def __init__(self) -> None:
        self.means: list[Means] = []
        self.fed: list[tuple[int, np.ndarray]] = []
        self.busy_s = 0.0
        self.waited_s = 0.0

    def add(self, step: int, means: Means, index: np.ndarray) -> None:
        """One step, which may not have run yet, and the records it was fed on this host."""
        self.means.append(means)
        self.fed.append((step, index))

    def count(self, busy_s: float, waited_s: float) -> None:
        """Seconds of the loop, and those of them spent waiting for data."""
        self.busy_s += busy_s
        self.waited_s += waited_s

    def scalars(self, run: Run, step: int) -> dict[str, float]:
        """Fetches the means (this waits for the steps) and computes rates over the window."""
        count = len(self.means)
        values = {f"train/{name}": value for name, value in summarise(self.means).items()}
        values["train/learning_rate"] = summarise(self.means[-1:])["learning_rate"]
        seconds = max(self.busy_s, 1e-9)
        return values | {
            "time/epoch": step * run.config.batch_size / len(run.train_split.records),
            "time/step_ms": 1e3 * seconds / count,
            "time/images_per_s": count * run.config.batch_size / seconds,
            "time/data_wait_share": self.waited_s / seconds,
            "time/remaining_s": (run.total_steps - step) * seconds / count,  # of training; evaluation comes on top
        }

    def check_finite(self, run: Run) -> None:
        """Raises `UserError` at the first step whose loss or gradient is not finite, naming its records.

        The gradient counts because it has already spoilt the parameters, which would otherwise be saved as the latest.
        """
        values = jax.device_get([(means["loss"].total, means["gradient_norm"].total) for means in self.means])
        for (loss, norm), (step, index) in zip(values, self.fed, strict=True):
            if not math.isfinite(loss):
                _raise_not_finite(run, step, f"loss is {loss}", index)
            if not math.isfinite(norm):
                _raise_not_finite(run, step, f"gradient's norm is {norm}", index)


def _raise_not_finite(run: Run, step: int, what: str, index: np.ndarray) -> NoReturn:
    """Saves the evidence, then stops the run."""
    names = [Example(run.train_split.records[int(i)]).file_name for i in index]
    path = run.workdir / f"not_finite-step{step}-process{jax.process_index()}.json"
    path.write_text(json.dumps({"step": step, "what": what, "records": names}, indent=1) + "\n")
    raise UserError(
        f"the {what} at step {step}. Its batch on this host: {', '.join(names[:3])}, ... (all {len(names)} in"
        f" {path}). No checkpoint after the last good one was written; a lower config.optim.learning_rate, a longer"
        " warm-up or config.optim.clip_norm=1.0 are the usual remedies"
    )
