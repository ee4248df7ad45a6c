"""Checkpoints: the only file that knows Orbax.

WORKDIR/checkpoints/<step>/   parameters, batch statistics, optimiser state, moving average; with config, preprocessing,
                              class-list hash and versions as its metadata, so that it explains itself
"""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath
from orbax.checkpoint import v1 as ocp

from luab_jax.errors import CheckpointError

FORMAT_VERSION = 1
_BEST_METRICS = ("ema_top1", "ema_map", "top1", "map")
"""The first of them that a run has: for single labels or for sets; the moving average first, as in timm."""


def versions() -> dict[str, str]:
    """Versions of what computes a result."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "pillow")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}


class Checkpoints:
    """The checkpoints of the run that writes them. Saving is asynchronous; a failed save is raised by the next call.

    Opening it clears what a killed save left behind, so only the training process may.
    """

    def __init__(self, workdir: epath.PathLike, *, keep_last: int = 1, keep_best: int = 0):
        policies: Any = ocp.training.preservation_policies
        kept: list[Any] = [policies.LatestN(keep_last)]
        if keep_best:
            kept.append(policies.BestN(get_metric_fn=_rank, n=keep_best, keep_checkpoints_without_metrics=False))
        self.directory = epath.Path(workdir).resolve() / "checkpoints"
        self._checkpointer = ocp.training.Checkpointer(
            self.directory, preservation_policy=policies.AnyPreservationPolicy(kept), cleanup_tmp_directories=True
        )
        self._pending: Any = None

    def latest_step(self) -> int | None:
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    def save(
        self, step: int, state: Mapping[str, Any], *, metrics: Mapping[str, float], description: Mapping[str, Any]
    ) -> None:
        """Starts saving; the arrays may be donated as soon as this returns. Does nothing for a step already saved."""
        self.wait()
        if self.latest_step() == step:
            return
        metadata = {"format_version": FORMAT_VERSION, **description}
        finite: dict[str, Any] = {name: value for name, value in metrics.items() if math.isfinite(value)}
        self._pending = self._checkpointer.save_async(
            step, _present(state), force=True, metrics=finite or None, custom_metadata=metadata
        )

    def wait(self) -> None:
        """Waits for the last save and raises `CheckpointError` if it failed."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            pending.result()
        except Exception as e:
            raise CheckpointError(
                f"{self.directory}: the checkpoint could not be written ({e}); is the disk full?"
            ) from e

    def close(self) -> None:
        self.wait()
        self._checkpointer.close()


def restore(workdir: epath.PathLike, step: int, abstract_state: Mapping[str, Any]) -> dict[str, Any]:
    """Loads a step onto the shardings of `abstract_state`, which may lack whole entries of the saved state.

    Touches nothing else in the workdir, so a run may be evaluated while it trains.
    """
    path = epath.Path(workdir).resolve() / "checkpoints" / str(step)
    try:
        with _partial_loading():
            return ocp.load(path, _present(abstract_state))
    except Exception as e:
        raise CheckpointError(f"{path}: cannot be restored ({type(e).__name__}: {e})") from e


def _present(state: Mapping[str, Any]) -> dict[str, Any]:
    """Without the entries that a run does not keep, so that a checkpoint is the same whether or not they exist."""
    return {name: entry for name, entry in state.items() if entry is not None}


def _rank(metrics: Any) -> float:
    return next((metrics[name] for name in _BEST_METRICS if name in metrics), -math.inf)


def _partial_loading() -> ocp.Context:
    context = ocp.Context()
    context.pytree_options.loading.partial_load = True
    return context


def available_steps(workdir: epath.PathLike) -> dict[int, dict[str, float]]:
    """Every complete checkpoint of a run with the metrics it was saved with."""
    directory = epath.Path(workdir).resolve() / "checkpoints"
    if not directory.exists():
        raise CheckpointError(f"{os.fspath(workdir)}: holds no `checkpoints` folder; is it the workdir of a run?")
    with ocp.training.Checkpointer(directory) as checkpointer:
        return {checkpoint.step: dict(checkpoint.metrics or {}) for checkpoint in checkpointer.checkpoints}


def choose_step(workdir: epath.PathLike, which: str) -> int:
    """The step that `latest`, `best` or a number names; raises `CheckpointError` listing what there is."""
    steps = available_steps(workdir)
    if not steps:
        raise CheckpointError(f"{os.fspath(workdir)}: no complete checkpoint yet")
    if which == "latest":
        return max(steps)
    if which == "best":
        return max(steps, key=lambda step: (_rank(steps[step]), step))
    if which.isdigit() and int(which) in steps:
        return int(which)
    there = ", ".join(map(str, sorted(steps)))
    raise CheckpointError(f"{os.fspath(workdir)}: no checkpoint {which!r}; there are {there}, `latest` and `best`")


def describe(workdir: epath.PathLike, step: int) -> dict[str, Any]:
    """What a checkpoint says of itself: config, preprocessing, class list, versions."""
    path = epath.Path(workdir).resolve() / "checkpoints" / str(step)
    try:
        description: Any = ocp.metadata(path).custom_metadata
    except Exception as e:
        raise CheckpointError(f"{path}: its description cannot be read ({type(e).__name__}: {e})") from e
    if not description or description.get("format_version") != FORMAT_VERSION:
        found = (description or {}).get("format_version")
        raise CheckpointError(f"{path}: format version {found}, this version of luab_jax reads {FORMAT_VERSION}")
    return dict(description)


def abstract_on(sharding: Any, tree: Any) -> Any:
    """Shapes and types of `tree`, placed by one sharding."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
