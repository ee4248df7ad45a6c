"""The training loop: batches in; checkpoints, metrics and log lines out.

`train(config, workdir)` is what the command, the tests and a notebook call. It resumes by itself from the latest
checkpoint of `workdir`; the data order, the augmentation and the random keys are functions of seed and step, so a
resumed run continues to the same bits.
"""

from __future__ import annotations

import contextlib
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from luab_jax import checkpoint as checkpoint_lib
from luab_jax import config as config_lib
from luab_jax import log as log_lib
from luab_jax import optim, sharding
from luab_jax.byproducts.targets import target_shape
from luab_jax.checkpoint import Checkpoints
from luab_jax.config import Config, Task, label_set_size
from luab_jax.data.batch import Batch
from luab_jax.data.dataset import PreparedSplit, open_split
from luab_jax.data.features import Example
from luab_jax.data.feed import Feed, to_global
from luab_jax.data.pipeline import Augmentation, LabelSets, Reading, eval_batches, train_batches
from luab_jax.errors import ConfigError, DataError, ExitCode, UserError
from luab_jax.evaluation.scores.average_precision import mean_average_precision
from luab_jax.log import MetricLog, say
from luab_jax.metrics import Means, summarise
from luab_jax.models.functional import Model, create_model, num_parameters
from luab_jax.step import (
    LabelSetRows,
    TrainState,
    init_state,
    make_eval_step,
    make_label_set_eval_step,
    make_train_step,
)


@dataclass(frozen=True, slots=True)
class Run:
    """Everything fixed about a run before its first step."""

    config: Config
    workdir: epath.Path
    mesh: Mesh
    model: Model
    train_split: PreparedSplit
    eval_split: PreparedSplit
    total_steps: int
    train_step: Any
    """The jitted (state, batch, key) -> (state, means)."""
    eval_step: Callable[[Any, Any, Batch], Any]
    """The jitted (params, batch_stats, batch) -> means, with the rows of mAP for sets of labels."""
    init: Callable[[jax.Array], TrainState]
    abstract_state: TrainState
    init_key: jax.Array
    step_key: jax.Array

    @property
    def is_first_process(self) -> bool:
        return jax.process_index() == 0

    def description(self) -> dict[str, Any]:
        """What makes a checkpoint understandable without this run."""
        classes = self.train_split.manifest.classes
        return {
            "config": config_lib.to_dict(self.config),
            "dataset": self.train_split.manifest.dataset,
            "num_classes": len(classes),
            "class_list_hash": classes.hash,
            "versions": checkpoint_lib.versions(),
        }


def train(config: Config, workdir: epath.PathLike) -> ExitCode:
    """Trains to the end, or until SIGTERM or SIGINT, which save and return `STOPPED_RESUMABLE`."""
    config.validate()
    sharding.init_distributed(config.distributed)
    _use_compilation_cache(config)
    workdir = epath.Path(workdir)
    _claim(workdir, config)
    run = set_up(config, workdir)
    checkpoints = Checkpoints(workdir, keep_last=config.checkpoint.keep_last, keep_best=config.checkpoint.keep_best)
    try:
        with _stop_signal() as stop:
            state = _initial_state(run, checkpoints)
            return _loop(run, state, checkpoints, stop)
    finally:
        checkpoints.close()


