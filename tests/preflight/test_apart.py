"""A crash of the TPU compiler, by an imitation that kills itself, is a line of its experiment and no one else's."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from etils import epath

from luab_jax.config import Config
from luab_jax.errors import CompilerError, ConfigError
from luab_jax.preflight import __main__ as command
from luab_jax.preflight import apart, topology
from luab_jax.preflight.apart import CompilerApart
from luab_jax.preflight.compiler_process import Request
from tests import tiny
from tests.preflight.imitation import COMMAND, lowered
from tests.preflight.test_command import SMALL


@pytest.fixture(autouse=True)
def imitation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "COMMAND", COMMAND)


def compile_(how: str, crashes: epath.Path | None = None) -> None:
    config = tiny.experiment(Path())
    config.data.root = ""
    CompilerApart(config, "v5e:2x2", None, None)(lowered(), f"{how} for v5e:2x2", crashes)


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
    assert "compiling sigsegv for v5e:2x2; this may be a fault of libtpu " in crash
    assert crash.endswith(f"; what it printed is in {kept}")
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


def test_a_child_that_lowers_another_program_does_not_compile_it() -> None:
    """What is kept under the hash of the one would be said of the other."""
    with pytest.raises(ConfigError, match=r"^the process that compiles small for v5e:2x2 makes another program .*\Z"):
        compile_("small")


def test_ctrl_c_ends_the_compiler_too() -> None:
    """A terminal sends it to the group of the asker; the compiler is not in it."""
    asker = subprocess.Popen(
        [*COMMAND, "ask"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert asker.stdout is not None
        child = int(asker.stdout.readline())
        assert os.getpgid(child) == child
        os.killpg(asker.pid, signal.SIGINT)
        _, trace = asker.communicate(timeout=60)
    finally:
        asker.kill()
        asker.wait()
    assert trace.endswith("KeyboardInterrupt\n") and not _is_alive(child)


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A compiler in its minutes."""
    request = Request("hangs", "", Config(), "v5e:2x2", None, None, str(tmp_path))
    child = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert child.stdin is not None and child.stderr is not None
        child.stdin.write(request.to_line())
        child.stdin.flush()
        assert child.stderr.readline() == b"*** a stack of C++\n" and int(child.stderr.readline()) == child.pid
        yield child
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stderr):
            assert pipe is not None
            pipe.close()


def test_what_signals_mean_is_left_to_whoever_asked(hanging: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        hanging.send_signal(number)
    assert hanging.stderr is not None and hanging.stderr.readline() == b"still here\n"


def test_a_compiler_ends_with_whoever_asked_it(hanging: subprocess.Popen[bytes]) -> None:
    assert hanging.stdin is not None
    hanging.stdin.close()
    assert hanging.wait(60) == 1


@pytest.mark.parametrize(("kind", "package"), [("TPU", "libtpu"), ("GPU", "jax-cuda13-plugin")])
def test_an_error_of_the_compiler_and_one_of_ours_are_told_apart(kind: str, package: str) -> None:
    from luab_jax.data.worker import Failure

    failed = apart._error_of(Failure("CompilerError", "INTERNAL: a bug", ""), "a for v5e:2x2", kind)
    assert isinstance(failed, CompilerError) and f"topology, batch or {package}" in str(failed)
    assert str(failed).endswith("; --what=roofline needs no compiler") == (kind == "GPU")
    assert str(failed).startswith(f"the {kind} compiler failed on a for v5e:2x2 (INTERNAL: a bug); ")
    with pytest.raises(RuntimeError, match="in a worker process:\nTraceback"):
        raise apart._error_of(Failure("", "x", "Traceback"), "a for v5e:2x2", kind)
