"""What is kept of a step whose loss or gradient is not finite, to find out why.

WORKDIR/not_finite-step<N>/process<i>.json         records, loss and gradient norm of the steps before, arrays that are
                                                   spoilt by now, checkpoints of the time before
WORKDIR/not_finite-step<N>/batch-process<i>.npz    the rows of this host as the step was given them
"""

from __future__ import annotations

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from luab_jax.data.features import Example
from luab_jax.io.atomic import atomic_file, write_text
from luab_jax.training.batches import training_batches
from luab_jax.training.setup import Run


def keep_evidence(
    run: Run, state: Any, step: int, what: str, index: np.ndarray, history: list[dict[str, Any]]
) -> tuple[epath.Path, list[str]]:
    """Writes the files; returns their folder and the names of the records. `step` counts from 1, as in the log."""
    names = [Example(run.train_split.records[int(i)]).file_name for i in index]
    folder = run.workdir / f"not_finite-step{step}"
    checkpoints = run.workdir / "checkpoints"
    saved = sorted(int(path.name) for path in checkpoints.iterdir() if path.name.isdigit())
    facts = {
        "step": step,
        "what": what,
        "records": names,
        "history": history,
        "not_finite_now": _not_finite(state),
        "checkpoints": saved,
    }
    process = jax.process_index()
    write_text(folder / f"process{process}.json", json.dumps(facts, indent=1) + "\n", make_folder=True)
    with atomic_file(folder / f"batch-process{process}.npz") as temporary, temporary.open("wb") as f:
        np.savez(f, allow_pickle=False, **_batch(run, step))
    return folder, names


def _batch(run: Run, step: int) -> dict[str, np.ndarray]:
    """Made again, for a batch is a function of seed and step."""
    batches = training_batches(
        run.config,
        run.train_split,
        num_classes=run.model.num_classes,
        settings=run.target_settings,
        start_step=step - 1,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    return {name: array for name, array in next(iter(batches))._asdict().items() if array is not None}


def _not_finite(state: Any) -> list[str]:
    """Names of the arrays of the state, as they are when the run stops, that hold a value that is not finite."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    floats = {
        jax.tree_util.keystr(path, simple=True, separator="/"): jnp.all(jnp.isfinite(leaf))
        for path, leaf in leaves
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    }
    return [name for name, finite in jax.device_get(floats).items() if not finite]