def set_up(config: Config, workdir: epath.PathLike) -> Run:
    """Opens the data, builds the model, and prepares the compiled functions (compiled at their first call)."""
    if not config.data.root:
        raise ConfigError("config.data.root is empty: --config.data.root=DIR names the prepared data")
    train_split = open_split(config.data.root, config.data.train_split)
    eval_split = open_split(config.data.root, config.data.eval_split)
    num_classes = _num_classes(config, train_split, eval_split)
    for split in (train_split, eval_split):
        _check_task(config, split)
    num_examples = len(train_split.records)
    if not num_examples:
        raise DataError(f"{config.data.root}: the split {config.data.train_split!r} holds no record to train on")
    mesh = sharding.make_mesh(config.mesh)
    sharding.check_batch_size("batch_size", config.batch_size, mesh)
    sharding.check_batch_size("eval.batch_size", config.eval.batch_size or config.batch_size, mesh)
    try:
        model = create_model(
            config.model,
            num_classes=num_classes,
            image_size=config.data.preprocessing.image_size,
            byproduct_shape=target_shape(config.byproduct.target, label_set_size(config, num_classes)),
        )
    except ValueError as e:
        raise ConfigError(str(e)) from e
    steps = config_lib.total_steps(config, num_examples)
    schedule = optim.make_schedule(
        config.optim, total_steps=steps, warmup_steps=config_lib.warmup_steps(config, num_examples)
    )
    optimizer = optim.make_optimizer(config.optim, schedule)

    def keys() -> tuple[jax.Array, jax.Array]:
        """For the initial parameters, and for the randomness of the steps."""
        root = jax.random.key(config.seed)
        return jax.random.fold_in(root, 0), jax.random.fold_in(root, 1)

    def init(key: jax.Array) -> TrainState:
        return init_state(model, optimizer, key)

    batches, whole = sharding.batch_sharding(mesh), sharding.replicated(mesh)
    init_key, step_key = jax.jit(keys, out_shardings=whole)()
    shapes = jax.eval_shape(init, init_key)
    shardings = sharding.state_shardings(mesh, shapes)
    return Run(
        config=config,
        workdir=epath.Path(workdir),
        mesh=mesh,
        model=model,
        train_split=train_split,
        eval_split=eval_split,
        total_steps=steps,
        train_step=jax.jit(
            make_train_step(config, model, optimizer, schedule),
            donate_argnums=0,
            in_shardings=(shardings, batches, whole),
            out_shardings=(shardings, whole),
        ),
        eval_step=jax.jit(
            (make_label_set_eval_step if config.task is Task.MULTI_LABEL else make_eval_step)(config, model),
            in_shardings=(shardings.params, shardings.batch_stats, batches),
            out_shardings=whole,
        ),
        init=jax.jit(init, out_shardings=shardings),
        abstract_state=jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings),
        init_key=init_key,
        step_key=step_key,
    )


def _num_classes(config: Config, train_split: PreparedSplit, eval_split: PreparedSplit) -> int:
    classes, others = train_split.manifest.classes, eval_split.manifest.classes
    if classes.hash != others.hash:
        raise DataError(
            f"{config.data.root}: the splits {config.data.train_split!r} and {config.data.eval_split!r} were prepared"
            f" with different class lists ({len(classes)} and {len(others)} classes); prepare both with one list"
        )
    if config.data.num_classes not in (None, len(classes)):
        raise ConfigError(
            f"config.data.num_classes={config.data.num_classes}, but {config.data.root} has {len(classes)} classes"
        )
    return len(classes)


def _check_task(config: Config, split: PreparedSplit) -> None:
    """Whether images have one label or sets of them is a property of a whole split, so its first record tells."""
    if not len(split.records):
        return
    found = Task.SINGLE_LABEL if Example(split.records[0]).label >= 0 else Task.MULTI_LABEL
    if found is not config.task:
        kind = "one label" if found is Task.SINGLE_LABEL else "a set of labels"
        raise ConfigError(
            f"config.task={config.task.value}, but every image of {split.directory}, split {split.manifest.split!r},"
            f" has {kind}: set config.task={found.value}"
        )


