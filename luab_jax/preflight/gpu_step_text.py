"""What preflight prints of a step compiled for GPUs, where that differs from a TPU's."""

from __future__ import annotations

from collections.abc import Sequence

from luab_jax.preflight.experiment import Preflight
from luab_jax.preflight.gpu_kernels import GpuKernel, Kind
from luab_jax.preflight.gpu_time import REACHED, GpuTime
from luab_jax.preflight.hints import needed_bytes
from luab_jax.preflight.layout import as_bytes, ms

_RESERVED = 0.75
"""Of a GPU's memory, by default (jax's documentation, "GPU memory allocation")."""


def hints_of_memory(flight: Preflight) -> list[str]:
    """How a step that fits gets the memory, where jax reserves less of it by default."""
    memory, needed = flight.topology.memory_bytes, needed_bytes(flight.facts)
    if flight.topology.gpus is None or not memory or not needed or needed <= _RESERVED * memory:
        return []
    share = f"{_RESERVED:.0%}".replace("%", " %")
    return [f"  By default jax reserves {share} of it: set XLA_PYTHON_CLIENT_MEM_FRACTION=0.95"]


def kernel_rows(kernels: Sequence[GpuKernel]) -> list[tuple[str, str]]:
    of_kind = {kind: [each for each in kernels if each.kind is kind] for kind in Kind}
    return [(_NAMES[kind], _kernels(found)) for kind, found in of_kind.items() if found]


_NAMES = {Kind.PRODUCT: "products per GPU", Kind.ATTENTION: "cuDNN's attention", Kind.PASS: "passes over memory"}


def _kernels(kernels: Sequence[GpuKernel]) -> str:
    count = sum(each.times for each in kernels)
    flops = sum(each.times * each.flops for each in kernels)
    text = f"{count:,} kernels, {as_bytes(sum(each.times * each.num_bytes for each in kernels))}"
    return f"{text}, {flops / 1e12:,.2f} TFLOP" if flops else text


def time_rows(flight: Preflight) -> list[tuple[str, str]]:
    """As assumed, and at the published figures."""
    estimate, cluster = flight.estimate, flight.topology.gpus
    assert cluster is not None and estimate.gpu is not None and estimate.gpu_as_published is not None
    peak, bandwidth = cluster.gpu.peak_flops / 1e12, cluster.gpu.memory_bytes_per_s / 1e9
    shares = f"{REACHED.products:g} of peak, {REACHED.memory:g} of bandwidth, {REACHED.attention:g} in attention"
    return [
        ("step", _sum(estimate.gpu)),
        ("  assumed", shares),
        ("at the published figures", _sum(estimate.gpu_as_published)),
        ("  which are", f"{peak:,.0f} TFLOP/s, {bandwidth:,.0f} GB/s"),
        ("MFU", f"{estimate.mfu:.3f}: model FLOPs in the time of the step, of {peak:,.0f} TFLOP/s"),
    ]


def _sum(time: GpuTime) -> str:
    parts = {"products": time.products_s, "passes": time.passes_s, "attention": time.attention_s, "links": time.links_s}
    return f"{ms(time.step_s)}: " + " + ".join(f"{name} {ms(seconds)}" for name, seconds in parts.items())


COLUMNS = (
    *("experiment", "GPUs", "batch", "products ms", "passes ms", "attention ms", "links ms", "step ms"),
    *("published ms", "MFU", "memory GB", "collectives", "images/s", "per host", "evals", "saves", "hours"),
)


def table_row(flight: Preflight) -> list[str]:
    """A cell for each of `COLUMNS`, and the cost."""
    estimate, memory, work = flight.estimate, flight.facts.memory, flight.work
    reached, published = estimate.gpu, estimate.gpu_as_published
    sent = f"{sum(each.count for each in estimate.exchanges)}"
    sent += f", {as_bytes(sum(each.num_bytes for each in estimate.exchanges))}"
    used = "no fit" if estimate.fits is False else f"{memory.allocated / 1e9:.2f}" if memory else "-"
    row = [flight.name, f"{work.num_devices}", f"{work.batch_size}"]
    if not flight.with_time or reached is None or published is None or estimate.hours is None:
        return [*row, *("-",) * 7, used, sent, *("-",) * 2, f"{work.num_evaluations}", f"{work.num_saves}", *("-",) * 2]
    times = (reached.products_s, reached.passes_s, reached.attention_s, reached.links_s, reached.step_s)
    return [
        *row,
        *(f"{seconds * 1e3:.1f}" for seconds in (*times, published.step_s)),
        f"{estimate.mfu:.3f}",
        used,
        sent,
        f"{estimate.images_per_s:,.0f}",
        f"{estimate.images_per_s_per_host:,.0f}",
        f"{work.num_evaluations}",
        f"{estimate.num_saves}",
        f"{estimate.hours:,.1f}",
        "-" if estimate.cost is None else f"{estimate.cost:,.0f}",
    ]
