"""Checkpoints: the only file that knows Orbax.

WORKDIR/checkpoints/<step>/           parameters, batch statistics, optimiser state, moving average; with config,
                                      preprocessing, class-list hash and versions as its metadata, so that it
                                      explains itself; digests of all its files
                                      (`digests.py`)
WORKDIR/damaged-checkpoints/<step>/   what a resumed run found damaged and passed over
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import math
import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
from etils import epath
from orbax.checkpoint import v1 as ocp

from luab_jax.checkpoints import digests, s3
from luab_jax.distributed import sharding
from luab_jax.errors import CheckpointError, option
from luab_jax.io import storage
from luab_jax.io.atomic import write_text
from luab_jax.io.console import say
from luab_jax.io.memory import release_freed

FORMAT_VERSION = 1
_COMMITTED = "commit_success.txt"
"""Written last by Orbax into a checkpoint in a bucket, which cannot be renamed."""
_BEST_METRICS = ("top1", "map")
"""The first of them that a run has: for single labels or for sets; of the raw weights, as in DeiT's main.py, also where
a moving average (`ema_top1`) is scored beside them."""


def versions() -> dict[str, str]:
    """Versions of what computes a result."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "pillow")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}


class Checkpoints:
    """The checkpoints of the run that writes them. Saving is asynchronous; `check` tells at every step if it failed.

    Opening it clears what a killed save left behind and sets damaged checkpoints aside, so only the training process
    may. All methods are to be called on every host.
    """

    def __init__(self, workdir: epath.PathLike, *, keep_last: int = 1, keep_best: int = 0):
        """Raises `CheckpointError` if there are checkpoints and all of them are damaged."""
        policies: Any = ocp.training.preservation_policies
        kept: list[Any] = [policies.LatestN(keep_last)]
        if keep_best:
            kept.append(policies.BestN(get_metric_fn=_rank, n=keep_best, keep_checkpoints_without_metrics=False))
        s3.check_arrays(workdir)
        storage.check_writable(workdir)
        self.directory = storage.resolved(workdir) / "checkpoints"
        logging.getLogger("absl").addFilter(_is_not_raised_too)
        _set_damaged_aside(self.directory)
        with storage.listed_at_once(self.directory):
            self._checkpointer = ocp.training.Checkpointer(
                self.directory, preservation_policy=policies.AnyPreservationPolicy(kept), cleanup_tmp_directories=True
            )
        self._background = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self._failed = False

    def latest_step(self) -> int | None:
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    def restore_latest(self, abstract_state: Mapping[str, Any]) -> dict[str, Any] | None:
        """The state of the latest checkpoint, None if there is none.

        One that cannot be read, and was killed before its digests were written, gives way to the one before.
        """
        while (step := self.latest_step()) is not None:
            state, error = None, None
            try:
                state = restore(self.directory.parent, step, abstract_state)
            except CheckpointError as e:
                error = e
            if "failed" not in sharding.gather("restored" if error is None else "failed"):
                return state
            if len(self._checkpointer.checkpoints) == 1 or digests.has_sums(self.directory / str(step)):
                raise error or CheckpointError(f"{self.directory / str(step)}: another host cannot restore it")
            _set_aside(self.directory, step, "it cannot be restored")
            self._checkpointer.reload()
        return None

    def save(
        self, step: int, state: Mapping[str, Any], *, metrics: Mapping[str, float], description: Mapping[str, Any]
    ) -> None:
        """Starts saving; the arrays may be donated as soon as this returns. Does nothing for a step already saved."""
        self.wait()
        if self.latest_step() == step:
            return
        metadata = {"format_version": FORMAT_VERSION, **description}
        with self._telling_what_failed():
            response: Any = self._checkpointer.save_async(
                step, _present(state), force=True, metrics=_finite(metrics) or None, custom_metadata=metadata
            )
        self._pending = self._background.submit(self._finish, step, response)

    def _finish(self, step: int, response: Any) -> None:
        """In the background: waits for Orbax, then digests what it wrote."""
        response.result()
        if jax.process_index() == 0:
            digests.write_sums(self.directory / str(step))
        release_freed()

    def check(self) -> None:
        """Raises `CheckpointError` if the save that was started last has failed; does not wait for it."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def wait(self) -> None:
        """Waits for the last save and raises `CheckpointError` if it failed."""
        pending, self._pending = self._pending, None
        if pending is not None:
            with self._telling_what_failed():
                pending.result()

    @contextlib.contextmanager
    def _telling_what_failed(self) -> Iterator[None]:
        try:
            yield
        except Exception as e:
            self._failed = True
            raise CheckpointError(
                f"{self.directory}: a checkpoint could not be written ({_first_line(e)}). Those before it are intact:"
                " check free space and permissions there, then re-run the same command"
            ) from e

    def metrics(self, step: int) -> dict[str, float]:
        """Those that a checkpoint was saved with."""
        saved: list[Any] = [c.metrics for c in self._checkpointer.checkpoints if c.step == step]
        return dict(saved[0] or {}) if saved else {}

    def add_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Gives metrics to a saved checkpoint that has none, so that it can be the best."""
        folder = self.directory / str(step)
        if jax.process_index() == 0:
            with self._telling_what_failed():
                write_text(folder / "metrics" / "metrics", json.dumps(_finite(metrics)), make_folder=True)
                digests.write_sums(folder)
        sharding.gather("written")
        self._checkpointer.reload()

    def close(self) -> None:
        try:
            self.wait()
        finally:
            self._background.shutdown()
            # Orbax tells again what has been told.
            with contextlib.suppress(Exception) if self._failed else contextlib.nullcontext():
                self._checkpointer.close()


