"""The mesh, and which array lies where on it; on eight CPU devices."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import PartitionSpec

from luab_jax.config import DistributedConfig, MeshConfig
from luab_jax.distributed.sharding import (
    batch_sharding,
    check_batch_size,
    init_distributed,
    make_mesh,
    num_processes,
    replicated,
    state_shardings,
    update_shardings,
)
from luab_jax.errors import ConfigError


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (MeshConfig(), (8, 1)),
        (MeshConfig(data=-1, fsdp=4), (2, 4)),
        (MeshConfig(data=2, fsdp=4), (2, 4)),
        (MeshConfig(data=1, fsdp=8), (1, 8)),
    ],
)
def test_a_mesh_has_the_axes_data_and_fsdp_over_all_devices(config: MeshConfig, shape: tuple[int, int]) -> None:
    mesh = make_mesh(config)
    assert mesh.axis_names == ("data", "fsdp")
    assert mesh.devices.shape == shape
    assert {device.id for device in mesh.devices.flat} == {device.id for device in jax.devices()}


@dataclass(frozen=True, slots=True)
class Device:
    """What a mesh asks of one that is not there."""

    id: int
    process_index: int


def test_the_hosts_of_a_mesh_are_those_of_its_devices() -> None:
    assert num_processes(make_mesh(MeshConfig())) == 1
    devices = [Device(i, i // 2) for i in range(8)]
    assert num_processes(make_mesh(MeshConfig(fsdp=2), devices)) == 4


def test_a_mesh_over_some_devices_only() -> None:
    assert make_mesh(MeshConfig(), jax.devices()[:3]).devices.shape == (3, 1)


@pytest.mark.parametrize(
    ("data", "fsdp"), [(3, 1), (-1, 3), (4, 4), (-1, 0), (0, 8), (8, -1), (-1, -1), (-2, 4), (7, 1)]
)
def test_a_shape_that_does_not_fit_is_refused_with_those_that_do(data: int, fsdp: int) -> None:
    with pytest.raises(ConfigError) as error:
        make_mesh(MeshConfig(data=data, fsdp=fsdp))
    message = str(error.value)
    assert f"config.mesh data={data} fsdp={fsdp} does not fit 8 device(s)" in message
    proposed = message.partition("these do: ")[2].split(", ")
    assert proposed == ["data=8 fsdp=1", "data=4 fsdp=2", "data=2 fsdp=4", "data=1 fsdp=8"]


@pytest.mark.parametrize("fsdp", [1, 2, 8])
def test_a_batch_is_spread_over_every_device_in_order(fsdp: int) -> None:
    mesh = make_mesh(MeshConfig(fsdp=fsdp))
    batch = jax.device_put(jnp.arange(16), batch_sharding(mesh))
    rows = {shard.device.id: np.asarray(shard.data).tolist() for shard in batch.addressable_shards}
    assert [rows[device.id] for device in mesh.devices.flat] == [[2 * i, 2 * i + 1] for i in range(8)]


def test_what_is_replicated_lies_on_every_device_as_a_whole() -> None:
    array = jax.device_put(jnp.arange(6).reshape(2, 3), replicated(make_mesh(MeshConfig())))
    assert len(array.addressable_shards) == 8
    assert all(shard.data.shape == (2, 3) for shard in array.addressable_shards)


def spec(shape: tuple[int, ...], fsdp: int) -> PartitionSpec:
    mesh = make_mesh(MeshConfig(fsdp=fsdp))
    return state_shardings(mesh, {"x": jax.ShapeDtypeStruct(shape, jnp.float32)})["x"].spec


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((128, 128), PartitionSpec("fsdp", None)),
        ((64, 512), PartitionSpec(None, "fsdp")),
        ((3, 3, 64, 256), PartitionSpec(None, None, None, "fsdp")),
        ((1024, 1001), PartitionSpec("fsdp", None)),
        ((1024, 20_001), PartitionSpec("fsdp", None)),  # the larger axis does not divide
        ((16_384,), PartitionSpec("fsdp")),
        ((16_383,), PartitionSpec()),  # too small
        ((127, 129), PartitionSpec()),  # too small
        ((1001, 1003), PartitionSpec()),  # divides nowhere
        ((), PartitionSpec()),
    ],
)
def test_large_arrays_are_split_on_their_largest_axis_that_divides(
    shape: tuple[int, ...], expected: PartitionSpec
) -> None:
    assert spec(shape, fsdp=4) == expected
    assert spec(shape, fsdp=1) == PartitionSpec()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 600), max_size=3), st.sampled_from([1, 2, 4, 8]))
def test_every_array_can_be_placed_as_ruled(shape: list[int], fsdp: int) -> None:
    split = [n for n, axis in zip(shape, spec(tuple(shape), fsdp), strict=False) if axis is not None]
    assert all(n % fsdp == 0 for n in split)
    assert len(split) <= 1


def test_the_rule_applies_to_any_tree() -> None:
    mesh = make_mesh(MeshConfig(fsdp=8))
    tree = {"a": [jax.ShapeDtypeStruct((512, 64), jnp.float32)], "b": (jax.ShapeDtypeStruct((), jnp.int32), None)}
    shardings = state_shardings(mesh, tree)
    assert jax.tree.structure(shardings) == jax.tree.structure(tree)
    placed = jax.device_put(jnp.zeros((512, 64)), shardings["a"][0])
    assert {shard.data.shape for shard in placed.addressable_shards} == {(64, 64)}


@pytest.mark.parametrize(("batch_size", "choices"), [(12, "8 or 16"), (7, "take 8"), (1025, "1024 or 1032")])
def test_an_uneven_batch_is_refused_with_the_nearest_that_divide(batch_size: int, choices: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"config\.batch_size={batch_size} does not divide among 8 devices.*{choices}"
    ):
        check_batch_size("batch_size", batch_size, make_mesh(MeshConfig()))


@pytest.mark.parametrize("batch_size", [8, 64])
def test_an_even_batch_is_accepted(batch_size: int) -> None:
    for fsdp in (1, 2):
        check_batch_size("batch_size", batch_size, make_mesh(MeshConfig(fsdp=fsdp)))


def test_a_single_host_waits_for_nobody(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(jax.distributed, "initialize", lambda **_: pytest.fail("must not be called"))
    for hostnames in ("", "localhost"):
        monkeypatch.setenv("TPU_WORKER_HOSTNAMES", hostnames)
        init_distributed(DistributedConfig())
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("shape", "fsdp", "expected"),
    [
        ((128, 512), 1, PartitionSpec(None, "data")),
        ((128, 512), 2, PartitionSpec(None, ("fsdp", "data"))),
        ((128, 512), 8, PartitionSpec(None, "fsdp")),
        ((1024, 1001), 1, PartitionSpec("data", None)),
        ((1001, 1004), 2, PartitionSpec(None, "fsdp")),  # into two parts, as the parameters are, and not into eight
        ((1002, 1001), 4, PartitionSpec("data", None)),  # two parts along data, where four along fsdp do not divide
        ((1001, 1004), 1, PartitionSpec()),  # divides nowhere by eight
        ((127, 129), 1, PartitionSpec()),  # too small
        ((), 2, PartitionSpec()),
    ],
)
def test_for_an_update_large_arrays_are_split_over_all_devices(
    shape: tuple[int, ...], fsdp: int, expected: PartitionSpec
) -> None:
    mesh = make_mesh(MeshConfig(fsdp=fsdp))
    assert update_shardings(mesh, {"x": jax.ShapeDtypeStruct(shape, jnp.float32)})["x"].spec == expected
