"""Training steps of a model in bf16: LUAB and its profile, the baseline, LUAB untuned, XLA's attention, whole recipe.

    python -m benchmarks.gpu.training vit_b --out=DIR
    python -m benchmarks.gpu.training vit_s vit_ti resnet18 --variants=luab --out=DIR

Drawn images, no input pipeline, one device. All programs are compiled at a time; LUAB is then measured and profiled,
so that a run cut short has the headline; at last the others take turns with it. MFU counts 6 operations per
forward multiply-accumulate and image, whatever the compiler does, over the published dense bf16 peak.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np

from benchmarks import train_step
from benchmarks.gpu import profile
from benchmarks.gpu.jax_results import jax_results
from benchmarks.gpu.models import MODELS, VARIANTS, Variant, batch_sizes, config_of, variants
from benchmarks.gpu.record import Results, parser
from luab_jax.byproducts.targets import Target
from luab_jax.models import gpu
from luab_jax.models.config import Attention
from luab_jax.models.functional import create_model, num_parameters
from luab_jax.preflight.macs import count_macs
from luab_jax.training.program import Program, lower_train_step

PROFILED_STEPS = 3
_ROOM = 0.97
"""Of the device's memory, which a program may fill: the allocator rounds up."""


class Step:
    """A compiled training step with its state and a batch on the device."""

    def __init__(self, model: str, variant: Variant, batch_size: int, *, rehearse: bool):
        config = config_of(model, variant, batch_size, rehearse=rehearse)
        self.variant = variant
        self.config = config
        target = config.byproduct.target if variant.luab else Target.NONE
        self.compile_s = 0.0
        with nullcontext() if variant.tuned else mock.patch.object(gpu, "is_tuned_for", return_value=False):
            self.program = train_step.program_of(config, target, jax.devices()[:1])
            self._lowered = lower_train_step(self.program)
        self.compiled: Any = None
        self._state: Any = None
        self._batch: Any = None
        self.finite = True

    def compile(self) -> Step:
        start = time.perf_counter()
        self.compiled = self._lowered.compile()
        self.compile_s = time.perf_counter() - start
        return self

    @property
    def bytes_used(self) -> int:
        """State, batch and everything in between, by the compiler."""
        memory = self.compiled.memory_analysis()
        return memory.argument_size_in_bytes + memory.temp_size_in_bytes

    def prepare(self) -> None:
        """Puts the state and a batch on the device."""
        self._state = drawn_state(self.program)
        self._batch = train_step.drawn_batch(self.program)
        self._key = jax.device_put(jax.random.key(0), self.program.mesh.devices.flat[0])

    def run(self, steps: int) -> None:
        """Runs so many steps and waits for them."""
        means: Any = {}
        for _ in range(steps):
            self._state, means = self.compiled(self._state, self._batch, self._key)
        jax.block_until_ready(self._state)
        loss = means["loss"]
        self.finite = self.finite and bool(np.isfinite(np.asarray(loss.total)))

    def release(self) -> None:
        self._state = self._batch = None


class Ahead:
    """Programs at the largest batch, lowered one after the other and compiled at a time, as they are asked for."""

    def __init__(self, chosen: list[tuple[str, Variant]], results: Results, *, rehearse: bool):
        self._rehearse = rehearse
        self._futures: dict[tuple[str, str, int], Future[Step]] = {}
        self._pool = ThreadPoolExecutor(max(1, len(chosen)))
        for model, variant in chosen:
            batch = batch_sizes(model, rehearse=rehearse)[0]
            try:
                step = Step(model, variant, batch, rehearse=rehearse)
            except Exception as e:  # the others go on
                results.failed(f"{model}: {variant.name}", e)
                continue
            self._futures[model, variant.name, batch] = self._pool.submit(step.compile)

    def get(self, model: str, variant: Variant, batch: int) -> Step:
        """Compiled; raises what the compiler raised. Waits for all: the compiler, too, times kernels on the device."""
        wait(self._futures.values())
        future = self._futures.pop((model, variant.name, batch), None)
        return future.result() if future else Step(model, variant, batch, rehearse=self._rehearse).compile()


