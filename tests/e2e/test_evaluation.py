"""The command as it is started: killed in the middle, told to stop, on two hosts. The scores are always the same."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from luab_jax.byproducts.targets import Target
from luab_jax.config import Task
from luab_jax.io.lease import Lease
from luab_jax.results.example_images import read_examples
from luab_jax.results.format import Suite
from luab_jax.results.read import read_results
from luab_jax.training.loop import train
from tests import tiny
from tools.miniatures import prepare_coco

REPOSITORY = Path(__file__).resolve().parents[2]
NUM_IMAGES = 53
SUITES = "imagenet,cocc,byproduct,localisation"

SIGNALLED = """
import os, runpy, signal, sys
os.environ["LUAB_JAX_PARENT"] = str(os.getppid())  # or it would start a child of several hosts, without what follows
from luab_jax.evaluation import resume

resume.FLUSH_S = {flush_s}
add, num_added = resume.Work.add, 0

def counted(work, count, columns):
    global num_added
    add(work, count, columns)
    num_added += 1
    if num_added == {at}:
        os.kill(os.getpid(), signal.{name})

resume.Work.add = counted
runpy.run_module("luab_jax.evaluate", run_name="__main__")
"""
"""The command, with a signal after so many batches."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    data = tiny.prepare_data(folder / "data", num_val=NUM_IMAGES)
    train(tiny.experiment(data, total_steps=2), folder / "run")
    return folder


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, Suite]:
    ((code, output),) = run(folder, "expected.json")
    assert code == 0, output
    return suites_of(folder / "expected.json")


def suites_of(path: Path) -> dict[str, Suite]:
    """Without the times."""
    suites = read_results(path).suites
    return {name: msgspec.structs.replace(suite, seconds=None) for name, suite in suites.items()}


def run(
    folder: Path, out: str, *extra: str, program: tuple[str, ...] = ("-m", "luab_jax.evaluate"), num_hosts: int = 1
) -> list[tuple[int, str]]:
    """Exit code and output of every host; the hosts have four devices together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "PYTHONPATH": str(REPOSITORY),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={4 // num_hosts}",
        # They compile the same functions; no command of these keeps what it compiled by itself.
        "JAX_COMPILATION_CACHE_DIR": os.environ["LUAB_JAX_TEST_CACHE"],
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    started = []
    for process_id in range(num_hosts):
        command = [
            *(sys.executable, *program, f"--suites={SUITES}"),
            *([] if " --checkpoint=" in " ".join(("", *extra)) else [f"--checkpoint={folder / 'run'}"]),
            *(f"--data={folder / 'data'}", f"--out={folder / out}", "--batch_size=8", *extra),
        ]
        if num_hosts > 1:
            command += [f"--coordinator_address=127.0.0.1:{port}", f"--num_processes={num_hosts}"]
            command += [f"--process_id={process_id}"]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, env=environment, text=True, stdout=pipe, stderr=subprocess.STDOUT))
    outputs = [host.communicate(timeout=300)[0] for host in started]
    return [(host.returncode, output) for host, output in zip(started, outputs, strict=True)]


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize(
    ("name", "flush_s", "at", "code", "told"),
    [
        ("SIGKILL", 0.0, 4, -signal.SIGKILL, "tiny-val: going on after 32"),
        ("SIGTERM", 20.0, 5, 3, "tiny-val: going on after 40"),
        ("SIGINT", 20.0, 10, 3, "localisation: going on after 24"),
    ],
)
def test_an_evaluation_that_ended_early_goes_on_where_it_was(
    name: str, flush_s: float, at: int, code: int, told: str, folder: Path, expected: dict[str, Suite]
) -> None:
    """Seven batches of the validation set, then localisation's; what had waited to be written is, but by SIGKILL."""
    out, kept = f"{name}.json", f"--predictions={folder / name}"
    program = SIGNALLED.format(name=name, flush_s=flush_s, at=at)
    ((ended, output),) = run(folder, out, kept, program=("-c", program))
    assert ended == code, output
    if code == 3:
        assert output.splitlines()[-1] == "interrupted; the same command continues from what was saved"
        assert "Traceback" not in output
    ((ended, output),) = run(folder, out, kept)
    assert ended == 0 and told in output, output
    assert suites_of(folder / out) == expected
    assert not (folder / f"{out}.unfinished").exists()
    assert len(list((folder / name).iterdir())) == 3, "predictions in three views, and nothing half"
    again = f"again_{name}.json"
    ((ended, output),) = run(folder, again, f"--checkpoint=predictions:{folder / name}")
    assert suites_of(folder / again)["imagenet"]["top1"] == expected["imagenet"]["top1"], output


