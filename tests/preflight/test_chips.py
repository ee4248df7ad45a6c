"""The figures of chips agree with what jax itself says of them, and with each other."""

from __future__ import annotations

import pytest
from jax.experimental.pallas import tpu

from luab_jax.preflight import chips
from luab_jax.preflight.chips import CHIPS, Chip, of_device_kind

MATRIX_UNITS = {"v3": 2, "v4": 8, "v5e": 4, "v5p": 8}
"""Of 128 x 128 per device: two operations for each cell and cycle."""


@pytest.mark.parametrize("name", CHIPS)
def test_peak_and_memory_are_those_that_jax_states_for_its_kernels(name: str) -> None:
    """jax counts per core; a device of v4 and v5p is two of them. Of v3 it states 140 TFLOP/s, its authors 123."""
    version = getattr(tpu.ChipVersion, {"tpu7x": "TPU_7X"}.get(name, f"TPU_{name.upper()}"))
    chip, stated = CHIPS[name], tpu.get_tpu_info_for_chip(version, 1)
    cores = 2 if name in ("v4", "v5p") else 1
    assert chip.memory_bytes == pytest.approx(cores * stated.hbm_capacity_bytes, rel=0.02)
    if name != "v3":
        assert chip.peak_flops == pytest.approx(cores * stated.bf16_ops_per_second, rel=0.01)


@pytest.mark.parametrize("name", MATRIX_UNITS)
def test_clock_and_matrix_units_give_the_peak(name: str) -> None:
    chip = CHIPS[name]
    assert chip.clock_hz is not None
    assert chip.peak_flops == pytest.approx(2 * 128**2 * MATRIX_UNITS[name] * chip.clock_hz, rel=0.01)


@pytest.mark.parametrize("chip", CHIPS.values(), ids=CHIPS)
def test_every_device_kind_finds_its_chip_and_every_figure_its_source(chip: Chip) -> None:
    assert all(of_device_kind(kind) is chip for kind in chip.device_kinds)
    assert chip.source
    assert of_device_kind("cpu") is None


@pytest.mark.parametrize("name", ["v6e", "tpu7x"])
def test_where_no_clock_is_public_a_large_product_takes_the_share_of_peak_that_it_has_elsewhere(name: str) -> None:
    chip = CHIPS[name]
    assert chip.clock_is_calibrated and "not public" in chip.source
    per_cycle = {"v6e": chips.V6E_FLOPS_PER_CYCLE, "tpu7x": chips.TPU7X_FLOPS_PER_CYCLE}[name]
    assert chip.clock_hz is not None
    assert per_cycle * chip.clock_hz / chip.peak_flops == pytest.approx(chips.PRODUCT_SHARE)
    for public, of_product in (("v5e", 115_044), ("v5p", 236_349)):
        other = CHIPS[public]
        assert not other.clock_is_calibrated and other.clock_hz is not None
        assert of_product * other.clock_hz / other.peak_flops == pytest.approx(chips.PRODUCT_SHARE, abs=0.02)
