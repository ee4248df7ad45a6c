"""The training loop: batches in; checkpoints, metrics and log lines out.

`train(config, workdir)` is what the command, the tests and a notebook call. It resumes by itself from the latest
checkpoint of `workdir`; the data order, the augmentation and the random keys are functions of seed and step, so a
resumed run continues to the same bits.
"""

from __future__ import annotations

import contextlib
import errno
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from etils import epath

from luab_jax import config as config_lib
from luab_jax.checkpoints.s3 import check_arrays
from luab_jax.checkpoints.store import Checkpoints
from luab_jax.config import Config, Task, label_set_size
from luab_jax.data.dataset import open_split
from luab_jax.data.feed import Feed, to_global
from luab_jax.data.input_speed import Meter
from luab_jax.data.pipeline import eval_batches
from luab_jax.distributed import sharding
from luab_jax.distributed.stop import StopSignal
from luab_jax.distributed.watchdog import WatchedHosts
from luab_jax.errors import ExitCode, UserError, WorkerLostError, option
from luab_jax.io import retries, storage
from luab_jax.io.console import say
from luab_jax.io.lease import Lease
from luab_jax.io.wording import counted
from luab_jax.metrics.average_precision import mean_average_precision
from luab_jax.metrics.means import summarise
from luab_jax.models.config import architecture
from luab_jax.models.functional import num_parameters
from luab_jax.training import metric_log as log_lib
from luab_jax.training.batches import reading, training_batches
from luab_jax.training.init_from import with_initial_weights
from luab_jax.training.input_check import InputCheck
from luab_jax.training.log_window import Window
from luab_jax.training.metric_log import MetricLog
from luab_jax.training.resumption import extended_config, resumed_config
from luab_jax.training.setup import Run, claim, compile_step, set_up, use_compilation_cache
from luab_jax.training.step import LabelSetRows, TrainState


def train(config: Config, workdir: epath.PathLike, *, extend: bool = False) -> ExitCode:
    """Trains to the end, or until SIGTERM or SIGINT, which save and return `STOPPED_RESUMABLE`.

    extend: Whether `config` may be longer than that of the run in `workdir`, which is then continued by its schedule.
    """
    config.validate()
    check_arrays(workdir)
    storage.check_writable(workdir)
    sharding.init_distributed(config.distributed)
    use_compilation_cache(config)
    remedy = f"choose another {option('workdir')}"
    with (
        WatchedHosts(config.distributed.heartbeat_timeout_s),
        _telling_what_cannot_be_written(workdir),
        Lease(workdir, remedy=remedy, active=jax.process_index() == 0) as lease,
    ):
        config, lines = resumed_config(config, epath.Path(workdir))
        if extend:
            num_examples = len(open_split(config.data.root, config.data.train_split).records)
            config, about_length = extended_config(config, epath.Path(workdir), num_examples)
            lines += about_length
        for line in lines:
            say(line, active=jax.process_index() == 0)
        run = with_initial_weights(set_up(config, workdir))
        claim(run, extends=extend)
        keep = config.checkpoint
        checkpoints = Checkpoints(run.workdir, keep_last=keep.keep_last, keep_best=keep.keep_best)
        try:
            with StopSignal() as stop:
                return _loop(run, _initial_state(run, checkpoints), checkpoints, stop, lease)
        finally:
            checkpoints.close()


@contextlib.contextmanager
def _telling_what_cannot_be_written(workdir: epath.PathLike) -> Iterator[None]:
    """Everything that the loop reads tells of itself; what remains is a file of the workdir."""
    try:
        yield
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        raise UserError(
            f"{e.filename or workdir}: cannot be written ({e.strerror}). Earlier checkpoints are intact: check free"
            " space and permissions there, then re-run the same command"
        ) from e


def _initial_state(run: Run, checkpoints: Checkpoints) -> TrainState:
    parameters = num_parameters(run.abstract_state.params)
    devices = counted(run.mesh.size, f"{jax.devices()[0].device_kind} device")
    devices = f"{devices} on {counted(jax.process_count(), 'host')}"
    say(f"{architecture(run.config.model)}, {parameters:,} parameters, {devices}", active=run.is_first_process)
    sharding.agree({"step to resume from": str(checkpoints.latest_step())})
    saved = checkpoints.restore_latest(run.abstract_state._asdict())
    if saved is None:
        return run.init(run.init_key)
    step = checkpoints.latest_step()
    say(f"resuming from step {step:,} of {run.total_steps:,}", active=run.is_first_process)
    return TrainState(**saved)


