"""One command at a time writes; who was killed or stalled loses the lease, and knows it before it writes again."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from luab_jax.errors import UserError
from luab_jax.io import holder, storage
from luab_jax.io import lease as lease_lib
from luab_jax.io.atomic import append_line, write_text
from luab_jax.io.holder import Holder
from luab_jax.io.lease import Lease, LeaseLostError

REPOSITORY = Path(__file__).resolve().parents[2]
REMEDY = "choose another --workdir"


@pytest.fixture(params=["folder", "bucket"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The workdir of a run, with seconds made tenths of seconds."""
    for name in ("EVERY_S", "TIMEOUT_S", "SETTLE_S"):
        monkeypatch.setattr(lease_lib, name, getattr(lease_lib, name) / 20)
    if request.param == "bucket":
        request.getfixturevalue("bucket_in_memory")
    yield "gs://bucket/run" if request.param == "bucket" else str(tmp_path / "run")


def file(run: str, name: str) -> storage.Place:
    return storage.place(run) / name


def elsewhere(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on this process is one of another machine, for the leases that it finds."""
    monkeypatch.setattr(holder, "_machine", lambda: "another machine")


def test_the_second_is_refused_with_the_name_of_the_first(run: str) -> None:
    with Lease(run, remedy=REMEDY):
        with pytest.raises(UserError) as caught, Lease(run, remedy=REMEDY):
            pytest.fail("both write")
        assert re.fullmatch(
            rf"{re.escape(run)}: in use by process {os.getpid()} on \S+, started 20.* UTC \(.*\). Wait for its end,"
            rf" stop it, or choose another --workdir \(.*/lease may be taken 3 s after its last sign of life\)",
            str(caught.value),
        )
    with Lease(run, remedy=REMEDY):
        pass
    assert not storage.names(storage.place(run))


def test_a_lease_that_the_store_wrote_without_answering_is_held(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's client tries again, and then the lease is there."""

    def create_twice(path: str, content: bytes) -> bool:
        assert lease_lib_create(path, content)
        return lease_lib_create(path, content)

    lease_lib_create = lease_lib.create
    monkeypatch.setattr(lease_lib, "create", create_twice)
    with Lease(run, remedy=REMEDY):
        monkeypatch.setattr(lease_lib, "create", lease_lib_create)
        with pytest.raises(UserError, match="in use by"), Lease(run, remedy=REMEDY):
            pytest.fail("both write")
    assert not storage.names(storage.place(run))


def test_of_many_that_start_together_one_runs(run: str) -> None:
    together, running, most = threading.Barrier(8), [], []

    def start(_: int) -> bool:
        together.wait()
        try:
            with Lease(run, remedy=REMEDY):
                running.append(1)
                most.append(len(running))
                time.sleep(0.3)
                running.pop()
                return True
        except UserError as e:
            assert "in use by" in str(e)
            return False

    with ThreadPoolExecutor(8) as pool:
        assert any(pool.map(start, range(8)))
    assert max(most) == 1


def test_on_another_machine_a_sign_of_life_is_waited_for(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Lease(run, remedy=REMEDY):
        elsewhere(run, monkeypatch)
        start = time.monotonic()
        with pytest.raises(UserError, match="in use by"), Lease(run, remedy=REMEDY):
            pytest.fail("both write")
        assert time.monotonic() - start < 2.9, "less than the time-out, which is 3 s here"


@pytest.mark.parametrize("hours", [-30, 30])
def test_clocks_need_not_agree(run: str, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    """The other machine's clock is a day off, and the time in the lease is wrong: only the sign of life counts."""
    with Lease(run, remedy=REMEDY) as first:
        path = storage.place(first.path)
        values = json.loads(storage.read_all(path))
        path.write_text(json.dumps(values | {"started": "1970-01-01 00:00:00 UTC"}))
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 3600 * hours)
        elsewhere(run, monkeypatch)
        with pytest.raises(UserError, match="in use by"), Lease(run, remedy=REMEDY):
            pytest.fail("both write")


def test_who_is_silent_loses_it_and_writes_nothing_more(
    run: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Lease(run, remedy=REMEDY) as first:
        write_text(file(run, "config.json"), "first")
        write_text(file(run, "results.json"), "first")
        # As by SIGSTOP: no sign of life, no clock looked at.
        first._ended.set()
        time.sleep(0.6)
        elsewhere(run, monkeypatch)
        start = time.monotonic()
        with Lease(run, remedy=REMEDY) as second:
            assert 2.5 < time.monotonic() - start < 10
            assert "waiting up to 3 s for a sign of life" in capsys.readouterr().err
            first._ended.clear()
            for write in (
                lambda: write_text(file(run, "config.json"), "second"),
                lambda: write_text(file(run, "checkpoints/metrics"), "second"),
                first.check,
            ):
                # Both are in this process, and the second may write; so it is asked for the first alone.
                with monkeypatch.context() as patched, pytest.raises(LeaseLostError, match="took over, since this"):
                    patched.setattr(second, "check", lambda: None)
                    write()
        assert file(run, "config.json").read_text() == "first"
    assert first.path.endswith("lease")


def test_the_second_keeps_what_it_took_when_the_first_wakes_and_ends(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Lease(run, remedy=REMEDY)
    first.__enter__()
    first._ended.set()
    time.sleep(0.6)
    elsewhere(run, monkeypatch)
    with Lease(run, remedy=REMEDY) as second:
        first._ended.clear()
        first._renew()
        first.__exit__(None, None, None)
        second._renew()
        second.check()
        write_text(file(run, "config.json"), "second")


def test_of_two_that_take_over_one_writes_although_the_bucket_is_slow_for_the_other(
    bucket_in_memory: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one whose upload takes long may overwrite the lease of one that has looked who holds it."""
    del bucket_in_memory
    for name in ("EVERY_S", "TIMEOUT_S", "SETTLE_S"):
        monkeypatch.setattr(lease_lib, name, getattr(lease_lib, name) / 20)
    with Lease("gs://bucket/run", remedy=REMEDY) as gone:
        of_gone = json.loads(storage.read_all(gone.path)) | {"machine": "another", "timeout_s": 0.2}
    storage.place(gone.path).write_text(json.dumps(of_gone))
    upload, say, read_holder, wrote = storage.upload, lease_lib.say, lease_lib.read_holder, []
    together, taking = threading.Barrier(2), threading.local()

    def say_together(line: str) -> None:
        say(line)
        if "taking over" in line:
            taking.over = True
            together.wait(10)

    def read_together(path: str, timeout_s: float) -> Holder | None:
        found = read_holder(path, timeout_s)
        if getattr(taking, "over", False):
            taking.over = False
            together.wait(10)
        return found

    def slow_for_the_second(path: Path, to: str) -> None:
        if os.fspath(to).endswith("/lease") and threading.current_thread().name.endswith("_1"):
            time.sleep(0.7)
        upload(path, to)

    def run_for_two_seconds(name: str) -> None:
        with contextlib.suppress(LeaseLostError, UserError), Lease("gs://bucket/run", remedy=REMEDY) as lease:
            end = time.monotonic() + 2
            while time.monotonic() < end:
                lease.check()
                wrote.append(name)
                time.sleep(0.02)

    monkeypatch.setattr(storage, "upload", slow_for_the_second)
    monkeypatch.setattr(lease_lib, "say", say_together)
    monkeypatch.setattr(lease_lib, "read_holder", read_together)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run_for_two_seconds, "ab"))
    assert len(list(itertools.groupby(wrote))) == len(set(wrote)), "never by turns"


def test_a_lease_that_was_removed_by_hand_is_made_again(run: str) -> None:
    with Lease(run, remedy=REMEDY) as first:
        storage.remove(first.path)
        first._renew()
        first.check()
        with pytest.raises(UserError, match="in use by"), Lease(run, remedy=REMEDY):
            pytest.fail("both write")


@pytest.mark.parametrize("content", ["", "[1]", '{"token": "a"}', "\x00" * 20, "1" * 500])
def test_a_lease_that_cannot_be_read_is_watched_like_any_other(
    run: str, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_lib, "TIMEOUT_S", 0.1)
    storage.make_folder(storage.place(run))
    write_text(file(run, "lease"), content)
    with Lease(run, remedy=REMEDY) as lease:
        lease.check()


def test_a_store_that_cannot_be_reached_for_a_while_stops_nobody(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(path: Any) -> bytes:
        raise OSError("no connection")

    with Lease(run, remedy=REMEDY) as lease:
        with monkeypatch.context() as patched:
            patched.setattr(storage, "read_all", unreachable)
            time.sleep(1.0)
            patched.setattr(lease_lib, "_now", lambda: 1e12)
            lease.check()
        lease.check()


def test_a_command_that_fails_at_once_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Lease(tmp_path / "a" / "b", remedy=REMEDY):
        raise RuntimeError
    assert not (tmp_path / "a").exists()
    with Lease(tmp_path / "a" / "results.json", file=tmp_path / "a" / "results.json.lease", remedy=REMEDY):
        write_text(tmp_path / "a" / "results.json", "{}")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["results.json"]


def test_no_password_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "data_prep", "--password", "secret", "--password=secret"])
    with Lease(tmp_path, remedy=REMEDY) as lease:
        assert "secret" not in Path(lease.path).read_text()


HOLDER = """
import signal, sys, time
from luab_jax.errors import UserError
from luab_jax.io import lease as lease_lib
from luab_jax.io.atomic import append_line

lease_lib.EVERY_S, lease_lib.TIMEOUT_S = 0.25, 1.5
try:
    with lease_lib.Lease(sys.argv[1], remedy="choose another") as lease:
        print("holds", flush=True)
        for step in range(100_000):
            append_line(f"{sys.argv[1]}/metrics.jsonl", sys.argv[2])
            time.sleep(0.02)
except UserError as e:
    print(f"error: {e}", flush=True)
    sys.exit(1)
"""


class Process:
    """A command that writes a line all the time."""

    def __init__(self, run: Path, name: str):
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(run), name], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self) -> None:
        for number in (signal.SIGKILL, signal.SIGCONT):
            self.process.send_signal(number)
        self.process.communicate()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Any]:
    started: list[Process] = []

    def start(name: str) -> Process:
        started.append(Process(tmp_path / "run", name))
        return started[-1]

    yield start
    for process in started:
        process.end()


def written(tmp_path: Path) -> list[str]:
    path = tmp_path / "run" / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []  # who holds it may not have written yet


def test_after_kill_9_the_next_starts_at_once(tmp_path: Path, processes: Any) -> None:
    first = processes("first")
    assert first.line() == "holds\n"
    second = processes("second")
    assert second.line().startswith(f"error: {tmp_path / 'run'}: in use by process {first.process.pid} on ")
    assert second.process.wait() == 1
    first.process.kill()
    first.process.wait()
    start = time.monotonic()
    third = processes("third")
    assert third.line() == "holds\n" and time.monotonic() - start < 10
    deadline = time.monotonic() + 20
    while "third" not in written(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    lines = written(tmp_path)
    assert set(lines) <= {"first", "third"} and lines == sorted(lines), "one after the other, never mixed"


def test_a_stalled_command_wakes_up_and_stops(tmp_path: Path, processes: Any) -> None:
    first = processes("first")
    assert first.line() == "holds\n"
    first.process.send_signal(signal.SIGSTOP)
    second = processes("second")
    assert second.line() == "holds\n"
    while "second" not in written(tmp_path):
        time.sleep(0.05)
    first.process.send_signal(signal.SIGCONT)
    message = first.line()
    assert first.process.wait(20) == 1
    assert f"process {second.process.pid} on " in message and "has written nothing since" in message
    lines = written(tmp_path)
    late = lines[lines.index("second") :].count("first")
    assert late <= 1, "the first finishes at most the one write that it was stopped in"
    time.sleep(0.2)
    assert len(written(tmp_path)) > len(lines), "the second goes on"


def test_appending_asks_the_lease_too(tmp_path: Path) -> None:
    with Lease(tmp_path, remedy=REMEDY) as lease:
        lease._taken_by = holder.this_process("another", 60.0)
        with pytest.raises(LeaseLostError):
            append_line(tmp_path / "metrics.jsonl", "{}")
        append_line(tmp_path.with_name("elsewhere.jsonl"), "{}")
