"""The hosts of a run watch each other, so that one that fails or vanishes ends the others soon and with its name.

Without this, jax aborts the others minutes later with a C++ stack trace, or they wait for the lost one in a collective.
Every host leaves a sign of life in the key-value store of jax's coordination service and reads those of the others. The
store is on the first host. When that process ends, jax aborts the others at once, mostly before they can tell; `parent`
then does. When its machine vanishes without a word, calls of the store do not return, which a second thread notices.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Collection
from types import TracebackType
from typing import Any, NoReturn

import jax
from jax._src import distributed  # the only way to the key-value store; Orbax takes it too

from luab_jax.errors import ExitCode, UserError, WorkerLostError

_ROOT = "luab_jax"
_GRACE_S = 5.0
"""For a host that fails by itself at the same time, to end what it is about."""


class WatchedHosts:
    """While it is entered, another host that fails or vanishes ends this process. Does nothing on a single host.

    A host is lost when it left no sign of life for `timeout_s`; the others then exit with `STOPPED_RESUMABLE`. The
    error of one host is told by all, who exit as that one does.
    """

    def __init__(self, timeout_s: int, *, saved: str = "the last checkpoint"):
        """`saved` is what messages say that the command goes on from."""
        self._timeout_s = timeout_s
        self._saved = saved
        self._every_s = min(2.0, timeout_s / 5)
        self._host, self._num_hosts = jax.process_index(), jax.process_count()
        self._store: Any = distributed.global_state.client
        self._ended = threading.Event()
        self._leaving = threading.Event()
        self._seen: dict[int, tuple[str, float]] = {}
        self._heard = time.monotonic()
        """When the store last answered."""
        self._thread = threading.Thread(target=self._watch, daemon=True, name="hosts")
        self._second = threading.Thread(target=self._watch_the_store, daemon=True, name="hosts' store")

    def __enter__(self) -> WatchedHosts:
        if self._num_hosts > 1:
            self._heard = time.monotonic()
            self._thread.start()
            self._second.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._num_hosts == 1:
            return
        if error is None:
            self._put("done", "")
            self._ended.set()
        else:
            self._fail(error)

    def _put(self, what: str, text: str) -> None:
        self._store.key_value_set(f"{_ROOT}/{what}/{self._host}", text, allow_overwrite=True)

    def _all(self, what: str) -> dict[int, str]:
        return {int(key.rpartition("/")[2]): text for key, text in self._store.key_value_dir_get(f"{_ROOT}/{what}/")}

    def _watch(self) -> None:
        start = time.monotonic()
        try:
            for beat in range(1 << 62):
                self._put("alive", str(beat))
                self._heard = time.monotonic()
                failed = {host: text for host, text in self._all("failed").items() if host != self._host}
                if failed:
                    self._follow(failed)
                lost = [] if self._leaving.is_set() else self._lost(start)
                if lost:
                    names = ", ".join(str(host + 1) for host in lost)
                    self._leave(
                        ExitCode.STOPPED_RESUMABLE,
                        f"host {names} of {self._num_hosts} was lost: no sign of life for {self._timeout_s} s. Start"
                        f" the same command on all hosts again; it resumes from {self._saved}",
                        lost,
                    )
                if self._ended.wait(self._every_s):
                    return
        except jax.errors.JaxRuntimeError as e:
            if not self._ended.is_set() and not self._leaving.is_set():
                reason = str(e).partition("\n")[0]
                self._leave(
                    ExitCode.STOPPED_RESUMABLE,
                    f"host 1 of {self._num_hosts}, which keeps the store, was lost ({reason}). Start the same command"
                    f" on all hosts again; it resumes from {self._saved}",
                )

    def _watch_the_store(self) -> None:
        while not self._ended.wait(self._every_s):
            silent_s = time.monotonic() - self._heard
            if silent_s > self._timeout_s + 2 * self._every_s and not self._leaving.is_set():
                self._leave(
                    ExitCode.STOPPED_RESUMABLE,
                    f"host 1 of {self._num_hosts}, which keeps the store, was lost: no answer for {silent_s:.0f} s."
                    f" Start the same command on all hosts again; it resumes from {self._saved}",
                    store_answers=False,
                )

    def _lost(self, start: float) -> list[int]:
        """Hosts whose sign has not changed for too long by this host's clock, which have not ended well."""
        now, signs, done = time.monotonic(), self._all("alive"), self._all("done")
        for host in range(self._num_hosts):
            sign = signs.get(host, "")
            if host not in self._seen or self._seen[host][0] != sign:
                self._seen[host] = (sign, now)
        return [host for host, (_, since) in self._seen.items() if now - since > self._timeout_s and host not in done]

    def _follow(self, failed: dict[int, str]) -> None:
        """Ends this host because another failed, unless it is ending by itself."""
        if self._leaving.wait(_GRACE_S):
            return
        host, text = min(failed.items())
        code, _, message = text.partition(" ")
        self._leave(ExitCode(int(code)), f"host {host + 1} of {self._num_hosts} stopped: {message}")

    def _fail(self, error: BaseException) -> NoReturn:
        """Tells the other hosts why this one ends; their collectives would wait for it, as would jax's own shutdown."""
        if _is_of_the_runtime(error):
            # Most likely the echo of another host's end, which the watching thread tells, and ends this process.
            self._thread.join(self._timeout_s + 2 * self._every_s + _GRACE_S)
        self._leaving.set()
        resumable = isinstance(error, KeyboardInterrupt | WorkerLostError)
        code = ExitCode.STOPPED_RESUMABLE if resumable else ExitCode.FAILED
        match error:
            case UserError():
                message = str(error)
            case KeyboardInterrupt():
                message = "interrupted; the same command on all hosts continues from what was saved"
            case _:
                message = f"{type(error).__name__}: {error}"
                traceback.print_exception(error)
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # the first host and its store are gone
            self._put("failed", f"{int(code)} {message}")
        self._leave(code, f"host {self._host + 1} of {self._num_hosts}: {message}")

    def _leave(
        self, code: ExitCode, message: str, lost: Collection[int] = (), *, store_answers: bool = True
    ) -> NoReturn:
        """Tells and ends, without jax's shutdown, which waits for all hosts."""
        print(f"error: {message}", file=sys.stderr, flush=True)
        if not store_answers:
            self._exit(code)
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self._put("left", "")
            if self._host == 0:
                self._wait_for_the_others(lost)
        self._exit(code)

    def _wait_for_the_others(self, lost: Collection[int]) -> None:
        """The first host leaves last: jax aborts those that still need its store."""
        deadline = time.monotonic() + 2 * _GRACE_S + 4 * self._every_s
        while len({*self._all("left"), *lost}) < self._num_hosts and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(_GRACE_S / 5)  # from their last sign to their end

    def _exit(self, code: ExitCode) -> NoReturn:
        sys.stdout.flush()
        os._exit(int(code))


def _is_of_the_runtime(error: BaseException | None) -> bool:
    """Whether it is, or comes from, a collective or a barrier that failed."""
    while error is not None and not isinstance(error, jax.errors.JaxRuntimeError):
        error = error.__cause__ or error.__context__
    return error is not None
