"""In the place of `compiler_process`: libtpu crashes on experiments that are called so, and compiles all others.

    python -m tests.preflight.imitation

The topology is not there, so the step is compiled for the devices at hand.
"""

import os
import signal
import sys
import time

from luab_jax.preflight import compiler_process, topology


def main() -> None:
    request = compiler_process.receive(sys.stdin.fileno())
    how = request.title.partition(" ")[0]
    print("*** a stack of C++", file=sys.stderr, flush=True)
    if number := getattr(signal, how.upper(), None):
        os.kill(os.getpid(), number)
    if how == "leaves":
        sys.exit("the license of the compiler has expired")
    if how == "hangs":
        print(os.getpid(), file=sys.stderr, flush=True)
        time.sleep(600)
    topology.find = lambda name: topology._local()
    compiler_process.answer(request)


if __name__ == "__main__":
    main()