def _train_feed(run: Run, start_step: int, meter: Meter | None = None) -> Feed:
    batches = training_batches(
        run.config,
        run.train_split,
        num_classes=run.model.num_classes,
        settings=run.target_settings,
        start_step=start_step,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        meter=meter,
    )
    return Feed(run.host_data.watched(batches), sharding.batch_sharding(run.mesh))


def evaluate(run: Run, state: TrainState, stop: StopSignal | None = None) -> dict[str, float] | None:
    """Exact metrics over the evaluation split; mAP from the scores of all images, on every host alike.

    `None` if `stop` asked to break off.
    """
    batches = eval_batches(
        run.eval_split,
        preprocessing=run.config.data.preprocessing,
        batch_size=run.config.eval.batch_size or run.config.batch_size,
        num_classes=label_set_size(run.config, run.model.num_classes),
        target=run.config.byproduct.target,
        more=[entry.target for entry in run.config.byproduct.more],
        settings=run.target_settings,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        reading=reading(run.config),
    )
    batch_sharding = sharding.batch_sharding(run.mesh)
    models = _models(run, state)
    outputs: list[Any] = []
    for batch, _ in batches:
        if stop is not None and stop.at_once():
            return None
        rows = to_global(batch, batch_sharding)
        outputs.append({name: run.eval_step(*weights, rows) for name, weights in models.items()})
        # One batch ahead of the device and no more: a fast host would fill its memory with images.
        outputs[-2:-1] = jax.device_get(outputs[-2:-1])
    return {
        f"eval/{prefix}{name}": value
        for prefix in models
        for name, value in _scores(run, [output[prefix] for output in outputs]).items()
    }


def _models(run: Run, state: TrainState) -> dict[str, tuple[Any, Any]]:
    """What is evaluated, by the prefix of its scores: parameters and batch statistics."""
    models = {"": (state.params, state.batch_stats)}
    if state.ema is not None:
        average = run.average(state.ema)
        models["ema_"] = (average["params"], average["batch_stats"])
    return models


def _scores(run: Run, outputs: Sequence[Any]) -> dict[str, float]:
    if run.config.task is Task.SINGLE_LABEL:
        return summarise(outputs)
    means, rows = zip(*jax.device_get(list(outputs)), strict=True)
    return summarise(means) | _label_set_scores(rows)


def _label_set_scores(rows: Sequence[LabelSetRows]) -> dict[str, float]:
    logits, labels, mask = (np.concatenate(column) for column in zip(*rows, strict=True))
    if not np.all(np.isfinite(logits[mask])):
        return {"map": math.nan}  # the next training step stops the run and names the records
    return {"map": float(mean_average_precision(logits[mask], labels[mask])["map"])}


@dataclass(slots=True)
class _Due:
    """What is to be done after a step."""

    log: bool
    evaluate: bool
    save: bool


class _Clock:
    """When `config.checkpoint.every_minutes` asks for a save; the first host's clock decides for all."""

    def __init__(self, minutes: float | None, every_steps: int):
        self._minutes, self._every_steps = minutes, every_steps
        self._saved = time.monotonic()

    def saved(self) -> None:
        self._saved = time.monotonic()

    def is_due(self, step: int) -> bool:
        """On several hosts at steps that are logged, where they exchange it; alone at every step."""
        if self._minutes is None or (jax.process_count() > 1 and step % self._every_steps):
            return False
        due = time.monotonic() - self._saved >= 60 * self._minutes
        return sharding.gather("due" if due else "")[0] == "due"


def _due(run: Run, step: int, *, stopping: bool, by_time: bool) -> _Due:
    config, last = run.config, step == run.total_steps
    num_examples = len(run.train_split.records)
    evaluate = last or step % config_lib.every_steps(config.eval.every_epochs, config, num_examples) == 0
    save = (
        last
        or stopping
        or by_time
        or step % config_lib.every_steps(config.checkpoint.every_epochs, config, num_examples) == 0
    )
    log = save or evaluate or step % config.log.every_steps == 0
    return _Due(log=log, evaluate=evaluate and not stopping, save=save)