def test_a_second_evaluation_into_one_file_is_refused(folder: Path, expected: dict[str, Suite]) -> None:
    assert expected
    out = folder / "expected.json"
    before = out.read_bytes()
    with Lease(out, file=f"{out}.lease", remedy="choose another --out"):
        ((code, output),) = run(folder, "expected.json", "--overwrite")
    assert code == 1 and output.startswith(f"error: {out}: in use by process {os.getpid()} on "), output
    assert len(output.splitlines()) == 1 and out.read_bytes() == before
    assert not list(folder.glob("*.lease*"))


def test_two_hosts_give_what_one_does(folder: Path, expected: dict[str, Suite]) -> None:
    first, second = run(folder, "two.json", num_hosts=2)
    assert first[0] == second[0] == 0, first[1] + second[1]
    assert suites_of(folder / "two.json") == expected
    assert "results in" in first[1] and "results in" not in second[1]
    ours, theirs = (read_examples(folder / f"{name}.examples.jsonl") for name in ("two", "expected"))
    assert len(ours.images) == 48 and ours.checkpoint == theirs.checkpoint
    for image, other in zip(ours.images, theirs.images, strict=True):
        assert (image.picture, image.labels, image.click, image.box) == (
            *(other.picture, other.labels, other.click, other.box),
        )
        assert dict(image.answers) == pytest.approx(dict(other.answers), abs=1e-5)
        assert np.asarray(image.map) == pytest.approx(np.asarray(other.map), abs=2e-3)
        assert image.point == pytest.approx(other.point, abs=2e-4)


def test_several_hosts_leave_the_examples_that_are_there(folder: Path, expected: dict[str, Suite]) -> None:
    assert expected
    for name in ("results.json", "results.examples.jsonl"):
        (folder / name.replace("results", "there")).write_bytes(
            (folder / name.replace("results", "expected")).read_bytes()
        )
    before = (folder / "there.examples.jsonl").stat().st_mtime_ns
    first, second = run(folder, "there.json", num_hosts=2)
    assert first[0] == second[0] == 0, first[1] + second[1]
    assert "examples: already beside" in first[1] and "examples: already beside" not in second[1]
    assert (folder / "there.examples.jsonl").stat().st_mtime_ns == before


def test_a_checkpoint_of_label_sets_is_evaluated_on_coco(tmp_path: Path) -> None:
    prepare_coco(tmp_path / "raw", tmp_path / "data", np.random.default_rng(0))
    config = tiny.experiment(tmp_path / "data" / "coco", total_steps=1, task=Task.MULTI_LABEL)
    config.data.train_split, config.byproduct.target = "val", Target.NONE
    train(config, tmp_path / "run")
    ((code, output),) = run(tmp_path, "coco.json", "--suites=coco,coco_context")
    assert code == 0, output
    suites = suites_of(tmp_path / "coco.json")
    assert suites["coco"]["n"] == suites["coco_context"]["n_images"] == 10
    assert 0 <= suites["coco_context"]["v_avg"] <= suites["coco_context"]["v_min"] <= 1
    assert len(read_examples(tmp_path / "coco.examples.jsonl").images) == 10
    ((code, output),) = run(tmp_path, "coco.json", "--suites=coco,imagenet")
    assert code == 1 and "coco: already in the results" in output
    assert "not run: imagenet: the checkpoint was trained on sets of labels" in output
    assert suites_of(tmp_path / "coco.json") == suites


def test_hosts_that_are_described_by_halves_are_told(folder: Path) -> None:
    ((code, output),) = run(folder, "half.json", "--num_processes=2", "--process_id=0")
    assert code == 1 and "--num_processes and process_id need coordinator_address" in output


def test_a_host_that_is_told_to_stop_stops_all_and_one_host_goes_on(folder: Path, expected: dict[str, Suite]) -> None:
    program = SIGNALLED.format(name="SIGTERM", flush_s=20.0, at=2)
    for code, output in run(folder, "stopped.json", program=("-c", program), num_hosts=2):
        assert code == 3, output
        assert "interrupted; the same command on all hosts continues" in output
    ((code, output),) = run(folder, "stopped.json")
    assert code == 0 and "going on after" in output
    assert suites_of(folder / "stopped.json") == expected


