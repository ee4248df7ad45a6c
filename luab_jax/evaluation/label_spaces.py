"""What the labels of a suite's data mean, and which models can be scored by them.

A label space is a property of a suite's row: data of another class list, or a model of another, is refused, because
its numbers would be read as wrong classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from luab_jax.data.class_lists import ClassList, imagenet, in9, sixteen
from luab_jax.data.dataset import PreparedSplit
from luab_jax.errors import DataError
from luab_jax.evaluation.restriction import Restriction, restriction


@dataclass(frozen=True, slots=True)
class LabelSpace:
    """Whose classes the data has, and whose the model."""

    name: str
    data: Callable[[], ClassList] | None = None
    """The class list of the data; `None` is the model's own, whatever it is."""
    model: Callable[[], ClassList] | None = None
    """The class list that a model must have been trained on; `None` is any."""
    of_indices: bool = False
    """Whether labels are places among ImageNet's classes, and images of some of these make sense by themselves: a
    model of fewer of them is then scored on the images of its own."""

    def why_not(self, model: HasClasses) -> str | None:
        """Why a model of this class list cannot be scored; None if it can, perhaps on some of the classes only."""
        if self.model is None or self.model().hash == model.class_list_hash:
            return None
        if self.of_indices and restriction(model.classes) is not None:
            return None
        return (
            f"it scores {self.name}, the checkpoint was trained on another list of {model.num_classes} classes"
            f" (hash {model.class_list_hash})"
        )

    def check(self, opened: PreparedSplit, model: HasClasses) -> Restriction | None:
        """Whether the model is to be scored on some classes of the data only.

        Raises `DataError` for data whose labels mean other classes.
        """
        classes = opened.manifest.classes
        whole = imagenet().hash
        if self.of_indices and classes.hash == whole and (restricted := restriction(model.classes)) is not None:
            return restricted
        if self.data is None:
            wanted, whose = (
                model.class_list_hash,
                f"the checkpoint was trained with another ({model.num_classes} classes",
            )
        else:
            expected = self.data()
            wanted, whose = expected.hash, f"this suite's is another ({self.name}, {len(expected)} classes"
        if classes.hash != wanted:
            raise DataError(
                f"{opened.directory}: prepared with a class list of {len(classes)} classes (hash {classes.hash}),"
                f" {whose}, hash {wanted}); its outputs would be read as wrong classes. Prepare the data"
                f" {'with that list (--classes)' if self.data is None else 'again with data_prep suite'}"
            )
        return None


class HasClasses(Protocol):
    """A model, as far as its classes are concerned."""

    @property
    def class_list_hash(self) -> str: ...
    @property
    def num_classes(self) -> int: ...
    @property
    def classes(self) -> ClassList | None:
        """None where only the hash is known."""
        ...


OF_THE_MODEL = LabelSpace("the model's classes", of_indices=True)
IMAGENET = LabelSpace("ImageNet's 1,000 classes", imagenet, imagenet, of_indices=True)
WHOLE_IMAGENET = LabelSpace("ImageNet's 1,000 classes", imagenet, imagenet)
"""Where a part of the classes would be another question, as for what is of no known class."""
IN9 = LabelSpace("the nine classes of ImageNet-9, mapped from ImageNet's 1,000", in9, imagenet)
SIXTEEN = LabelSpace("the 16 categories of cue-conflict images, from ImageNet's 1,000", sixteen, imagenet)
