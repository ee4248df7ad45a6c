"""A row maker of which a worker process loads little."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from luab_jax.data.slots import Column
from luab_jax.io import retries


class UnluckyRows:
    """Rows for which a bucket had to be asked again, twice for each time that they are filled."""

    def columns(self) -> dict[str, Column]:
        return {"index": Column((), np.dtype(np.int32))}

    def fill(self, places: np.ndarray, rows: Mapping[str, np.ndarray], tell: Callable[[], None]) -> None:
        rows["index"][:] = places[:, 1]
        retries.add({"503": 2})
