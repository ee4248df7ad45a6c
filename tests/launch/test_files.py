"""The files of launch/: shell that shellcheck accepts, an image whose parts exist, YAML with commands that exist."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from luab_jax.config.flags import load_config
from tests.launch.fakes import REPOSITORY, Fakes

LAUNCH = REPOSITORY / "launch"
SHELL = sorted(path for path in LAUNCH.iterdir() if path.suffix in (".sh", ".sbatch"))


def read(name: str) -> Any:
    return yaml.safe_load((LAUNCH / name).read_text())


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_shell(path: Path) -> None:
    subprocess.run(["bash", "-n", str(path)], check=True)
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed (apt-get install shellcheck)")
    checked = subprocess.run(["shellcheck", "--severity=style", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (LAUNCH / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [
        (line.split(maxsplit=1)[0], line.split(maxsplit=1)[1].strip()) for line in text.splitlines() if line.strip()
    ]


def test_the_image_copies_what_there_is_and_what_its_context_lets_through() -> None:
    found = instructions()
    assert found[0][0] == "FROM"
    known = {"FROM", "ARG", "RUN", "WORKDIR", "COPY", "USER", "ENV", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in found} <= known
    let_through = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    for name, value in found:
        if name == "COPY":
            *sources, _ = value.split()
            assert all((REPOSITORY / source).exists() for source in sources)
            assert set(sources) <= let_through
    names = [name for name, _ in found]
    assert names.index("USER") < names.index("ENTRYPOINT"), "runs as root"
    entry = next(value for name, value in found if name == "ENTRYPOINT")
    assert entry.startswith("["), "the shell form does not pass SIGTERM on"


def test_the_extras_of_the_image_are_extras_of_the_package() -> None:
    text = (REPOSITORY / "setup.cfg").read_text().partition("[options.extras_require]")[2]
    extras = set(re.findall(r"^(\w+) =$", text, re.MULTILINE))
    named = re.findall(
        r"EXTRAS[=:] ?([a-z0-9,]+)", "".join(path.read_text() for path in LAUNCH.iterdir() if path.is_file())
    )
    assert named
    assert {name for each in named for name in each.split(",")} <= extras


def check_command(arguments: list[str]) -> None:
    """The config exists and has the fields."""
    config = next(argument.removeprefix("--config=") for argument in arguments if argument.startswith("--config="))
    load_config(config, [argument for argument in arguments if argument.startswith("--config.")])
    assert any(argument.startswith("--config.compilation_cache=gs://") for argument in arguments)
    assert any(argument.startswith("--workdir=gs://") for argument in arguments)


def test_a_jobset_restarts_on_3_and_a_lost_host_and_not_on_1_and_2() -> None:
    found = read("gke-jobset.yaml")
    assert (found["apiVersion"], found["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert found["spec"]["failurePolicy"]["maxRestarts"] > 0
    assert found["spec"]["failurePolicy"]["rules"] == [
        {"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    ]
    (job,) = found["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    assert spec["backoffLimit"] == 0 and spec["parallelism"] == spec["completions"]
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob" and rule["onExitCodes"]["values"] == [1, 2]
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never", "a pod failure policy needs it"
    assert pod["terminationGracePeriodSeconds"] >= 60
    (container,) = pod["containers"]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    chips = int(container["resources"]["limits"]["google.com/tpu"])
    sides = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")
    assert chips * spec["parallelism"] == int(sides[0]) * int(sides[1])
    check_command(container["args"])


def test_the_line_of_xpk_is_the_same_training() -> None:
    text = (LAUNCH / "gke-jobset.yaml").read_text().partition("xpk workload")[2].partition("apiVersion")[0]
    words = shlex.split(text.replace("\\\n", "").replace("#", ""))
    options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
    assert options["restart-on-exit-codes"] == "3"
    assert options["command"].startswith("python -m luab_jax.main ")
    check_command(shlex.split(options["command"]))


@pytest.fixture
def sky(tmp_path: Path) -> Fakes:
    return Fakes(tmp_path, "python", "sky")


def run_sky(fakes: Fakes, **environment: str) -> list[str]:
    """What the training is asked, where `run:` of the task is run here."""
    task = read("sky.yaml")
    home = fakes.folder / "work"
    (home / ".venv" / "bin").mkdir(parents=True)
    (home / ".venv" / "bin" / "python").symlink_to(fakes.folder / "bin" / "python")
    script = f"cd {home}\n{task['run']}"
    done = fakes.run("bash", "-c", script, **(task["envs"] | environment))
    assert done.returncode == 0, done.stderr
    return fakes.asked[-1][1:]


def test_a_task_of_sky_is_on_spot_and_recovers_from_exit_code_3() -> None:
    task = read("sky.yaml")
    assert task["resources"]["use_spot"] is True
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [3]
    assert task["resources"]["job_recovery"]["max_restarts_on_errors"] == 0
    words = shlex.split(
        (LAUNCH / "sky.yaml").read_text().partition("sky jobs launch")[2].partition("\n#\n")[0].replace("\\\n#", "")
    )
    named = {word.split("=")[0] for word in words if "=" in word and word[0].isupper()}
    assert named <= task["envs"].keys()


def test_one_machine_of_sky(sky: Fakes) -> None:
    asked = run_sky(sky, SKYPILOT_NODE_IPS="10.0.0.1", SKYPILOT_NUM_NODES="1", BUCKET="gs://b", NAME="n")
    assert asked[:3] == ["-m", "luab_jax.main", "--config=vit_b"]
    assert not any("coordinator" in argument for argument in asked)
    check_command(asked)


def test_several_machines_of_sky(sky: Fakes) -> None:
    ips = "10.0.0.1\n10.0.0.2"
    asked = run_sky(sky, SKYPILOT_NODE_IPS=ips, SKYPILOT_NUM_NODES="2", SKYPILOT_NODE_RANK="1", BUCKET="gs://b")
    assert "--config.distributed.coordinator_address=10.0.0.1:8476" in asked
    assert {"--config.distributed.num_processes=2", "--config.distributed.process_id=1"} <= set(asked)
    check_command(asked)
