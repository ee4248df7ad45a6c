"""How often somebody may ask. Held in memory, per process: a limit against accidents and floods, not a quota."""

from __future__ import annotations

import hashlib
import math
import secrets
import threading
import time
from collections import OrderedDict
from typing import NamedTuple

_KEPT = 20_000
_DAY_S = 86_400


class Rate(NamedTuple):
    """A token bucket."""

    per_second: float
    burst: float


BATCHES = Rate(10, 40)
"""An annotator's requests."""
ARRIVALS = Rate(50, 300)
"""Sessions from one address: several classrooms behind one router may open their links at once."""
LOGINS = Rate(5 / 60, 5)
"""Of one address."""


class Limiter:
    """Buckets by key; the oldest are forgotten."""

    def __init__(self, rate: Rate):
        self._rate = rate
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, key: str, now: float | None = None) -> int:
        """0 if this request may be served; else after how many seconds to ask again."""
        now = time.monotonic() if now is None else now
        with self._lock:
            left, since = self._buckets.pop(key, (self._rate.burst, now))
            left = min(left + (now - since) * self._rate.per_second, self._rate.burst)
            wait = 0 if left >= 1 else max(1, math.ceil((1 - left) / self._rate.per_second))
            self._buckets[key] = (left if wait else left - 1, now)
            while len(self._buckets) > _KEPT:
                self._buckets.popitem(last=False)
        return wait


class Addresses:
    """Network addresses as hashes whose salt lives for a day, in memory alone."""

    def __init__(self) -> None:
        self._salt, self._day = b"", -1

    def key(self, address: str) -> str:
        day = int(time.time() // _DAY_S)
        if day != self._day:
            self._salt, self._day = secrets.token_bytes(16), day
        return hashlib.sha256(self._salt + address.encode()).hexdigest()[:16]
