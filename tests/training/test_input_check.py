"""Early in a run it is said once whether the loader keeps up with the step."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from luab_jax.byproducts.targets import Target
from luab_jax.config import ByproductConfig, Config, LogConfig
from luab_jax.data.dataset import open_split
from luab_jax.data.input_speed import InputSpeed, Meter
from luab_jax.training import input_check
from luab_jax.training.input_check import InputCheck, probe
from tests import tiny


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(input_check, "time", clock)
    return clock


def run(clock: Clock, config: Config, total_steps: int, start_step: int = 0) -> dict[int, InputSpeed]:
    """What is said after which step of a run whose first step takes 9 s and all others 0.5 s."""
    meter = Meter()
    meter.count(100, 1.0)
    check, said = InputCheck(config, meter, start_step=start_step, total_steps=total_steps), {}
    for step in range(start_step + 1, min(total_steps, start_step + 20) + 1):
        check.before()
        clock.now += 9.0 if step == start_step + 1 else 0.5
        if (found := check.after(step, ())) is not None:
            said[step] = found
    return said


def test_it_is_said_once_and_the_first_step_does_not_count(clock: Clock) -> None:
    config = tiny.experiment(Path("/data"), batch_size=32)
    for start in (0, 700):
        ((step, found),) = run(clock, config, start + 100, start).items()
        assert step == start + 5
        assert (found.needed, found.given) == (pytest.approx(64.0), pytest.approx(200.0))  # two threads
        assert not found.binds


def test_short_runs_and_those_that_do_not_want_it_hear_nothing(clock: Clock) -> None:
    config = tiny.experiment(Path("/data"), batch_size=32)
    assert run(clock, config, 49) == {}
    assert run(clock, dataclasses.replace(config, log=LogConfig(input_check=False)), 100) == {}


def test_the_probe_needs_no_statistics_and_ends_in_time(tmp_path: Path) -> None:
    tiny.prepare_split(tmp_path, "train", 32)
    config = tiny.experiment(tmp_path, byproduct=ByproductConfig(target=Target.TIME_TO_CLICK))
    assert probe(config, open_split(tmp_path, "train"), 0.05) > 0
