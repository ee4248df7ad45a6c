"""The time on GPUs is a sum of kernels by published figures or shares of them, and a ring over the links."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest

from luab_jax.preflight import text
from luab_jax.preflight.estimate import estimate
from luab_jax.preflight.facts import Facts, Memory
from luab_jax.preflight.gpu_kernels import GpuKernel, Kind
from luab_jax.preflight.gpu_time import PUBLISHED, TRUST, Shares, gpu_time
from luab_jax.preflight.gpus import GPUS, parse_gpus, target_config
from luab_jax.preflight.hlo import Collective, ProgramText
from luab_jax.preflight.hlo_text import groups
from luab_jax.preflight.topology import Topology
from tests.preflight import test_text


def cluster(name: str):
    found = parse_gpus(name)
    assert found is not None
    return found


def kernel(kind: Kind, flops: float, num_bytes: float, times: int = 1, dtype: str = "bf16") -> GpuKernel:
    return GpuKernel(kind, int(flops), int(num_bytes), times, dtype)


KERNELS = (
    kernel(Kind.PRODUCT, 989e9, 1e6),  # 1 ms at peak
    kernel(Kind.PRODUCT, 1e6, 3.35e9, times=2),  # bound by memory: 1 ms each
    kernel(Kind.PASS, 0, 6.7e9, times=3),  # 2 ms each
    kernel(Kind.ATTENTION, 1e6, 1.675e9),  # 0.5 ms
)
ALL_EIGHT = (tuple(range(8)),)
REDUCE = Collective(kind="all-reduce", num_bytes=450_000_000, group_size=8, count=1, groups=ALL_EIGHT)
TEXT = ProgramText(cycles=None, collectives=(REDUCE,), num_loops=0, num_unknown_loops=0, kernels=KERNELS)


def test_a_step_of_an_h100_by_hand() -> None:
    """450 MB take 1.75 ms over NVLink."""
    found = gpu_time(TEXT, cluster("h100:8"), PUBLISHED)
    parts = (found.products_s, found.passes_s, found.attention_s, found.links_s)
    assert parts == pytest.approx((3e-3, 6e-3, 0.5e-3, 1.75e-3))
    assert found.step_s == pytest.approx(sum(parts))


def test_shares_of_the_published_figures_are_those_of_their_kind() -> None:
    found = gpu_time(TEXT, cluster("h100:8"), Shares(products=0.5, memory=0.8, attention=0.25))
    parts = (found.products_s, found.passes_s, found.attention_s, found.links_s)
    assert parts == pytest.approx((2e-3 + 2.5e-3, 7.5e-3, 2e-3, 1.75e-3))


def test_float32_products_run_in_tf32_at_half_the_peak() -> None:
    kernels = (kernel(Kind.PRODUCT, 989e9, 1e6, dtype="f32"), kernel(Kind.PRODUCT, 989e9, 1e6))
    found = gpu_time(dataclasses.replace(TEXT, kernels=kernels, collectives=()), cluster("h100:8"), PUBLISHED)
    assert found.products_s == pytest.approx(2e-3 + 1e-3)


LINKS = {
    # 450 MB there and back within a machine, then an eighth over each adapter, there and back.
    ("h100:2x8", "all-reduce", "replica_groups=[1,16]<=[16]"): 1.75e-3 + 1.125e-3,
    # Those that share a state are in one machine: half of an all-reduce within it.
    ("h100:8x8", "all-gather", "replica_groups=mesh['data'=8,'fsdp'=8] {'fsdp'}"): 0.875e-3,
    # One of each machine: 7/8 of 450 MB over its adapter, there and back.
    ("h100:8x8", "all-reduce", "replica_groups=mesh['data'=8,'fsdp'=8] {'data'}"): 15.75e-3,
    # Four groups of neighbours; of every fourth device, two in each machine.
    ("h100:2x8", "all-gather", "replica_groups=[4,4]<=[16]"): 0.75e-3,
    ("h100:2x8", "all-gather", "replica_groups=[4,4]<=[4,4]T(1,0)"): 0.5e-3 + 2.25e-3,
    # 12 of 24 devices: eight in one machine, four in the next, which have half of the adapters.
    ("h100:3x8", "all-gather", "replica_groups=[2,12]<=[24]"): 0.875e-3 + 1.125e-3,
    # A permutation is as slow as the pair that is in two machines.
    ("h100:2x8", "collective-permute", "source_target_pairs={{0,1},{7,8}}"): 9e-3,
    ("h100:2x8", "collective-permute", "source_target_pairs={{0,1},{8,9}}"): 1e-3,
    # To each of 16 a sixteenth, seven of them in the same machine.
    ("h100:2x8", "all-to-all", "replica_groups=[1,16]<=[16]"): 7 / 16e3 + 8 * 9 / 16e3,
    ("h100:8", "all-to-all", "replica_groups=[1,8]<=[8]"): 0.875e-3,
    ("h100:2x8", "all-reduce", "replica_groups={{0},{1}}"): 0.0,
}


@pytest.mark.parametrize(("name", "kind", "members"), LINKS)
def test_a_collective_takes_the_links_between_the_machines_that_its_groups_span(
    name: str, kind: str, members: str
) -> None:
    """450 MB, of an all-gather its result: 1 ms over NVLink, 9 ms over an adapter."""
    found = groups(members, 0)
    one = dataclasses.replace(REDUCE, kind=kind, group_size=len(found[0]), groups=found)
    text = dataclasses.replace(TEXT, collectives=(one,))
    assert gpu_time(text, cluster(name), PUBLISHED).links_s == pytest.approx(LINKS[name, kind, members])


MEMORY = Memory(arguments=2 * 10**9, outputs=10**9, aliased=10**9, temporaries=30 * 10**9, program=0, peak=0)


def flight(memory: Memory = MEMORY):
    """Of a test of text.py, on eight H100."""
    gpus = cluster("h100:8")
    facts = Facts(memory=memory, flops=1.0, text=TEXT, compile_s=20.0)
    of_tpu = test_text.flight(test_text.FACTS)
    work = dataclasses.replace(of_tpu.work, num_devices=8, num_chips=8, num_hosts=1)
    device = SimpleNamespace(device_kind="NVIDIA H100 80GB HBM3", process_index=0)
    return dataclasses.replace(
        of_tpu,
        topology=Topology("h100:8", [device] * 8, None, gpus.gpu.memory_bytes, gpus=gpus),
        work=work,
        facts=facts,
        estimate=estimate(facts, work, None, memory_bytes=80 * 10**9, gpus=gpus, price_per_chip_hour=2.0),
    )


def test_a_page_says_what_is_computed_and_what_is_assumed() -> None:
    page = text.page(flight())
    assert page.startswith("vit_ti on h100:8: fits, 32.00 GB of 80.00 GB per device\n")
    assert page.endswith(TRUST + "\n") and TRUST.startswith("Compiled for these GPUs, not run.")
    rows = [" ".join(line.split()) for line in page.splitlines()]
    for row in (
        "products per GPU 3 kernels, 6.70 GB, 0.99 TFLOP",
        "passes over memory 3 kernels, 20.10 GB",
        "assumed 0.79 of peak, 0.89 of bandwidth, 0.31 in attention",
        "at the published figures 11.25 ms: products 3.00 ms + passes 6.00 ms + attention 0.50 ms + links 1.75 ms",
        "which are 989 TFLOP/s, 3,350 GB/s",
    ):
        assert row in rows
    assert f"figures of h100: {GPUS['h100'].source}" in page
    assert "TPU" not in page and "cycles" not in page


def test_a_step_that_fits_but_not_into_what_jax_takes_by_default() -> None:
    page = text.page(flight(dataclasses.replace(MEMORY, temporaries=70 * 10**9)))
    assert "fits, 72.00 GB of 80.00 GB per device\n  By default jax reserves 75 % of it: set XLA_" in page
    assert "reserves" not in text.page(flight())


def test_a_table_and_json() -> None:
    header, _, row, *_ = text.table([flight()], {}, with_cost=True).splitlines()
    assert header.split()[-2:] == ["hours", "cost"] and "published ms" in header
    cells = row.split()
    assert cells[:3] == ["vit_ti", "8", "1024"] and float(cells[8]) == pytest.approx(11.25, abs=0.06)
    assert cells[10] == "32.00"
    values = text.to_json(flight())
    assert values["estimate"]["gpu_as_published"]["links_s"] == pytest.approx(1.75e-3)
    assert values["method"] == "compiled" and not values["facts"]["text"]["collectives"][0]["groups"]
    assert values["gpu"]["name"] == "h100" and not values["facts"]["text"]["kernels"] and values["trust"] == TRUST


def test_a_table_of_memory_alone() -> None:
    alone = dataclasses.replace(flight(), with_time=False)
    header, _, row, *rest = text.table([alone, alone], {}, with_cost=False).splitlines()
    assert row.split() == ["vit_ti", "8", "1024", *"-------", "32.00", "1,", "450.0", "MB", "-", "-", "300", "300", "-"]
    assert header.split()[-1] == "hours" and TRUST not in "\n".join(rest)


TOLD = {
    "h100": ("NVIDIA H100 80GB HBM3", 9, 132, 3_350_000_000_000, 52_428_800, 80_000_000_000),
    "h200": ("NVIDIA H200", 9, 132, 4_800_000_000_000, 52_428_800, 141_000_000_000),
    "b200": ("NVIDIA B200", 10, 148, 8_000_000_000_000, 132_120_576, 180_000_000_000),
}
"""Name, compute capability, multiprocessors, bytes per second, of the cache and of the memory."""


@pytest.mark.parametrize("name", GPUS)
def test_the_compiler_is_told_the_published_figures(name: str) -> None:
    told = target_config(GPUS[name])
    kind, capability, cores, bandwidth, cache, memory = TOLD[name]
    for line in (
        f'device_description_str: "{kind}"',
        f"cuda_compute_capability {{ major: {capability} ",
        f"core_count: {cores}\n",
        f"memory_bandwidth: {bandwidth}\n",
        f"l2_cache_size: {cache}\n",
        f"device_memory_size: {memory}\n",
        "dnn_version_info { major: 9 minor: 19 }",
    ):
        assert line in told
    assert told.count("{") == told.count("}") == 3
