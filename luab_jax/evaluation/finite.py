"""The one rule of all suites for a model whose outputs are not finite: it has no score.

A wrong answer in their place would be a guess, and an average precision, an AUROC or a distance have no such place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from luab_jax.errors import CheckpointError, option
from luab_jax.evaluation.accumulator import Evaluated
from luab_jax.foreign.model import FunctionModel


def check_finite(loaded: Evaluated, outputs: Float[np.ndarray, "n ..."], images: Sequence[str]) -> None:
    """Raises `CheckpointError` naming the first of `images` for which an output is NaN or infinite."""
    finite = np.isfinite(outputs)
    check_all(loaded, np.asarray(finite.all(axis=tuple(range(1, finite.ndim)))), images)


def check_all(loaded: Evaluated, is_finite: Bool[np.ndarray, " n"], images: Sequence[str]) -> None:
    """The same, where no more of the outputs is known."""
    if is_finite.all():
        return
    first = f"has outputs that are NaN or infinite, first for {images[int(np.argmin(is_finite))]}"
    if isinstance(loaded, FunctionModel):
        raise CheckpointError(
            f"{loaded.name} {first}, and so no score here: see what it computes of that image (a division by 0, a"
            " logarithm of 0, an overflow in its type)"
        )
    step = loaded.identity.get("step")
    at, remedy = (
        ("", "") if step is None else (f", step {step},", f". Evaluate one from before that ({option('step')})")
    )
    raise CheckpointError(
        f"the checkpoint {loaded.name}{at} {first}: it diverged or overflows, and has no score here{remedy}"
    )
