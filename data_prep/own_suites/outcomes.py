"""What becomes of an image that cannot be made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from data_prep.images import BadImage
from data_prep.problems import Reason
from data_prep.writing.shards import Outcome
from luab_jax.errors import DataError


class Named(Protocol):
    @property
    def file_name(self) -> str: ...


ItemT = TypeVar("ItemT", bound=Named)


def made(make: Callable[[ItemT], Outcome], item: ItemT) -> Outcome:
    """What `make` makes of the item; where it raises `BadImage` or `DataError`, the image is left out and listed."""
    try:
        return make(item)
    except BadImage as e:
        return Outcome.left_out(item.file_name, e.reason, e.detail)
    except DataError as e:
        return Outcome.left_out(item.file_name, Reason.IMAGE_TRUNCATED, str(e))
