"""Kernels of programs for GPUs by hand: what each multiplies, what it moves, how often it runs."""

from __future__ import annotations

import pytest

from luab_jax.preflight import hlo
from luab_jax.preflight.gpu_kernels import GpuKernel, Kind

CUBLAS = (
    'custom_call_target="__cublas$lt$matmul", metadata={op_name="jit(step)/dot_general"}, backend_config={'
    '"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],'
    '"rhs_contracting_dimensions":["0"],"lhs_batch_dimensions":[],"rhs_batch_dimensions":[]}}}'
)


def kernels(entry: str, others: str = "") -> list[GpuKernel]:
    header = "HloModule jit_step, is_scheduled=true\n\n"
    return list(hlo.read(f"{header}{others}\nENTRY %main (p: f32[4]) -> f32[4] {{\n{entry}\n}}\n").kernels)


def test_a_product_of_cublas_moves_its_arrays_and_not_its_workspace() -> None:
    """[4, 8] times [8, 16] in bfloat16, and a bias: 2 · 4 · 16 · 8 operations."""
    (found,) = kernels(f"""\
  %a = bf16[4,8]{{1,0}} parameter(0)
  %b = bf16[8,16]{{1,0}} parameter(1)
  %bias = bf16[16]{{0}} parameter(2)
  %m.1 = (bf16[4,16]{{1,0}}, s8[4194304]{{0}}) custom-call(%a, %b, %bias), {CUBLAS}
  ROOT %r = bf16[4,16]{{1,0}} get-tuple-element(%m.1), index=0""")
    assert found == GpuKernel(Kind.PRODUCT, flops=1024, num_bytes=2 * (32 + 128 + 16 + 64), times=1, dtype="bf16")


def test_a_fusion_with_a_product_is_one() -> None:
    inner = """\
%inner (x: bf16[4,8], y: bf16[8,16]) -> bf16[4,16] {
  %x = bf16[4,8]{1,0} parameter(0)
  %y = bf16[8,16]{1,0} parameter(1)
  ROOT %d = bf16[4,16]{1,0} dot(%x, %y), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}
"""
    entry = """\
  %a = bf16[4,8]{1,0} parameter(0)
  %b = bf16[8,16]{1,0} parameter(1)
  ROOT %f = bf16[4,16]{1,0} fusion(%a, %b), kind=kCustom, calls=%inner"""
    (found,) = kernels(entry, inner)
    assert (found.kind, found.flops, found.dtype) == (Kind.PRODUCT, 1024, "bf16")
    (mixed,) = kernels(entry, inner.replace("y: bf16", "y: f32").replace("%y = bf16", "%y = f32"))
    assert mixed.dtype == "f32", "the wider of two"


IMAGES, KERNEL, OUTPUTS = "bf16[2,6,6,3]{3,2,1,0}", "bf16[5,3,3,3]{3,2,1,0}", "bf16[2,4,4,5]{3,2,1,0}"


@pytest.mark.parametrize(
    ("target", "operands", "result"),
    [
        ("convForward", (IMAGES, KERNEL), OUTPUTS),
        ("convBackwardInput", (OUTPUTS, KERNEL), IMAGES),
        ("convBackwardFilter", (IMAGES, OUTPUTS), KERNEL),
    ],
)
def test_a_convolution_and_its_gradients_multiply_as_often(target: str, operands: tuple[str, str], result: str) -> None:
    """2 · 4 · 4 · 5 outputs, each a sum over a window of 3 · 3 · 3."""
    (found,) = kernels(f"""\
  %a = {operands[0]} parameter(0)
  %b = {operands[1]} parameter(1)
  %c = ({result}, u8[0]{{0}}) custom-call(%a, %b), window={{size=3x3}}, dim_labels=b01f_o01i->b01f, \
custom_call_target="__cudnn${target}\"""")
    assert (found.kind, found.flops) == (Kind.PRODUCT, 2 * 160 * 27)


@pytest.mark.parametrize(("target", "products"), [("fmhaSoftmax", 2), ("fmhaSoftmaxBackward", 5)])
def test_attention_of_cudnn(target: str, products: int) -> None:
    """Weights [2, 3, 10, 10] of 8 channels."""
    (found,) = kernels(f"""\
  %q = bf16[2,10,3,8]{{3,2,1,0}} parameter(0)
  %a = (bf16[2,3,10,8]{{3,1,2,0}}, u8[0]{{0}}) custom-call(%q, %q, %q), custom_call_target="__cudnn${target}", \
backend_config={{"cudnn_fmha_backend_config": {{"fmha_scale": 0.125, "intermediate_tensor_shape": \
{{"element_type": "BF16", "dimensions": ["2", "3", "10", "10"], "tuple_shapes": []}}}}}}""")
    assert (found.kind, found.flops) == (Kind.ATTENTION, products * 2 * 600 * 8)
    assert found.num_bytes == 2 * (480 + 480), "an operand that is named three times is read once"


def test_a_fusion_reads_of_what_it_slices_the_slice() -> None:
    inner = """\
%inner (x: f32[100,4], y: f32[2,4]) -> f32[2,4] {
  %x = f32[100,4]{1,0} parameter(0)
  %s = f32[2,4]{1,0} slice(%x), slice={[0:2], [0:4]}
  %y = f32[2,4]{1,0} parameter(1)
  ROOT %d = f32[2,4]{1,0} add(%s, %y)
}
"""
    entry = """\
  %a = f32[100,4]{1,0} parameter(0)
  %b = f32[2,4]{1,0} parameter(1)
  ROOT %f = f32[2,4]{1,0} fusion(%a, %b), kind=kLoop, calls=%inner"""
    (found,) = kernels(entry, inner)
    assert (found.kind, found.flops, found.num_bytes) == (Kind.PASS, 0, 3 * 32)
    (whole,) = kernels(entry, inner.replace("add(%s, %y)", "custom-call(%s, %y, %x)"))
    assert whole.num_bytes == 1600 + 2 * 32


