"""Kernels of a program by hand."""

from __future__ import annotations

from luab_jax.preflight import hlo
from luab_jax.preflight.kernels import kernels
from tests.preflight.test_hlo import FUSED, fusion, loop


def test_kernels_have_the_cycles_of_the_program_and_say_whether_they_multiply() -> None:
    inner = "%deep (q: f32[4]) -> f32[4] {\n  %d = f32[4]{0} convolution(%q, %q), dim_labels=b0f_0io->b0f\n}\n"
    outer = "%outer (q: f32[4]) -> f32[4] {\n" + fusion("e", 9, calls="deep") + "\n}\n"
    body = "%body (q: f32[4]) -> f32[4] {\n" + fusion("a", 10) + ', metadata={op_name="jit(step)/add"}\n}\n'
    entry = loop("body", 3) + "\n" + fusion("m", 100, calls="outer")
    text = f"HloModule jit_step\n\n{inner}{outer}{FUSED}{body}\nENTRY %main (p: f32[4]) -> f32[4] {{\n{entry}\n}}\n"
    added, multiplied = kernels(text)
    assert (added.cycles, added.times, added.operation, added.is_product) == (30, 3, "jit(step)/add", False)
    assert (multiplied.cycles, multiplied.times, multiplied.operation, multiplied.is_product) == (100, 1, "", True)
    assert hlo.read(text).cycles == 130
