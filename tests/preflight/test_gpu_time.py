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
from luab_jax.preflight.topology import Topology
from tests.preflight import test_text


def cluster(name: str):
    found = parse_gpus(name)
    assert found is not None
    return found


def kernel(kind: Kind, flops: float, num_bytes: float, times: int = 1) -> GpuKernel:
    return GpuKernel(kind, int(flops), int(num_bytes), times, "k", "")


KERNELS = (
    kernel(Kind.PRODUCT, 989e9, 1e6),  # 1 ms at peak
    kernel(Kind.PRODUCT, 1e6, 3.35e9, times=2),  # bound by memory: 1 ms each
    kernel(Kind.PASS, 0, 6.7e9, times=3),  # 2 ms each
    kernel(Kind.ATTENTION, 1e6, 1.675e9),  # 0.5 ms
)
REDUCE = Collective(kind="all-reduce", num_bytes=450_000_000, group_size=8, count=1)
TEXT = ProgramText(cycles=None, collectives=(REDUCE,), num_loops=0, num_unknown_loops=0, kernels=KERNELS)


def test_a_step_of_an_h100_by_hand() -> None:
    """450 MB take 1.75 ms over NVLink."""
    found = gpu_time(TEXT, cluster("h100:8"), PUBLISHED, fsdp=1)
    parts = (found.products_s, found.passes_s, found.attention_s, found.links_s)
    assert parts == pytest.approx((3e-3, 6e-3, 0.5e-3, 1.75e-3))
    assert found.step_s == pytest.approx(sum(parts))


def test_shares_of_the_published_figures_are_those_of_their_kind() -> None:
    found = gpu_time(TEXT, cluster("h100:8"), Shares(products=0.5, memory=0.8, attention=0.25), fsdp=1)
    parts = (found.products_s, found.passes_s, found.attention_s, found.links_s)
    assert parts == pytest.approx((2e-3 + 2.5e-3, 7.5e-3, 2e-3, 1.75e-3))


@pytest.mark.parametrize(
    ("size", "fsdp", "expected"),
    [
        (16, 1, 1.75e-3 + 1.125e-3),  # all: as in a machine, then an eighth over each adapter, once there and back
        (8, 8, 1.75e-3),  # those that share a state are in one machine
        (2, 8, 9e-3),  # one of each group: 450 MB over the adapter
    ],
)
def test_groups_within_and_between_two_machines(size: int, fsdp: int, expected: float) -> None:
    one = dataclasses.replace(TEXT, collectives=(dataclasses.replace(REDUCE, group_size=size),))
    assert gpu_time(one, cluster("h100:2x8"), PUBLISHED, fsdp=fsdp).links_s == pytest.approx(expected)


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
        "step, at least 11.25 ms: products 3.00 ms + passes 6.00 ms + attention 0.50 ms + links 1.75 ms",
        "as published 989 TFLOP/s, 3,350 GB/s",
    ):
        assert row in rows
    assert f"figures of h100: {GPUS['h100'].source}" in page
    assert "TPU" not in page and "cycles" not in page


def test_a_step_that_fits_but_not_into_what_jax_takes_by_default() -> None:
    page = text.page(flight(dataclasses.replace(MEMORY, temporaries=70 * 10**9)))
    assert "fits, 72.00 GB of 80.00 GB per device\n  jax takes 75% of it by default: set XLA_PYTHON_CLIENT_MEM" in page


def test_a_table_and_json() -> None:
    header, _, row, *_ = text.table([flight()], {}, with_cost=True).splitlines()
    assert header.split()[-2:] == ["hours", "cost"] and "step ms >=" in header
    cells = row.split()
    assert cells[:3] == ["vit_ti", "8", "1024"] and float(cells[8]) == pytest.approx(11.25, abs=0.06)
    assert cells[10] == "32.00"
    values = text.to_json(flight())
    assert values["estimate"]["gpu_at_least"]["links_s"] == pytest.approx(1.75e-3)
    assert values["gpu"]["name"] == "h100" and not values["facts"]["text"]["kernels"] and values["trust"] == TRUST


@pytest.mark.parametrize("gpu", GPUS.values(), ids=GPUS)
def test_the_compiler_is_told_the_published_figures(gpu) -> None:
    told = target_config(gpu)
    assert f'device_description_str: "{gpu.device_kind}"' in told
    assert f"memory_bandwidth: {int(gpu.memory_bytes_per_s)}\n" in told
    assert told.count("{") == told.count("}") == 3
    assert 100 < gpu.num_cores < 200 and gpu.compute_capability in (9, 10)
