"""What preflight prints of GPUs by a roofline: a page, a table, JSON; each says that it is one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from luab_jax.config import to_dict
from luab_jax.errors import UserError
from luab_jax.io.wording import how_to_install
from luab_jax.preflight.facts import versions
from luab_jax.preflight.gpu_experiment import GpuPreflight
from luab_jax.preflight.hints import of_state
from luab_jax.preflight.layout import as_bytes, columns, ms, rows

LABEL = f"""\
This is a roofline: nothing was compiled or run. A step takes at least as long as its products at peak, or as reading
and writing their arrays once, whichever is longer, and then the ring bound of the gradient in float32. Elementwise
work, normalisation and what attention keeps on the chip are not counted. Steps that were measured on one H100 took
longer by the factors in docs/devices.md. Memory is the state alone; activations are not estimated.
For memory and time of the compiled step: {how_to_install("cuda13")}.
That is jax's CUDA plugin, which needs no GPU."""
"""How far to trust the figures."""


def page(flight: GpuPreflight) -> str:
    """Everything of one experiment."""
    return "\n".join([verdict(flight), "", *rows(_page_rows(flight)), "", *notes([flight])]) + "\n"


def verdict(flight: GpuPreflight) -> str:
    where = f"{flight.name} on {flight.cluster.name}"
    state, memory = sum(flight.state_bytes.values()), flight.cluster.gpu.memory_bytes
    if flight.fits is False:
        hints = of_state(flight.config, flight.state_bytes, flight.cluster.per_node)
        line = f"{where}: DOES NOT FIT, the state alone needs {as_bytes(state)} of {as_bytes(memory)} per GPU"
        return "\n".join([line, *(f"  try {hint}" for hint in hints)])
    return f"{where}: the state needs {as_bytes(state)} of {as_bytes(memory)} per GPU; activations come on top"


def _page_rows(flight: GpuPreflight) -> list[tuple[str, str]]:
    cluster, work = flight.cluster, flight.work
    found = [
        (
            "devices",
            f"{cluster.num_devices} x {cluster.gpu.name}: {cluster.num_nodes} machine(s) of {cluster.per_node}",
        ),
        ("batch", f"{work.batch_size:,} images, {work.batch_size // cluster.num_devices:,} per GPU"),
        *((name, as_bytes(num_bytes)) for name, num_bytes in flight.state_bytes.items()),
        ("model FLOPs per step and GPU", f"{flight.demand.flops / 1e12:,.2f} TFLOP"),
        ("moved by products", f"{as_bytes(flight.demand.memory_bytes)} per step and GPU"),
    ]
    if not flight.with_time:
        return found
    bound = flight.roofline
    parts = f"products {ms(bound.flops_s)} or memory {ms(bound.memory_s)}, + gradient {ms(bound.links_s)}"
    return [
        *found,
        ("step", f"at least {ms(bound.step_s)}: {parts}"),
        ("images/s", f"at most {flight.images_per_s:,.0f}, {flight.images_per_s / work.num_hosts:,.0f} per host"),
        ("run", f"at least {flight.hours:,.1f} h for {work.total_steps:,} steps and {_extras(flight)}"),
    ]


def _extras(flight: GpuPreflight) -> str:
    return (
        f"{flight.work.num_evaluations:,} evaluations ({flight.evaluation_hours:.2f} h);"
        f" {flight.work.saves_in(flight.hours):,} saves beside it"
    )


COLUMNS = (
    *("experiment", "GPUs", "batch", "products ms", "memory ms", "gradient ms", "step ms >=", "state GB"),
    *("images/s <=", "per host", "evals", "saves", "hours >="),
)


def table(flights: Sequence[GpuPreflight], failures: dict[str, UserError]) -> str:
    """One row per experiment."""
    failed = [f"{name}: {error}" for name, error in failures.items()]
    refused = [verdict(flight) for flight in flights if flight.fits is False]
    lines = columns([list(COLUMNS), *(_table_row(flight) for flight in flights)])
    return "\n".join([*lines, "", *refused, *failed, *notes(flights)]) + "\n"


def _table_row(flight: GpuPreflight) -> list[str]:
    bound, work = flight.roofline, flight.work
    state = f"{sum(flight.state_bytes.values()) / 1e9:.2f}"
    start = [flight.name, f"{work.num_devices}", f"{work.batch_size}"]
    if not flight.with_time:
        return [*start, *("-",) * 4, state, *("-",) * 2, f"{work.num_evaluations}", f"{work.num_saves}", "-"]
    times = [f"{seconds * 1e3:.2f}" for seconds in (bound.flops_s, bound.memory_s, bound.links_s, bound.step_s)]
    return [
        *start,
        *times,
        state,
        f"{flight.images_per_s:,.0f}",
        f"{flight.images_per_s / work.num_hosts:,.0f}",
        f"{work.num_evaluations}",
        f"{work.saves_in(flight.hours)}",
        f"{flight.hours:,.1f}",
    ]


def notes(flights: Sequence[GpuPreflight]) -> list[str]:
    found = [f"assumed: {note}" for flight in flights for note in flight.data.assumptions]
    found += [f"figures of {flight.cluster.gpu.name}: {flight.cluster.gpu.source}" for flight in flights]
    return list(dict.fromkeys([*found, LABEL]))


def to_json(flight: GpuPreflight) -> dict[str, Any]:
    """Everything, in bytes, seconds and plain numbers."""
    bound = flight.roofline
    return {
        "experiment": flight.name,
        "topology": flight.cluster.name,
        "method": "roofline",
        "gpu": dataclasses.asdict(flight.cluster.gpu),
        "config": to_dict(flight.config),
        "num_classes": flight.data.num_classes,
        "num_examples": flight.data.num_examples,
        "assumptions": list(flight.data.assumptions),
        "work": dataclasses.asdict(flight.work) | {"flops_per_step": flight.work.flops_per_step},
        "state_bytes": flight.state_bytes,
        "demand": dataclasses.asdict(flight.demand),
        "at_least": None
        if not flight.with_time
        else dataclasses.asdict(bound) | {"step_s": bound.step_s, "hours": flight.hours},
        "images_per_s_at_most": flight.images_per_s if flight.with_time else None,
        "fits": flight.fits,
        "versions": versions(),
        "trust": LABEL,
    }
