"""What a compilation said is found again for the same program, and for no other."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from etils import epath

from luab_jax.preflight import facts as facts_lib
from luab_jax.preflight.facts import Facts, facts_of, program_hash


def lowered(size: int = 64) -> jax.stages.Lowered:
    shape = jax.ShapeDtypeStruct((size, size), jnp.float32)
    return jax.jit(lambda x: jnp.tanh(x @ x)).lower(shape)


def of(size: int, cache: epath.Path | None, topology: str = "here") -> tuple[Facts, bool]:
    return facts_of(lowered(size), topology=topology, cache=cache, title="a product")


def test_memory_and_operations_of_a_product() -> None:
    found, cached = of(64, None)
    assert found.memory is not None
    assert (found.memory.arguments, found.memory.outputs, cached) == (64 * 64 * 4, 64 * 64 * 4, False)
    assert found.memory.allocated >= found.memory.peak > 0
    assert found.flops is not None
    assert 2 * 64**3 <= found.flops < 2.1 * 64**3


def test_the_same_program_is_compiled_once(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = epath.Path(tmp_path)
    first, _ = of(64, cache)
    monkeypatch.setattr(facts_lib, "compile_here", lambda _: pytest.fail("compiled again"))
    assert of(64, cache) == (first, True)


def test_another_program_topology_or_flag_of_the_compiler_is_another_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = [program_hash(lowered(64), "a"), program_hash(lowered(65), "a"), program_hash(lowered(64), "b")]
    monkeypatch.setenv("LIBTPU_INIT_ARGS", "--another")
    assert len({*hashes, program_hash(lowered(64), "a")}) == 4


def test_where_a_rule_lies_in_memory_is_no_part_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """As jax writes it of cuDNN's attention on several GPUs."""

    def hash_of(address: int, size: int = 4) -> str:
        text = (
            f"%1:2 = stablehlo.custom_call @CustomSPMDPartitioning(%0) {{api_version = 2 : i32, backend_config ="
            f' "{address}", sdy.sharding_rule = #sdy.op_sharding_rule<([i])->([i]) {{i={size}}}, custom>}}\n'
        )
        monkeypatch.setattr(jax.stages.Lowered, "as_text", lambda _: text)
        return program_hash(lowered(), "a")

    assert hash_of(1) == hash_of(2) != hash_of(1, size=5)


@pytest.mark.parametrize("suffix", [".json", ".gz"])
def test_a_damaged_entry_is_compiled_anew(tmp_path: Any, suffix: str) -> None:
    cache = epath.Path(tmp_path)
    first, _ = of(64, cache)
    (entry,) = (path for path in (cache / "preflight").iterdir() if path.suffix == suffix)
    entry.write_bytes(entry.read_bytes()[:100])
    again, cached = of(64, cache)
    assert not cached
    assert again.memory == first.memory
    assert of(64, cache)[1]


def test_a_compiler_without_room_is_an_answer_and_other_errors_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(message: str) -> Any:
        def compile() -> None:
            raise jax.errors.JaxRuntimeError(message)

        return compile

    program = lowered()
    with monkeypatch.context() as patched:
        patched.setattr(type(program), "compile", lambda self: fail("RESOURCE_EXHAUSTED: Used 20G of 15G hbm.\nmore")())
        found, _ = facts_of(program, topology="here", cache=None, title="")
    assert (found.memory, found.refused) == (None, "Used 20G of 15G hbm.")
    with monkeypatch.context() as patched, pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        patched.setattr(type(program), "compile", lambda self: fail("INTERNAL: a bug")())
        facts_of(program, topology="here", cache=None, title="")


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_is_heard_while_the_compiler_works() -> None:
    done = threading.Event()
    threading.Timer(0.3, signal.raise_signal, (signal.SIGINT,)).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        facts_lib._in_background(lambda: done.wait(60), "something long")
    done.set()
    assert time.monotonic() - start < 20
