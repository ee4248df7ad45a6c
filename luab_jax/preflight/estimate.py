"""From what a compiled step says to what a run would take: time, share of peak, hours, price.

The time of a step on TPUs is `cycles + ici`; for GPUs see `gpu_time`. Cycles are the compiler's `estimated_cycles` of
every fusion that is executed over the clock; ici is what a ring needs for the bytes of the collectives over all links
of a device, and 2 µs for each. No overlap of the two is assumed, and nothing is known of the input. What is sent
between slices takes its bytes over a chip's share of the data centre's network.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from luab_jax.preflight.chips import Chip
from luab_jax.preflight.facts import Facts
from luab_jax.preflight.gpu_time import PUBLISHED, REACHED, GpuTime, gpu_time
from luab_jax.preflight.gpus import GpuCluster
from luab_jax.preflight.hlo import Collective, ProgramText

COLLECTIVE_START_S = 2e-6

NOT_RUN = "These are the compiler's estimates; nothing was run."
TRUST = f"""\
{NOT_RUN} Against four published TPU v3 runs (big_vision ViT-S/16 on v3-8,
flax ResNet-50 on v3-8 and v3-32, Mixer-B on v3-128) cycles + ici came to 0.97, 1.11, 0.77 and 0.90 of the published
time of a step; no other chip was ever checked. Differences below 10 % are noise. The compiler's own `optimal_seconds`
is not used: it counts some custom calls as -1 s, collectives as memory traffic whatever the number of chips, and memory
on the chip at the speed of memory off it. An evaluation is counted as a third of a training step per image, since a
backward pass costs two forward ones. Saves are asynchronous and not in the hours, nor is waiting for input."""
"""How far to trust the figures; for whoever reads them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a run is to do, whatever compiles it."""

    batch_size: int
    """Images per step over all devices."""
    forward_macs: int
    """Multiply-accumulates per image, in matrix products and convolutions of the forward pass."""
    total_steps: int
    num_devices: int
    num_chips: int
    num_hosts: int = 1
    num_evaluations: int = 0
    eval_examples: int = 0
    """Images of one evaluation."""
    models_evaluated: int = 1
    """2 where a run keeps a moving average, which is evaluated beside the raw weights."""
    num_saves: int = 0
    """By epochs and at the end."""
    minutes_per_save: float | None = None
    """Where time decides too."""

    def evaluation_s(self, images_per_s: float) -> float:
        """All evaluations of a run that trains so many images per second: a third of a step per image."""
        return self.num_evaluations * self.models_evaluated * self.eval_examples / (3 * images_per_s)

    @property
    def evaluated(self) -> str:
        """What, where it is not the weights alone."""
        return " by the weights and by their average" if self.models_evaluated > 1 else ""

    def saves_in(self, hours: float) -> int:
        by_time = 0 if self.minutes_per_save is None else int(hours * 60 / self.minutes_per_save)
        return max(self.num_saves, by_time)

    @property
    def flops_per_step(self) -> float:
        """3 · 2 · forward MACs · images over all devices: a backward pass costs two forward ones."""
        return 6.0 * self.forward_macs * self.batch_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """All collectives of one kind in a step."""

    kind: str
    count: int
    num_bytes: int
    """Payload per device."""
    sent_bytes: float
    """By the ring bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Times in seconds; `None` where a figure that it needs is not public, or the compiler states none."""

    fits: bool | None
    exchanges: tuple[Exchange, ...]
    cycles_s: float | None = None
    ici_s: float | None = None
    dcn_s: float = 0.0
    """Between slices."""
    gpu: GpuTime | None = None
    """On GPUs, at the shares that were reached (`gpu_time.REACHED`)."""
    gpu_as_published: GpuTime | None = None
    """At the published figures."""
    step_s: float | None = None
    mfu: float | None = None
    """Model FLOPs over peak: on TPUs in the time of the cycles alone, on GPUs in that of the step."""
    images_per_s: float | None = None
    images_per_s_per_host: float | None = None
    """What each host must read and decode."""
    evaluation_hours: float | None = None
    hours: float | None = None
    """Steps and evaluations."""
    num_saves: int | None = None
    cost: float | None = None


def estimate(
    facts: Facts,
    work: Work,
    chip: Chip | None,
    *,
    memory_bytes: int | None,
    price_per_chip_hour: float | None = None,
    gpus: GpuCluster | None = None,
) -> Estimate:
    """What follows from the facts on such chips or GPUs; `memory_bytes` is a device's."""
    found = Estimate(fits=_fits(facts, memory_bytes), exchanges=_exchanges(facts.text))
    if gpus is not None:
        return found if facts.text is None else _on_gpus(found, facts.text, work, gpus, price_per_chip_hour)
    if chip and chip.clock_hz and facts.text and facts.text.cycles is not None:
        found = dataclasses.replace(found, cycles_s=facts.text.cycles / chip.clock_hz)
    if chip is None or facts.text is None:
        return found
    dcn_s = _dcn_s(facts.text.collectives, chip)
    found = dataclasses.replace(found, ici_s=_ici_s(facts.text.collectives, chip))
    if found.cycles_s is None or found.ici_s is None or dcn_s is None:
        return found
    mfu = work.flops_per_step / work.num_devices / (found.cycles_s * chip.peak_flops) if found.cycles_s else None
    step_s = found.cycles_s + found.ici_s + dcn_s
    return _of_run(dataclasses.replace(found, dcn_s=dcn_s, mfu=mfu), step_s, work, price_per_chip_hour)