def test_a_first_host_that_cannot_write_ends_all(folder: Path) -> None:
    (folder / "file").write_text("no folder")
    first, second = run(folder, "file/results.json", num_hosts=2)
    message = f"{folder / 'file' / 'results.json'}"
    assert first[0] == second[0] == 1, f"{first} {second}"
    assert f"error: host 1 of 2: {message}" in first[1] and "cannot be written" in first[1], first[1] + second[1]
    assert f"error: host 1 of 2 stopped: {message}" in second[1]
    assert "Traceback" not in first[1] + second[1]


ONE_HOST_READS_NO_RECORD = """
import os, runpy, sys
os.environ["LUAB_JAX_PARENT"] = str(os.getppid())
from luab_jax.data.tfrecord import RandomAccessTFRecords
from luab_jax.errors import ShardError
from luab_jax.evaluation.procedures import location

squash = location._squash

def broken(split, side, index):
    if index >= 16 and "--process_id=1" in sys.argv:  # the hosts share the records
        raise ShardError("shard: a record fails its CRC")
    return squash(split, side, index)

location._squash = broken
runpy.run_module("luab_jax.evaluate", run_name="__main__")
"""


def test_a_host_whose_copy_of_a_record_is_broken_ends_all(folder: Path, expected: dict[str, Suite]) -> None:
    out = "broken.json"
    first, second = run(folder, out, program=("-c", ONE_HOST_READS_NO_RECORD), num_hosts=2)
    assert first[0] == second[0] == 1, f"{first} {second}"
    assert "error: host 2 of 2: shard: a record fails its CRC" in second[1]
    assert "shard: a record fails its CRC" in first[1]
    ((code, output),) = run(folder, out)
    assert code == 0 and "localisation: going on after 24" in output, output
    assert suites_of(folder / out) == expected


STORES_THAT_FAIL = """
import os, runpy, sys
os.environ["LUAB_JAX_PARENT"] = str(os.getppid())
from luab_jax.errors import StorageError, WriteError
from luab_jax.evaluation import resume
from luab_jax.io import storage
from luab_jax.io.atomic import guarded

resume.FLUSH_S, resume._SETTLE_EVERY = 0.0, 2
names = storage.names
written = ("/b.json.unfinished/", "/c.answers.npz", "/e/", "/f.json.unfinished/localisation-")

def full(path):
    if any(part in path for part in written):
        raise WriteError(f"{path}: no space left")

def listed(folder):
    if "/d.json.unfinished/" in str(folder):
        raise StorageError(f"{folder}: 503")
    return names(folder)

if "--process_id=0" in sys.argv:  # the others have a store that answers, and must not wait for this one
    storage.names = listed
    full = guarded(full)
    full.__enter__()
runpy.run_module("luab_jax.evaluate", run_name="__main__")
"""


def test_of_two_hosts_a_store_that_fails_stops_its_model_alone(folder: Path, expected: dict[str, Suite]) -> None:
    """What is kept of one model cannot be written in the middle, of one its answers at the end, of one nothing can be
    listed, of one no predictions written, of one what a procedure keeps."""
    names = "abcdef"
    for name in names:
        shutil.copytree(folder / "run", folder / "runs" / name)
    command = [f"--checkpoint={folder}/runs/*", f"--cache={folder / 'cache'}", f"--predictions={folder / 'kept'}"]
    first, second = run(folder, "outs", *command, program=("-c", STORES_THAT_FAIL), num_hosts=2)
    assert first[0] == second[0] == 1, first[1] + second[1]
    assert "Traceback" not in first[1] + second[1]
    assert suites_of(folder / "outs" / "a.json") == expected
    for name in names[1:]:
        [line] = [line for line in first[1].splitlines() if line.startswith(f"error: {name}: ")]
        assert ("503" if name == "d" else "no space left") in line
        assert (folder / "outs" / f"{name}.json").exists() == (name == "f")
    assert suites_of(folder / "outs" / "f.json").keys() == expected.keys() - {"localisation"}
    for code, output in run(folder, "outs", *command, num_hosts=2):
        assert code == 0, output
    for name in names:
        assert suites_of(folder / "outs" / f"{name}.json") == expected
