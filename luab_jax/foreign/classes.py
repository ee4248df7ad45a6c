"""Which class each output of a model of others stands for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from etils import epath

from luab_jax.data.class_lists import ClassList, imagenet, read_class_list
from luab_jax.errors import CheckpointError, option


class Read(NamedTuple):
    """The classes that are scored, and which outputs they are."""

    classes: ClassList
    columns: np.ndarray | None
    """None where every output is scored."""


def read_outputs(name: str, num_outputs: int, stated: epath.PathLike | ClassList | None) -> Read:
    """The classes of `num_outputs` outputs, by a class list or the file of one; ImageNet's 1,000 by default.

    Of a list with ImageNet's classes and others (1,001 with a background, 21,843), ImageNet's are scored, in their
    order. Raises `CheckpointError` for any other number of outputs than the list's.
    """
    if stated is None:
        if num_outputs == len(imagenet()):
            return Read(imagenet(), None)
        raise CheckpointError(
            f"{name}: has {num_outputs:,} outputs, ImageNet's classes are 1,000; {option('classes', 'FILE')} says"
            f" which class each is (its wnid or id, one a line, in their order){_guess(num_outputs)}"
        )
    classes = stated if isinstance(stated, ClassList) else read_class_list(stated)
    if len(classes) != num_outputs:
        where = "the stated class list" if isinstance(stated, ClassList) else option("classes", stated)
        raise CheckpointError(f"{name}: has {num_outputs:,} outputs, {where} has {len(classes):,} classes")
    whole = imagenet()
    known = whole.label_of().keys() & set(classes.ids)
    if not known or len(known) == len(classes):
        return Read(classes, None)
    place = classes.label_of()
    kept = [i for i, wnid in enumerate(whole.ids) if wnid in known]
    return Read(
        ClassList(tuple(whole.ids[i] for i in kept), tuple(whole.names[i] for i in kept)),
        np.asarray([place[whole.ids[i]] for i in kept], np.int64),
    )


def _guess(num_outputs: int) -> str:
    if num_outputs == 1001:
        return "; of 1,001 the first is usually a background class"
    if num_outputs in (21841, 21843, 11221, 10450):
        return "; these are ImageNet-21k's, of which the list's wnids choose ImageNet's"
    return ""