def _use_compilation_cache(config: Config) -> None:
    if config.compilation_cache:
        jax.config.update("jax_compilation_cache_dir", str(epath.Path(config.compilation_cache).expanduser()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def _claim(workdir: epath.Path, config: Config) -> None:
    """Writes the config into a new workdir; refuses one that belongs to another experiment, showing the difference."""
    path = workdir / "config.json"
    if path.exists():
        try:
            old = json.loads(path.read_text())
        except ValueError as e:
            raise UserError(f"{path}: not the config of a run ({e}); choose another --workdir") from e
        changed = config_lib.differences(old, config)
        if changed:
            lines = "\n".join(f"  {name}: {a!r} there, {b!r} here" for name, (a, b) in changed.items())
            raise UserError(
                f"{workdir}: holds a run of another config; choose another --workdir. They differ in\n{lines}"
            )
    if jax.process_index() == 0:
        workdir.mkdir(parents=True, exist_ok=True)
        part = path.with_name("config.json.tmp")
        part.write_text(json.dumps(config_lib.to_dict(config), indent=1) + "\n")
        part.replace(path)  # the other hosts see all of it or nothing


def _initial_state(run: Run, checkpoints: Checkpoints) -> TrainState:
    step = checkpoints.latest_step()
    parameters = num_parameters(run.abstract_state.params)
    devices = f"{run.mesh.size} {jax.devices()[0].device_kind} device(s) on {jax.process_count()} host(s)"
    say(f"{run.config.model.name}, {parameters:,} parameters, {devices}", active=run.is_first_process)
    if step is None:
        return run.init(run.init_key)
    say(f"resuming from step {step:,} of {run.total_steps:,}", active=run.is_first_process)
    return TrainState(**checkpoint_lib.restore(run.workdir, step, run.abstract_state._asdict()))


def _reading(config: Config) -> Reading:
    return Reading(num_threads=config.data.num_threads, prefetch_examples=config.data.prefetch_examples)


def _train_feed(run: Run, start_step: int) -> Feed:
    config = run.config
    batches = train_batches(
        run.train_split,
        augmentation=Augmentation(
            image_size=config.data.preprocessing.image_size,
            crop_scale=config.data.crop_scale,
            flip=config.data.flip,
            filter=config.data.crop_filter,
        ),
        target=config.byproduct.target,
        seed=config.seed,
        label_sets=_label_sets(run),
        batch_size=config.batch_size,
        start_step=start_step,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        reading=_reading(config),
    )
    return Feed(batches, sharding.batch_sharding(run.mesh))


def _label_sets(run: Run) -> LabelSets | None:
    if run.config.task is Task.SINGLE_LABEL:
        return None
    return LabelSets(num_classes=run.model.num_classes, follow_points=run.config.byproduct.label_follows_point)


def evaluate(run: Run, state: TrainState) -> dict[str, float]:
    """Exact metrics over the evaluation split; mAP from the scores of all images, on every host alike."""
    batches = eval_batches(
        run.eval_split,
        preprocessing=run.config.data.preprocessing,
        batch_size=run.config.eval.batch_size or run.config.batch_size,
        num_classes=label_set_size(run.config, run.model.num_classes),
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        reading=_reading(run.config),
    )
    batch_sharding = sharding.batch_sharding(run.mesh)
    outputs = (run.eval_step(state.params, state.batch_stats, to_global(batch, batch_sharding)) for batch, _ in batches)
    if run.config.task is Task.SINGLE_LABEL:
        scores = summarise(outputs)
    else:
        means, rows = zip(*((means, jax.device_get(rows)) for means, rows in outputs), strict=True)
        scores = summarise(means) | _label_set_scores(rows)
    return {f"eval/{name}": value for name, value in scores.items()}


def _label_set_scores(rows: Sequence[LabelSetRows]) -> dict[str, float]:
    logits, labels, mask = (np.concatenate(column) for column in zip(*rows, strict=True))
    if not np.all(np.isfinite(logits[mask])):
        return {"map": math.nan}  # the next training step stops the run and names the records
    return {"map": float(mean_average_precision(logits[mask], labels[mask])["map"])}


def _compile(run: Run) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Means]]:
    """The step compiled ahead of the first batch, so that no log line's rate holds the compilation."""
    start = time.monotonic()
    size, side = run.config.batch_size, run.config.data.preprocessing.image_size
    k, d = run.model.byproduct_shape or (0, 0)
    shapes = Batch(
        images=jax.ShapeDtypeStruct((size, side, side, 3), np.uint8),
        labels=_label_shape(run, size),
        targets=jax.ShapeDtypeStruct((size, k, d), np.float32),
        valid=jax.ShapeDtypeStruct((size, k), np.bool_),
        mask=jax.ShapeDtypeStruct((size,), np.bool_),
        index=jax.ShapeDtypeStruct((size,), np.int32),
    )
    compiled = run.train_step.lower(run.abstract_state, shapes, run.step_key).compile()
    say(f"compiled the training step in {time.monotonic() - start:.1f} s", active=run.is_first_process)
    return compiled


def _label_shape(run: Run, size: int) -> jax.ShapeDtypeStruct:
    if run.config.task is Task.SINGLE_LABEL:
        return jax.ShapeDtypeStruct((size,), np.int32)
    return jax.ShapeDtypeStruct((size, run.model.num_classes), np.bool_)


