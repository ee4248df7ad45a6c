"""Where the time of a step goes: jax's profiler read without its web page."""

from __future__ import annotations

import gzip
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

_OP_NAME = re.compile(r'^\s*(?:ROOT )?%?([\w.-]+) = .*?op_name="([^"]*)"', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Kernel:
    """All calls of one kernel for one instruction of the program."""

    name: str
    instruction: str
    source: str
    """The function of the model that the instruction comes from, as jax names it."""
    count: float
    """Calls per step."""
    milliseconds: float
    """Per step."""


@dataclass(frozen=True, slots=True)
class Profile:
    kernels: list[Kernel]
    """The longest first."""
    busy_ms: float
    """Per step: the time in which the device ran at least one kernel."""
    span_ms: float
    """Per step: from the first kernel's start to the last one's end."""


def take(run: Callable[[], Any], steps: int, program: str, keep: Path | None = None) -> Profile:
    """Runs `run` under the profiler; `program` is the optimised HLO, `keep` where the trace goes (gzip).

    `run` calls the step `steps` times and waits for it.
    """
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        jax.profiler.start_trace(folder, profiler_options=options)
        try:
            run()
        finally:
            jax.profiler.stop_trace()
        trace = next(Path(folder).rglob("*.xplane.pb"))
        if keep is not None:
            with trace.open("rb") as raw, gzip.open(keep, "wb", compresslevel=6) as packed:
                shutil.copyfileobj(raw, packed)
        return summarise(jax.profiler.ProfileData.from_file(str(trace)), steps, program)


def summarise(data: Any, steps: int, program: str) -> Profile:
    """Events of the device's streams; where there is no device but the CPU, those that name an instruction."""
    source_of = dict(_OP_NAME.findall(program))
    planes = list(data.planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:GPU")]
    totals: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0.0])
    intervals: list[tuple[float, float]] = []
    for plane in devices or planes:
        for line in plane.lines:
            if devices and not line.name.startswith("Stream"):
                continue  # lines derived from the streams would count everything twice
            for event in line.events:
                stats = dict(event.stats)
                instruction = str(stats.get("hlo_op", ""))
                if not devices and not instruction:
                    continue
                total = totals[event.name, instruction]
                total[0] += 1
                total[1] += event.duration_ns
                intervals.append((event.start_ns, event.start_ns + event.duration_ns))
    kernels = [
        Kernel(name, instruction, source_of.get(instruction, ""), count / steps, nanoseconds / 1e6 / steps)
        for (name, instruction), (count, nanoseconds) in totals.items()
    ]
    kernels.sort(key=lambda kernel: -kernel.milliseconds)
    busy, span = _union(intervals)
    return Profile(kernels, busy / 1e6 / steps, span / 1e6 / steps)


def _union(intervals: list[tuple[float, float]]) -> tuple[float, float]:
    """Length of the union, and of all from the first start to the last end."""
    busy, end = 0.0, float("-inf")
    for left, right in sorted(intervals):
        busy += max(0.0, right - max(left, end))
        end = max(end, right)
    return busy, end - min(intervals)[0] if intervals else 0.0


def by_kind(kernels: list[Kernel]) -> dict[str, float]:
    """Milliseconds per step by what the kernels are."""
    kinds: dict[str, float] = defaultdict(float)
    for kernel in kernels:
        kinds[_kind(kernel)] += kernel.milliseconds
    return dict(sorted(kinds.items(), key=lambda item: -item[1]))


def _kind(kernel: Kernel) -> str:
    text = f"{kernel.name} {kernel.instruction}".lower()
    for kind, words in _KINDS.items():
        if re.search(words, text):
            return kind
    return "other"


_KINDS = {
    "copy": "memcpy|memset|copy",
    "attention": "fmha|flash|sdpa|cudnn_generated|compute_dot_do_o|convert_dq",
    "convolution": "conv(?!ert)|implicit_gemm|fprop|dgrad|wgrad|xmma|addpadding|cudnn",
    "product": "gemm|cutlass|cublas|nvjet|dot",
    "reduction": "reduce",
    "transpose": "transpose",
    "fusion": "fusion",
}
"""Patterns in a kernel's name or its instruction's; the first kind that has one counts."""


def table(profile: Profile, count: int = 10) -> str:
    """The longest kernels as text."""
    lines = [f"{'ms/step':>9} {'share':>6} {'calls':>6}  kernel | instruction | source"]
    for kernel in profile.kernels[:count]:
        share = kernel.milliseconds / profile.busy_ms if profile.busy_ms else 0.0
        source = kernel.source if len(kernel.source) <= 90 else "..." + kernel.source[-87:]
        lines.append(
            f"{kernel.milliseconds:9.3f} {share:6.1%} {kernel.count:6.1f}  {kernel.name[:70]} | {kernel.instruction}"
            f" | {source}"
        )
    return "\n".join(lines)
