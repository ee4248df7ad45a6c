"""Time is cycles over the clock plus the ring bound of the links; what is not public is not estimated."""

from __future__ import annotations

import dataclasses

import pytest

from luab_jax.preflight.chips import CHIPS
from luab_jax.preflight.estimate import Work, estimate
from luab_jax.preflight.facts import Facts, Memory
from luab_jax.preflight.hlo import BETWEEN_SLICES, Collective, ProgramText

MEMORY = Memory(arguments=10, outputs=8, aliased=7, temporaries=100, program=5, peak=90)
REDUCE = Collective(kind="all-reduce", num_bytes=12_000_000, group_size=16, count=1)
TEXT = ProgramText(cycles=15_000_000, collectives=(REDUCE,), num_loops=0, num_unknown_loops=0)
FACTS = Facts(memory=MEMORY, flops=5e11, text=TEXT, compile_s=1.0)
WORK = Work(batch_size=1024, forward_macs=1_260_000_000, total_steps=360_000, num_devices=16, num_chips=16)
V5E = CHIPS["v5e"]


def test_a_step_of_v5e_by_hand() -> None:
    """15 M cycles at 1.5 GHz are 10 ms; 2 · 15/16 · 12 MB over 200 GB/s and 2 µs are 0.1145 ms."""
    found = estimate(FACTS, WORK, V5E, memory_bytes=V5E.memory_bytes, price_per_chip_hour=2.0)
    assert found.cycles_s == pytest.approx(10e-3)
    assert found.ici_s == pytest.approx(0.1145e-3)
    assert found.step_s == pytest.approx(10.1145e-3)
    assert found.images_per_s == pytest.approx(1024 / 10.1145e-3)
    assert found.hours == pytest.approx(100 * 10.1145e-3)
    assert found.cost == pytest.approx(2 * 16 * 1.01145)
    assert found.mfu == pytest.approx(6 * 1.26e9 * 64 / (10e-3 * 197e12))


def test_collectives_are_summed_by_kind_and_those_of_one_device_are_none() -> None:
    gather = Collective(kind="all-gather", num_bytes=100, group_size=4, count=3)
    alone = Collective(kind="all-reduce", num_bytes=100, group_size=1, count=1)
    text = dataclasses.replace(TEXT, collectives=(REDUCE, gather, gather, alone))
    found = estimate(dataclasses.replace(FACTS, text=text), WORK, V5E, memory_bytes=None)
    assert [(each.kind, each.count, each.num_bytes) for each in found.exchanges] == [
        ("all-reduce", 1, 12_000_000),
        ("all-gather", 6, 600),
    ]
    assert found.exchanges[1].sent_bytes == 450


@pytest.mark.parametrize(
    ("facts", "chip"),
    [
        (FACTS, None),
        (FACTS, dataclasses.replace(V5E, clock_hz=None)),
        (dataclasses.replace(FACTS, text=dataclasses.replace(TEXT, cycles=None)), V5E),
    ],
    ids=["a device without figures", "a chip without a public clock", "a compiler that states no cycles"],
)
def test_nothing_is_estimated_from_what_is_not_known(facts: Facts, chip: object) -> None:
    found = estimate(facts, WORK, chip, memory_bytes=None, price_per_chip_hour=1.0)  # pyright: ignore[reportArgumentType]
    assert (found.step_s, found.mfu, found.images_per_s, found.hours, found.cost) == (None,) * 5
    assert found.exchanges


def test_what_fits_has_room_for_arguments_temporaries_and_the_program() -> None:
    assert MEMORY.allocated == 10 + 8 - 7 + 100 + 5
    assert estimate(FACTS, WORK, V5E, memory_bytes=116).fits is True
    assert estimate(FACTS, WORK, V5E, memory_bytes=115).fits is False
    assert estimate(FACTS, WORK, V5E, memory_bytes=None).fits is None
    refused = Facts(memory=None, flops=None, text=None, refused="no room", compile_s=1.0)
    assert estimate(refused, WORK, V5E, memory_bytes=10**12).fits is False


def test_evaluations_are_a_third_of_a_step_per_image_and_saves_are_counted() -> None:
    """100 steps of 10.1145 ms; 10 evaluations of 5,120 images are 50 batches, each a third of a step."""
    work = dataclasses.replace(WORK, total_steps=100, num_evaluations=10, eval_examples=5120, num_saves=10, num_hosts=4)
    found = estimate(FACTS, work, V5E, memory_bytes=None)
    assert found.evaluation_hours == pytest.approx(50 / 3 * 10.1145e-3 / 3600)
    assert found.hours == pytest.approx((100 + 50 / 3) * 10.1145e-3 / 3600)
    assert found.images_per_s_per_host == pytest.approx(1024 / 10.1145e-3 / 4)
    assert found.num_saves == 10


def test_saves_by_minutes_are_those_of_the_hours() -> None:
    work = dataclasses.replace(WORK, num_saves=7, minutes_per_save=10.0)
    assert (work.saves_in(hours=5.0), work.saves_in(hours=0.5)) == (30, 7)


def test_what_goes_between_slices_takes_a_chips_share_of_the_network() -> None:
    """3.125 MB over 6.4 Tbit/s for 256 chips, 3.125 GB/s each, are 1 ms; the links of the slice are not charged."""
    send = Collective(kind=BETWEEN_SLICES, num_bytes=3_125_000, group_size=2, count=1)
    facts = dataclasses.replace(FACTS, text=dataclasses.replace(TEXT, collectives=(REDUCE, send)))
    found = estimate(facts, WORK, V5E, memory_bytes=None)
    assert found.dcn_s == pytest.approx(1e-3)
    assert found.step_s == pytest.approx(11.1145e-3)
    unknown = estimate(facts, WORK, dataclasses.replace(V5E, dcn_bytes_per_s=None), memory_bytes=None)
    assert unknown.step_s is None
