"""The header of every table: the processor and the versions of what was measured. It imports none of them."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    *("numpy", "pillow", "grain", "nvidia-nvimgcodec-cu12", "cykooz-resizer"),
    *("torch", "torchvision", "tensorflow", "tensorflow-cpu"),
)


def machine(num_cores: int) -> str:
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "?")
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return f"{num_cores} cores of {model}, Python {platform.python_version()}\n" + ", ".join(versions)