class _Window:
    """The steps since the last log line: their means, still on the device, and what they were fed."""

    def __init__(self) -> None:
        self.means: list[Means] = []
        self.fed: list[tuple[int, np.ndarray]] = []
        self.busy_s = 0.0
        self.waited_s = 0.0

    def scalars(self, run: Run, step: int) -> dict[str, float]:
        """Fetches the means (this waits for the steps) and computes rates over the window."""
        count = len(self.means)
        values = {f"train/{name}": value for name, value in summarise(self.means).items()}
        values["train/learning_rate"] = summarise(self.means[-1:])["learning_rate"]
        seconds = max(self.busy_s, 1e-9)
        return values | {
            "time/epoch": step * run.config.batch_size / len(run.train_split.records),
            "time/step_ms": 1e3 * seconds / count,
            "time/images_per_s": count * run.config.batch_size / seconds,
            "time/data_wait_share": self.waited_s / seconds,
            "time/remaining_s": (run.total_steps - step) * seconds / count,
        }

    def check_finite(self, run: Run) -> None:
        """Raises `UserError` at the first step whose loss is not finite, naming its records; saves the evidence."""
        losses = jax.device_get([means["loss"].total for means in self.means])
        for loss, (step, index) in zip(losses, self.fed, strict=True):
            if not math.isfinite(loss):
                _raise_not_finite(run, step, float(loss), index)


def _raise_not_finite(run: Run, step: int, loss: float, index: np.ndarray) -> None:
    names = [Example(run.train_split.records[int(i)]).file_name for i in index]
    path = run.workdir / f"not_finite-step{step}-process{jax.process_index()}.json"
    path.write_text(json.dumps({"step": step, "loss": str(loss), "records": names}, indent=1) + "\n")
    raise UserError(
        f"the loss is {loss} at step {step}. Its batch on this host: {', '.join(names[:3])}, ... (all {len(names)} in"
        f" {path}). No checkpoint after the last good one was written; a lower config.optim.learning_rate, a longer"
        " warm-up or config.optim.clip_norm=1.0 are the usual remedies"
    )


def _loop(run: Run, state: TrainState, checkpoints: Checkpoints, stop: Callable[[int], bool]) -> ExitCode:
    config, total = run.config, run.total_steps
    num_examples = len(run.train_split.records)
    eval_every = config_lib.every_steps(config.eval.every_epochs, config, num_examples)
    save_every = config_lib.every_steps(config.checkpoint.every_epochs, config, num_examples)
    step = int(jax.device_get(state.step))
    log = MetricLog(run.workdir, resume_step=step, tensorboard=config.log.tensorboard, active=run.is_first_process)
    feed = _train_feed(run, step)
    train_step = _compile(run)
    window, evaluated = _Window(), {}
    try:
        while step < total:
            start, waited = time.monotonic(), feed.waited_s
            batch, index = next(feed)
            with jax.transfer_guard("disallow"):
                state, means = train_step(state, batch, run.step_key)
            window.means.append(means)
            window.fed.append((step, index))
            step += 1
            stopping = stop(step)
            logs = step % config.log.every_steps == 0 or step == total or stopping
            evaluates = not stopping and (step % eval_every == 0 or step == total)
            saves = step % save_every == 0 or step == total or stopping
            if logs or evaluates or saves:
                window.check_finite(run)
            window.busy_s += time.monotonic() - start
            window.waited_s += feed.waited_s - waited
            if logs or evaluates or saves:
                scalars = window.scalars(run, step)
                log.write(step, scalars)
                say(log_lib.train_line(step, total, scalars), active=run.is_first_process)
                window = _Window()
            if evaluates:
                evaluated = evaluate(run, state)
                log.write(step, evaluated)
                say(log_lib.eval_line(step, evaluated), active=run.is_first_process)
            if saves:
                metrics = {k.removeprefix("eval/"): v for k, v in evaluated.items()} if evaluates else {}
                checkpoints.save(step, state._asdict(), metrics=metrics, description=run.description())
            if stopping:
                checkpoints.wait()
                say(f"stopped at step {step:,}, saved; the same command resumes", active=run.is_first_process)
                return ExitCode.STOPPED_RESUMABLE
        checkpoints.wait()
        say(f"done: {total:,} steps, checkpoints in {checkpoints.directory}", active=run.is_first_process)
        return ExitCode.DONE
    finally:
        feed.close()
        log.close()


@contextlib.contextmanager
def _stop_signal() -> Iterator[Callable[[int], bool]]:
    """A function of the step that tells whether to save and stop, the same on every host.

    With several hosts jax's coordination service watches SIGTERM and picks a step that all of them will reach.
    """
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield lambda step: False  # a notebook's worker thread cannot receive signals
        return

    def tell(signum: int, frame: object) -> None:
        if told.is_set():
            raise KeyboardInterrupt  # the second signal does not wait for the step and the save
        say(f"received {signal.Signals(signum).name}: saving after this step")
        told.set()

    before = {number: signal.signal(number, tell) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda step: told.is_set()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
