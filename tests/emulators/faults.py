"""What goes wrong with requests to a bucket: the same words for both emulators."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["status", "reset", "cut"]


@dataclass
class Fault:
    """Requests that fail: those that match, but only every so-many-th of them, and only so many in all."""

    kind: Kind
    """`status` answers with one, `reset` closes the connection, `cut` ends a body in its middle."""
    status: int = 503
    matching: str = ""
    """Searched for in `METHOD /path?query`."""
    every: int = 1
    times: int = 1 << 30
    seen: int = 0
    made: int = 0

    def meets(self, request: str) -> bool:
        if not re.search(self.matching, request):
            return False
        self.seen += 1
        if self.seen % self.every or self.made >= self.times:
            return False
        self.made += 1
        return True


@dataclass
class Behaviour:
    """Of a server: what it counts, how slow it is, and what fails. Safe in threads."""

    latency_s: float = 0.0
    faults: list[Fault] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    objects: list[str] = field(default_factory=list)
    """What was asked for, in the order of requests."""
    closed: set[str] = field(default_factory=set)
    """Buckets that may be read, not written."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, request: str) -> Fault | None:
        with self._lock:
            self.counts[request.partition(" ")[0]] += 1
            self.objects.append(request)
            return next((fault for fault in self.faults if fault.meets(request)), None)

    @contextmanager
    def failing(self, *faults: Fault) -> Iterator[tuple[Fault, ...]]:
        self.faults += faults
        try:
            yield faults
        finally:
            for fault in faults:
                self.faults.remove(fault)

    @contextmanager
    def slow(self, latency_s: float) -> Iterator[None]:
        before, self.latency_s = self.latency_s, latency_s
        try:
            yield
        finally:
            self.latency_s = before

    def num_requests(self) -> int:
        with self._lock:
            return self.counts.total()
