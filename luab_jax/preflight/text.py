"""What preflight prints: a page for one experiment, a table for several, JSON for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from luab_jax.config import to_dict
from luab_jax.errors import UserError
from luab_jax.io.console import format_seconds
from luab_jax.preflight import gpu_step_text
from luab_jax.preflight.estimate import NOT_RUN, TRUST
from luab_jax.preflight.experiment import Preflight
from luab_jax.preflight.facts import Facts, versions
from luab_jax.preflight.gpu_time import TRUST as GPU_TRUST
from luab_jax.preflight.hints import needed_bytes
from luab_jax.preflight.layout import as_bytes, columns, ms, rows

_UNKNOWN = "not estimated"


def page(flight: Preflight) -> str:
    """Everything of one experiment."""
    return "\n".join([_verdict(flight), "", *rows(_page_rows(flight)), "", *_notes([flight])]) + "\n"


def _verdict(flight: Preflight) -> str:
    where = f"{flight.name} on {flight.topology.name}"
    memory, needed = flight.topology.memory_bytes, needed_bytes(flight.facts)
    used = as_bytes(needed) if needed is not None else "an unknown share"
    if flight.estimate.fits is None:
        return f"{where}: needs {used} per device; how much there is, is not known"
    there = "" if memory is None else f" of {as_bytes(memory)}"
    if flight.estimate.fits:
        return "\n".join([f"{where}: fits, {used}{there} per device", *gpu_step_text.hints_of_memory(flight)])
    lines = [f"{where}: DOES NOT FIT, {used}{there} per device"]
    if flight.facts.refused:
        lines.append(f"  the compiler: {flight.facts.refused}")
    return "\n".join(lines + [f"  try {hint}" for hint in flight.hints])


def _page_rows(flight: Preflight) -> list[tuple[str, str]]:
    facts, work, estimate, topology = flight.facts, flight.work, flight.estimate, flight.topology
    mesh = " x ".join(f"{name} {size}" for name, size in _mesh(flight).items())
    mesh += ", optimiser split" if flight.config.mesh.split_optimizer else ""
    chips = f" on {work.num_chips} chips" if work.num_chips != work.num_devices else ""
    found = [
        ("devices", f"{work.num_devices} x {topology.devices[0].device_kind}{chips}, mesh {mesh}"),
        ("batch", f"{work.batch_size:,} images, {work.batch_size // work.num_devices:,} per device"),
        *((name, as_bytes(num_bytes)) for name, num_bytes in flight.state_bytes.items()),
        ("batch, as it enters", as_bytes(flight.batch_bytes)),
    ]
    if facts.memory is not None:
        found += [
            ("arguments, padded", as_bytes(facts.memory.arguments)),
            ("activations and temporaries", as_bytes(facts.memory.temporaries)),
        ]
        if topology.gpus is None:
            found += [
                ("program", as_bytes(facts.memory.program)),
                ("live at the peak", as_bytes(facts.memory.peak)),
            ]
    found.append(
        ("model FLOPs per step", f"{_flops(work.flops_per_step)}: 3 x 2 x {work.forward_macs / 1e9:.3g} GMAC per image")
    )
    if topology.gpus is not None and facts.text is not None:
        found += gpu_step_text.kernel_rows(facts.text.kernels)
    elif facts.flops is not None:
        count = "additions too, loops once" if facts.text and facts.text.num_loops else "additions too"
        found.append(("compiler's FLOPs per device", f"{_flops(facts.flops)}: {count}"))
    found += [
        (
            f"{each.kind}",
            f"{each.count} x, {as_bytes(each.num_bytes)}; {as_bytes(each.sent_bytes)} sent per device (ring bound)",
        )
        for each in estimate.exchanges
    ]
    if facts.text is not None and not estimate.exchanges:
        found.append(("collectives", "none"))
    when = "earlier, found in the cache" if flight.cached else "now"
    return [*found, *_time_rows(flight), ("compiled", f"in {format_seconds(facts.compile_s)}, {when}")]


def _time_rows(flight: Preflight) -> list[tuple[str, str]]:
    estimate, work = flight.estimate, flight.work
    if not flight.with_time:
        return []
    if estimate.step_s is None:
        return [("time, MFU, hours", f"{_UNKNOWN}: {_why_not(flight)}")]
    found = gpu_step_text.time_rows(flight) if flight.topology.gpus else _tpu_rows(flight)
    found += [
        ("images/s", f"{estimate.images_per_s:,.0f}"),
        ("input per host", f"{estimate.images_per_s_per_host:,.0f} images/s on each of {work.num_hosts} hosts"),
        ("run", f"{estimate.hours:,.1f} h for {work.total_steps:,} steps and the evaluations"),
        (
            "evaluations",
            f"{work.num_evaluations:,} of {work.eval_examples:,} images{work.evaluated}:"
            f" {estimate.evaluation_hours:.2f} h",
        ),
        ("saves", _saves(flight)),
    ]
    if estimate.cost is not None:
        found.append(("cost", f"{estimate.cost:,.0f} for {work.num_chips} chips"))
    return found


def _tpu_rows(flight: Preflight) -> list[tuple[str, str]]:
    estimate, chip = flight.estimate, flight.topology.chip
    assert estimate.step_s is not None and estimate.cycles_s is not None and estimate.ici_s is not None
    assert chip is not None and chip.clock_hz
    parts = f"cycles {ms(estimate.cycles_s)} at {chip.clock_hz / 1e9:g} GHz + links {ms(estimate.ici_s)}"
    if estimate.dcn_s:
        parts += f" + between slices {ms(estimate.dcn_s)}"
    return [
        ("step", f"{ms(estimate.step_s)}: {parts}"),
        ("MFU", f"{estimate.mfu:.3f}: model FLOPs in the time of the cycles, of {chip.peak_flops / 1e12:g} TFLOP/s"),
    ]


def _saves(flight: Preflight) -> str:
    """How many, and how much each writes: the whole state, once."""
    estimate = flight.estimate
    assert estimate.num_saves is not None and estimate.hours is not None
    every = estimate.hours * 60 / max(1, estimate.num_saves)
    size = as_bytes(flight.saved_bytes)
    return f"{estimate.num_saves:,} of about {size}, one in {every:,.1f} minutes, while steps go on"


def _why_not(flight: Preflight) -> str:
    chip, text = flight.topology.chip, flight.facts.text
    if text is None:
        return "the program was refused"
    if chip is None:
        return f"no public figures of {flight.topology.devices[0].device_kind} are known here"
    if chip.clock_hz is None:
        return f"the clock of {chip.name} is not public"
    if any(each.between_slices for each in text.collectives) and chip.dcn_bytes_per_s is None:
        return f"how fast slices of {chip.name} reach each other is not stated"
    return "this compiler states no cycles"


_MANY_SCATTERED = 10_000
"""From so many on they are mentioned."""

COLUMNS = (
    *("experiment", "chips", "batch", "cycles ms", "ici ms", "MFU", "TFLOP", "peak GB", "arguments GB", "collectives"),
    *("images/s", "per host", "evals", "saves", "hours"),
)
"""TFLOP is the compiler's count per chip; peak (what is live at one time) and arguments are per device."""