def drawn_state(program: Program) -> Any:
    """A state as at the first step, without compiling an initialiser: time does not depend on how it was drawn."""
    rng = np.random.default_rng(0)

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name = jax.tree_util.keystr(path)
        if leaf.dtype == np.float32 and leaf.ndim > 1 and ".opt_state" not in name:
            fan_in = np.prod(leaf.shape[:-1])
            return rng.standard_normal(leaf.shape, np.float32) / np.sqrt(fan_in).astype(np.float32)
        one = ".opt_state" not in name and ("scale" in name or "var" in name)
        return np.full(leaf.shape, int(one), leaf.dtype)

    drawn = jax.tree_util.tree_map_with_path(draw, program.abstract_state)
    return jax.device_put(drawn, jax.tree.map(lambda leaf: leaf.sharding, program.abstract_state))


def forward_macs(model: str, *, rehearse: bool) -> int:
    """Multiply-accumulates of one image, forward."""
    variant = Variant("baseline", luab=False, attention=Attention.XLA)
    config = config_of(model, variant, 2, rehearse=rehearse)
    side = config.data.preprocessing.image_size
    network = create_model(config.model, num_classes=1000, image_size=side, byproduct_shape=None)
    params, batch_stats = network.abstract()
    images = jax.ShapeDtypeStruct((1, side, side, 3), np.float32)
    return count_macs(lambda p, s, x: network.apply(p, s, x, train=False)[0].logits, params, batch_stats, images)


class Report:
    """Turns a step's seconds into a line of results."""

    def __init__(self, results: Results, model: str, *, rehearse: bool):
        self._results, self._model = results, model
        self._macs = forward_macs(model, rehearse=rehearse)
        self.device = jax.devices()[0]

    def add(self, step: Step, seconds: list[float], **more: Any) -> None:
        median = float(np.median(seconds))
        batch = step.config.batch_size
        operations = 6 * self._macs * batch / median
        peak = train_step.peak_of(self.device)
        self._results.add(
            f"{self._model}: {step.variant.name}",
            model=self._model,
            variant=step.variant.name,
            batch=batch,
            parameters=num_parameters(step.program.abstract_state.params),
            ms=1e3 * median,
            ms_10_90=[1e3 * float(x) for x in np.percentile(seconds, [10, 90])],
            images_per_s=batch / median,
            tflops=operations / 1e12,
            mfu=operations / peak if peak else None,
            compile_s=step.compile_s,
            gb_by_compiler=step.bytes_used / 1e9,
            finite=step.finite,
            **more,
        )


def first_that_fits(model: str, variant: Variant, results: Results, ahead: Ahead, *, rehearse: bool) -> Step | None:
    """The largest batch of the list that the device's memory holds, compiled and run once."""
    for batch_size in batch_sizes(model, rehearse=rehearse):
        try:
            step = ahead.get(model, variant, batch_size)
            results.add(f"{model}: compiled", batch=batch_size, compile_s=step.compile_s, gb=step.bytes_used / 1e9)
            if step.bytes_used > _ROOM * memory_limit():
                continue
            step.prepare()
            step.run(2)
        except Exception as e:  # whatever the compiler or the device says: the next size may do
            results.failed(f"{model}: {variant.name}, batch {batch_size}", e)
            if "RESOURCE_EXHAUSTED" not in str(e):
                return None
            continue
        return step
    return None


def memory_limit() -> float:
    stats = jax.devices()[0].memory_stats() or {}
    return stats.get("bytes_limit", float("inf"))


def largest_batch(step: Step) -> int | None:
    """What would fit if all but the state grew with the batch."""
    limit = memory_limit()
    if limit == float("inf"):
        return None
    state = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(step.program.abstract_state))
    return int(step.config.batch_size * (_ROOM * limit - state) / (step.bytes_used - state))


def timed(step: Step, steps: int) -> float:
    """Seconds of one step."""
    start = time.perf_counter()
    step.run(steps)
    return (time.perf_counter() - start) / steps


def steps_for(step: Step, seconds: float) -> int:
    """How many take about so long."""
    return max(2, min(50, round(seconds / timed(step, 2))))


def headline(model: str, results: Results, report: Report, ahead: Ahead, *, rehearse: bool) -> Step | None:
    """LUAB by the best attention there is, alone; with XLA's where the other cannot be compiled."""
    for variant in [variant for variant in variants(model) if variant.key in ("luab", "xla")]:
        step = first_that_fits(model, variant, results, ahead, rehearse=rehearse)
        if step is not None:
            count = steps_for(step, 0.05 if rehearse else 0.7)
            report.add(step, [timed(step, count) for _ in range(3 if rehearse else 5)], alone=True, **memory(step))
            return step
    return None


