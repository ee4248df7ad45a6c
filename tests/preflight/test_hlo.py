"""Cycles, loops and collectives are read as the program executes them, from texts by hand and from real programs."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from luab_jax.augmentation.chosen import USUAL_SCOPE, few_at_once, loop_scope
from luab_jax.preflight import hlo
from luab_jax.preflight.hlo import Collective
from luab_jax.preflight.hlo_text import shape_bytes


def program(entry: str, others: str = "", partitions: int = 8) -> hlo.ProgramText:
    header = f"HloModule jit_step, is_scheduled=true, num_partitions={partitions}\n\n"
    return hlo.read(f"{header}{others}\nENTRY %main (p: f32[4]) -> f32[4] {{\n{entry}\n}}\n")


def fusion(name: str, cycles: int, calls: str = "fused") -> str:
    config = f'{{"window_config":{{"kernel_window_bounds":[],"estimated_cycles":"{cycles}"}}}}'
    return f"  %{name} = f32[4]{{0:T(128)S(1)}} fusion(%p), kind=kLoop, calls=%{calls}, backend_config={config}"


FUSED = "%fused (q: f32[4]) -> f32[4] {\n" + fusion("inner", 1000, calls="none") + "\n}\n"


def test_the_cycles_of_what_is_executed_add_up_and_those_inside_of_fusions_do_not() -> None:
    assert program(fusion("a", 100) + "\n" + fusion("b", 23), FUSED).cycles == 123


def test_a_compiler_that_states_no_cycles_is_not_a_program_without_work() -> None:
    assert program("  %a = f32[4]{0} add(%p, %p)").cycles is None


def test_a_loop_counts_as_often_as_it_runs() -> None:
    inner = "%inner (q: f32[4]) -> f32[4] {\n" + fusion("c", 7) + "\n}\n"
    body = "%body (q: f32[4]) -> f32[4] {\n" + fusion("a", 10) + "\n" + loop("inner", 3) + "\n}\n"
    read = program(fusion("b", 5) + "\n" + loop("body", 12), inner + body + FUSED)
    assert read.cycles == 5 + 12 * (10 + 3 * 7)
    assert (read.num_loops, read.num_unknown_loops) == (2, 0)


def loop(body: str, trips: int | None) -> str:
    config = "" if trips is None else f', backend_config={{"known_trip_count":{{"n":"{trips}"}}}}'
    return f"  %w.{body} = (s32[], /*index=1*/f32[4]{{0}}) while(%p), condition=%condition, body=%{body}{config}"


def test_a_loop_of_unknown_length_counts_once_and_is_told() -> None:
    read = program(loop("body", None), "%body (q: f32[4]) -> f32[4] {\n" + fusion("a", 10) + "\n}\n")
    assert (read.cycles, read.num_loops, read.num_unknown_loops) == (10, 1, 1)


def test_a_loop_of_which_nothing_is_said_runs_as_often_as_its_counter_may_grow() -> None:
    body = "%body (q: f32[4]) -> f32[4] {\n" + fusion("a", 10) + "\n}\n"
    condition = """%condition (t: (s32[], f32[4])) -> pred[] {
  %bound.1 = s32[]{:T(128)} constant(16)
  %t = (s32[]{:T(128)}, f32[4]{0}) parameter(0)
  %count = s32[]{:T(128)} get-tuple-element(%t), index=0
  ROOT %lt.1 = pred[]{:T(512)} compare(%count, %bound.1), direction=DIRECTION, metadata={}
}
"""
    read = program(loop("body", None), body + condition.replace("DIRECTION", "LT"))
    assert (read.cycles, read.num_unknown_loops) == (160, 0)
    assert program(loop("body", None), body + condition.replace("DIRECTION", "NE")).num_unknown_loops == 1


def test_a_loop_as_long_as_the_data_make_it_runs_as_often_as_the_program_expects() -> None:
    body = "%body (q: f32[4]) -> f32[4] {\n" + fusion("a", 10) + "\n}\n"
    scope = f"jit(step)/{loop_scope(7)}/while"
    read = program(loop("body", None) + f', metadata={{op_name="{scope}"}}', body + FUSED)
    assert (read.cycles, read.num_unknown_loops) == (70, 0)
    inner = program(loop("body", None) + f', metadata={{op_name="{scope}/body/while"}}', body + FUSED)
    assert (inner.cycles, inner.num_unknown_loops) == (10, 1)


def test_single_numbers_read_and_written_are_counted_wherever_they_are() -> None:
    body = "%body (q: f32[4]) -> f32[4] {\n  %g = f32[6,2]{1,0} gather(%q, %i), slice_sizes={1,2}\n}\n"
    assert program(loop("body", 5), body).scattered == 5 * 6
    read = jax.jit(lambda x, i: x.at[i].add(1)[i[:3]]).lower(jnp.zeros((9, 4)), jnp.arange(5)).compile().as_text()
    # Of the gather; a CPU's compiler makes a loop of the scatter, that of jaxlib 0.11 keeps it.
    assert hlo.read(read or "").scattered in (3, 3 + 5)
    scatter = """  %u = f32[5,4]{1,0} parameter(1)
  %s = f32[9,4]{1,0} scatter(%p, %i, %u), update_window_dims={1}, to_apply=%add"""
    assert program(scatter).scattered == 5


def test_of_branches_the_longest_counts() -> None:
    others = "".join(f"%{n} (q: f32[4]) -> f32[4] {{\n" + fusion("a", c) + "\n}\n" for n, c in (("x", 3), ("y", 9)))
    assert program("  %c = f32[4]{0} conditional(%p, %p, %p), branch_computations={%x, %y}", others).cycles == 9


def test_a_branch_without_cycles_is_not_the_longest_by_what_it_moves() -> None:
    copies = "%x (q: f32[4]) -> f32[400] {\n  %q = f32[400]{0} parameter(0)\n  %d = f32[400]{0} copy(%q)\n}\n"
    others = copies + "%y (q: f32[4]) -> f32[4] {\n" + fusion("b", 9) + "\n}\n"
    assert program("  %c = f32[4]{0} conditional(%p, %p, %p), branch_computations={%x, %y}", others).cycles == 9


def usual(scope: str) -> str:
    """A conditional inside of a branch that is usual itself, as jax and XLA write it."""
    path = f"jit(f)/{USUAL_SCOPE}/cond"
    computations = "".join(
        f'%{name} (q: f32[4]) -> f32[4] {{\n{fusion(name, cycles)}, metadata={{op_name="{path}/{of}/add"}}\n}}\n'
        for name, cycles, of in (("x", 3, f"branch_0_fun/{scope}"), ("y", 9, "branch_1_fun"))
    )
    entry = f"""  %c = f32[4]{{0}} conditional(%p, %p, %p), true_computation=%y, false_computation=%x, \
