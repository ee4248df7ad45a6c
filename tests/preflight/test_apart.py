"""A crash of the TPU compiler, by an imitation that kills itself, is a line of its experiment and no one else's."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from etils import epath

from luab_jax.config import Config
from luab_jax.errors import CompilerError
from luab_jax.preflight import __main__ as command
from luab_jax.preflight import apart, topology
from luab_jax.preflight.apart import CompilerApart
from luab_jax.preflight.compiler_process import Request
from tests import tiny
from tests.preflight.test_command import SMALL

IMITATION = (sys.executable, "-m", "tests.preflight.imitation")


@pytest.fixture(autouse=True)
def imitation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "COMMAND", IMITATION)


def compile_(how: str, crashes: epath.Path | None = None) -> None:
    CompilerApart(tiny.experiment(Path()), "v5e:2x2", None, None)(None, f"{how} for v5e:2x2", crashes)


def test_the_others_of_a_table_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        command, "find", lambda name: dataclasses.replace(topology._local(), name=name, memory_bytes=2**30)
    )
    for name in ("sigsegv", "small"):
        (tmp_path / f"{name}.py").write_text(SMALL.format(task="SINGLE_LABEL"))
    told = [f"--config={tmp_path}/sigsegv.py", f"--config={tmp_path}/small.py", "--topology=v5e:2x2"]
    told += [f"--config.compilation_cache={tmp_path}/cache", f"--json={tmp_path}/a.json", "--probe_s=0"]
    assert command.main(told) == 1
    header, _, row, _, crash, *_ = capsys.readouterr().out.splitlines()
    assert header.split()[0] == "experiment" and row.split()[:3] == ["small", "8", "16"]
    assert crash.startswith("sigsegv: the TPU compiler crashed (SIGSEGV) after ")
    (kept,) = (tmp_path / "cache" / "preflight").glob("*.crash.txt")
    assert "compiling sigsegv for v5e:2x2; libtpu" in crash and crash.endswith(f"; what it printed is in {kept}")
    assert kept.read_text() == "*** a stack of C++\n"
    small, failed = json.loads((tmp_path / "a.json").read_text())
    assert (small["experiment"], small["cached"]) == ("small", False) and small["facts"]["memory"] is not None
    assert (failed["experiment"], f"sigsegv: {failed['error']}") == ("sigsegv", crash)

    monkeypatch.setattr(apart, "COMMAND", ("false",))
    assert command.main([told[1], *told[2:]]) == 0  # what is kept needs no process
    assert json.loads((tmp_path / "a.json").read_text()) == [small | {"cached": True}]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("sigabrt", "the TPU compiler crashed (SIGABRT) after "),
        ("sigkill", "(SIGKILL is what the system sends when memory runs out): run it beside fewer programs"),
        ("leaves", "exit code 1 after "),
    ],
)
def test_an_end_is_told_by_its_kind(how: str, expected: str) -> None:
    with pytest.raises(CompilerError) as error:
        compile_(how)
    message = str(error.value)
    assert expected in message and f"compiling {how} for v5e:2x2" in message and "\n" not in message
    assert ("(the license of the compiler has expired)" in message) == (how == "leaves")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_the_compiler_too(monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[subprocess.Popen[bytes]] = []
    has_ended = apart._has_ended

    def interrupted(child: subprocess.Popen[bytes], seconds: float) -> bool:
        if not children:
            children.append(child)
            threading.Timer(0.3, signal.raise_signal, (signal.SIGINT,)).start()
        return has_ended(child, seconds)

    monkeypatch.setattr(apart, "_has_ended", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compile_("hangs")
    assert children[0].returncode == -signal.SIGKILL and not _is_alive(children[0].pid)


def test_a_compiler_ends_with_whoever_asked_it(tmp_path: Path) -> None:
    request = Request("hangs", Config(), "v5e:2x2", None, None, str(tmp_path))
    child = subprocess.Popen(IMITATION, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdin is not None and child.stderr is not None
    child.stdin.write(request.to_line())
    child.stdin.flush()
    assert child.stderr.readline() == b"*** a stack of C++\n" and int(child.stderr.readline()) == child.pid
    child.stdin.close()
    start = time.monotonic()
    assert child.wait(60) == 1 and time.monotonic() - start < 60
    child.stderr.close()


def test_an_error_of_the_compiler_and_one_of_ours_are_told_apart(tmp_path: Path) -> None:
    from luab_jax.data.worker import Failure

    failed = apart._error_of(Failure("CompilerError", "INTERNAL: a bug", ""), "a for v5e:2x2")
    assert isinstance(failed, CompilerError) and "failed on a for v5e:2x2 (INTERNAL: a bug)" in str(failed)
    with pytest.raises(RuntimeError, match="in a worker process:\nTraceback"):
        raise apart._error_of(Failure("", "x", "Traceback"), "a for v5e:2x2")