def table(flights: Sequence[Preflight], failures: dict[str, UserError], *, with_cost: bool) -> str:
    """One row per experiment; below it what is assumed, what failed and why, and how far to trust it."""
    on_gpus = bool(flights) and flights[0].topology.gpus is not None
    header, row_of = (gpu_step_text.COLUMNS, gpu_step_text.table_row) if on_gpus else (COLUMNS, _table_row)
    cells = [[*header, "cost"], *map(row_of, flights)]
    lines = columns(cells if with_cost else [row[:-1] for row in cells])
    refused = [_verdict(flight) for flight in flights if flight.estimate.fits is False]
    failed = [f"{name}: {error}" for name, error in failures.items()]
    return "\n".join([*lines, "", *refused, *failed, *_notes(flights)]) + "\n"


def _table_row(flight: Preflight) -> list[str]:
    estimate, memory, work = flight.estimate, flight.facts.memory, flight.work
    flops = flight.facts.flops
    count = sum(each.count for each in estimate.exchanges)
    num_bytes = sum(each.num_bytes for each in estimate.exchanges)
    row = [
        flight.name,
        f"{work.num_chips}",
        f"{work.batch_size}",
        _number(estimate.cycles_s, 1e3, ".1f"),
        _number(estimate.ici_s, 1e3, ".2f"),
        _number(estimate.mfu, 1.0, ".3f"),
        _number(None if flops is None else flops * work.num_devices / work.num_chips, 1e-12, ".2f"),
        "no fit" if estimate.fits is False else _number(memory.peak if memory else None, 1e-9, ".2f"),
        _number(memory.arguments if memory else None, 1e-9, ".2f"),
        f"{count}, {as_bytes(num_bytes)}",
        _number(estimate.images_per_s, 1.0, ",.0f"),
        _number(estimate.images_per_s_per_host, 1.0, ",.0f"),
        f"{work.num_evaluations}",
        f"{work.num_saves if estimate.num_saves is None else estimate.num_saves}",
        _number(estimate.hours, 1.0, ",.1f"),
        _number(estimate.cost, 1.0, ",.0f"),
    ]
    if not flight.with_time:
        for column in (3, 4, 5, 10, 11, 14):
            row[column] = "-"
    return row


