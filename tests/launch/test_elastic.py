"""`launch/elastic.py` restarts on the hosts that still answer, on as many as divide the batch.

Hosts are names; a fake takes the place of ssh. Real trainings on 4, 3 and 1 hosts are in `tools.faults`.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch import elastic
from luab_jax.errors import UserError
from tests.launch.fakes import REPOSITORY, Fakes

TRAIN = ("python", "-m", "luab_jax.main", "--config=demo", "--config.batch_size=24", "--workdir=/runs/x")


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    return Fakes(tmp_path, "ssh")


def launch(fakes: Fakes, *options: str, train: tuple[str, ...] = TRAIN) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "launch" / "elastic.py"), "--hosts=a,b,c,d", "--devices_per_host=2"]
    return fakes.run(*command, "--pause_s=0", *options, "--", *train)


def starts(fakes: Fakes) -> list[tuple[str, str]]:
    """Host and described place of every process that was started."""
    found = []
    for _, host, *command in fakes.asked:
        if command != ["true"]:
            described = [word.rpartition(".")[2] for word in command if word.startswith("--config.distributed.")]
            found.append((host, " ".join(described)))
    return sorted(found)


@pytest.mark.parametrize(
    ("available", "devices", "batch", "number"),
    [(4, 1, 24, 4), (3, 1, 24, 3), (4, 8, 1024, 4), (3, 8, 1024, 2), (1, 8, 1024, 1), (3, 8, 4, 0), (0, 8, 1024, 0)],
)
def test_the_largest_number_that_divides(available: int, devices: int, batch: int, number: int) -> None:
    assert elastic.fitting(available, devices, batch) == number


def test_the_batch_is_that_of_a_microstep() -> None:
    assert elastic.divisor(TRAIN) == 24
    assert elastic.divisor((*TRAIN, "--config.accumulation_steps=2")) == 12
    with pytest.raises(UserError, match="has no --config"):
        elastic.divisor(("python",))


def test_all_hosts_are_started_with_their_number_and_the_first_ones_address(fakes: Fakes) -> None:
    assert launch(fakes).returncode == 0
    place = "coordinator_address=a:8476 num_processes=4 process_id={}"
    assert starts(fakes) == [(host, place.format(i)) for i, host in enumerate("abcd")]


@pytest.mark.parametrize("on", ["ssh {host}", "{ssh} -o A=1 {host} cd ${HOME};"])
def test_a_remote_shell_gives_the_command_its_words_as_they_are(on: str, fakes: Fakes) -> None:
    """ssh joins them with blanks, and the shell of the host splits them again; what --on has is for that shell."""
    command = [*TRAIN, "--workdir=/runs/two words", "(1,1)", "a&b", "$HOME", "'y'"]
    on = on.replace("{ssh}", str(fakes.folder / "bin" / "ssh"))
    assert launch(fakes, f"--on={on}", train=tuple(command)).returncode == 0
    for host in "abcd":
        prefix = ["ssh", *shlex.split(on.replace("{host}", host))[1:]]
        [sent] = [a[len(prefix) :] for a in fakes.asked if a[: len(prefix)] == prefix and a[-1] != "true"]
        assert shlex.split(" ".join(sent))[: len(command)] == command


def test_another_prefix_is_given_the_words_as_they_are(fakes: Fakes) -> None:
    hosts = elastic.Hosts("srun --nodelist={host} --export=A=${B}", (), "{host}", 1)
    expected = ["srun", "--nodelist=n1", "--export=A=${B}", "python", "two words"]
    assert hosts.words("n1", ["python", "two words"]) == expected


def test_after_a_lost_host_the_others_start_again_at_another_port(fakes: Fakes) -> None:
    """Host b runs once, and does not answer afterwards; three hosts of two devices divide 24 images."""
    fakes.answer({"ssh b true": [("", 0), ("", 255)], "ssh b python": [("", 137)], "process_id=2": [("", 3), ("", 0)]})
    done = launch(fakes)
    assert done.returncode == 0, done.stderr
    assert starts(fakes)[1] == ("a", "coordinator_address=a:8477 num_processes=3 process_id=0")
    assert [host for host, place in starts(fakes) if "num_processes=3" in place] == ["a", "c", "d"]
    assert "3 of 4 hosts: a, c, d; no answer from b" in done.stderr


def test_a_single_host_that_is_left_needs_no_address(fakes: Fakes) -> None:
    fakes.answer({f"ssh {host} true": [("", 255)] for host in "abc"})
    assert launch(fakes).returncode == 0
    assert starts(fakes) == [("d", "")]


@pytest.mark.parametrize("code", [1, 2])
def test_an_error_that_names_something_to_fix_is_not_repeated(fakes: Fakes, code: int) -> None:
    fakes.answer({"process_id=3": [("", code)]})
    assert launch(fakes).returncode == code
    assert len(starts(fakes)) == 4


def test_it_gives_up_and_says_that_the_run_resumes(fakes: Fakes) -> None:
    fakes.answer({"process_id=0": [("", 3)]})
    done = launch(fakes, "--max_restarts=1")
    assert done.returncode == 3 and "gave up after 1 restarts; the same command resumes" in done.stderr
    assert len(starts(fakes)) == 8


def test_where_no_number_of_hosts_divides_nothing_is_started(fakes: Fakes) -> None:
    done = launch(fakes, train=(*TRAIN[:-2], "--config.batch_size=7"))
    assert done.returncode == 3 and "no number of them divides the batch of 7" in done.stderr
    assert not starts(fakes)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_training_and_nothing_starts_again(fakes: Fakes, number: int) -> None:
    """A fake that saves for a moment takes the place of ssh."""
    started = fakes.folder / "started"
    script = (
        f'#!/usr/bin/env bash\n[ "$2" != true ] || exit 0\n'
        f"trap 'exit 3' TERM; echo >> {started}; while true; do sleep 0.05; done\n"
    )
    (fakes.folder / "bin" / "ssh").write_text(script)
    command = [sys.executable, str(REPOSITORY / "launch" / "elastic.py"), "--hosts=a", "--pause_s=0", "--", *TRAIN]
    path = f"{fakes.folder / 'bin'}:{os.environ['PATH']}"
    with subprocess.Popen(command, env=os.environ | {"PATH": path}, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(3000):
            if started.exists():
                break
            time.sleep(0.02)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 3 and "stopped; the same command resumes" in errors
    assert started.read_text() == "\n" and "Traceback" not in errors
