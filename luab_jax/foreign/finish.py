"""The last step of every loader: what the user says is applied, drawn images are tried, and the identity is made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from luab_jax.data.class_lists import ClassList, imagenet
from luab_jax.data.transforms import Preprocessing, ResizeFilter
from luab_jax.errors import UserError, option
from luab_jax.foreign.classes import read_outputs
from luab_jax.foreign.inputs import InputFormat
from luab_jax.foreign.model import (
    FunctionModel,
    Outputs,
    check_columns,
    check_outputs,
    drawn_images,
    hash_of,
    rows_of,
)
from luab_jax.foreign.options import Options
from luab_jax.foreign.zero_shot import classifying
from luab_jax.io.console import say
from luab_jax.results.foreign import Foreign


def finish(
    model: FunctionModel,
    options: Options,
    checkpoint: str,
    kind: Foreign,
    facts: Mapping[str, Any],
    own: Mapping[str, Any],
) -> FunctionModel:
    """The model as it is scored.

    Args:
        model: As its file or its author states it; the classes of a list that is not ImageNet's are stated.
        options: What the user says instead.
        checkpoint: As the user wrote it.
        kind: How it was given.
        facts: The experiment, as reports group runs: what was asked for.
        own: Of the identity, hashes above all.

    Raises `CheckpointError` for outputs that are not what they should be.
    """
    model = dataclasses.replace(model, input=_input(model.input, options), preprocessing=_changed(model, options))
    stated_classes = options.classes
    if options.classifier is not None:
        model, own_zero = classifying(model, options.classifier)
        own = {**own, **own_zero}
    if stated_classes is None and model.classes.hash != imagenet().hash:
        stated_classes = model.classes
    side = model.preprocessing.image_size
    fed = model.feed(drawn_images(side))
    outputs = _tried(model, fed, checkpoint, kind)
    asked = options.outputs or model.outputs
    check_outputs(checkpoint, outputs, asked, label_sets=model.label_sets)
    classes, columns, scored = _scored(model, options, checkpoint, outputs.shape[1], stated_classes)
    if columns is not None and model.columns is None:
        say(f"{checkpoint}: of {outputs.shape[1]:,} outputs the {len(columns):,} of ImageNet's classes are scored")
    changes = dict(options.preprocessing or {})
    identity = {
        "step": 0,
        "chosen": kind.value,
        "dataset": "imagenet" if classes.hash == imagenet().hash else "",
        "class_list_hash": classes.hash,
        "model": model.name,
        "target": kind.value,
        "weight": 0.0,
        "seed": 0,
        "experiment": dict(facts),
        "dtype": "float16" if model.input.dtype == "float16" else "float32",
        **own,
        **({"input": model.input.facts()} if model.input != InputFormat() else {}),
        **({"outputs": asked.value} if asked is not Outputs.LOGITS else {}),
        **({"columns": scored} if scored else {}),
        **({"preprocessing_override": _plain(changes)} if changes else {}),
    }
    return dataclasses.replace(
        model,
        classes=classes,
        columns=columns,
        outputs=asked,
        sides=model.sides | {side},
        stated_identity={"workdir": checkpoint, **identity},
    )


def _scored(
    model: FunctionModel, options: Options, checkpoint: str, num_outputs: int, stated: ClassList | epath.PathLike | None
) -> tuple[ClassList, np.ndarray | None, str]:
    """The classes, the outputs that stand for them, and what of these tells the model from others."""
    if model.columns is None:
        classes, columns = read_outputs(checkpoint, num_outputs, stated)
        return classes, columns, "" if columns is None else f"{len(columns):,} of {num_outputs:,}"
    given = [name for name, value in (("classes", options.classes), ("classifier", options.classifier)) if value]
    if given:
        raise UserError(
            f"{checkpoint}: its FunctionModel has columns, the outputs of its classes; leave {given[0]} out"
        )
    check_columns(checkpoint, model.columns, num_outputs)
    return model.classes, model.columns, f"{len(model.columns):,} of {num_outputs:,}, {hash_of(model.columns)}"


def _tried(model: FunctionModel, fed: np.ndarray, checkpoint: str, kind: Foreign) -> np.ndarray:
    """The outputs for drawn images; an error says so where a user's function takes one image at a time."""
    try:
        return rows_of(checkpoint, model.function, fed, model.batch_size)
    except UserError as e:
        if kind is not Foreign.PYTHON or model.batch_size is not None or not _takes_one(model, fed[:1]):
            raise
        hint = "it takes one image at a time: return luab_jax.FunctionModel(function, preprocessing, batch_size=1)"
        raise type(e)(f"{e}; {hint}") from e


def _takes_one(model: FunctionModel, fed: np.ndarray) -> bool:
    try:
        rows_of(model.name, model.function, fed)
    except UserError:
        return False
    return True


def _input(stated: InputFormat, options: Options) -> InputFormat:
    return dataclasses.replace(
        stated, channels=options.channels or stated.channels, layout=options.layout or stated.layout
    )


def _changed(model: FunctionModel, options: Options) -> Preprocessing:
    changed = dataclasses.replace(model.preprocessing, **(options.preprocessing or {}))
    if changed.image_size < 1 or any(s <= 0 for s in changed.std):
        raise UserError(f"{option('image_size')} and {option('std')} must be positive")
    if changed.resize_side is not None and changed.resize_side < changed.image_size:
        raise UserError(
            f"{option('resize_side', changed.resize_side)} is smaller than the crop of {changed.image_size}"
            f" pixels; give both {option('image_size')} and {option('resize_side')}"
        )
    return changed


def _plain(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.value if isinstance(value, ResizeFilter) else value for name, value in changes.items()}