def test_a_fusion_that_updates_in_place_writes_the_update() -> None:
    inner = """\
%inner (x: f32[100,4]) -> f32[100,4] {
  %x = f32[100,4]{1,0} parameter(0)
  %b = f32[100,4]{1,0} bitcast(%x)
  %zero = f32[] constant(0)
  %u = f32[1,4]{1,0} broadcast(%zero), dimensions={}
  %i = s32[] constant(0)
  ROOT %d = f32[100,4]{1,0} dynamic-update-slice(%b, %u, %i, %i)
}
"""
    entry = """\
  %a = f32[100,4]{1,0} parameter(0)
  ROOT %f = f32[100,4]{1,0} fusion(%a), kind=kLoop, calls=%inner"""
    assert kernels(entry, inner)[0].num_bytes == 16


def test_a_fusion_that_scatters_in_place_writes_the_updates() -> None:
    """[2, 4] updates and 2 indices of 4 bytes are read, and the updates written."""
    inner = """\
%inner (x: f32[1000,4], i: s32[2], u: f32[2,4]) -> f32[1000,4] {
  %x = f32[1000,4]{1,0} parameter(0)
  %i = s32[2]{0} parameter(1)
  %u = f32[2,4]{1,0} parameter(2)
  ROOT %s = f32[1000,4]{1,0} scatter(%x, %i, %u), update_window_dims={1}, to_apply=%add
}
"""
    entry = """\
  %a = f32[1000,4]{1,0} parameter(0)
  %j = s32[2]{0} parameter(1)
  %b = f32[2,4]{1,0} parameter(2)
  ROOT %f = f32[1000,4]{1,0} fusion(%a, %j, %b), kind=kInput, calls=%inner"""
    assert kernels(entry, inner)[0].num_bytes == 32 + 8 + 32
    onto_new = inner.replace("ROOT %s", "%n = f32[1000,4]{1,0} negate(%x)\n  ROOT %s").replace(
        "scatter(%x", "scatter(%n"
    )
    assert kernels(entry, onto_new)[0].num_bytes == 16_000 + 8 + 32 + 16_000, "what is not there yet is written whole"


ALONE = {
    "f32[2,4]{1,0} slice(%a), slice={[0:2], [0:4]}": 2 * 32,
    "f32[2,4]{1,0} dynamic-slice(%a, %i, %i), dynamic_slice_sizes={2,4}": 2 * 32 + 4,
    "f32[2,4]{1,0} gather(%a, %j), slice_sizes={1,4}": 2 * 32 + 8,
    "f32[1000,4]{1,0} dynamic-update-slice(%a, %u, %i, %i)": 2 * 32 + 4,
    "f32[1000,4]{1,0} scatter(%a, %j, %u), update_window_dims={1}, to_apply=%add": 2 * 32 + 8,
    "f32[1000,4]{1,0} copy(%a)": 2 * 16_000,
    "(f32[1000,4]{1,0}, f32[1000,4]{1,0}, u32[]) copy-start(%a)": 2 * 16_000,
}


@pytest.mark.parametrize("instruction", ALONE)
def test_what_is_not_in_a_fusion_moves_the_same(instruction: str) -> None:
    (found,) = kernels(f"""\
  %a = f32[1000,4]{{1,0}} parameter(0)
  %i = s32[] parameter(1)
  %j = s32[2]{{0}} parameter(2)
  %u = f32[2,4]{{1,0}} parameter(3)
  ROOT %r = {instruction}""")
    assert found.num_bytes == ALONE[instruction]


def test_what_only_names_or_awaits_others_is_no_kernel() -> None:
    assert not kernels("""\
  %a = f32[4]{0} parameter(0)
  %b = f32[2,2]{1,0} bitcast(%a)
  %r = f32[4]{0} all-reduce(%a), channel_id=1, replica_groups={{0,1}}, to_apply=%sum
  %d = f32[4]{0} copy-done(%r)
  ROOT %t = (f32[4]{0}) tuple(%d)""")


def test_loops_repeat_and_of_branches_that_counts_which_moves_most() -> None:
    others = """\
%body (q: f32[4]) -> f32[4] {
  %q = f32[4]{0} parameter(0)
  %c = f32[4]{0} copy(%q)
}
%small (q: f32[4]) -> f32[4] {
  %q = f32[4]{0} parameter(0)
  %small.1 = f32[4]{0} copy(%q)
}
%large (q: f32[4]) -> f32[4] {
  %q = f32[4]{0} parameter(0)
  %large.1 = f32[400]{0} broadcast(%q), dimensions={0}
}
"""
    looped, chosen = kernels(
        """\
  %p = f32[4]{0} parameter(0)
  %w = f32[4]{0} while(%p), condition=%never, body=%body, backend_config={"known_trip_count":{"n":"7"}}
  %i = s32[] constant(0)
  %x = f32[4]{0} conditional(%i, %p, %p), branch_computations={%small, %large}""",
        others,
    )
    assert (looped.times, looped.num_bytes) == (7, 32)
    assert chosen.num_bytes == 16 + 1600


def test_a_program_with_cycles_needs_none() -> None:
    assert not kernels('  %p = f32[4]{0} copy(%p), backend_config={"estimated_cycles":"5"}')
