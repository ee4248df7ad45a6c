"""Programs that were started with SIGINT ignored, as under nohup: Ctrl-C leaves them alone, SIGTERM ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from luab_jax.distributed.stop import StopSignal

REPOSITORY = Path(__file__).resolve().parents[2]

IGNORED = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv(sys.executable, sys.argv[1:])"
"""Starts another program as nohup in a script does."""

COMMAND = """
import os, signal, sys, time
from luab_jax import cli

def act(arguments):
    os.kill(os.getpid(), signal.SIGINT)
    print("still here", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)

sys.exit(cli.Command("command", "Waits.", ()).run(act))
"""
PREPARATION = """
import os, signal, sys, time
from data_prep import __main__ as data_prep

def run(arguments):
    os.kill(os.getpid(), signal.SIGINT)
    print("still here", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)

data_prep.run = run
sys.exit(data_prep.main(["verify", "."]))
"""


@pytest.mark.parametrize("program", [COMMAND, PREPARATION], ids=["luab_jax", "data_prep"])
def test_a_command_in_the_background_is_ended_by_sigterm_alone(program: str) -> None:
    command = [sys.executable, "-c", IGNORED, sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=REPOSITORY, check=False)
    assert (ended.returncode, ended.stdout) == (3, "still here\n"), ended.stderr
    assert "Traceback" not in ended.stderr and len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(("before", "stops"), [(signal.SIG_IGN, False), (signal.default_int_handler, True)])
def test_a_training_hears_sigint_unless_it_is_ignored(before: object, stops: bool) -> None:
    handler = signal.signal(signal.SIGINT, before)  # type: ignore[arg-type]
    try:
        with StopSignal() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.at_step(1) == stops
        assert signal.getsignal(signal.SIGINT) == before
        with StopSignal() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.at_step(1)
    finally:
        signal.signal(signal.SIGINT, handler)
