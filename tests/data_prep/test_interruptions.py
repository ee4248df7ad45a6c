"""Ctrl-C, kill -9 and a full disk in the middle of `imagenet_ab`, `suite`, `verify` and `inspect`, with workers.

What was there stays, no worker is left, and the same command again ends as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_prep.__main__ import main
from luab_jax.data.dataset import manifest_path
from luab_jax.errors import ExitCode
from tests.data_prep.conftest import REPOSITORY, RawData, image_bytes, shard_bytes

Make = Callable[..., RawData]
SLOW = """
import time
from luab_jax.data import features
encode, record = features.encode, features.Example.record
def slowly(function):
    def slow(*arguments):
        time.sleep(0.15)
        return function(*arguments)
    return slow
features.encode, features.Example.record = slowly(encode), slowly(record)
"""
WAIT_S = 90


def start(arguments: list[str], folder: Path, **options: Any) -> subprocess.Popen[str]:
    """The command in a group of its own, in which reading and writing a record takes long, in workers too."""
    (folder / "slow").mkdir(exist_ok=True)
    (folder / "slow" / "sitecustomize.py").write_text(SLOW)
    path = os.pathsep.join((str(folder / "slow"), str(REPOSITORY)))
    return subprocess.Popen(
        [sys.executable, "-m", "data_prep", *arguments],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def children(process: int) -> list[int]:
    """Of a process, and theirs."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == process and fields[0] != "Z":
                found += [int(stat.parent.name), *children(int(stat.parent.name))]
    return found


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not in {WAIT_S} s: {what}"
        time.sleep(0.05)


