"""The command as a user gives it: a page, a table, JSON, a cache, and clear words where something is wrong."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from luab_jax.augmentation.config import AugmentationConfig
from luab_jax.byproducts.responses import SampleWeight
from luab_jax.byproducts.targets import Target, fits
from luab_jax.config import ByproductConfig, Config, Task
from luab_jax.errors import DataError
from luab_jax.preflight import __main__ as command
from luab_jax.preflight import experiment
from luab_jax.preflight.__main__ import main
from luab_jax.preflight.facts import program_hash
from luab_jax.preflight.loader import Prober
from luab_jax.preflight.topology import can_compile_for_gpus
from luab_jax.training import program as program_lib
from luab_jax.training import step as step_lib
from luab_jax.training.setup import set_up
from tests import tiny

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = """
from luab_jax.config import ByproductConfig, Config, DataConfig, OptimConfig, Optimizer, Task
from luab_jax.data.transforms import Preprocessing
from luab_jax.models.config import ModelConfig


def get_config() -> Config:
    return Config(
        task=Task.{task},
        batch_size=16,
        model=ModelConfig(name="vit_ti", embed_dim=32, depth=1, num_heads=1),
        data=DataConfig(preprocessing=Preprocessing(image_size=32, resize_side=32)),
        optim=OptimConfig(name=Optimizer.ADAMW),
        compilation_cache="",
    )
"""
"""A recipe without augmentation, of which every part is known."""


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `small.py` and `sets.py`, whose images have sets of labels."""
    folder = tmp_path_factory.mktemp("configs")
    (folder / "small.py").write_text(SMALL.format(task="SINGLE_LABEL"))
    (folder / "sets.py").write_text(SMALL.format(task="MULTI_LABEL"))
    return folder


