"""`config.loss=python:MODULE:FUNCTION`: a loss of one's own in place of the combined loss, or on top of it.

`FUNCTION(config)` is called once, before the step is compiled, and returns the loss: a function that jax traces, from a
`StepInputs` to the loss of the (micro)batch, or to that and what is to be logged beside it by name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Bool, Float, Int

from luab_jax.config import Config
from luab_jax.errors import ConfigError, UserError
from luab_jax.foreign.python_function import failure, find_function
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


Scalar = Float[Array, ""]


@dataclass(frozen=True, slots=True)
class OwnLoss:
    """A user's loss behind the name that messages give it."""

    name: str
    function: Callable[[StepInputs], Any]

    def __call__(
        self, inputs: StepInputs, *, taken: Collection[str] = (), reached: list[bool] | None = None
    ) -> tuple[Scalar, Means]:
        """The loss and what is logged of it.

        taken: Names that the step logs itself.
        reached: Gets an entry when a gradient is taken of a loss that depends on what it is taken by.
        Raises `ConfigError` for a loss that fails, or that returns anything but a float and floats by name.
        """
        try:
            given = self.function(inputs)
        except UserError:
            raise
        except Exception as e:  # whatever the user's loss raises
            raise ConfigError(f"{self.name}: the loss failed ({failure(e)})") from e
        loss, logged = given if isinstance(given, tuple | list) and len(given) == 2 else (given, {})
        if isinstance(loss, tuple | list | Mapping) or not isinstance(logged, Mapping):
            raise ConfigError(
                f"{self.name}: the loss returned {_described(given)}; expected one float, or (float, {{name: float}})"
                " with what is to be logged"
            )
        self._check_names(logged, taken)
        value = _watched(self._scalar("the loss", loss), [] if reached is None else reached)
        return value, {key: single(jax.lax.stop_gradient(self._scalar(key, one))) for key, one in logged.items()}

    def check_reached(self, reached: Sequence[bool]) -> None:
        """Raises `ConfigError` unless the gradient that was taken reached a parameter."""
        if not reached:
            raise ConfigError(
                f"{self.name}: the loss does not depend on the parameters, so nothing would be learnt; make it from"
                " inputs.outputs, inputs.loss or inputs.params"
            )

    def _check_names(self, logged: Mapping[Any, Any], taken: Collection[str]) -> None:
        for key in logged:
            if not isinstance(key, str) or not key:
                raise ConfigError(f"{self.name}: the loss logs under {key!r}; expected a name")
            if key in taken:
                raise ConfigError(f"{self.name}: the loss logs {key!r}, which training logs itself; rename it")

    def _scalar(self, what: str, value: Any) -> Scalar:
        if not isinstance(value, float | int | np.generic | np.ndarray | jax.Array):
            found = _described(value)
        else:
            shape, dtype = jnp.shape(value), jnp.result_type(value)
            if shape == () and jnp.issubdtype(dtype, jnp.floating):
                return jnp.asarray(value, jnp.float32)
            found = f"{dtype} {shape}"
        raise ConfigError(f"{self.name}: {what} is {found}; expected one float, the mean over the images")


def _described(value: Any) -> str:
    match value:
        case None:
            return "None (is there a return?)"
        case tuple() | list():
            return f"a {type(value).__name__} of {', '.join(type(one).__name__ for one in value) or 'nothing'}"
        case _:
            name = type(value).__name__
            return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _watched(loss: Scalar, reached: list[bool]) -> Scalar:
    """The same; a derivative of it that is not zero by its structure is noted when it is traced."""

    @jax.custom_jvp
    def same(value: Scalar) -> Scalar:
        return value

    def derivative(primals: tuple[Scalar], tangents: tuple[Any]) -> tuple[Scalar, Scalar]:
        if isinstance(tangents[0], SymbolicZero):
            return primals[0], jnp.zeros_like(primals[0])
        reached.append(True)
        return primals[0], tangents[0]

    same.defjvp(derivative, symbolic_zeros=True)
    return same(loss)


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
        raise ConfigError(f"config.loss={config.loss}: failed ({failure(e)})") from e
    if not callable(loss):
        raise ConfigError(
            f"config.loss={config.loss}: returned {_described(loss)}; expected the loss, a function of StepInputs"
        )
    return OwnLoss(f"config.loss={config.loss}", loss)
