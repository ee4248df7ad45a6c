"""`launch/tpu_queued.sh` asks for a slice, waits, installs, runs, and restarts after a preemption or exit code 3."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.launch.fakes import REPOSITORY, Fakes

SCRIPT = str(REPOSITORY / "launch" / "tpu_queued.sh")
ASK = {"NAME": "vit", "ZONE": "us-west4-a", "TYPE": "v5litepod-16", "RUNTIME": "v2-alpha-tpuv5-lite"}
ASK |= {"BUCKET": "gs://b", "POLL_S": "0.01"}
TRAIN = ("--config=vit_b", "--config.data.root=gs://b/data")
NOT_FOUND = ("ERROR: NOT_FOUND: no such resource", 1)
ENDED = "luab_jax_exit"
"""Part of the command that asks the workers how the run ended."""


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    return Fakes(tmp_path, "gcloud")


def launch(fakes: Fakes, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return fakes.run("bash", SCRIPT, *(arguments or TRAIN), **(ASK | environment))


def verbs(fakes: Fakes) -> list[str]:
    """What was asked, without looks: `create`, `scp`, `install`, `start`, `delete`."""
    words = []
    for asked in fakes.asked:
        line = " ".join(asked)
        if "queued-resources" in asked and "describe" not in asked:
            words.append(asked[asked.index("queued-resources") + 1])
        elif "scp" in asked:
            words.append("scp")
        elif "uv venv" in line:
            words.append("install")
        elif "setsid" in line:
            words.append("start")
    return words


def codes(*of_workers: str) -> tuple[str, int]:
    return "\n".join(f"luab_jax_exit {code}" for code in of_workers), 0


def test_a_run_from_nothing_to_the_deletion_of_the_slice(fakes: Fakes) -> None:
    states = [NOT_FOUND, ("WAITING_FOR_RESOURCES", 0), ("PROVISIONING", 0), ("ACTIVE", 0)]
    running = [codes("none", "none"), codes("running", "running"), codes("running", "0"), codes("0", "0")]
    fakes.answer({"describe": states, ENDED: running, "tail": [("step 50/100", 0)]})
    ended = launch(fakes)
    assert ended.returncode == 0, ended.stderr
    assert verbs(fakes) == ["create", "scp", "install", "start", "delete"]
    (create,) = [asked for asked in fakes.asked if "create" in asked]
    assert create[1:5] == ["compute", "tpus", "queued-resources", "create"]
    told = {"--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite", "--node-id=vit"}
    assert told | {"--zone=us-west4-a", "--async"} <= set(create) and "--spot" not in create
    (start,) = [" ".join(asked) for asked in fakes.asked if "setsid" in " ".join(asked)]
    assert "--worker=all" in start
    for argument in (
        *TRAIN,
        "--config.distributed.enabled=true",
        "--workdir=gs://b/runs/vit",
        "--config.compilation_cache=gs://b/compilation_cache",
    ):
        assert argument in start
    assert "WAITING_FOR_RESOURCES" in ended.stderr and "step 50/100" in ended.stderr


def test_a_preempted_slice_is_requested_anew_and_exit_code_3_restarts_on_the_same_slice(fakes: Fakes) -> None:
    states = [("ACTIVE", 0)] * 2 + [("SUSPENDED", 0)] * 2 + [NOT_FOUND, ("ACTIVE", 0)]
    ended = [codes("none"), codes("running"), codes("none"), codes("3"), codes("3"), codes("0")]
    fakes.answer({"describe": states, ENDED: ended})
    done = launch(fakes, SPOT="1", KEEP="1")
    assert done.returncode == 0, done.stderr
    assert verbs(fakes) == [
        *("scp", "install", "start"),
        *("delete", "create", "scp", "install", "start"),
        *("scp", "install", "start"),
    ]
    assert "--spot" in next(asked for asked in fakes.asked if "create" in asked)
    assert "restart 1 of 20: the slice was preempted" in done.stderr
    assert "restart 2 of 20: exit code 3" in done.stderr
    assert "is kept, and is charged for" in done.stderr


def test_a_run_that_goes_on_is_followed_and_not_started_again(fakes: Fakes) -> None:
    fakes.answer({"describe": [("ACTIVE", 0)], ENDED: [codes("running"), codes("running"), codes("0")]})
    done = launch(fakes)
    assert (done.returncode, verbs(fakes)) == (0, ["delete"]), done.stderr


def test_a_look_that_fails_is_no_preemption(fakes: Fakes) -> None:
    states = [("ACTIVE", 0), ("ERROR: connection reset", 1), ("ACTIVE", 0)]
    fakes.answer({"describe": states, ENDED: [codes("none"), codes("running"), codes("0")]})
    done = launch(fakes)
    assert (done.returncode, verbs(fakes)) == (0, ["scp", "install", "start", "delete"]), done.stderr
    assert "restart" not in done.stderr


def test_a_run_that_cannot_be_seen_for_a_while_is_not_started_again(fakes: Fakes) -> None:
    """A start would end it; looking costs none of the restarts."""
    unseen = [("", 255)]
    ended = [*unseen * 2, codes("running"), *unseen * 10, codes("running"), codes("0")]
    fakes.answer({"describe": [("ACTIVE", 0)], ENDED: ended})
    done = launch(fakes, MAX_RESTARTS="0")
    assert (done.returncode, verbs(fakes)) == (0, ["delete"]), done.stderr
    assert done.stderr.count("the workers could not be reached; looking again") == 2


def test_it_gives_up_looking_in_the_end(fakes: Fakes) -> None:
    fakes.answer({"describe": [("ACTIVE", 0)], ENDED: [("", 255)]})
    done = launch(fakes, MAX_RESTARTS="1")
    assert (done.returncode, verbs(fakes)) == (3, ["delete"]), done.stderr
    assert "restart 1 of 1: no answer to 10 looks" in done.stderr


@pytest.mark.parametrize("code", [1, 2])
def test_an_error_that_names_something_to_mend_is_shown_and_not_repeated(fakes: Fakes, code: int) -> None:
    ended = [codes("none", "none"), codes("3", str(code))]
    fakes.answer({"describe": [("ACTIVE", 0)], ENDED: ended, "tail": [("error: config.batch_size=7", 0)]})
    done = launch(fakes)
    assert done.returncode == code
    assert "error: config.batch_size=7" in done.stderr
    assert verbs(fakes) == ["scp", "install", "start", "delete"]


def test_it_gives_up_after_as_many_restarts_as_it_may(fakes: Fakes) -> None:
    fakes.answer({"describe": [("ACTIVE", 0)], ENDED: [codes("3")]})
    done = launch(fakes, MAX_RESTARTS="2")
    assert done.returncode == 3
    assert verbs(fakes) == ["scp", "install", "start"] * 3 + ["delete"]
    assert "gave up after 2 restarts; the same command resumes" in done.stderr


def test_several_slices_are_nodes_with_a_common_prefix(fakes: Fakes) -> None:
    fakes.answer({"describe": [NOT_FOUND, ("ACTIVE", 0)], ENDED: [codes("none"), codes("0")]})
    assert launch(fakes, SLICES="2").returncode == 0
    create = next(asked for asked in fakes.asked if "create" in asked)
    assert {"--node-count=2", "--node-prefix=vit"} <= set(create)
    starts = [asked[5] for asked in fakes.asked if "setsid" in " ".join(asked)]
    assert starts == ["vit-0", "vit-1"]


def test_values_with_spaces_and_quotes_reach_the_workers_as_they_are(fakes: Fakes, tmp_path: Path) -> None:
    """The command of the workers is run here, with a Python that notes its arguments."""
    fakes.answer({"describe": [("ACTIVE", 0)], ENDED: [codes("none"), codes("0")]})
    value = "--config.data.crop_scale=(0.08, 1.0) it's $HOME"
    assert launch(fakes, "--config=vit_b", value).returncode == 0
    start = next(asked for asked in fakes.asked if "setsid" in " ".join(asked))
    command = next(argument for argument in start if argument.startswith("--command=")).removeprefix("--command=")
    home = tmp_path / "home"
    (home / "luab_jax" / ".venv" / "bin").mkdir(parents=True)
    python = home / "luab_jax" / ".venv" / "bin" / "python"
    python.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@" > "$HOME/seen"\nexit 3\n')
    python.chmod(0o755)
    waiting = "; for _ in $(seq 200); do [ -f $HOME/luab_jax.exit ] && break; sleep 0.05; done"
    subprocess.run(
        ["bash", "-c", command + "\n" + waiting[2:]],
        cwd=home,
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        check=True,
    )
    assert value in (home / "seen").read_text().splitlines()
    assert (home / "luab_jax.exit").read_text() == "3\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ZONE": ""}, "ZONE is not set"),
        ({"BUCKET": "my-bucket"}, "BUCKET=my-bucket must be gs://NAME"),
        ({"NAME": "Vit_B"}, "NAME=Vit_B: lower-case letters"),
    ],
)
def test_wrong_usage_asks_nobody(fakes: Fakes, changes: dict[str, str], message: str) -> None:
    done = launch(fakes, **changes)
    assert done.returncode == 2 and message in done.stderr and not fakes.asked


def test_delete_ends_the_slice(fakes: Fakes) -> None:
    assert launch(fakes, "delete").returncode == 0
    assert verbs(fakes) == ["delete"] and "--force" in fakes.asked[0]