def is_running(process: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def stop(process: subprocess.Popen[str], number: signal.Signals, ready: Callable[[], object]) -> str:
    """Stops it once it is `ready`: Ctrl-C reaches the whole group, as from a terminal. Returns what it said."""
    until(ready, "ready")
    workers = children(process.pid)
    assert len(workers) >= 2
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    said = process.communicate(timeout=WAIT_S)[1]
    until(lambda: not any(map(is_running, workers)), "every worker has ended")
    assert process.returncode == (ExitCode.STOPPED_RESUMABLE if number == signal.SIGINT else -number)
    return said


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    """A suite of 24 images."""
    root = tmp_path / "imagenetv2-matched-frequency-format-val"
    for k in range(24):
        (root / str(k)).mkdir(parents=True)
        (root / str(k) / f"{k}.jpeg").write_bytes(image_bytes(k))
    return root


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_suite_that_was_stopped_leaves_no_worker_and_is_continued(
    number: signal.Signals, v2: Path, tmp_path: Path
) -> None:
    def arguments(out: str, *more: str) -> list[str]:
        return ["suite", "imagenet_v2", f"--source={v2}", f"--out={tmp_path / out}", "--shards=8", *more]

    out = tmp_path / "out" / "imagenet_v2"
    process = start(arguments("out", "--workers=2"), tmp_path)
    said = stop(process, number, lambda: list(out.glob("*.part.npz")))
    assert number == signal.SIGKILL or "the same command goes on from there" in said
    assert "Traceback" not in said
    assert not manifest_path(out, "matched_frequency").exists() and len(list(out.glob("*.part.npz"))) < 8
    assert main(arguments("out", "--workers=1")) == main(arguments("whole", "--workers=1")) == 0
    assert shard_bytes(out) == shard_bytes(tmp_path / "whole" / "imagenet_v2")
    assert {p.name for p in out.iterdir()} == {p.name for p in (tmp_path / "whole" / "imagenet_v2").iterdir()}


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_looking_at_a_directory_changes_nothing_when_it_is_stopped(
    command: str, number: signal.Signals, make_raw: Make, tmp_path: Path
) -> None:
    out, page = tmp_path / "out", tmp_path / "page.html"
    assert main(make_raw(per_class=40).arguments(out, "--shards=8")) == 0
    page.write_text("an older page")
    before = {path: path.read_bytes() for path in out.iterdir()}
    more = [f"--html={page}"] if command == "inspect" else []
    process = start([command, str(out), "--workers=2", *more], tmp_path)
    started = time.monotonic()
    said = stop(process, number, lambda: len(children(process.pid)) >= 2 and time.monotonic() > started + 2)
    assert "Traceback" not in said
    assert number == signal.SIGKILL or said.splitlines()[-1] == "stopped; nothing was changed"
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert page.read_text() == "an older page" and not list(tmp_path.glob("page.html.*"))


LIMITED = """
import os, resource, sys
room = int(sys.argv[1])
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # Python 3.11 would leave a half of what finds no room, for all others
resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
"""Starts Python with room for files of so many bytes only; `preexec_fn` would fork while jax has threads."""


def run(arguments: list[str], room: int | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    limited = [] if room is None else [sys.executable, "-c", LIMITED, str(room)]
    program = ["-m", "data_prep", *arguments, "--workers=1"]
    return subprocess.run(
        [*limited, *program] if limited else [sys.executable, *program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def test_a_full_disk_during_a_suite(v2: Path, tmp_path: Path) -> None:
    arguments = ["suite", "imagenet_v2", f"--source={v2}", "--shards=2"]
    failed = run([*arguments, f"--out={tmp_path / 'out'}"], room=9000)
    assert failed.returncode == ExitCode.FAILED
    (message,) = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert "imagenet_v2-matched_frequency.tfrecord-00000-of-00002" in message and "same command" in message
    assert "Traceback" not in failed.stderr
    assert run([*arguments, f"--out={tmp_path / 'out'}"]).returncode == 0
    assert run([*arguments, f"--out={tmp_path / 'whole'}"]).returncode == 0
    assert shard_bytes(tmp_path / "out" / "imagenet_v2") == shard_bytes(tmp_path / "whole" / "imagenet_v2")


def test_a_full_disk_for_a_page_keeps_the_older_one(make_raw: Make, tmp_path: Path) -> None:
    out, page = tmp_path / "out", tmp_path / "page.html"
    assert main(make_raw().arguments(out)) == 0
    page.write_text("an older page")
    failed = run(["inspect", str(out), f"--html={page}"], room=4096)
    assert failed.returncode == ExitCode.FAILED and "Traceback" not in failed.stderr
    assert str(page) in failed.stderr.splitlines()[-1]
    assert page.read_text() == "an older page" and not list(tmp_path.glob("page.html.*"))
    verified = run(["verify", str(out)], room=0)
    assert verified.returncode == 0, verified.stderr


@pytest.mark.parametrize(
    "change",
    [
        {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"TMPDIR": "/nowhere", "TEMP": "", "TMP": ""},
        {"HOME": None, "XDG_CACHE_HOME": None},
    ],
    ids=["locale C", "no TMPDIR", "no HOME"],
)
def test_a_bare_environment(change: dict[str, str | None], make_raw: Make, tmp_path: Path) -> None:
    """Names beyond ASCII are kept to the letter, and the bytes are those of any other environment."""
    raw = make_raw()
    (raw.images / "cat" / "caf\u00e9 \u6f22.JPEG").write_bytes(image_bytes(7))
    (raw.byproducts / "dog" / "nobody \u6f22.xml").write_text("<annotation/>")
    assert main(raw.arguments(tmp_path / "whole", "--shards=2")) == 0
    environment = {name: value for name, value in (os.environ | change).items() if value is not None}
    out = tmp_path / "out"
    prepared = run(raw.arguments(out, "--shards=2"), env=environment)
    assert prepared.returncode == 0, prepared.stderr
    assert shard_bytes(out) == shard_bytes(tmp_path / "whole")
    names = {path.name for path in out.iterdir()}
    assert names == {path.name for path in (tmp_path / "whole").iterdir()}
    for command in ("verify", "inspect"):
        looked = run([command, str(out)], env=environment)
        assert looked.returncode == 0, looked.stderr
    page = run(["inspect", str(out), f"--html={tmp_path / 'page.html'}"], env=environment)
    assert page.returncode == 0 and "caf\u00e9" in (tmp_path / "page.html").read_text(encoding="utf-8")
