"""In the place of `compiler_process`: libtpu crashes on experiments that are called so, and compiles all others.

    python -m tests.preflight.imitation
    python -m tests.preflight.imitation ask

The topology is not there, so the step is compiled for the devices at hand. `ask` is a process that asks this one.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from luab_jax.preflight import compiler_process, topology
from luab_jax.preflight.compiler_process import Request

COMMAND = (sys.executable, "-m", "tests.preflight.imitation")

_answer = compiler_process.answer


def answer(request: Request) -> None:
    how = request.title.partition(" ")[0]
    print("*** a stack of C++", file=sys.stderr, flush=True)
    if number := getattr(signal, how.upper(), None):
        os.kill(os.getpid(), number)
    if how == "leaves":
        sys.exit("the license of the compiler has expired")
    if how == "hangs":
        signal.signal(signal.SIGUSR1, lambda *_: print("still here", file=sys.stderr, flush=True))
        print(os.getpid(), file=sys.stderr, flush=True)
        time.sleep(600)
    topology.find = lambda name: topology._local()
    _answer(request)


def lowered() -> Any:
    """A program that no config makes."""
    import jax

    return jax.jit(lambda x: x + 1).lower(1)


def ask() -> None:
    """Asks for a step on which the compiler hangs; prints the number of its process."""
    from luab_jax.preflight import apart
    from tests import tiny

    has_ended = apart._has_ended

    def shown(child: Any, seconds: float) -> bool:
        print(child.pid, flush=True)
        return has_ended(child, seconds)

    apart.COMMAND, apart._has_ended = COMMAND, shown
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    apart.CompilerApart(tiny.experiment(Path()), "v5e:2x2", None, None)(lowered(), "hangs for v5e:2x2", None)


def main() -> None:
    if sys.argv[1:] == ["ask"]:
        ask()
    else:
        compiler_process.answer = answer
        compiler_process.main()


if __name__ == "__main__":
    main()
