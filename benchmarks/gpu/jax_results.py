"""`Results` of steps that run on jax."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import jax

from benchmarks.gpu.record import Results

PACKAGES = ("jax", "jaxlib", "flax", "nvidia-cudnn-cu13", "nvidia-cublas")


def jax_results(out: Path, step: str) -> Results:
    return Results(out, step, device=jax.devices()[0].device_kind, versions=installed(PACKAGES))


def installed(packages: tuple[str, ...]) -> dict[str, str]:
    """Versions of those packages that are there."""
    found: dict[str, str] = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
