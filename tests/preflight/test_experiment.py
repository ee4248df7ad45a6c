"""A step is made as for the devices it is compiled for, and counted as if no kernel hid its products."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from luab_jax.config import Config
from luab_jax.models import gpu
from luab_jax.models.config import ModelConfig
from luab_jax.preflight import experiment, topology
from luab_jax.preflight.experiment import examine, forward_macs, lowered_for
from luab_jax.preflight.gpus import parse_gpus
from tests import tiny
from tests.preflight.test_command import program_without_data
from tests.preflight.test_text import FACTS


def config(name: str) -> Config:
    found = tiny.experiment(Path(), batch_size=16, model=ModelConfig(name=name))
    found.data.root = ""
    return found


def eight_gpus() -> topology.Topology:
    """The devices here, taken for a machine of eight H100."""
    return dataclasses.replace(topology._local(), name="h100:8", gpus=parse_gpus("h100:8"))


def test_a_step_for_absent_gpus_is_the_one_that_gpus_get() -> None:
    """ResNet's maximum pool has a gradient of its own there, without a scatter."""
    here, there = (lowered_for(config("resnet18"), where, None, None)[2] for where in (topology._local(), eight_gpus()))
    with gpu.as_target():
        expected = lowered_for(config("resnet18"), topology._local(), None, None)[2]
    assert there.as_text() == expected.as_text() != here.as_text()
    assert not gpu.has_cuda()


@pytest.mark.parametrize("absent", [True, False], ids=["absent GPUs", "GPUs at hand"])
def test_products_inside_of_cudnns_kernels_are_counted(absent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernels are chosen, the products of attention cannot be seen in the program."""
    plain = program_without_data(config("vit_ti"))
    expected = forward_macs(plain[1].model)
    monkeypatch.setattr(experiment, "lowered_for", lambda *_: (plain[0], plain[1], None))
    monkeypatch.setattr(experiment, "facts_of", lambda *_, **__: (FACTS, False))
    monkeypatch.setattr(experiment, "_without_cudnn", without := Seen(experiment._without_cudnn))
    with contextlib.nullcontext() if absent else gpu.as_target():
        found = examine(config("vit_ti"), eight_gpus() if absent else topology._local(), name="vit_ti")
    assert without.programs and found.work.forward_macs == pytest.approx(expected, rel=0.02)
    without.programs.clear()
    examine(config("vit_ti"), topology._local(), name="vit_ti")
    assert not without.programs


class Seen:
    """A function, and what it returned."""

    def __init__(self, function: Any):
        self._function, self.programs = function, []

    def __call__(self, *arguments: Any) -> Any:
        self.programs.append(self._function(*arguments))
        return self.programs[-1]
