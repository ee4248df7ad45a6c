"""A roofline: no step is faster than its products, its memory and its gradient; and it says that it is one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax.numpy as jnp
import pytest

from luab_jax.config import ByproductConfig, Config
from luab_jax.errors import ConfigError, UserError
from luab_jax.models.config import Dtype, ModelConfig
from luab_jax.preflight import __main__ as command
from luab_jax.preflight import gpu_text
from luab_jax.preflight.__main__ import main
from luab_jax.preflight.experiment import state_bytes
from luab_jax.preflight.gpu_experiment import examine_on_gpus
from luab_jax.preflight.gpus import GPUS, Demand, parse_gpus, roofline
from luab_jax.preflight.macs import count_bytes
from luab_jax.recipes import RECIPES
from tests import tiny
from tests.preflight.test_command import program_without_data


def cluster(name: str):
    found = parse_gpus(name)
    assert found is not None
    return found


def test_names() -> None:
    assert (cluster("h100:8").num_nodes, cluster("h100:8").per_node, cluster("b200:4x8").num_devices) == (1, 8, 32)
    assert parse_gpus("v5e:4x4") is None
    for wrong in ("h100", "h100:", "h100:0", "h100:0x8", "h100:8x", "h100:2x64"):
        with pytest.raises(UserError, match="h100:8 for a machine with eight, h100:4x8 for four"):
            parse_gpus(wrong)


def test_a_roofline_by_hand() -> None:
    """989 GFLOP are 1 ms of an H100, 6.7 GB 2 ms; 8 GPUs sum 450 MB in 1.75 ms over NVLink."""
    demand = Demand(flops=989e9, memory_bytes=6.7e9, gradient_bytes=450e6)
    found = roofline(demand, cluster("h100:8"))
    assert (found.flops_s, found.memory_s, found.links_s) == pytest.approx((1e-3, 2e-3, 1.75e-3))
    assert found.step_s == pytest.approx(3.75e-3)
    # Two machines: each adapter carries an eighth, 56.25 MB, at 50 GB/s, once.
    assert roofline(demand, cluster("h100:2x8")).links_s == pytest.approx(1.75e-3 + 1.125e-3)
    assert roofline(demand, cluster("h100:1")).links_s == 0


def test_bytes_of_a_product_are_its_arrays_once() -> None:
    """[4, 8] times [8, 16] in float32: 32 + 128 + 64 numbers; what is added to it may be fused."""
    assert count_bytes(lambda a, b: a @ b + 1, jnp.ones((4, 8)), jnp.ones((8, 16))) == 4 * (32 + 128 + 64)
    assert not count_bytes(lambda q, k: q @ k, jnp.ones((2, 4, 8)), jnp.ones((2, 8, 4))), "attention's, which is fused"


def config() -> Config:
    found = tiny.experiment(Path(), batch_size=64, byproduct=ByproductConfig())
    found.data.root = ""
    return found


def test_an_experiment_has_its_state_input_evaluations_and_saves() -> None:
    flight = examine_on_gpus(config(), cluster("h100:2x8"), name="small", num_examples=6400)
    work = flight.work  # 6 steps, 100 in an epoch: one evaluation and one save at the end
    assert (work.num_hosts, work.total_steps, work.num_evaluations, work.num_saves) == (2, 6, 1, 1)
    assert flight.demand.flops == pytest.approx(flight.work.flops_per_step / 16)
    text = gpu_text.page(flight)
    assert "This is a roofline: nothing was compiled or run." in text
    assert "at least" in text and "at most" in text and "per host" in text and "saves" in text
    averaged = config()
    averaged.optim.ema_decay = 0.99
    both = examine_on_gpus(averaged, cluster("h100:2x8"), name="small", num_examples=6400)
    assert both.work.evaluation_s(1.0) == 2 * work.evaluation_s(1.0) > 0, "the weights, and their average"
    memory = examine_on_gpus(config(), cluster("h100:8"), name="small", with_time=False)
    assert "at least" not in gpu_text.page(memory).partition("This is")[0]


def test_a_batch_that_does_not_divide_is_refused_with_ones_that_do() -> None:
    with pytest.raises(ConfigError, match="does not divide among 24 GPUs x 1 microbatches; take 48 or 72"):
        examine_on_gpus(config(), cluster("h100:3x8"), name="small")


@pytest.mark.parametrize(("fsdp", "split_optimizer"), [(1, False), (1, True), (4, False), (4, True), (8, True)])
def test_the_state_is_split_as_training_splits_it(fsdp: int, split_optimizer: bool) -> None:
    """As on the eight devices here: small arrays stay whole."""
    told = config()
    told.model = ModelConfig(name="vit_ti", embed_dim=192, depth=1)
    told.mesh.fsdp, told.mesh.split_optimizer = fsdp, split_optimizer
    told.optim.ema_decay = 0.99
    flight = examine_on_gpus(told, cluster("h100:8"), name="small")
    assert flight.state_bytes == state_bytes(program_without_data(told)[1].abstract_state)


def test_a_mesh_that_is_not_of_so_many_gpus_is_refused() -> None:
    told = config()
    told.mesh.data = 4
    with pytest.raises(ConfigError, match=r"config.mesh data=4 fsdp=1 does not fit 8 device\(s\); these do: data=8"):
        examine_on_gpus(told, cluster("h100:8"), name="small")


def test_a_state_that_is_too_large_comes_with_what_to_split() -> None:
    flight = examine_on_gpus(config(), cluster("h100:8"), name="small")
    state = {"parameters": 30 * 10**9, "optimiser state": 60 * 10**9}
    told, *hints = gpu_text.verdict(dataclasses.replace(flight, state_bytes=state)).splitlines()
    assert told == "small on h100:8: DOES NOT FIT, the state alone needs 90.00 GB of 80.00 GB per GPU"
    assert [hint.partition("--")[2] for hint in hints] == ["config.mesh.split_optimizer=true", "config.mesh.fsdp=8"]


def test_products_of_float32_take_twice_as_long() -> None:
    told = config()
    told.model.compute_dtype = Dtype.BFLOAT16
    halved = examine_on_gpus(told, cluster("h100:8"), name="small").roofline
    told.model.compute_dtype = Dtype.FLOAT32
    assert examine_on_gpus(told, cluster("h100:8"), name="small").roofline.flops_s == pytest.approx(2 * halved.flops_s)


def test_no_measured_step_beats_its_roofline() -> None:
    """Of benchmarks/README.md, on one H100: batch 1,024 of ViT-S in 103.5 ms."""
    flight = examine_on_gpus(RECIPES["vit_s"](), cluster("h100:1"), name="vit_s")
    assert 1.5 < 103.5 / (flight.roofline.step_s * 1e3) < 5


def test_the_command_without_the_compiler(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "can_compile_for_gpus", lambda: False)
    asked = ["--config=vit_ti", "--config=resnet18", "--topology=h100:8", f"--json={tmp_path}/a.json"]
    assert main(asked) == 0
    out = capsys.readouterr().out
    assert [line.split()[:3] for line in out.splitlines()[2:4]] == [["vit_ti", "8", "1024"], ["resnet18", "8", "1024"]]
    assert "pip install '.[cuda13]' (in a clone), or pip install 'jax[cuda13]'" in out
    assert [entry["method"] for entry in json.loads((tmp_path / "a.json").read_text())] == ["roofline"] * 2
    assert main(["--config=vit_s", "--topology=h100:8", "--price_per_chip_hour=2"]) == 2
    assert "a roofline is a lower bound" in capsys.readouterr().err


def test_the_command_for_a_roofline_where_there_is_a_compiler(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "can_compile_for_gpus", lambda: True)
    assert main(["--config=vit_ti", "--topology=h100:8", "--what=roofline"]) == 0
    out = capsys.readouterr().out
    assert "This is a roofline" in out and "at least" in out.partition("This is")[0]
    assert main(["--config=vit_ti", "--topology=v5e:4x4", "--what=roofline"]) == 2
    assert "--what=roofline is for GPUs (h100:8, " in capsys.readouterr().err


@pytest.mark.parametrize("gpu", GPUS.values(), ids=GPUS)
def test_every_gpu_has_its_source(gpu) -> None:
    assert gpu.source.startswith("https://")
    assert parse_gpus(f"{gpu.name}:8") is not None
