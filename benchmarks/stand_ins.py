"""Row makers that only sleep, for what more cores than a machine has would do; worker processes import this."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from luab_jax.data.slots import Column


@dataclass(frozen=True)
class SleepingRows:
    """Rows of 224 px that take a while and no core."""

    seconds: float

    def columns(self) -> dict[str, Column]:
        return {"images": Column((224, 224, 3), np.dtype(np.uint8)), "index": Column((), np.dtype(np.int32))}

    def fill(self, places: np.ndarray, rows: Mapping[str, np.ndarray], tell: Callable[[], None]) -> None:
        time.sleep(self.seconds * len(places))
        rows["index"][:] = places[:, 1]