def _loop(run: Run, state: TrainState, checkpoints: Checkpoints, stop: StopSignal, lease: Lease) -> ExitCode:
    step = int(jax.device_get(state.step))
    log = MetricLog(run.workdir, resume_step=step, tensorboard=run.config.log.tensorboard, active=run.is_first_process)
    run.host_data.start(step)
    meter = Meter()
    feed = _train_feed(run, step, meter)
    check = InputCheck(run.config, meter, start_step=step, total_steps=run.total_steps)
    window = Window()
    try:
        if not _make_up_for_evaluation(run, state, step, log, stop, checkpoints):
            return ExitCode.STOPPED_RESUMABLE
        train_step = compile_step(run) if step < run.total_steps else None
        clock = _Clock(run.config.checkpoint.every_minutes, run.config.log.every_steps)
        while train_step is not None and step < run.total_steps:
            start, waited = time.monotonic(), feed.waited_s
            batch, index = next(feed)
            check.before()
            with jax.transfer_guard("disallow"):
                state, means = train_step(state, batch, run.step_key)
            step += 1
            if (found := check.after(step, means)) is not None:
                say(found.line(), active=run.is_first_process)
            lease.check()
            window.add(step, means, index)
            checkpoints.check()
            stopping = stop.at_step(step)
            due = _due(run, step, stopping=stopping, by_time=clock.is_due(step))
            if due.log:
                window.check_finite(run, state)
            window.count(time.monotonic() - start, feed.waited_s - waited)
            if due.log:
                scalars = window.scalars(run, step) | _repeated_requests()
                log.write(step, scalars)
                say(log_lib.train_line(step, run.total_steps, scalars), active=run.is_first_process)
                window = Window()
            scores = _evaluate_and_log(run, state, step, log, stop) if due.evaluate else {}
            stopping = stopping or scores is None
            if due.save or stopping:
                lease.check()  # an evaluation takes long, and Orbax writes without asking
                metrics = _as_metrics(scores or {})
                checkpoints.save(step, state._asdict(), metrics=metrics, description=run.description())
                clock.saved()
            if stopping:
                checkpoints.wait()
                say(f"stopped at step {step:,}, saved; the same command resumes", active=run.is_first_process)
                return ExitCode.STOPPED_RESUMABLE
        checkpoints.wait()
        say(
            f"done: {counted(run.total_steps, 'step')}, checkpoints in {checkpoints.directory}",
            active=run.is_first_process,
        )
        return ExitCode.DONE
    except WorkerLostError:  # of the training's workers or of an evaluation's
        _save_before_the_end(run, state, step, window, checkpoints, lease)
        raise
    finally:
        feed.close()
        run.host_data.close()
        log.close()


def _save_before_the_end(
    run: Run, state: TrainState, step: int, window: Window, checkpoints: Checkpoints, lease: Lease
) -> None:
    """The state is good when only the data stop coming. One host of several cannot save alone.

    Raises `UserError` instead if the steps since the last log line were not finite.
    """
    if jax.process_count() == 1 and step > (checkpoints.latest_step() or 0):
        window.check_finite(run, state)
        lease.check()
        checkpoints.save(step, state._asdict(), metrics={}, description=run.description())
        checkpoints.wait()
        say(f"saved step {step:,}")


def _repeated_requests() -> dict[str, float]:
    """Of this run so far; nothing where none had to be."""
    repeated = sum(retries.counts().values())
    return {"storage/repeated_requests": float(repeated)} if repeated else {}


def _evaluate_and_log(
    run: Run, state: TrainState, step: int, log: MetricLog, stop: StopSignal
) -> dict[str, float] | None:
    scores = evaluate(run, state, stop)
    if scores is not None:
        log.write(step, scores)
        say(log_lib.eval_line(step, scores), active=run.is_first_process)
    return scores


def _as_metrics(scores: dict[str, float]) -> dict[str, float]:
    return {name.removeprefix("eval/"): value for name, value in scores.items()}


def _make_up_for_evaluation(
    run: Run, state: TrainState, step: int, log: MetricLog, stop: StopSignal, checkpoints: Checkpoints
) -> bool:
    """Evaluates a resumed step whose evaluation was lost when the run was stopped; False if stopped again."""
    if step == 0 or not _due(run, step, stopping=False, by_time=False).evaluate:
        return True
    scores = log.written(step, "eval/") or _evaluate_and_log(run, state, step, log, stop)
    if scores is None:
        return False
    if not checkpoints.metrics(step):
        checkpoints.add_metrics(step, _as_metrics(scores))
    return True
