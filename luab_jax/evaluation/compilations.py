"""How many programs XLA compiled: what a shape that changes from batch to batch would cost shows here."""

from __future__ import annotations

import jax.monitoring

_EVENT = "/jax/core/compile/backend_compile_duration"


class Compilations:
    """Counts while it is entered; a program that is loaded from jax's cache on disk counts too."""

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0

    def _heard(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == _EVENT:
            self.count += 1
            self.seconds += duration_secs

    def __enter__(self) -> Compilations:
        jax.monitoring.register_event_duration_secs_listener(self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        jax.monitoring.unregister_event_duration_listener(self._heard)
