"""How long an epoch takes here, before anything else is decided."""

from __future__ import annotations

import dataclasses
import shutil
import time
from pathlib import Path

import luab_jax
from benchmarks.study import arms
from benchmarks.study.runs import _quiet

_SHORT, _LONG = 0.05, 0.15
"""Epochs; the difference of two trainings holds neither compilation nor start."""


def epoch_seconds(out: Path, model: str = "resnet") -> float:
    """Seconds of one epoch without evaluation."""
    seconds = []
    for epochs in (_SHORT, _SHORT, _LONG):  # the first fills the cache of compiled programs
        workdir = out / "probe"
        shutil.rmtree(workdir, ignore_errors=True)
        config = arms.config(model, arms.CLICK, 0, weight=1.0, epochs=epochs, data=str(out / "data"))
        config = dataclasses.replace(config, eval=dataclasses.replace(config.eval, every_epochs=1000.0))
        start = time.monotonic()
        with _quiet():
            luab_jax.train(config, str(workdir))
        seconds.append(time.monotonic() - start)
    shutil.rmtree(out / "probe", ignore_errors=True)
    return max(seconds[2] - seconds[1], 1e-3) / (_LONG - _SHORT)
