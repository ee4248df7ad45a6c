"""What a checkpoint says of itself, checked as far as a model is built from it."""

from __future__ import annotations

import contextlib
import math
import os
from typing import Any, NamedTuple

from etils import epath

from luab_jax.byproducts.kinds import TargetSettings
from luab_jax.byproducts.statistics import STATISTICS_KEY, TargetStatistics
from luab_jax.checkpoints import store as checkpoint_lib
from luab_jax.config import Config
from luab_jax.config.byproduct import settings_of
from luab_jax.config.versions import from_stored
from luab_jax.data.class_lists import ClassList, imagenet
from luab_jax.data.dataset import read_manifest
from luab_jax.data.transforms import Preprocessing
from luab_jax.errors import CheckpointError, UserError
from luab_jax.io import storage


def _check_preprocessing(stated: Preprocessing) -> None:
    sides = [stated.image_size, *([] if stated.resize_side is None else [stated.resize_side])]
    if not all(type(side) is int and side > 0 for side in sides):
        raise ValueError(f"image_size, resize_side: {sides}")
    for values in (stated.mean, stated.std):
        if len(values) != 3 or not all(isinstance(value, float | int) and math.isfinite(value) for value in values):
            raise ValueError(f"mean, std: {values}")
    if min(stated.std) <= 0:
        raise ValueError(f"std: {stated.std}")


class Described(NamedTuple):
    """What a checkpoint says of itself, as far as a model is built from it."""

    config: Config
    settings: TargetSettings
    num_classes: int
    dataset: str
    class_list_hash: str
    classes: ClassList | None
    """None where only the hash is known."""


def describe_run(workdir: epath.PathLike, step: int) -> Described:
    """Raises `CheckpointError` where a description was changed to what no run writes."""
    description = checkpoint_lib.describe(workdir, step)
    try:
        config = from_stored(description["config"])
        _check_preprocessing(config.data.preprocessing)
        statistics = description.get(STATISTICS_KEY)
        settings = settings_of(
            config.byproduct,
            statistics=TargetStatistics.from_json(statistics) if statistics else TargetStatistics(),
        )
        num_classes, names = description["num_classes"], (description["dataset"], description["class_list_hash"])
        if type(num_classes) is not int or num_classes < 1 or not all(isinstance(name, str) for name in names):
            raise TypeError(f"num_classes {num_classes!r:.60}, dataset and class_list_hash {names!r:.120}")
        classes = _classes(description.get("classes"), names[1], config)
    except (UserError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as e:
        reason = f"{type(e).__name__}: {e}".replace("\n", " ")
        raise CheckpointError(
            f"{os.fspath(workdir)}, step {step}: its description is not as a run writes it ({reason:.300}); was it"
            " edited, or written by another version of luab_jax?"
        ) from e
    return Described(config, settings, num_classes, *names, classes=classes)


def _classes(stated: Any, class_list_hash: str, config: Config) -> ClassList | None:
    """As the checkpoint states them; older ones state the hash, by which the run's own data may still be found."""
    if stated is not None:
        classes = ClassList(tuple(stated["ids"]), tuple(stated["names"]))
        if classes.hash != class_list_hash or len(classes.names) != len(classes):
            raise ValueError("`classes` are not those of `class_list_hash`")
        return classes
    if class_list_hash == imagenet().hash:
        return imagenet()
    if not config.data.root or storage.is_remote(config.data.root):
        return None
    with contextlib.suppress(UserError, OSError):
        classes = read_manifest(config.data.root, config.data.eval_split).classes
        return classes if classes.hash == class_list_hash else None
    return None
