"""`config.checkpoint.every_minutes` saves beside the epochs, by one clock on all hosts."""

from __future__ import annotations

import jax
import pytest

from luab_jax.config import CheckpointConfig, Config
from luab_jax.errors import ConfigError
from luab_jax.training import loop


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds = [1000.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: seconds[0])
    return seconds


def test_a_save_is_due_when_the_minutes_have_passed_since_the_last(now: list[float]) -> None:
    clock = loop._Clock(2.0, every_steps=50)
    now[0] += 119
    assert not clock.is_due(3)
    now[0] += 1
    assert clock.is_due(3)
    clock.saved()  # by epochs, perhaps
    assert not clock.is_due(4)


def test_without_minutes_it_never_is(now: list[float]) -> None:
    clock = loop._Clock(None, every_steps=50)
    now[0] += 1e9
    assert not clock.is_due(50)


def test_of_several_hosts_the_first_decides_at_logged_steps(now: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    first = ["due"]
    monkeypatch.setattr(loop.sharding, "gather", lambda text: [first[0], text])
    clock = loop._Clock(1.0, every_steps=50)
    assert clock.is_due(50), "its own clock says no, the first one's yes"
    assert not clock.is_due(51), "no exchange between logged steps"
    first[0] = ""
    now[0] += 61
    assert not clock.is_due(100)


def test_minutes_are_positive_and_no_part_of_the_experiment() -> None:
    with pytest.raises(ConfigError, match=r"config\.checkpoint\.every_minutes"):
        Config(checkpoint=CheckpointConfig(every_minutes=0.0)).validate()
