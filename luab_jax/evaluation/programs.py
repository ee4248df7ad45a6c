"""What is compiled of a network: functions from its parameters and pixels, of which one serves an architecture."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from luab_jax.checkpoints.loaded import LoadedModel
from luab_jax.evaluation.suite import View
from luab_jax.models.config import Dtype, HeadSpec
from luab_jax.models.heads import heat_map_points
from luab_jax.models.inputs import normalise
from luab_jax.models.maps import localise

Output = tuple[Array | np.ndarray, Array | np.ndarray | tuple[Array | np.ndarray, ...] | None]
"""Logits and byproduct of a batch, on the device, then fetched; of several heads a tuple, the first one first."""

Programs = dict[tuple[Any, ...], Any]
"""Compiled functions, by what they do, the architecture and the shape of a batch; parameters are arguments."""


def architecture_of(loaded: LoadedModel) -> tuple[str, ...]:
    """What decides a program besides the shape of a batch: the network, the shapes of its weights, what is done to its
    input."""
    shapes = jax.tree_util.tree_leaves_with_path((loaded.params, loaded.batch_stats))
    leaves = [f"{jax.tree_util.keystr(path)} {leaf.dtype}{leaf.shape}" for path, leaf in shapes]
    model = loaded.model
    facts = (model.family, model.num_classes, model.image_size, model.heads, model.pools_mean)
    statistics = (loaded.preprocessing.mean, loaded.preprocessing.std)
    return (repr(loaded.config), repr(facts), repr(statistics), *leaves)


def products(loaded: LoadedModel) -> AbstractContextManager[Any]:
    """To be entered where a model is traced: float32 means float32.

    By default a TPU multiplies float32 in bfloat16, and an NVIDIA GPU in TF32.
    """
    return jax.default_matmul_precision("highest" if loaded.config.compute_dtype is Dtype.FLOAT32 else "default")


def occlusion(view: View, side: int) -> tuple[Bool[np.ndarray, "h w"], np.bool_]:
    """The hidden pixels of a view, and whether they are black rather than the mean colour.

    The centre square has half the side: rows and columns 56 to 167 of 224.
    """
    hidden = np.zeros((side, side), bool)
    if view in (View.CENTRE_MEAN, View.CENTRE_BLACK):
        hole = side // 2
        start = (side - hole) // 2
        hidden[start : start + hole, start : start + hole] = True
    return hidden, np.bool_(view is View.CENTRE_BLACK)


def make_maps(loaded: LoadedModel) -> Callable[..., Array]:
    preprocessing = loaded.preprocessing

    def maps_of(
        params: dict[str, Any], batch_stats: dict[str, Any], images: UInt8[Array, "b h w 3"], labels: Int[Array, " b"]
    ) -> Float[Array, "b i j"]:
        with products(loaded):
            normalised = normalise(images, preprocessing.mean, preprocessing.std)
            return localise(loaded.model, params, batch_stats, normalised, labels)

    return maps_of


def make_features(loaded: LoadedModel) -> Callable[..., Array]:
    preprocessing = loaded.preprocessing

    def features_of(
        params: dict[str, Any], batch_stats: dict[str, Any], images: UInt8[Array, "b h w 3"]
    ) -> Float[Array, "b f"]:
        with products(loaded):
            normalised = normalise(images, preprocessing.mean, preprocessing.std)
            return loaded.model.apply(params, batch_stats, normalised, train=False, head=False)[0].features

    return features_of


def make_predict(loaded: LoadedModel) -> Callable[..., Output]:
    preprocessing = loaded.preprocessing

    def predict(
        params: dict[str, Any],
        batch_stats: dict[str, Any],
        images: UInt8[Array, "b h w 3"],
        hidden: Bool[Array, "h w"],
        black: Bool[Array, ""],
    ) -> Output:
        normalised = normalise(images, preprocessing.mean, preprocessing.std)
        pixel = normalise(jnp.zeros((1, 1, 1, 3), jnp.uint8), preprocessing.mean, preprocessing.std)
        fill = jnp.where(black, pixel, 0.0)
        seen = jnp.where(hidden[None, :, :, None], fill, normalised)
        with products(loaded):
            outputs, _ = loaded.model.apply(params, batch_stats, seen, train=False)
        heads = tuple(itertools.starmap(_decoded, zip(loaded.model.heads, outputs.byproducts, strict=True)))
        return outputs.logits, heads if len(heads) > 1 else heads[0] if heads else None

    return predict


def _decoded(spec: HeadSpec, predicted: Float[Array, "b k h"]) -> Float[Array, "b k d"]:
    """The point that a dense head's map stands for, where it stands for one; else as the head gives it."""
    return heat_map_points(predicted) if spec.dense and spec.shape[1] == 2 else predicted