@contextlib.contextmanager
def _told_once() -> Iterator[None]:
    """Keeps Orbax and tensorstore from printing pages about an error that they raise as well.

    Reads that run beside the one that failed end after its event loop, each with a traceback of its own; so what is
    set for them stays.
    """
    logger = logging.getLogger("absl")
    logger.addFilter(_is_not_of_orbax)
    logging.getLogger("asyncio").addFilter(_was_retrieved)
    if sys.unraisablehook is not _but_closed_loops:
        _hooks.append(sys.unraisablehook)
        sys.unraisablehook = _but_closed_loops
    try:
        yield
    except Exception:
        warnings.filterwarnings("ignore", "coroutine '.*' was never awaited", RuntimeWarning)
        raise
    finally:
        logger.removeFilter(_is_not_of_orbax)


_hooks: list[Callable[[sys.UnraisableHookArgs], object]] = []


def _but_closed_loops(unraisable: sys.UnraisableHookArgs) -> None:
    if "Event loop is closed" not in str(unraisable.exc_value):
        _hooks[-1](unraisable)


def _is_not_of_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname


def _was_retrieved(record: logging.LogRecord) -> bool:
    """Of a task, or of a future where the event loop ended first."""
    return not record.getMessage().startswith(("Task exception was never", "Future exception was never"))


def _is_not_raised_too(record: logging.LogRecord) -> bool:
    """Orbax prints the traceback of a thread that failed for each that waits for it, and raises the error as well."""
    return not (record.exc_info and "orbax" in record.pathname)


def _finite(metrics: Mapping[str, float]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]:.300}"


def _steps(directory: epath.Path) -> list[int]:
    """Those that are complete; one that is still written has another name, or in a bucket no `_COMMITTED` yet."""
    if storage.is_remote(directory):
        steps = [name for name, found in storage.listing(directory).items() if found.is_folder and name.isdigit()]
        return sorted(int(step) for step in steps if storage.facts(directory / step / _COMMITTED) is not None)
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit()) if directory.exists() else []


