"""Names of topologies are checked before anything is loaded; the devices at hand need nothing."""

from __future__ import annotations

import os
from types import SimpleNamespace

import jax
import pytest

from luab_jax.errors import UserError
from luab_jax.models import gpu
from luab_jax.preflight.chips import CHIPS
from luab_jax.preflight.gpus import GPUS, parse_gpus, target_config
from luab_jax.preflight.topology import find, parse


@pytest.mark.parametrize("name", [f"{chip.name}:{shape}" for chip in CHIPS.values() for shape in chip.topologies])
def test_every_name_that_is_proposed_is_a_name(name: str) -> None:
    parsed = parse(name)
    assert parsed is not None
    assert f"{parsed[0].name}:{'x'.join(map(str, parsed[1]))}" == name


WRONG = {
    "v7:4x4": r"'v7' is none of v3, v4, v5e, v5p, v6e, tpu7x, h100, h200, b200, local; did you mean v\d",
    "v5e": "v5e comes as v5e:1x1, v5e:2x2",
    "v5e:16": "v5e comes as",
    "v5e:4x4x4": "v5e comes as",
    "v4:4x4": "v4 comes as v4:2x2x1",
    "v5e:0x4": "v5e comes as",
    "v5e:axb": "v5e comes as",
    "": "none of",
    "0*v5e:4x4": "'0' is no number of slices; 2\\*v5e:16x16 are two",
    "2*": "none of",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_name_is_answered_with_right_ones(name: str) -> None:
    with pytest.raises(UserError, match=WRONG[name]):
        parse(name)


def test_several_slices_have_the_shape_of_each() -> None:
    parsed = parse("2*v5e:16x16")
    assert parsed is not None and (parsed[0].name, parsed[1]) == ("v5e", (16, 16))


def test_local_are_the_devices_at_hand_of_which_a_cpu_states_no_figures() -> None:
    local = find("local")
    assert (local.devices, local.chip, local.memory_bytes, local.num_chips) == (jax.devices(), None, None, 8)


def test_gpus_that_are_not_there_are_asked_of_their_compiler_by_shape_and_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Four machines of two B200, in the order of the machines."""
    asked: dict[str, str] = {}

    def describe(kind: str, **told: str) -> SimpleNamespace:
        asked.update(told, kind=kind)
        return SimpleNamespace(devices=(SimpleNamespace(device_kind=kind, process_index=n // 2) for n in range(8)))

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr("jax.experimental.topologies.get_topology_desc", describe)
    found = find("b200:4x2")
    expected = ("NVIDIA B200", "cuda", "4x1x2", target_config(GPUS["b200"]))
    assert (asked["kind"], asked["platform"], asked["topology"], asked["target_config"]) == expected
    assert os.environ["JAX_PLATFORMS"] == "cpu"
    assert (found.num_hosts, found.num_chips, found.memory_bytes) == (4, 8, 180_000_000_000)
    assert found.chip is None and found.gpus == parse_gpus("b200:4x2")
    with found.as_target():
        assert gpu.has_cuda()
    assert not gpu.has_cuda()


def test_a_compiler_for_gpus_that_fails_is_one_line_with_the_way_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("INVALID_ARGUMENT: no libcublas\nand a stack")

    monkeypatch.setattr("jax.experimental.topologies.get_topology_desc", fail)
    with pytest.raises(UserError, match=r"h100:8: the GPU compiler fails \(no libcublas\); --what=roofline needs none"):
        find("h100:8")


def test_without_the_compiler_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install '\.\[preflight\]' \(in a clone\), or pip install libtpu"):
        find("v5e:4x4")
