"""The benchmarks that need the TPU compiler, as far as they go without it: texts by hand, and bad input."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path

import pytest

from benchmarks import tpu_augmentation, tpu_kernels
from luab_jax.preflight import topology

OPERATIONS = {
    "jit(step)/jvp()/shard_map/rand_augment/cond/branch_0_fun/about_3_trips/while/body/add": (40, "add"),
    "jit(step)/jvp(rand_augment)/mul": (20, "add"),
    "jit(step)/jvp()/shard_map/psum": (30, "add"),
    "jit(step)/transpose(jvp(rand_augmented))/dot_general": (9, "convolution"),
    "jit(step)/adamw/mul": (1, "add"),
}


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    lines = [
        f'  %k.{cycles} = f32[4]{{0}} {opcode}(%p), metadata={{op_name="{operation}"}},'
        f' backend_config={{"estimated_cycles":"{cycles}"}}'
        for operation, (cycles, opcode) in OPERATIONS.items()
    ]
    path = tmp_path / "a.hlo.gz"
    text = "\n".join(["HloModule jit_step", "", "ENTRY %main (p: f32[4]) -> f32[4] {", *lines, "}", ""])
    path.write_bytes(gzip.compress(text.encode()))
    return path


def test_cycles_by_what_they_are_for(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tpu_kernels.main([str(kept), "--top=1"])
    header, *purposes, largest = capsys.readouterr().out.splitlines()
    assert header == "a.hlo.gz: 100 cycles"
    shares = {name: share for share, name in (line.split(maxsplit=1) for line in purposes)}
    assert shares == {
        "RandAugment": "60.0%",
        "other parts of forward and backward pass": "30.0%",
        "matrix products and convolutions, and what is fused with them": "9.0%",
        "optimiser, moving average, plan of the augmentation": "1.0%",
    }
    assert largest.split()[:4] == ["40", "in", "1", "k.40"]


_PACKED = gzip.compress(b"HloModule jit_step", mtime=0)
"""Without the time: a test's name must not differ between the processes that collect it."""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "a.hlo.gz: no program that preflight kept (No such file or directory)"),
        (b"HloModule jit_step", "a.hlo.gz: no program that preflight kept (Not a gzipped file"),
        (_PACKED[:-9], "a.hlo.gz: no program that preflight kept (Compressed file ended"),
        (_PACKED, "a.hlo.gz: its compiler states no cycles"),
    ],
)
def test_a_file_that_is_none_of_preflight_is_one_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.hlo.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit) as error:
        tpu_kernels.main([str(path)])
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("local", "--topology=local is no TPU; name one, such as v5e:16x16"),
        ("h100:8", "--topology=h100:8: 'h100' is none of"),
        ("v5e:3", "--topology=v5e:3: v5e comes as v5e:1x1"),
        ("v5e:2x2", "nobody states the clock of v5e"),
    ],
)
def test_a_topology_without_cycles_is_one_line(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    v5e = topology.CHIPS["v5e"]
    found = topology.Topology(name, [], dataclasses.replace(v5e, clock_hz=None), None)
    monkeypatch.setattr(tpu_augmentation, "find", lambda name: found)
    with pytest.raises(SystemExit) as error:
        tpu_augmentation.main([f"--topology={name}"])
    assert message in str(error.value) and "\n" not in str(error.value)
