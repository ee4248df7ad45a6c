"""The training step of any config on the devices there are, with the byproduct head and without it, in one run.

Of a config with several byproducts: with all heads, with the first alone, with none.

    python -m benchmarks.train_step --config=configs/vit_s.py --batch_size=64 [--config.field=value]
    python -m benchmarks.train_step --flops_only

Drawn images, no input pipeline. Both steps are compiled, then take turns, so that a machine that slows down slows both.
FLOPs are the compiler's, of the program before optimisation: every addition counts, the optimiser's too, and
RandAugment's operations for all images, as a GPU computes them. A share of the peak is given by them, for devices whose
peak in bfloat16 is published.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from absl import flags

from luab_jax import cli
from luab_jax.byproducts.statistics import TargetStatistics
from luab_jax.byproducts.targets import Target
from luab_jax.checkpoints.store import versions
from luab_jax.config import Config, Task
from luab_jax.config.byproduct import settings_of
from luab_jax.config.flags import load_config
from luab_jax.data.batch import Batch
from luab_jax.distributed import sharding
from luab_jax.errors import ExitCode
from luab_jax.models.choices import Attention
from luab_jax.models.functional import num_parameters
from luab_jax.preflight import chips
from luab_jax.training.program import (
    Program,
    abstract_batch,
    count_flops,
    lower_train_step,
    make_checked_mesh,
    make_program,
)

_COMMAND = cli.Command(
    "python -m benchmarks.train_step",
    "The training step of any config on the devices there are, with the byproduct head and without it,\nin one run.",
    (
        "--config=configs/vit_s.py --batch_size=64",
        "--config=configs/resnet50.py --rounds=50 --steps=4",
        "--flops_only",
    ),
    takes_config=True,
)
_CONFIG = flags.DEFINE_string(
    "config", None, "An experiment of configs/; fields by --config.field=value.", flag_values=_COMMAND.flags
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", None, "Instead of the config's; over all devices.", lower_bound=1, flag_values=_COMMAND.flags
)
_ROUNDS = flags.DEFINE_integer(
    "rounds", 20, "Turns of each of the two steps.", lower_bound=3, flag_values=_COMMAND.flags
)
_STEPS = flags.DEFINE_integer(
    "steps", 1, "Steps of a turn; more hide what a step costs the host.", lower_bound=1, flag_values=_COMMAND.flags
)
_FLOPS_ONLY = flags.DEFINE_bool(
    "flops_only",
    False,
    "FLOPs of the ImageNet models, which needs neither device nor time.",
    flag_values=_COMMAND.flags,
)

MODELS = ("resnet18", "resnet50", "resnet101", "resnet152", "vit_ti", "vit_s", "vit_b")
_NUM_CLASSES = {Task.SINGLE_LABEL: 1000, Task.MULTI_LABEL: 80}
_NUM_EXAMPLES = 1_281_167

_GPU_PEAK_FLOPS = {"NVIDIA A100": 312e12, "NVIDIA H100": 989e12, "NVIDIA H200": 989e12}
"""Dense bfloat16 products per second, by how a device's kind starts: NVIDIA's data sheets (SXM)."""


@dataclass(frozen=True, slots=True)
class Step:
    """A compiled training step with what it eats, and how it went."""

    name: str
    program: Program
    compiled: Any
    compile_s: float
    flops: float


def program_of(config: Config, target: Target, devices: list[Any] | None = None) -> Program:
    config = copy.deepcopy(config)
    config.byproduct.target = target
    if target is Target.NONE:
        config.byproduct.more = ()
    config.validate()
    counts_annotators = Target.ANNOTATOR in config.byproduct.targets
    annotators = tuple(map(str, range(config.byproduct.max_annotators))) if counts_annotators else ()
    return make_program(
        config,
        make_checked_mesh(config, devices),
        num_classes=config.data.num_classes or _NUM_CLASSES[config.task],
        num_examples=_NUM_EXAMPLES,
        target_settings=settings_of(config.byproduct, statistics=TargetStatistics(annotators=annotators)),
    )


def compile_step(name: str, config: Config, target: Target) -> Step:
    program = program_of(config, target)
    lowered = lower_train_step(program)
    start = time.perf_counter()
    compiled = lowered.compile()
    return Step(name, program, compiled, time.perf_counter() - start, flops_of(config, target))


def flops_of(config: Config, target: Target, devices: list[Any] | None = None) -> float:
    """With attention as the products that it is, of which a kernel of cuDNN would show none."""
    config = copy.deepcopy(config)
    config.model.attention = Attention.XLA
    return count_flops(program_of(config, target, devices))


def drawn_batch(program: Program) -> Batch:
    """Random pixels, labels and targets, all valid, on the devices."""
    rng = np.random.default_rng(0)

    def draw(shape: jax.ShapeDtypeStruct) -> np.ndarray:
        if shape.dtype == np.uint8:
            return rng.integers(0, 256, shape.shape, np.uint8)
        if shape.dtype == np.float32:
            return rng.random(shape.shape, np.float32)
        return np.ones(shape.shape, shape.dtype)

    batch = jax.tree.map(draw, abstract_batch(program))
    return jax.device_put(batch, sharding.batch_sharding(program.mesh))


def measure(steps: list[Step], *, rounds: int, steps_per_round: int) -> dict[str, np.ndarray]:
    """Seconds of one step, by name: a value per round, in which every step has its turn."""
    key = jax.random.key(0)
    states = {step.name: step.program.init(key) for step in steps}
    batches = {step.name: drawn_batch(step.program) for step in steps}
    root = jax.device_put(key, sharding.replicated(steps[0].program.mesh))
    seconds: dict[str, list[float]] = {step.name: [] for step in steps}
    for round_index in range(rounds + 1):  # the first warms up
        for step in steps if round_index % 2 else steps[::-1]:
            jax.block_until_ready(states[step.name])
            start = time.perf_counter()
            for _ in range(steps_per_round):
                states[step.name], _ = step.compiled(states[step.name], batches[step.name], root)
            jax.block_until_ready(states[step.name])
            if round_index:
                seconds[step.name].append((time.perf_counter() - start) / steps_per_round)
    return {name: np.asarray(values) for name, values in seconds.items()}


def peak_of(device: Any) -> float | None:
    if chip := chips.of_device_kind(device.device_kind):
        return chip.peak_flops
    return next((peak for kind, peak in _GPU_PEAK_FLOPS.items() if device.device_kind.startswith(kind)), None)


def report(config: Config, steps: list[Step], seconds: dict[str, np.ndarray]) -> None:
    mesh = steps[0].program.mesh
    device = mesh.devices.flat[0]
    peak = peak_of(device)
    known = versions()
    print(f"{config.model.name}, {num_parameters(steps[0].program.abstract_state.params):,} parameters")
    print(f"{mesh.size} x {device.device_kind}, jax {known['jax']}, flax {known['flax']}, Python {known['python']}")
    print(
        f"batch {config.batch_size}, {config.data.preprocessing.image_size} px, {config.model.compute_dtype.value},"
        f" {len(next(iter(seconds.values())))} rounds\n"
    )
    columns = ("ms, median", "10 % - 90 %", "images/s", "of peak", "TFLOP", "MB", "compiled in s")
    print(f"{'':12}" + "".join(f"{column:>16}" for column in columns))
    for step in steps:
        values = 1e3 * seconds[step.name]
        median = float(np.median(values))
        low, high = np.percentile(values, [10, 90])
        share = f"{step.flops / (median / 1e3) / (peak * mesh.size):.1%}" if peak else "unknown"
        memory = step.compiled.memory_analysis()
        used = memory.argument_size_in_bytes + memory.temp_size_in_bytes
        cells = (
            f"{median:.1f}",
            f"{low:.1f} - {high:.1f}",
            f"{1e3 * config.batch_size / median:.1f}",
            share,
            f"{step.flops / 1e12:.4f}",
            f"{used / 1e6:.0f}",
            f"{step.compile_s:.1f}",
        )
        print(f"{step.name:12}" + "".join(f"{cell:>16}" for cell in cells))
    *with_heads, baseline = steps
    print()
    for step in with_heads:
        count = len(step.program.config.byproduct.entries)
        ratios = seconds[step.name] / seconds[baseline.name]
        print(
            f"{'byproduct head' if count == 1 else f'{count} byproduct heads'}:"
            f" {step.flops / baseline.flops - 1:+.3%} FLOPs,"
            f" {np.median(ratios) - 1:+.1%} time (median of rounds; 10 % - 90 %:"
            f" {np.percentile(ratios, 10) - 1:+.1%} to {np.percentile(ratios, 90) - 1:+.1%})"
        )


def flops_table() -> None:
    """Of a whole training step on one device, by the batch and target of each model's config."""
    print(f"{'':12}{'batch':>8}{'target':>12}{'baseline':>12}{'LUAB':>12}{'more':>12}   TFLOP per step")
    for name in MODELS:
        config: Config = importlib.import_module(f"configs.{name}").get_config()
        target = config.byproduct.target
        baseline, luab = (flops_of(config, kind, jax.devices()[:1]) for kind in (Target.NONE, target))
        print(
            f"{name:12}{config.batch_size:8}{target.value:>12}{baseline / 1e12:12.4f}{luab / 1e12:12.4f}"
            f"{luab / baseline - 1:+12.5%}",
            flush=True,
        )