metadata={{op_name="{path}"}}"""
    return f"HloModule jit_f\n\n{computations}\nENTRY %main (p: f32[4]) -> f32[4] {{\n{entry}\n}}\n"


def test_a_branch_that_the_program_calls_usual_counts_though_another_is_longer() -> None:
    assert hlo.read(usual(USUAL_SCOPE)).cycles == 3
    assert hlo.read(usual("another")).cycles == 9


def test_the_branch_of_few_images_is_called_usual_in_the_program_of_a_gpu() -> None:
    images, chosen = jax.ShapeDtypeStruct((16, 8, 8, 3), jnp.float32), jax.ShapeDtypeStruct((16,), jnp.bool_)
    text = jax.jit(functools.partial(few_at_once, jnp.sin, 4)).lower(images, chosen, ()).as_text(debug_info=True)
    assert f"cond/branch_0_fun/{USUAL_SCOPE}/" in text and f"branch_1_fun/{USUAL_SCOPE}" not in text


GROUPS = {
    "replica_groups={{0,1,2,3},{4,5,6,7}}": ((0, 1, 2, 3), (4, 5, 6, 7)),
    "replica_groups=[4,2]<=[8]": ((0, 1), (2, 3), (4, 5), (6, 7)),
    "replica_groups=[2,4]<=[4,2]T(1,0)": ((0, 2, 4, 6), (1, 3, 5, 7)),
    "replica_groups=[4,2]<=[2,2,2]T(1,0,2)": ((0, 1), (4, 5), (2, 3), (6, 7)),
    "replica_groups=mesh['axis_0'=8,'axis_1'=1] {'axis_0','axis_1'}": (tuple(range(8)),),
    "replica_groups=mesh['data'=4,'fsdp'=2] {'fsdp'}": ((0, 1), (2, 3), (4, 5), (6, 7)),
    "replica_groups=mesh['data'=4,'fsdp'=2] {'data'}": ((0, 2, 4, 6), (1, 3, 5, 7)),
    "replica_groups=mesh['data'=8] {'data':(2)4}": ((0, 1, 2, 3), (4, 5, 6, 7)),
    "replica_groups=mesh['data'=8] {'data':(1)2}": ((0, 4), (1, 5), (2, 6), (3, 7)),
    "replica_groups={}": (tuple(range(8)),),
    "source_target_pairs={{0,1},{1,0}}": ((0, 1), (1, 0)),
}


@pytest.mark.parametrize("notation", GROUPS)
def test_the_members_of_groups_are_read_in_each_notation(notation: str) -> None:
    read = program(f"  %r = f32[4]{{0}} all-reduce(%p), channel_id=1, {notation}, to_apply=%add")
    assert read.collectives[0].groups == GROUPS[notation]
    assert read.collectives[0].group_size == len(GROUPS[notation][0])


def reduces(*names: str, shape: str = "bf16[10]") -> str:
    """Computations with an all-reduce on channel 1."""
    reduce = "  %r = (bf16[10]{0}, f32[]) all-reduce(%a, %b), channel_id=1, replica_groups={{0,1}}, to_apply=%add"
    return "".join(
        f"%{name} (a: {shape}, b: f32[]) -> f32[4] {{\n  %a = {shape}{{0}} parameter(0)\n"
        f"  %b = f32[] parameter(1)\n{reduce}\n}}\n"
        for name in names
    )


def test_an_asynchronous_collective_counts_once_in_whichever_fusions_it_is_written() -> None:
    """The first, one that overlaps, and the last, which keeps its operand elsewhere."""
    parts = reduces("start", "overlap") + reduces("end").replace("a = bf16[10]{0}", "a = bf16[10]{0:S(1)}")
    entry = "\n".join(
        f"  %{name} = f32[4]{{0}} fusion(%p), kind=kCustom, calls=%{name}" for name in ("start", "overlap", "end")
    )
    once = Collective(kind="all-reduce", num_bytes=24, group_size=2, count=1)
    assert program(entry, parts).collectives == (once,)
    others = reduces("other", shape="bf16[20]") + reduces("all-reduce-scatter.1", "all-reduce-scatter.2")
    entry += "".join(
        f"\n  %{name} = f32[4]{{0}} fusion(%p), kind=kCustom, calls=%{name}"
        for name in ("other", "all-reduce-scatter.1", "all-reduce-scatter.2")
    )
    found = program(entry, parts + others).collectives
    assert found == (once, dataclasses.replace(once, num_bytes=44), once, once), "another operand, and two wholes"


def test_each_asynchronous_start_is_a_collective() -> None:
    entry = "\n".join(
        f"  %s{i} = f32[4]{{0}} async-start(%p), calls=%{name}\n  %d{i} = f32[4]{{0}} async-done(%s{i}), calls=%{name}"
        for i, name in enumerate(("one", "two"))
    )
    found = program(entry, reduces("one", "two")).collectives
    assert found == (Collective(kind="all-reduce", num_bytes=24, group_size=2, count=1),) * 2


def test_collectives_that_stand_for_themselves_count_each_though_a_shard_map_gives_all_the_same_channel() -> None:
    gathers = "\n".join(
        f"  %g{i} = ((f32[4]{{0}}, f32[2]{{0}}), (f32[8]{{0}}, f32[4]{{0}})) all-gather-start(%q, %r), channel_id=1,"
        " replica_groups={{0,1}}, dimensions={0}"
        for i in range(3)
    )
    parts = "  %q = f32[4]{0} negate(%p)\n  %r = f32[2]{0} slice(%p), slice={[0:2]}\n"
    found = program(parts + gathers).collectives
    assert found == (Collective(kind="all-gather", num_bytes=48, group_size=2, count=1),) * 3


def test_what_a_sparse_core_exchanges_counts_and_its_cycles_do_not() -> None:
    """As libtpu writes it for TPU7x."""
    scatter = (
        "  ROOT %r = f32[2]{0} reduce-scatter(%a), channel_id=7, replica_groups={{0,1}}, dimensions={0}, to_apply=%add"
    )
    called = "%called (a: f32[4]) -> f32[2] {\n  %a = f32[4]{0} parameter(0)\n" + fusion("inner", 1000).replace(
        "%p", "%a"
    )
    entry = (
        fusion("first", 5)
        + '\n  %s = ((f32[4]{0}), f32[2]{0}) call-start(%p), async_execution_thread="sparsecore", to_apply=%called'
        + "\n  %d = f32[2]{0} call-done(%s)"
    )
    read = program(entry, f'{FUSED}{called}\n{scatter}\n}}, execution_thread="sparsecore"\n')
    (found,) = read.collectives
    assert (found.kind, found.num_bytes, found.group_size, read.cycles) == ("reduce-scatter", 16, 2, 5)


def test_a_collective_in_a_loop_counts_as_often_as_the_loop_runs() -> None:
    reduce = "  %q = f32[4]{0} parameter(0)\n  %r = f32[4]{0} all-reduce(%q), channel_id=1, replica_groups=[1,8]<=[8]"
    (found,) = program(loop("body", 6), "%body (q: f32[4]) -> f32[4] {\n" + reduce + "\n}\n").collectives
    assert found == Collective(kind="all-reduce", num_bytes=16, group_size=8, count=6)


SHAPES = {
    "f32[2,3]{1,0:T(8,128)S(1)}": 24,
    "(bf16[3]{0}, /*index=1*/pred[5]{0}, s32[])": 15,
    "s4[6]{0}": 3,
    "f8e4m3fn[7]{0}": 7,
    "c64[2]": 16,
    "token[]": 0,
    "u8[<=4,2]{1,0}": 8,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_bytes_of_shapes(shape: str) -> None:
    assert shape_bytes(shape) == SHAPES[shape]


def sent(kind: str, num_bytes: int, group_size: int) -> float:
    return Collective(kind=kind, num_bytes=num_bytes, group_size=group_size, count=1).sent_bytes


def test_what_a_ring_sends() -> None:
    assert sent("all-reduce", 800, 8) == sent("reduce-scatter", 800, 8) + sent("all-gather", 800, 8) == 2 * 700
    assert sent("all-reduce", 800, 1) == sent("collective-permute", 800, 1) == 0
    assert sent("collective-permute", 800, 2) == 800


def collectives(mesh: Mesh, spec: P, function: object, shape: tuple[int, ...]) -> tuple[Collective, ...]:
    """Of a function of one float32 array that is split like `spec`, compiled for the mesh."""
    argument = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))
    return hlo.read(jax.jit(function).lower(argument).compile().as_text() or "").collectives  # pyright: ignore[reportArgumentType, reportCallIssue]


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return Mesh(np.asarray(jax.devices()).reshape(4, 2), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)


def test_the_gradient_of_a_split_batch_is_one_all_reduce_of_its_bytes(mesh: Mesh) -> None:
    """A kernel of 16 x 32 in float32: 2,048 bytes over 8 devices."""
    rows = P(("data", "fsdp"))

    def gradient(images: jax.Array) -> jax.Array:
        return jax.grad(lambda kernel: jnp.mean(jnp.tanh(images @ kernel)))(jnp.ones((16, 32)))

    found = collectives(mesh, rows, gradient, (64, 16))
    assert found == (Collective(kind="all-reduce", num_bytes=2048, group_size=8, count=1),)


EXCHANGES = {
    "all-gather": (lambda x: jax.lax.all_gather(x, "fsdp", tiled=True), 2 * 64),
    "reduce-scatter": (lambda x: jax.lax.psum_scatter(x, "fsdp", tiled=True), 64),
    "collective-permute": (lambda x: jax.lax.ppermute(x, "fsdp", [(0, 1), (1, 0)]), 64),
    "all-to-all": (lambda x: jax.lax.all_to_all(x, "fsdp", 0, 0, tiled=True), 64),
}


@pytest.mark.parametrize("kind", EXCHANGES)
def test_the_bytes_of_each_kind_in_a_compiled_program(kind: str, mesh: Mesh) -> None:
    """Each device has 16 of 128 float32 numbers, and exchanges them with one other."""
    function, num_bytes = EXCHANGES[kind]
    exchange = functools.partial(jax.shard_map, mesh=mesh, in_specs=P(("data", "fsdp")), check_vma=False)
    (found,) = collectives(mesh, P(("data", "fsdp")), exchange(function, out_specs=P(("data", "fsdp"))), (128,))
    assert (found.kind, found.num_bytes, found.count) == (kind, num_bytes, 1)
    assert kind == "collective-permute" or found.group_size == 2


def test_a_collective_in_a_compiled_loop(mesh: Mesh) -> None:
    def function(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 5, lambda _, y: jnp.sin(jax.lax.psum(y, "data")), x)

    split = jax.shard_map(function, mesh=mesh, in_specs=P("data"), out_specs=P("data"), check_vma=False)
    (found,) = collectives(mesh, P("data"), split, (8,))
    assert found == Collective(kind="all-reduce", num_bytes=8, group_size=4, count=5)


SLICES = """\
HloModule jit_f, num_partitions=32

ENTRY %main (p: bf16[64,8,128]) -> bf16[64,8,128] {
  %p = bf16[64,8,128]{2,1,0} parameter(0)
  %after-all = token[] after-all()
  %send = (bf16[64,8,128]{2,1,0}, u32[], token[]) send(%p, %after-all), channel_id=2, is_host_transfer=true, \
frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_megascale_target="{1,2}x{0:15}"}
  ROOT %send-done = token[] send-done(%send), channel_id=2, is_host_transfer=true
}
"""


def test_what_is_sent_to_another_slice_is_no_collective_of_the_links() -> None:
    """As libtpu writes an all-reduce over two slices, after its part within each."""
    (sent,) = hlo.read(SLICES).collectives
    assert (sent.kind, sent.num_bytes, sent.group_size, sent.between_slices) == (hlo.BETWEEN_SLICES, 131_072, 2, True)
    assert sent.sent_bytes == 131_072
