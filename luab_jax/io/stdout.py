"""Output piped to a command that stops reading, as `| head` does."""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_when_unread() -> Iterator[None]:
    """Ends the process without a word, with the exit code of a SIGPIPE, once nobody reads its stdout.

    A character that the terminal's encoding lacks is printed escaped: no name may cost a result.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # else Python does so after all of our code, and complains
    except BrokenPipeError:
        if _is_read():
            raise  # another pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


def _is_read() -> bool:
    try:
        stdout = sys.stdout.fileno()
    except OSError:  # in a notebook
        return True
    poll = select.poll()
    poll.register(stdout, 0)
    return not any(event & select.POLLERR for _, event in poll.poll(0))