def _number(value: int | float | None, factor: float, form: str) -> str:
    return "-" if value is None else format(value * factor, form)


def to_json(flight: Preflight) -> dict[str, Any]:
    """Everything, in bytes, seconds and plain numbers."""
    topology, chip = flight.topology, flight.topology.chip
    return {
        "experiment": flight.name,
        "topology": topology.name,
        "method": "compiled",
        "device_kind": topology.devices[0].device_kind,
        "mesh": _mesh(flight),
        "chip": None if chip is None else dataclasses.asdict(chip),
        "gpu": None if topology.gpus is None else dataclasses.asdict(topology.gpus.gpu),
        "memory_bytes": topology.memory_bytes,
        "config": to_dict(flight.config),
        "num_classes": flight.data.num_classes,
        "num_examples": flight.data.num_examples,
        "assumptions": list(flight.data.assumptions),
        "work": dataclasses.asdict(flight.work) | {"flops_per_step": flight.work.flops_per_step},
        "state_bytes": flight.state_bytes,
        "batch_bytes": flight.batch_bytes,
        "facts": _facts(flight.facts),
        "allocated_bytes": flight.facts.memory.allocated if flight.facts.memory else None,
        "estimate": dataclasses.asdict(flight.estimate),
        "hints": list(flight.hints),
        "cached": flight.cached,
        "versions": versions(),
        "trust": _trust([flight]),
    }


def _facts(facts: Facts) -> dict[str, Any]:
    """Without the thousand kernels of a program, and the devices of each group."""
    text = facts.text
    if text is not None:
        collectives = tuple(dataclasses.replace(each, groups=()) for each in text.collectives)
        text = dataclasses.replace(text, kernels=(), collectives=collectives)
    return dataclasses.asdict(dataclasses.replace(facts, text=text))


def _notes(flights: Sequence[Preflight]) -> list[str]:
    """Each once, however many experiments share it."""
    notes = [f"assumed: {note}" for flight in flights for note in flight.data.assumptions]
    for flight in flights:
        if flight.facts.text is not None and flight.facts.text.num_unknown_loops:
            notes.append(f"{flight.name}: {flight.facts.text.num_unknown_loops} loop(s) of unknown length counted once")
        if (
            flight.facts.text is not None
            and flight.facts.text.cycles
            and flight.facts.text.scattered >= _MANY_SCATTERED
        ):
            notes.append(
                f"{flight.name}: {flight.facts.text.scattered:,} scattered reads and writes of a device, for which the"
                " compiler states no cycles, are not counted (about 13 cycles each on a v5e; not known for others)"
            )
    chips = {flight.topology.chip.name: flight.topology.chip for flight in flights if flight.topology.chip}
    notes += [f"figures of {chip.name}: {chip.source}" for chip in chips.values()]
    notes += [
        f"figures of {flight.topology.gpus.gpu.name}: {flight.topology.gpus.gpu.source}"
        for flight in flights
        if flight.topology.gpus
    ]
    timed = any(flight.with_time and flight.estimate.step_s is not None for flight in flights)
    notes.append(_trust(flights) if timed else NOT_RUN)
    return list(dict.fromkeys(notes))


def _trust(flights: Sequence[Preflight]) -> str:
    return GPU_TRUST if any(flight.topology.gpus for flight in flights) else TRUST


def _mesh(flight: Preflight) -> dict[str, int]:
    fsdp = flight.config.mesh.fsdp
    return {"data": len(flight.topology.devices) // fsdp, "fsdp": fsdp}


def _flops(flops: float) -> str:
    return f"{flops / 1e12:,.2f} TFLOP" if flops >= 1e10 else f"{flops / 1e9:,.3f} GFLOP"