def main(argv: Sequence[str] | None = None) -> ExitCode:
    """Runs the command; see `--help`."""
    return _COMMAND.run(_main, argv)


def _main(arguments: cli.Arguments) -> ExitCode:
    if _FLOPS_ONLY.value:
        flops_table()
        return ExitCode.DONE
    if _CONFIG.value is None:
        cli.usage("--config=configs/NAME.py is missing: which experiment? (--flops_only needs none)")
    config = load_config(_CONFIG.value, arguments.overrides)
    config.batch_size = _BATCH_SIZE.value or config.batch_size
    config.eval.batch_size = None
    if config.byproduct.target is Target.NONE:
        cli.usage("--config.byproduct.target=none has no head to compare the baseline with; name a target")
    steps = [compile_step("LUAB", config, config.byproduct.target)]
    if config.byproduct.more:
        alone = copy.deepcopy(config)
        alone.byproduct.more = ()
        steps = [dataclasses.replace(steps[0], name=f"{len(config.byproduct.entries)} heads")]
        steps.append(compile_step("the first", alone, config.byproduct.target))
    steps.append(compile_step("baseline", config, Target.NONE))
    report(config, steps, measure(steps, rounds=_ROUNDS.value, steps_per_round=_STEPS.value))
    return ExitCode.DONE


if __name__ == "__main__":
    cli.run_program(main)
