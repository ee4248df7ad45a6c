"""What failed between this process and a bucket, and was asked for again: counted by cause.

gcsfs and s3fs repeat requests with growing pauses by themselves, and tell it to their loggers only. They are listened
to here. tensorstore, through which Orbax moves arrays, repeats its own requests and is not counted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

_REPEATED = (429, 500, 502, 503, 504)
_counts: Counter[str] = Counter()
_lock = threading.Lock()


def counts() -> dict[str, int]:
    """Requests of this process and its workers that failed and were repeated, by cause."""
    with _lock:
        return dict(_counts)


def add(counts: Mapping[str, int]) -> None:
    """Counts what another process `taken`."""
    with _lock:
        _counts.update(counts)


def taken() -> dict[str, int]:
    """The counts since it was last called, for the process that adds them to its own."""
    with _lock:
        found = dict(_counts)
        _counts.clear()
        return found


def forget() -> None:
    """Begins to count anew."""
    with _lock:
        _counts.clear()


def summary() -> str:
    """One line, or nothing where every request succeeded at once."""
    found = counts()
    if not found:
        return ""
    causes = ", ".join(f"{cause}: {number:,}" for cause, number in sorted(found.items()))
    return f"storage: {sum(found.values()):,} request(s) failed and were repeated ({causes})"


def tell() -> None:
    """Prints those that were not told yet. To be called before an error is printed, which is to be the last line."""
    if repeated := summary():
        print(repeated, file=sys.stderr)
        forget()


@contextlib.contextmanager
def told() -> Iterator[None]:
    """At the end of a command, before its error."""
    try:
        yield
    finally:
        tell()


class _Listener(logging.Handler):
    """Takes the one line of a logger that tells of a request to be repeated; the others are dropped."""

    def __init__(self, beginnings: tuple[str, ...]):
        super().__init__(logging.DEBUG)
        self._beginnings = beginnings

    def emit(self, record: logging.LogRecord) -> None:
        if not any(beginning in str(record.msg) for beginning in self._beginnings):
            return
        error: Any = record.args[0] if isinstance(record.args, tuple) and record.args else record.msg
        cause = _cause(error)
        if cause:
            with _lock:
                _counts[cause] += 1


def _cause(error: Any) -> str:
    """Empty for an answer that is no failure, such as that there is no such object."""
    text = f"{type(error).__name__} {error}"
    response = getattr(error, "response", None)  # of botocore
    status = (response or {}).get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
    if status is not None:
        return str(status) if status in _REPEATED else ""
    found = next((code for code in _REPEATED if f", {code}" in text), None)
    if found is not None:
        return str(found)
    if "payload" in text.lower() or "IncompleteRead" in text or "Response ended" in text:
        return "cut short"
    if "timeout" in text.lower() or "timed out" in text.lower():
        return "no answer in time"
    if text.endswith("exception: "):  # gcsfs makes an error without a text of it
        return "502"
    return "connection lost"


def listen(scheme: str) -> None:
    """Begins to count for a scheme's file system; to be called before its first request, any number of times.

    Raises `ImportError` where the package of a file system is not installed.
    """
    name, beginnings = {
        "gs": ("gcsfs", ("retrying after exception",)),
        "s3": ("s3fs", ("Retryable error", "maybe retryable")),
    }.get(scheme, ("", ()))
    logger = logging.getLogger(name or "luab_jax.none")
    if not name or any(isinstance(handler, _Listener) for handler in logger.handlers):
        return
    if scheme == "s3":
        import s3fs.core

        s3fs.core.set_custom_error_handler(_is_passing)
    logger.addHandler(_Listener(beginnings))
    logger.setLevel(logging.DEBUG)
    logger.propagate = False  # what comes of a failure is in the error that is raised in the end


def _is_passing(error: Exception) -> bool:
    """Whether s3fs shall repeat what it would give up: it repeats `SlowDown` only, and leaves the rest to botocore,
    which does not count."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return response.get("ResponseMetadata", {}).get("HTTPStatusCode") in _REPEATED
    return isinstance(error, ConnectionError) or "Connect" in type(error).__name__


def options(scheme: str) -> dict[str, Any]:
    """Of a scheme's file system, for all of its instances."""
    # Its cache of listings grows, and is not told of other writers.
    shared: dict[str, Any] = {"use_listings_cache": False}
    if scheme == "gs" and os.environ.get("STORAGE_EMULATOR_HOST"):
        # It would ask a service of gRPC for the kind of the bucket, which emulators do not have, for a minute.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    if scheme == "s3":
        retries = {"mode": "standard", "total_max_attempts": 1}  # s3fs repeats, and tells of it
        shared["config_kwargs"] = {"retries": retries, "max_pool_connections": 64}
    return shared