def _set_damaged_aside(directory: epath.Path) -> None:
    """Every host reads its share of the files, and all hear of the damage that any of them found.

    In a bucket one listing of the first host tells of all files of all checkpoints.
    """
    host, num_hosts = jax.process_index(), jax.process_count()
    listed = digests.list_objects(directory) if host == 0 else None
    of_first: list[int] | None = None
    if storage.is_remote(directory):
        of_first = json.loads(sharding.gather(json.dumps(None if listed is None else _listed_steps(listed)))[0])
    steps = _steps(directory) if of_first is None else of_first
    own: dict[int, list[str]] = {}
    for step in steps:
        path = directory / str(step)
        if of_first is None:
            own[step] = _damage(path, part=host, num_parts=num_hosts)
        elif listed is not None:
            own[step] = _damage(path, listed=_below(listed, f"{step}/"))
    damaged: dict[int, str] = {}
    for found in map(json.loads, sharding.gather(json.dumps(own))):
        damaged |= {int(step): wrong[0] for step, wrong in found.items() if wrong}
    if damaged and damaged.keys() >= set(steps):
        lines = "\n".join(f"  {step}: {what}" for step, what in damaged.items())
        raise CheckpointError(
            f"{directory}: every checkpoint is damaged\n{lines}\nIf there is no copy of them, another"
            f" {option('workdir')} starts the run anew"
        )
    for step, what in damaged.items():
        _set_aside(directory, step, what)


def _listed_steps(listed: digests.Listing) -> list[int]:
    """Those that are complete."""
    folders = [name.removesuffix(f"/{_COMMITTED}") for name in listed if name.endswith(f"/{_COMMITTED}")]
    return sorted(int(name) for name in folders if name.isdigit())


def _below(listed: digests.Listing, prefix: str) -> digests.Listing:
    return {name.removeprefix(prefix): stated for name, stated in listed.items() if name.startswith(prefix)}


def _damage(path: epath.Path, *, part: int = 0, num_parts: int = 1, listed: digests.Listing | None = None) -> list[str]:
    """As `digests.damage`, and what Orbax cannot read of the description, which without digests nothing guards.

    Orbax reads all descriptions and metrics when it opens the folder, and one that it cannot read ends it.
    """
    if wrong := digests.damage(path, part=part, num_parts=num_parts, listed=listed):
        return wrong
    if listed is not None and digests.has_sums(path, listed):
        return []  # its description is as it was written
    try:
        if not ocp.metadata(path).custom_metadata:  # Orbax passes over text that is no JSON
            return ["its description is gone or cannot be read"]
    except Exception as e:
        return [f"its description cannot be read, {_first_line(e)}"]
    try:
        metrics = path / "metrics" / "metrics"
        if metrics.exists() and not isinstance(values := json.loads(metrics.read_text(encoding="utf-8")), dict):
            return [f"its metrics are {values!r:.40}"]
    except (OSError, ValueError, RecursionError) as e:
        return [f"its metrics cannot be read, {_first_line(e)}"]
    return []


def _set_aside(directory: epath.Path, step: int, what: str) -> None:
    aside = directory.parent / "damaged-checkpoints" / str(step)
    say(f"checkpoint {step:,} is damaged ({what}); passed over, kept as {aside}", active=jax.process_index() == 0)
    if jax.process_index() == 0:
        if aside.exists():
            storage.remove_folder(aside)  # of a step that was damaged, trained again, and damaged again
        storage.move_folder(directory / str(step), aside)
    sharding.gather("moved")


def restore(workdir: epath.PathLike, step: int, abstract_state: Mapping[str, Any]) -> dict[str, Any]:
    """Loads a step onto the shardings of `abstract_state`, which may lack whole entries of the saved state.

    Touches nothing else in the workdir, so a run may be evaluated while it trains.
    """
    path = storage.resolved(workdir) / "checkpoints" / str(step)
    try:
        with storage.listed_at_once(path), _told_once(), _partial_loading():
            state = ocp.load(path, _present(abstract_state))
    except Exception as e:
        raise CheckpointError(f"{path}: cannot be restored ({_first_line(e)})") from e
    # Orbax leaves what the checkpoint lacks as it was asked for.
    leaves = jax.tree_util.tree_leaves_with_path(state)
    lacking = [jax.tree_util.keystr(at) for at, leaf in leaves if isinstance(leaf, jax.ShapeDtypeStruct)]
    if lacking:
        raise CheckpointError(
            f"{path}: cannot be restored (it lacks {len(lacking)} of the network's {len(leaves)} arrays, first"
            f" {lacking[0]}); is its config another run's?"
        )
    return state