def _on_gpus(
    found: Estimate, text: ProgramText, work: Work, cluster: GpuCluster, price_per_hour: float | None
) -> Estimate:
    reached, as_published = (gpu_time(text, cluster, shares) for shares in (REACHED, PUBLISHED))
    operations = work.flops_per_step / work.num_devices
    mfu = operations / (reached.step_s * cluster.gpu.peak_flops) if reached.step_s else None
    found = dataclasses.replace(found, gpu=reached, gpu_as_published=as_published, mfu=mfu)
    return _of_run(found, reached.step_s, work, price_per_hour)


def _of_run(found: Estimate, step_s: float, work: Work, price_per_chip_hour: float | None) -> Estimate:
    images_per_s = work.batch_size / step_s if step_s else None
    evaluation_hours = work.evaluation_s(images_per_s) / 3600 if images_per_s else 0.0
    hours = work.total_steps * step_s / 3600 + evaluation_hours
    return dataclasses.replace(
        found,
        step_s=step_s,
        images_per_s=images_per_s,
        images_per_s_per_host=images_per_s / work.num_hosts if images_per_s else None,
        evaluation_hours=evaluation_hours,
        hours=hours,
        num_saves=work.saves_in(hours),
        cost=None if price_per_chip_hour is None else hours * work.num_chips * price_per_chip_hour,
    )


def _fits(facts: Facts, memory_bytes: int | None) -> bool | None:
    if facts.memory is None:
        return False
    return None if memory_bytes is None else facts.memory.allocated <= memory_bytes


def _ici_s(collectives: tuple[Collective, ...], chip: Chip) -> float:
    return sum(
        each.count * (each.sent_bytes / chip.links_bytes_per_s + COLLECTIVE_START_S)
        for each in collectives
        if each.group_size > 1 and not each.between_slices
    )


def _dcn_s(collectives: tuple[Collective, ...], chip: Chip) -> float | None:
    """`None` where something is sent and the speed of the network is not stated."""
    sent = sum(each.count * each.sent_bytes for each in collectives if each.between_slices)
    if not sent:
        return 0.0
    return None if chip.dcn_bytes_per_s is None else sent * chip.devices_per_chip / chip.dcn_bytes_per_s


def _exchanges(text: ProgramText | None) -> tuple[Exchange, ...]:
    kinds: dict[str, list[Any]] = {}
    for each in text.collectives if text else ():
        if each.group_size > 1:
            kinds.setdefault(each.kind, []).append(each)
    return tuple(
        Exchange(
            kind=kind,
            count=sum(each.count for each in group),
            num_bytes=sum(each.count * each.num_bytes for each in group),
            sent_bytes=sum(each.count * each.sent_bytes for each in group),
        )
        for kind, group in kinds.items()
    )
