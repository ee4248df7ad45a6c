"""One function for CPUs and another for everything else, chosen by the platform that a program is lowered for.

`jax.lax.platform_dependent` does the same by a conditional in the program: XLA removes it, but what is lowered, and the
counts of operations taken from it, are no longer what they would be without it. Here the function that was not chosen
leaves no trace. Not differentiable: for use inside of a `jax.custom_vjp`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir
from jaxtyping import Array

_Function = Callable[..., Array]

by_platform_p = Primitive("by_platform")


def by_platform(*arrays: Array, cpu: _Function, elsewhere: _Function) -> Array:
    """cpu(*arrays) or elsewhere(*arrays), of the same shape and type. Both hashable and equal by what they compute."""
    return by_platform_p.bind(*arrays, cpu=cpu, elsewhere=elsewhere)


@functools.lru_cache(maxsize=512)
def _compiled(cpu: _Function, elsewhere: _Function) -> _Function:
    return jax.jit(functools.partial(by_platform_p.bind, cpu=cpu, elsewhere=elsewhere))


@by_platform_p.def_impl
def _run(*arrays: Array, cpu: _Function, elsewhere: _Function) -> Array:
    return _compiled(cpu, elsewhere)(*arrays)


@by_platform_p.def_abstract_eval
def _shape(*arrays: Any, cpu: _Function, elsewhere: _Function) -> Any:
    del cpu
    shape = jax.eval_shape(elsewhere, *(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays))
    return arrays[0].update(shape=shape.shape, dtype=shape.dtype, weak_type=False)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class _Vmapped:
    function: _Function
    axes: tuple[int | None, ...]

    def __call__(self, *arrays: Array) -> Array:
        return jax.vmap(self.function, self.axes)(*arrays)


def _batch(arrays: Any, axes: Any, *, cpu: _Function, elsewhere: _Function) -> tuple[Array, int]:
    return by_platform(*arrays, cpu=_Vmapped(cpu, tuple(axes)), elsewhere=_Vmapped(elsewhere, tuple(axes))), 0


def _lower(platform: str | None, choose: Callable[[_Function, _Function], _Function]) -> None:
    def call(*arrays: Array, cpu: _Function, elsewhere: _Function) -> Array:
        return choose(cpu, elsewhere)(*arrays)

    mlir.register_lowering(by_platform_p, mlir.lower_fun(call, multiple_results=False), platform=platform)


batching.primitive_batchers[by_platform_p] = _batch
_lower(None, lambda cpu, elsewhere: elsewhere)
_lower("cpu", lambda cpu, elsewhere: cpu)
