"""Stopping a run in time: signals in, a decision that all hosts take at the same step out."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

import jax
from jax.experimental import multihost_utils

from luab_jax.io.console import say


class StopSignal:
    """Watches SIGTERM and SIGINT while it is entered; SIGINT not where the command was started with it ignored.

    With several hosts jax's coordination service watches SIGTERM instead, and picks a step that all of them will reach.
    In a thread other than the main one, as in some notebooks, nothing can be watched and nothing stops.
    """

    def __init__(self) -> None:
        self._told = threading.Event()
        self._several_hosts = jax.process_count() > 1
        self._handlers: dict[int, object] = {}

    def __enter__(self) -> StopSignal:
        if not self._several_hosts and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                # A shell that starts a run in the background (nohup ... &) keeps Ctrl-C from it on purpose.
                if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._tell)
        return self

    def _tell(self, signum: int, frame: FrameType | None) -> None:
        if self._told.is_set():
            raise KeyboardInterrupt  # the second signal does not wait for the step and the save
        say(f"received {signal.Signals(signum).name}: saving after this step")
        self._told.set()

    def at_step(self, step: int) -> bool:
        """Whether to save and stop after `step`; the same on every host."""
        return multihost_utils.reached_preemption_sync_point(step) if self._several_hosts else self._told.is_set()

    def at_once(self) -> bool:
        """Whether to break off between steps; never with several hosts, which could not agree on the place."""
        return not self._several_hosts and self._told.is_set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
