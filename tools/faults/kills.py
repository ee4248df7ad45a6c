"""kill -9 at random moments of a run's whole life, the same command after each."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from luab_jax.metrics.history import read_metrics
from tools.faults.runs import STEPS_PER_SAVE, Training, difference, is_saving, saved_steps

AIMS = ("start-up", "step", "save", "evaluation")


@dataclass
class Killed:
    """What many kills did."""

    hits: Counter[str] = field(default_factory=Counter)
    """What the process was doing when it died, seen from what it left."""
    repeated_steps: int = 0
    """Done since the last checkpoint, and done again."""
    runs: int = 0
    """That came to their end in spite of the kills."""
    differences: list[str] = field(default_factory=list)


def kill_often(training: Training, reference: Path, start_s: float, kills: int, seed: int) -> Killed:
    """Kills `kills` times in all; a run that ends is compared with the uninterrupted one, and another begun.

    Args:
        training: The experiment.
        reference: The workdir of the uninterrupted run.
        start_s: How long a start takes until the first step.
        kills: How many.
        seed: Of the moments.
    """
    rng, killed, number = Random(seed), Killed(), 0
    while sum(killed.hits.values()) < kills:
        workdir = training.folder / f"killed_{number}"
        while sum(killed.hits.values()) < kills and _one_life(training, workdir, start_s, rng, killed):
            pass
        code = training.run(workdir).wait()
        killed.runs, number = killed.runs + 1, number + 1
        if what := f"exit code {code}" if code else difference(training, workdir, reference):
            killed.differences.append(f"{workdir}: {what}")
    return killed


def _one_life(training: Training, workdir: Path, start_s: float, rng: Random, killed: Killed) -> bool:
    """Starts the command and kills it; False if it came to its end before."""
    aim, delay = rng.choice(AIMS), rng.random()
    first = max(saved_steps(workdir), default=0)
    run = training.start(workdir)
    if aim == "start-up":
        run.wait_until(lambda: time.monotonic() - run.begun > delay * start_s)
    else:
        wanted = rng.randrange(1, 3 * STEPS_PER_SAVE)
        run.wait_until(lambda: f"step {first + wanted}/" in run.output)
        if aim == "save":
            run.wait_until(lambda: is_saving(workdir))
        if aim == "evaluation":
            run.wait_until(lambda: _waits_for_evaluation(workdir))
        time.sleep(0.03 * delay)
    if run.process.poll() is not None:
        return False
    run.process.kill()
    run.wait()
    compiled = f"/{training.total_steps}" in run.output.partition("compiled the training step")[2]
    killed.hits[_doing(workdir, has_stepped=compiled)] += 1
    steps = [line["step"] for line in read_metrics(workdir)]
    killed.repeated_steps += max(steps, default=0) - max(saved_steps(workdir), default=0)
    return True


def _waits_for_evaluation(workdir: Path) -> bool:
    lines = read_metrics(workdir)
    return bool(lines) and "eval/top1" not in lines[-1] and lines[-1]["step"] % STEPS_PER_SAVE == 0


def _doing(workdir: Path, *, has_stepped: bool) -> str:
    if not has_stepped:
        return "start-up"
    if is_saving(workdir):
        return "save"
    return "evaluation" if _waits_for_evaluation(workdir) else "step"
