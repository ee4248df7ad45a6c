"""How much the devices of this process can hold."""

from __future__ import annotations

import os

import jax


def device_memory() -> int:
    """Bytes of the smallest device; where the devices are the processor, the machine's memory."""
    limits = [(device.memory_stats() or {}).get("bytes_limit") for device in jax.local_devices()]
    known = [int(limit) for limit in limits if limit]
    return min(known) if known else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // jax.local_device_count()