def _present(state: Mapping[str, Any]) -> dict[str, Any]:
    """Without the entries that a run does not keep, so that a checkpoint is the same whether or not they exist."""
    return {name: entry for name, entry in state.items() if entry is not None}


def _rank(metrics: Any) -> float:
    return next((metrics[name] for name in _BEST_METRICS if name in metrics), -math.inf)


def _partial_loading() -> ocp.Context:
    context = ocp.Context()
    context.pytree_options.loading.partial_load = True
    return context


def latest_undamaged_step(workdir: epath.PathLike) -> int | None:
    """The step that a training would resume from; `None` where there is none."""
    directory = storage.resolved(workdir) / "checkpoints"
    return next((step for step in reversed(_steps(directory)) if not _damage(directory / str(step))), None)


def available_steps(workdir: epath.PathLike) -> dict[int, dict[str, float]]:
    """Every complete checkpoint of a run with the metrics it was saved with."""
    s3.check_arrays(workdir)
    directory = storage.resolved(workdir) / "checkpoints"
    if not directory.exists():
        storage.check_bucket(workdir)
        found = "holds no `checkpoints` folder" if directory.parent.exists() else "no such folder"
        raise CheckpointError(f"{os.fspath(workdir)}: {found}; is it the workdir of a run?")
    try:
        with storage.listed_at_once(directory), _told_once(), ocp.training.Checkpointer(directory) as checkpointer:
            return {checkpoint.step: dict(checkpoint.metrics or {}) for checkpoint in checkpointer.checkpoints}
    except Exception as e:  # metrics that are no JSON
        for step in _steps(directory):
            _check_whole(directory, step)
        raise CheckpointError(f"{directory}: cannot be read ({_first_line(e)})") from e


def choose_step(workdir: epath.PathLike, which: str) -> int:
    """The step that `latest`, `best` or a number names.

    Raises `CheckpointError` listing what there is, or naming the undamaged ones if that one is damaged: an evaluation
    takes no other than it was told.
    """
    steps = available_steps(workdir)
    if not steps:
        raise CheckpointError(f"{os.fspath(workdir)}: no complete checkpoint yet")
    if which == "latest":
        step = max(steps)
    elif which == "best":
        step = max(steps, key=lambda step: (_rank(steps[step]), step))
    elif which.isdigit() and int(which) in steps:
        step = int(which)
    else:
        there = ", ".join(map(str, sorted(steps)))
        raise CheckpointError(f"{os.fspath(workdir)}: no checkpoint {which!r}; there are {there}, `latest` and `best`")
    _check_whole(storage.resolved(workdir) / "checkpoints", step)
    return step


def _check_whole(directory: epath.Path, step: int) -> None:
    """Raises `CheckpointError` if the files of a step are not those that were written, naming the steps that are."""
    wrong = digests.damage(directory / str(step))
    if not wrong:
        return
    good = [other for other in _steps(directory) if other != step and not digests.damage(directory / str(other))]
    remedy = (
        f"undamaged: {', '.join(map(str, good))}, as in {option('step', good[-1])}"
        if good
        else "no other one is undamaged"
    )
    raise CheckpointError(f"{directory / str(step)}: damaged ({'; '.join(wrong[:3])}); {remedy}")


def describe(workdir: epath.PathLike, step: int) -> dict[str, Any]:
    """What a checkpoint says of itself: config, preprocessing, class list, versions."""
    path = storage.resolved(workdir) / "checkpoints" / str(step)
    try:
        with storage.listed_at_once(path), _told_once():
            description: Any = ocp.metadata(path).custom_metadata
    except Exception as e:
        raise CheckpointError(f"{path}: its description cannot be read ({_first_line(e)})") from e
    if not description or description.get("format_version") != FORMAT_VERSION:
        found = (description or {}).get("format_version")
        raise CheckpointError(f"{path}: format version {found}, this version of luab_jax reads {FORMAT_VERSION}")
    return dict(description)


def abstract_on(sharding: Any, tree: Any) -> Any:
    """Shapes and types of `tree`, placed by one sharding."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