def memory(step: Step) -> dict[str, Any]:
    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {"gb_peak": peak / 1e9 if peak else None, "largest_batch": largest_batch(step)}


def keep_profile(model: str, step: Step, results: Results) -> None:
    """The ten longest kernels; the whole list, the program and the trace as files."""
    program = step.compiled.as_text()
    with gzip.open(results.out / f"program_{model}.txt.gz", "wt") as file:
        file.write(program)
    taken = profile.take(
        lambda: step.run(PROFILED_STEPS), PROFILED_STEPS, program, results.out / f"trace_{model}.xplane.pb.gz"
    )
    results.add(
        f"{model}: profile",
        model=model,
        busy_ms=taken.busy_ms,
        span_ms=taken.span_ms,
        by_kind=profile.by_kind(taken.kernels),
        kernels=[asdict(kernel) for kernel in taken.kernels[:60]],
    )
    print(profile.table(taken), flush=True)


def in_turns(steps: list[Step], rounds: int, seconds: float) -> Iterator[tuple[Step, list[float]]]:
    """Seconds of a step in each round, in which every step has its turn."""
    counts = {id(step): steps_for(step, seconds) for step in steps}
    times: dict[int, list[float]] = {id(step): [] for step in steps}
    for round_index in range(rounds):
        for step in steps if round_index % 2 else steps[::-1]:
            times[id(step)].append(timed(step, counts[id(step)]))
    for step in steps:
        yield step, times[id(step)]


def measure(model: str, chosen: list[Variant], results: Results, ahead: Ahead, *, rehearse: bool) -> None:
    """The headline, its profile, then the other variants in turns with it."""
    report = Report(results, model, rehearse=rehearse)
    first = headline(model, results, report, ahead, rehearse=rehearse)
    if first is None:
        return
    attempt(f"{model}: profile", results, lambda: keep_profile(model, first, results))
    ready = [first]
    for variant in [variant for variant in chosen if variant != first.variant]:
        try:
            step = ahead.get(model, variant, first.config.batch_size)
        except Exception as e:  # the others go on
            results.failed(f"{model}: {variant.name}", e)
            continue
        if can_run(model, step, results):
            ready.append(step)
    if len(ready) > 1:
        taken = dict(in_turns(ready, 4 if rehearse else 8, 0.05 if rehearse else 0.4))
        for step, seconds in taken.items():
            report.add(step, seconds, alone=False, ratio_to_luab=float(np.median(np.divide(seconds, taken[first]))))
    for step in ready:
        step.release()


def can_run(model: str, step: Step, results: Results) -> bool:
    """Whether the step fits beside the others' states, by two steps of it."""
    if step.bytes_used > _ROOM * memory_limit():
        results.add(f"{model}: {step.variant.name} does not fit", gb=step.bytes_used / 1e9)
        return False

    def start() -> None:
        step.prepare()
        step.run(2)

    return attempt(f"{model}: {step.variant.name}", results, start)


def attempt(what: str, results: Results, work: Callable[[], object]) -> bool:
    """Whether it could be done; if not, the reason is a result."""
    try:
        work()
    except Exception as e:  # one part less must not cost the others
        results.failed(what, e)
        return False
    return True


def main() -> None:
    options = parser(__doc__)
    options.add_argument("models", nargs="+", choices=MODELS)
    options.add_argument("--variants", default=",".join(VARIANTS), help="by name, with commas between; luab always")
    arguments = options.parse_args()
    keys = {"luab", *arguments.variants.split(",")}
    if unknown := keys - {*VARIANTS}:
        options.error(f"--variants={','.join(sorted(unknown))}: choose from {', '.join(VARIANTS)}")
    Path(arguments.out).mkdir(parents=True, exist_ok=True)
    results = jax_results(arguments.out, "training")
    chosen = {model: [variant for variant in variants(model) if variant.key in keys] for model in arguments.models}
    pairs = [(model, variant) for model, several in chosen.items() for variant in several]
    ahead = Ahead(pairs, results, rehearse=arguments.rehearse)
    for model, several in chosen.items():
        attempt(
            model,
            results,
            lambda model=model, several=several: measure(model, several, results, ahead, rehearse=arguments.rehearse),
        )


if __name__ == "__main__":
    main()