@pytest.fixture
def by_roofline(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where GPUs have no compiler: nothing is compiled."""
    monkeypatch.setattr(command, "can_compile_for_gpus", lambda: False)


def preflight(*arguments: str, rc: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "luab_jax.preflight", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, env=dict(os.environ), capture_output=True, text=True, timeout=300)
    assert done.returncode == rc, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare_data(tmp_path_factory.mktemp("data"))


def test_one_experiment_for_the_devices_at_hand_and_again_from_the_cache(
    data: Path, configs: Path, tmp_path: Path
) -> None:
    told = [
        *(f"--config={configs}/small.py", "--topology=local", f"--json={tmp_path}/a.json"),
        *(f"--config.data.root={data}", f"--config.compilation_cache={tmp_path}/cache", "--probe_s=0"),
    ]
    first, (found,) = preflight(*told), json.loads((tmp_path / "a.json").read_text())
    assert "small on local: needs" in first.stdout
    assert "not estimated: no public figures of cpu are known here" in first.stdout
    assert "nothing was run" in first.stdout
    assert (found["num_classes"], found["num_examples"], found["assumptions"]) == (3, 32, [])
    assert found["work"]["total_steps"] == 180
    assert found["mesh"] == {"data": 8, "fsdp": 1}
    parameters = found["state_bytes"]["parameters"]
    assert found["state_bytes"]["optimiser state"] == pytest.approx(2 * parameters, abs=8)
    (reduce,) = found["estimate"]["exchanges"]
    assert parameters <= reduce["num_bytes"] < parameters + 1000  # the gradient, and a few sums
    assert not found["cached"] and found["method"] == "compiled"

    again = preflight(*told)
    (cached,) = json.loads((tmp_path / "a.json").read_text())
    assert cached == found | {"cached": True}
    assert "found in the cache" in again.stdout


def test_several_experiments_are_a_table_in_which_one_that_cannot_be_does_not_hide_the_others(
    configs: Path, tmp_path: Path
) -> None:
    """Clicks are no target of images with sets of labels."""
    told = [f"--config={configs}/small.py", f"--config={configs}/sets.py", "--config.byproduct.target=click_last"]
    done = preflight(*told, "--topology=local", "--config.batch_size=8", f"--json={tmp_path}/a.json", rc=1)
    header, _, row, *below = done.stdout.splitlines()
    assert header.split()[:3] == ["experiment", "chips", "batch"]
    assert row.split()[:3] == ["small", "8", "8"]
    assert "sets: config.byproduct.target=click_last does not exist" in "\n".join(below)
    assert "1,000 classes and 1,281,167 training images, as ImageNet-1k has" in done.stdout
    assert [entry["experiment"] for entry in json.loads((tmp_path / "a.json").read_text())] == ["small", "sets"]


@pytest.mark.usefixtures("by_roofline")
def test_the_loader_of_this_machine_beside_what_a_host_needs(
    data: Path, configs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [f"--config={configs}/small.py", "--topology=h100:8", f"--json={tmp_path}/a.json"]
    assert main([*told, f"--config.data.root={data}", "--probe_s=0.2", "--config.data.num_threads=1"]) == 0
    (found,) = json.loads((tmp_path / "a.json").read_text())
    assert found["input"]["needed_per_host"] == found["images_per_s_at_most"]
    assert found["input"]["images_per_s"] > 0 and found["input"]["binds"] is not None
    tried, verdict = capsys.readouterr().out.splitlines()[-2:]
    assert tried == f"small: the loader of this machine was tried for 0.2 s on {data}"
    assert verdict == found["input"]["verdict"] and verdict.startswith("input: the step takes ")
    assert main([*told, "--probe_s=-1"]) == 1
    assert "--probe_s=-1 must lie in [0, 3600)" in capsys.readouterr().err


@pytest.mark.usefixtures("by_roofline")
def test_a_loader_that_cannot_be_tried_costs_neither_the_json_nor_the_other_experiments(
    data: Path, configs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def breaks(_: Prober, name: str, *__: object) -> None:
        asked.append(name)
        if len(asked) == 1:
            raise DataError("DATA/s-0: is damaged")
        if len(asked) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Prober, "__call__", breaks)
    (configs / "large.py").write_text((configs / "small.py").read_text())
    told = [f"--config={configs}/{name}.py" for name in ("small", "large")]
    told += ["--topology=h100:8", f"--config.data.root={data}"]
    assert main([*told, f"--json={tmp_path}/a.json"]) == 1
    assert "\nsmall: the loader could not be tried: DATA/s-0: is damaged\n" in capsys.readouterr().out
    found = [entry["input"] for entry in json.loads((tmp_path / "a.json").read_text())]
    assert found == [{"error": "DATA/s-0: is damaged"}, None] and asked == ["small", "large"]

    with contextlib.suppress(KeyboardInterrupt):
        main([*told, f"--json={tmp_path}/b.json"])
    assert len(asked) == 3 and len(json.loads((tmp_path / "b.json").read_text())) == 2


@pytest.mark.usefixtures("by_roofline")
def test_without_data_it_says_what_the_loader_is_tried_on(configs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = [f"--config={configs}/small.py", "--topology=h100:8"]
    assert main(told) == 0
    assert "input: not tried: --config.data.root=DIR names prepared data" in capsys.readouterr().out
    assert main([*told, "--what=memory"]) == 0
    assert "not tried" not in capsys.readouterr().out


WRONG_USAGE = {
    "no config": (["--topology=local"], "--config=FILE is missing"),
    "no topology": (["--config=configs/vit_b.py"], "--topology=... is missing"),
    "no such file": (["--config=configs/vit_bb.py"], "did you mean configs/vit_b.py"),
    "the first of two files": (["--config=configs/vit_bb.py", "--config=configs/vit_b.py"], "did you mean configs/vit"),
    "no such field": (["--config=configs/vit_b.py", "--config.batch=1"], "did you mean --config.batch_size"),
    "no number": (
        ["--config=configs/vit_b.py", "--topology=local", "--config.batch_size=x"],
        "expected a whole number",
    ),
    "an argument": (["--config=configs/vit_b.py", "x"], "unexpected argument 'x'"),
}


@pytest.mark.parametrize("case", WRONG_USAGE)
def test_wrong_usage_is_answered_with_the_right_one(case: str) -> None:
    arguments, message = WRONG_USAGE[case]
    assert message in preflight(*arguments, rc=2).stderr


def test_a_batch_that_does_not_divide_is_refused_with_one_that_does(configs: Path) -> None:
    told = (f"--config={configs}/small.py", "--topology=local", "--config.batch_size=20")
    assert "config.batch_size=20 does not divide among 8 devices; take 16 or 24" in preflight(*told, rc=1).stderr


def program_without_data(config: Config) -> tuple[experiment.Data, program_lib.Program]:
    data = experiment.data_of(config, None, None)
    facts = {"num_classes": data.num_classes, "num_examples": data.num_examples, "target_settings": data.settings}
    return data, program_lib.make_program(config, program_lib.make_checked_mesh(config, jax.devices()), **facts)


@pytest.mark.parametrize("weight", [SampleWeight.NONE, SampleWeight.TIME_TO_CLICK])
def test_what_is_compiled_is_the_step_of_the_training(data: Path, tmp_path: Path, weight: SampleWeight) -> None:
    config = tiny.experiment(data, byproduct=ByproductConfig(target=Target.CLICK_LAST, sample_weight=weight))
    programs = (program_without_data(config)[1], set_up(config, tmp_path / "run"))
    first, second = (program_hash(program_lib.lower_train_step(program), "here") for program in programs)
    assert first == second


def test_images_are_mixed_as_on_the_hosts_of_the_topology(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not as on the one host that compiles, which would send partners from device to device."""
    config = tiny.experiment(Path(), batch_size=64, augmentation=AugmentationConfig(mixup=0.8))
    config.data.root = ""
    seen: list[int] = []
    pair = step_lib.pair_groups
    monkeypatch.setattr(step_lib, "pair_groups", lambda size, **by: seen.append(pair(size, **by)) or seen[-1])
    for processes in (1, 4):
        monkeypatch.setattr(program_lib.sharding, "num_processes", lambda mesh, processes=processes: processes)
        program_lib.lower_train_step(program_without_data(config)[1])
    assert set(seen[: len(seen) // 2]) == {8} and set(seen[len(seen) // 2 :]) == {32}


TARGETS = [
    (task, target) for task in Task for target in Target if fits(target, 80 if task is Task.MULTI_LABEL else None)
]


@pytest.mark.parametrize(("task", "target"), TARGETS)
def test_every_target_has_a_shape_without_data(task: Task, target: Target) -> None:
    config = tiny.experiment(Path(), task=task, byproduct=ByproductConfig(target=target))
    config.data.root = ""
    data, program = program_without_data(config)
    assert data.num_classes == program.model.num_classes == (1000 if task is Task.SINGLE_LABEL else 80)
    assert (program.model.byproduct_shape is None) == (target is Target.NONE)
    assert any("annotators" in note for note in data.assumptions) == (target is Target.ANNOTATOR)


needs_tpu_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu, the TPU compiler, is not installed (extra preflight)"
)


@needs_tpu_compiler
def test_a_slice_that_is_not_there(configs: Path, tmp_path: Path) -> None:
    told = [
        *(f"--config={configs}/small.py", "--topology=v5e:2x2", f"--json={tmp_path}/a.json"),
        *("--num_classes=10", "--num_examples=1600"),
    ]
    done = preflight(*told, "--price_per_chip_hour=1.5")
    (found,) = json.loads((tmp_path / "a.json").read_text())
    assert "small on v5e:2x2: fits" in done.stdout
    assert "0.97, 1.11, 0.77 and 0.90" in done.stdout
    assert (found["device_kind"], found["work"]["num_chips"], found["assumptions"]) == ("TPU v5 lite", 4, [])
    assert found["facts"]["text"]["cycles"] > 0
    estimate = found["estimate"]
    assert estimate["step_s"] == estimate["cycles_s"] + estimate["ici_s"]
    assert estimate["hours"] == pytest.approx(9_000 * estimate["step_s"] / 3600)
    assert estimate["cost"] == pytest.approx(4 * 1.5 * estimate["hours"])
    (reduce,) = estimate["exchanges"]
    assert reduce["kind"] == "all-reduce"
    assert found["state_bytes"]["parameters"] / 2 <= reduce["num_bytes"]  # in bfloat16 at least


@needs_tpu_compiler
def test_a_shape_that_the_compiler_refuses_is_answered_with_others() -> None:
    told = ("--config=configs/vit_ti.py", "--topology=v5e:3x3")
    assert "v5e comes as v5e:1x1, v5e:2x2" in preflight(*told, rc=1).stderr


needs_gpu_compiler = pytest.mark.skipif(
    not can_compile_for_gpus(), reason="jax's CUDA plugin, the GPU compiler, is not installed (extra cuda13)"
)


@needs_gpu_compiler
def test_gpus_that_are_not_there(configs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XLA_FLAGS")  # the tests' are for CPUs, and a GPU's compiler ends the process at unknown ones
    told = [
        *(f"--config={configs}/small.py", "--topology=h100:2", f"--json={tmp_path}/a.json"),
        *("--num_classes=10", "--num_examples=1600"),
    ]
    done = preflight(*told, "--price_per_chip_hour=1.5")
    (found,) = json.loads((tmp_path / "a.json").read_text())
    assert "small on h100:2: fits" in done.stdout and "Compiled for these GPUs, not run." in done.stdout
    assert (found["device_kind"], found["mesh"]) == ("NVIDIA H100 80GB HBM3", {"data": 2, "fsdp": 1})
    estimate, published = found["estimate"], found["estimate"]["gpu_as_published"]
    assert published["attention_s"] > 0, "cuDNN's, as on a GPU"
    assert published["products_s"] > 0 and published["passes_s"] > 0 and published["links_s"] > 0
    assert sum(published.values()) < estimate["step_s"] == sum(estimate["gpu"].values())
    assert estimate["cost"] == pytest.approx(2 * 1.5 * estimate["hours"])
    assert "all-reduce" in {each["kind"] for each in estimate["exchanges"]}
