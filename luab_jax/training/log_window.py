"""The steps between two log lines: exact means, rates, and the stop if a value is not finite."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import jax
import numpy as np

from luab_jax.errors import UserError
from luab_jax.metrics.means import Means, summarise
from luab_jax.training.nonfinite import keep_evidence
from luab_jax.training.setup import Run


class Window:
    """The steps since the last log line: their means, still on the device, and what they were fed."""

    def __init__(self) -> None:
        self.means: list[Means] = []
        self.fed: list[tuple[int, np.ndarray]] = []
        self.busy_s = 0.0
        self.waited_s = 0.0

    def add(self, step: int, means: Means, index: np.ndarray) -> None:
        """One step, counted from 1, which may not have run yet, and the records it was fed on this host."""
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

    def check_finite(self, run: Run, state: Any) -> None:
        """Raises `UserError` at the first step whose loss or gradient is not finite, naming its records.

        The gradient counts because it has already spoilt the parameters, which would otherwise be saved as the latest.
        """
        values = jax.device_get([(means["loss"].total, means["gradient_norm"].total) for means in self.means])
        history = [
            {"step": step, "loss": float(loss), "gradient_norm": float(norm)}
            for (loss, norm), (step, _) in zip(values, self.fed, strict=True)
        ]
        for line, (step, index) in zip(history, self.fed, strict=True):
            for name, value in (("loss", line["loss"]), ("gradient's norm", line["gradient_norm"])):
                if not math.isfinite(value):
                    _raise_not_finite(run, state, step, f"{name} is {value}", index, history)


def _raise_not_finite(
    run: Run, state: Any, step: int, what: str, index: np.ndarray, history: list[dict[str, Any]]
) -> NoReturn:
    """Saves the evidence, then stops the run."""
    folder, names = keep_evidence(run, state, step, what, index, history)
    raise UserError(
        f"the {what} at step {step}. Its batch on this host: {', '.join(names[:3])}, ... All {len(names)}, their arrays"
        f" and what went before are in {folder}. No checkpoint after the last good one was written, and the same"
        " command would come to the same step; a lower config.optim.learning_rate, a longer warm-up or"
        " config.optim.clip_norm=1.0 are the usual remedies"
    )
