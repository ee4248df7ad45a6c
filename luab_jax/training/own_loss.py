"""`config.loss=python:MODULE:FUNCTION`: a loss of one's own in place of the combined loss, or on top of it.

`FUNCTION(config)` is called once, before the step is compiled, and returns the loss: a function that jax traces, from a
`StepInputs` to the loss of the (micro)batch, or to that and what is to be logged beside it by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from luab_jax.config import Config
from luab_jax.errors import ConfigError, UserError
from luab_jax.foreign.python_function import find_function
from luab_jax.metrics.means import Means, single
from luab_jax.models.functional import Outputs

PYTHON = "python:"


class StepInputs(NamedTuple):
    """What a loss may be made of: rows of a batch, or of a microbatch where batches are accumulated."""

    images: Float[Array, "b h w 3"]
    """As the network sees them: augmented, mixed, normalised."""
    labels: Int[Array, " b"] | Bool[Array, "b c"]
    """Before mixing."""
    outputs: Outputs
    """Of the network that is trained: logits, byproducts, features."""
    loss: Float[Array, ""]
    """The combined loss of LUAB: classification and every byproduct by its weight."""
    params: Mapping[str, Any]
    step: Int[Array, ""]


OwnLoss = Callable[[StepInputs], Any]


def find_loss(config: Config) -> OwnLoss | None:
    """None where the config names none; raises `UserError` for what cannot be imported or gives no loss."""
    if not config.loss:
        return None
    if not config.loss.startswith(PYTHON):
        raise ConfigError(f"config.loss={config.loss!r}: expected python:MODULE:FUNCTION, or nothing for the LUAB loss")
    _, maker = find_function(config.loss, PYTHON, "config.loss")
    try:
        loss = maker(config)
    except UserError:
        raise
    except Exception as e:  # whatever the user's function raises
        raise ConfigError(f"config.loss={config.loss}: failed ({type(e).__name__}: {e})") from e
    if not callable(loss):
        raise ConfigError(
            f"config.loss={config.loss}: returned a {type(loss).__name__}; expected the loss, a function of StepInputs"
        )
    return loss


def applied(own: OwnLoss, name: str, inputs: StepInputs) -> tuple[Float[Array, ""], Means]:
    """The loss and what is logged of it; raises `ConfigError` where it is no number."""
    given = own(inputs)
    loss, logged = given if isinstance(given, tuple) and len(given) == 2 else (given, {})
    for what, value in {"the loss": loss, **logged}.items():
        if jnp.shape(value) != () or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
            raise ConfigError(
                f"config.loss={name}: {what} is {jnp.result_type(value)} {jnp.shape(value)}; expected one float, the"
                " mean over the images"
            )
    return jnp.asarray(loss, jnp.float32), {
        key: single(jax.lax.stop_gradient(jnp.asarray(value, jnp.float32))) for key, value in logged.items()
    }
