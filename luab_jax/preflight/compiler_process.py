"""A process that compiles one training step: a crash of the compiler ends it, and not the preflight that asked.

It is started by `apart`, which writes what to compile to its stdin, in one line of JSON, and finds the answer in a
folder: facts as in the cache, or why there are none. Its stdin stays open as long as the asker lives; when that is
gone, however it ended, this process ends at once, also in the midst of the compiler's minutes.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
from typing import NamedTuple

from etils import epath

from luab_jax.config import Config, from_dict, to_dict
from luab_jax.data.worker import Failure
from luab_jax.errors import ConfigError
from luab_jax.io.atomic import write_text

FACTS, FAILURE = "facts.json", "failure.json"
"""Of the folder of the answer."""


_DIFFERS = (
    "the process that compiles {} makes another program of its config: if the config, a file that it names or this"
    " package was edited meanwhile, run the command again; set options of jax in the environment (JAX_...), not in a"
    " .py file, which that process does not read"
)


class Request(NamedTuple):
    """A step to compile, and where the answer goes."""

    title: str
    program: str
    """`program_hash` of what the asker lowered, under which it keeps the answer."""
    config: Config
    topology: str
    num_classes: int | None
    num_examples: int | None
    folder: str

    def to_line(self) -> bytes:
        return json.dumps(self._asdict() | {"config": to_dict(self.config)}).encode() + b"\n"

    @staticmethod
    def of_line(line: bytes) -> Request:
        values = json.loads(line)
        return Request(**values | {"config": from_dict(Config, values["config"])})


def receive(descriptor: int) -> Request:
    """What is to be compiled. From here on this process ends where the other end is closed."""
    # Unbuffered: Python aborts a process that ends while a thread waits in a buffered stdin.
    stream = open(descriptor, "rb", buffering=0, closefd=False)  # noqa: SIM115 (the thread reads it to its end)
    line = stream.readline()
    if not line:
        os._exit(1)
    threading.Thread(target=_end_with, args=(stream,), daemon=True).start()
    return Request.of_line(line)


def _end_with(stream: io.FileIO) -> None:
    stream.read()
    os._exit(1)


def answer(request: Request) -> None:
    """Compiles what the asker lowered, and leaves what the compiler said, or the error."""
    from luab_jax.preflight.topology import find  # sets up what must come before jax

    folder = epath.Path(request.folder)
    try:
        topology = find(request.topology)
        from luab_jax.preflight.experiment import lowered_for
        from luab_jax.preflight.facts import compile_unread, program_hash, write_facts

        _, _, lowered = lowered_for(request.config, topology, request.num_classes, request.num_examples)
        if program_hash(lowered, request.topology) != request.program:
            raise ConfigError(_DIFFERS.format(request.title))
        facts, packed = compile_unread(lowered)
    except Exception as e:  # the asker raises it
        write_text(folder / FAILURE, json.dumps(_failure(e)._asdict()))
    else:
        write_facts(folder / FACTS, facts, packed)


def _failure(error: Exception) -> Failure:
    """Of the compiler's own errors only the first line is for people."""
    from jax.errors import JaxRuntimeError

    failure = Failure.of(error)
    if not isinstance(error, JaxRuntimeError):
        return failure
    return failure._replace(kind="CompilerError", message=" ".join(failure.message.splitlines()[:1])[:300])


def main() -> None:
    # The asker decides what a signal to both means.
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    answer(receive(sys.stdin.fileno()))


if __name__ == "__main__":
    main()
