"""What a reader must know of how the runs that are compared were trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luab_jax.io.wording import counted
from luab_jax.report.runs import Experiment, Run
from luab_jax.results.text import printable


def training_notes(experiments: Sequence[Experiment]) -> list[str]:
    """A line where experiments differ in how long or in what batches they were trained, one for each that was stopped.

    Only of runs whose results state their config; those of weights from elsewhere do not.
    """
    return [*_differing(experiments), *(line for of in experiments for run in of.runs if (line := _stopped(of, run)))]


def _differing(experiments: Sequence[Experiment]) -> list[str]:
    configs = [(of.name, of.runs[0].checkpoint.experiment) for of in experiments]
    parts: list[str] = []
    for field, of_all in (("training", _length), ("batch_size", _batch_size)):
        by_value: dict[str, list[str]] = {}
        for name, config in configs:
            value = of_all(config)
            if value:
                by_value.setdefault(value, []).append(name)
        if len(by_value) > 1:
            parts.append(f"{field} " + ", ".join(f"{value} ({'; '.join(who)})" for value, who in by_value.items()))
    return [printable(f"Not trained alike: {'; '.join(parts)}.")] if parts else []


def _length(config: dict[str, Any]) -> str:
    """`total_steps` overrides `epochs`."""
    steps = _number(config.get("total_steps"))
    epochs = _number(config.get("epochs"))
    return counted(steps, "step") if steps else f"{epochs:g} epochs" if epochs else ""


def _batch_size(config: dict[str, Any]) -> str:
    size = _number(config.get("batch_size"))
    return f"{size:,}" if size else ""


def _stopped(experiment: Experiment, run: Run) -> str:
    """Of the latest checkpoint only: the best one, or one that was asked for, may be of any step."""
    checkpoint = run.checkpoint
    steps = _number(checkpoint.experiment.get("total_steps"))
    if checkpoint.chosen != "latest" or not steps or checkpoint.step >= steps:
        return ""
    seed = f", seed {checkpoint.seed}" if len(experiment.runs) > 1 else ""
    return printable(f"{experiment.name}{seed}: stopped at step {checkpoint.step:,} of {steps:,}.")


def _number(value: object) -> int | float:
    """0 of what is none: a results file may hold anything."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else 0
