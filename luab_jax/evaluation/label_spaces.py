"""What the labels of a suite's data mean, and which models can be scored by them.

A label space is a property of a suite's row: data of another class list, or a model of another, is refused, because
its numbers would be read as wrong classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from luab_jax.data.class_lists import ClassList, imagenet, in9
from luab_jax.data.dataset import PreparedSplit
from luab_jax.errors import DataError


@dataclass(frozen=True, slots=True)
class LabelSpace:
    """Whose classes the data has, and whose the model."""

    name: str
    data: Callable[[], ClassList] | None = None
    """The class list of the data; `None` is the model's own, whatever it is."""
    model: Callable[[], ClassList] | None = None
    """The class list that a model must have been trained on; `None` is any."""

    def why_not(self, class_list_hash: str, num_classes: int) -> str | None:
        """Why a model of this class list cannot be scored; None if it can."""
        if self.model is None or self.model().hash == class_list_hash:
            return None
        return (
            f"it scores {self.name}, the checkpoint was trained on another list of {num_classes} classes"
            f" (hash {class_list_hash})"
        )

    def check(self, opened: PreparedSplit, class_list_hash: str, num_classes: int) -> None:
        """Raises `DataError` for data whose labels mean other classes."""
        classes = opened.manifest.classes
        if self.data is None:
            wanted, whose = class_list_hash, f"the checkpoint was trained with another ({num_classes} classes"
        else:
            expected = self.data()
            wanted, whose = expected.hash, f"this suite's is another ({self.name}, {len(expected)} classes"
        if classes.hash != wanted:
            raise DataError(
                f"{opened.directory}: prepared with a class list of {len(classes)} classes (hash {classes.hash}),"
                f" {whose}, hash {wanted}); its outputs would be read as wrong classes. Prepare the data"
                f" {'with that list (--classes)' if self.data is None else 'again with data_prep suite'}"
            )


OF_THE_MODEL = LabelSpace("the model's classes")
IMAGENET = LabelSpace("ImageNet's 1,000 classes", imagenet, imagenet)
IN9 = LabelSpace("the nine classes of ImageNet-9, mapped from ImageNet's 1,000", in9, imagenet)
