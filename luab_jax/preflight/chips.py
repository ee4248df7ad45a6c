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
    dcn_bytes_per_s: float | None = None
    """What a device sends to other slices, over the data centre's network; `None` where nobody states it."""
    clock_is_calibrated: bool = False
    """Whether the clock is no published one, but peak over what the compiler counts: see `CALIBRATION`."""
    topologies: tuple[str, ...]
    """Shapes that Cloud TPU offers."""
    source: str


_GIB = 2**30
_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16")
_DOCS = "https://cloud.google.com/tpu/docs"

PRODUCT_SHARE = 0.89
"""Of the peak that a product of two 8,192² matrices reaches by the compiler's cycles and the public clock: 0.88 on v5e,
0.90 on v5p (`python -m benchmarks.tpu_clock`)."""
V6E_FLOPS_PER_CYCLE = 369_231.0
TPU7X_FLOPS_PER_CYCLE = 422_142.0
"""Of that product, by libtpu 0.0.42.1."""
CALIBRATION = f"the one by which a large matrix product reaches {PRODUCT_SHARE} of peak, as on v5e and v5p"
"""How cycles become seconds where no clock is public."""


def _calibrated(peak_flops: float, flops_per_cycle: float) -> float:
    return PRODUCT_SHARE * peak_flops / flops_per_cycle


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
            dcn_bytes_per_s=6.4e12 / 8 / 256,
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
            dcn_bytes_per_s=50e9 / 8,
            topologies=_CUBES,
            source=f"{_DOCS}/v5p; the clock follows from the peak and its 8 matrix units of 128 x 128",
        ),
        Chip(
            name="v6e",
            device_kinds=("TPU v6 lite", "TPU v6e"),
            clock_hz=_calibrated(918e12, V6E_FLOPS_PER_CYCLE),
            clock_is_calibrated=True,
            peak_flops=918e12,
            memory_bytes=32 * _GIB,
            links_bytes_per_s=800e9 / 2,
            dcn_bytes_per_s=25.6e12 / 8 / 256,
            topologies=_FLAT,
            source=f"{_DOCS}/v6e; the clock is not public, taken is {CALIBRATION}",
        ),
        Chip(
            name="tpu7x",
            device_kinds=("TPU7x",),
            devices_per_chip=2,
            clock_hz=_calibrated(2307e12 / 2, TPU7X_FLOPS_PER_CYCLE),
            clock_is_calibrated=True,
            peak_flops=2307e12 / 2,
            memory_bytes=192 * _GIB // 2,
            links_bytes_per_s=1200e9 / 2 / 2,
            topologies=_CUBES,
            source=f"{_DOCS}/tpu7x; the clock is not public, taken is {CALIBRATION}",
        ),
    )
}


def of_device_kind(device_kind: str) -> Chip | None:
    """The chip of a device at hand, if it is in the table."""
    return next((chip for chip in CHIPS.values() if device_kind in chip.device_kinds), None)
