"""How a process of a host ended is told in one last line, with the exit code that schedulers act on.

The child is a program of two lines that ends in one of the ways that jax, the kernel or a user end the real one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from luab_jax.distributed import parent
from luab_jax.errors import ExitCode

REPOSITORY = Path(__file__).resolve().parents[2]
ABORT = (
    "F1 client.h:80] Terminating process because the JAX distributed service detected fatal errors. This most likely"
)
PAGE = "\\n".join([ABORT, "*** Check failure stack trace: ***", *(f"    @ 0x{i:x} xla::Frame" for i in range(30))])
HERE = "print('host 2 of 4 is here', file=sys.stderr, flush=True)"
WAYS = {
    "the first host is lost": (
        f"{HERE}; print('{PAGE}', file=sys.stderr, flush=True); os.abort()",
        ExitCode.STOPPED_RESUMABLE,
        "error: host 1 of 4 was lost. Start the same command on all hosts again; it resumes from what was saved",
    ),
    "the watching thread was faster": (
        f"{HERE}; print('error: host 1 of 4 ... was lost\\n{PAGE}', file=sys.stderr, flush=True); os.abort()",
        ExitCode.STOPPED_RESUMABLE,
        "error: host 1 of 4 ... was lost",
    ),
    "out of memory": (
        f"{HERE}; os.kill(os.getpid(), 9)",
        ExitCode.STOPPED_RESUMABLE,
        "error: the process of host 2 of 4 was killed (SIGKILL, as by the kernel where memory runs out: see dmesg)."
        " Start the same command on all hosts again; it resumes from what was saved",
    ),
    "a crash": (
        "print('why', file=sys.stderr, flush=True); os.kill(os.getpid(), 11)",
        ExitCode.FAILED,
        "error: the process crashed (SIGSEGV); what it printed is above",
    ),
    "a user's error": ("print('error: a, b', file=sys.stderr); sys.exit(1)", ExitCode.FAILED, "error: a, b"),
    "stopped": ("print('stopped', file=sys.stderr); sys.exit(3)", ExitCode.STOPPED_RESUMABLE, "stopped"),
}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`child.py`, which a child finds."""
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{REPOSITORY}")
    return tmp_path / "child.py"


@pytest.mark.parametrize("way", WAYS)
def test_the_useful_line_is_last(module: Path, capsys: pytest.CaptureFixture[str], way: str) -> None:
    program, code, line = WAYS[way]
    module.write_text(f"import os, sys\n{program}\n")
    assert parent.watch("child", []) is code
    printed = capsys.readouterr().err.splitlines()
    assert printed[-1] == line
    assert "xla::Frame" not in "\n".join(printed)


def test_arguments_and_output_go_through(module: Path, capfd: pytest.CaptureFixture[str]) -> None:
    module.write_text("import sys\nprint(sys.argv[1:])\nprint('a line', file=sys.stderr)\n")
    assert parent.watch("child", ["--a=b c", "d"]) is ExitCode.DONE
    out, err = capfd.readouterr()
    assert out == "['--a=b c', 'd']\n" and err == "a line\n"


def test_sigterm_goes_on_to_the_child_and_a_child_ends_with_its_parent(module: Path, tmp_path: Path) -> None:
    module.write_text(
        "import os, signal, sys, time\nfrom luab_jax.distributed import parent\n"
        "assert not parent.is_parent() and parent.is_parent()\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n"
        "with open(sys.argv[1], 'w') as file:\n    file.write(str(os.getpid()))\ntime.sleep(60)\n"
    )
    start = "import sys; from luab_jax.distributed import parent; sys.exit(int(parent.watch('child', sys.argv[1:])))"
    for number, code in ((signal.SIGTERM, 3), (signal.SIGKILL, -9)):
        file = tmp_path / f"pid{number}"
        started = subprocess.Popen([sys.executable, "-c", start, str(file)])
        child = _wait_for(file)
        started.send_signal(number)
        assert started.wait(30) == code
        deadline = time.monotonic() + 30
        while _runs(child):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def _wait_for(file: Path) -> int:
    deadline = time.monotonic() + 30
    while not file.exists() or not file.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return int(file.read_text())


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
