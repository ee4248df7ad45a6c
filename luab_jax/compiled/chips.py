"""What is public about each kind of chip; what is not is `None`, and nothing is estimated from it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One kind of chip. All figures are per device, that is per what jax counts as one."""

    name: str
    """As in the name of a topology."""
    device_kinds: tuple[str, ...]
    """As jax names it."""
    devices_per_chip: int = 1
    topology_options: tuple[tuple[str, str], ...] = ()
    """What the compiler must be told to count devices as such chips do."""
    clock_hz: float | None
    """By which cycles become seconds."""
    peak_flops: float
    """Operations per second in bfloat16."""
    memory_bytes: int
    links_bytes_per_s: float
    """What a device sends over all of its links together, one way."""
    topologies: tuple[str, ...]
    """Shapes that Cloud TPU offers."""
    source: str


_GIB = 2**30
_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16")
_DOCS = "https://cloud.google.com/tpu/docs"

CHIPS: dict[str, Chip] = {
    chip.name: chip
    for chip in (
        Chip(
            name="v3",
            device_kinds=("TPU v3",),
            devices_per_chip=2,
            clock_hz=0.94e9,
            peak_flops=123e12 / 2,
            memory_bytes=16 * _GIB,
            links_bytes_per_s=4 * 656e9 / 8 / 2,
            topologies=("2x2", "4x4", "4x8", "8x8", "8x16", "16x16", "16x32", "32x32"),
            source="Jouppi et al., A domain-specific supercomputer for training deep neural networks, CACM 2020",
        ),
        Chip(
            name="v4",
            device_kinds=("TPU v4",),
            topology_options=(("chip_config_name", "megacore"),),
            clock_hz=1.05e9,
            peak_flops=275e12,
            memory_bytes=32 * _GIB,
            links_bytes_per_s=6 * 50e9,
            topologies=_CUBES,
            source=f"{_DOCS}/v4; clock and links: Jouppi et al., TPU v4, ISCA 2023 (arXiv 2304.01433), table 4",
        ),
        Chip(
            name="v5e",
            device_kinds=("TPU v5 lite", "TPU v5e"),
            clock_hz=1.5e9,
            peak_flops=197e12,
            memory_bytes=16 * _GIB,
            links_bytes_per_s=1600e9 / 8,
            topologies=_FLAT,
            source=f"{_DOCS}/v5e; the clock follows from the peak and its 4 matrix units of 128 x 128",
        ),
        Chip(
            name="v5p",
            device_kinds=("TPU v5", "TPU v5p"),
            clock_hz=1.75e9,
            peak_flops=459e12,
            memory_bytes=95 * _GIB,
            links_bytes_per_s=4800e9 / 8,
            topologies=_CUBES,
            source=f"{_DOCS}/v5p; the clock follows from the peak and its 8 matrix units of 128 x 128",
        ),
        Chip(
            name="v6e",
            device_kinds=("TPU v6 lite", "TPU v6e"),
            clock_hz=None,  # the peak and its 2 matrix units of 256 x 256 would give 3.5 GHz, which nobody states
            peak_flops=918e12,
            memory_bytes=32 * _GIB,
            links_bytes_per_s=800e9 / 2,
            topologies=_FLAT,
            source=f"{_DOCS}/v6e",
        ),
    )
}


def of_device_kind(device_kind: str) -> Chip | None:
    """The chip of a device at hand, if it is in the table."""
    return next((chip for chip in CHIPS.values() if device_kind in chip.device_kinds), None)
