"""A step compiled ahead of time, and what it says: memory, operations, cycles, collectives. Kept by program hash."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import importlib.metadata
import json
import os
import re
import sys
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from etils import epath
from rich.console import Console

from luab_jax.io.atomic import write_bytes
from luab_jax.io.console import format_seconds
from luab_jax.preflight import hlo
from luab_jax.preflight.hlo import ProgramText

CUDA_PLUGIN = "jax-cuda13-plugin"
"""The package that compiles for GPUs."""
_FORMAT = 4
"""Part of the hash: what is kept by another format is not found. To be raised where programs get other scopes, which
facts are read from and a hash does not see, such as the trips of `luab_jax.augmentation.chosen`."""
_ADDRESS = re.compile(r'(@CustomSPMDPartitioning\([^\n]*?backend_config = )"\d+"')
"""jax writes the address of cuDNN attention's partitioning rule into the program; it differs between processes."""
_LINE_EVERY_S = 30.0
_LOOK_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes per device, with the padding of the compiler's layouts."""

    arguments: int
    """State and batch."""
    outputs: int
    aliased: int
    """Outputs that take the place of arguments."""
    temporaries: int
    """Activations, gradients and all else that lives within a step."""
    program: int
    """The code itself."""

    peak: int
    """The most that is live at one time, by the compiler; 0 where it does not say."""

    @property
    def allocated(self) -> int:
        """What a device must have: temporaries are set aside as one block, somewhat larger than what is live in it."""
        return self.arguments + self.outputs - self.aliased + self.temporaries + self.program


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the compiler said of one program."""

    memory: Memory | None
    """`None` where the program was refused."""
    flops: float | None
    """Operations per step and device as the compiler counts them: additions too, the body of a loop once."""
    text: ProgramText | None
    """`None` where the program was refused, or its text was left unread."""
    refused: str = ""
    """Why, if the compiler found no room."""
    compile_s: float


def program_hash(lowered: jax.stages.Lowered, topology: str) -> str:
    """Of all that decides what the compiler makes of a program."""
    digest = hashlib.sha256(_ADDRESS.sub(r"\1", lowered.as_text()).encode())
    flags = [os.environ.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")]
    digest.update(json.dumps([_FORMAT, topology, versions(), flags]).encode())
    return digest.hexdigest()[:32]


def versions() -> dict[str, str]:
    versions = {}
    for name in ("jax", "jaxlib", "libtpu", CUDA_PLUGIN):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = ""
    return versions


Compiler = Callable[[jax.stages.Lowered, str, epath.Path | None], tuple[Facts, bytes | None]]
"""Compiles a step; gives its facts and the text of the optimised program by gzip, which is None where the compiler
found no room. `title` names the step in progress messages. What a compiler that crashes printed is kept at the path."""


def facts_of(
    lowered: jax.stages.Lowered,
    *,
    topology: str,
    cache: epath.Path | None,
    title: str,
    compiler: Compiler | None = None,
) -> tuple[Facts, bool]:
    """Compiles, or finds what an earlier compilation of the same program said; the second tells which.

    title: names the step in progress messages; compiler: `_compile_in_background` by default.
    """
    path = None if cache is None else cache / "preflight" / f"{program_hash(lowered, topology)}.json"
    if path is not None and (found := read_facts(path)) is not None:
        return found[0], True
    crashes = None if path is None else path.with_suffix(".crash.txt")
    facts, packed = (compiler or _compile_in_background)(lowered, title, crashes)
    if path is not None:
        write_facts(path, facts, packed)
    return facts, False


def _text_path(path: epath.Path) -> epath.Path:
    """The optimised program lies beside its figures: to be read by people, and anew should this package learn more."""
    return path.with_suffix(".hlo.gz")


def write_facts(path: epath.Path, facts: Facts, packed: bytes | None) -> None:
    values = dataclasses.asdict(facts)
    del values["text"]
    contents = {path: (json.dumps(values, indent=1) + "\n").encode()}
    if packed is not None:
        contents = {_text_path(path): packed} | contents  # what names it comes last
    for target, content in contents.items():
        write_bytes(target, content, make_folder=True)


def read_facts(path: epath.Path) -> tuple[Facts, bytes | None] | None:
    """With the text of the program by gzip; None where there is no entry, or a damaged one."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        memory = values.pop("memory")
        if memory is None:
            return Facts(memory=None, text=None, **values), None
        packed = _text_path(path).read_bytes()
        return Facts(memory=Memory(**memory), text=_read(packed), **values), packed
    except (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error):
        return None


def _read(packed: bytes) -> ProgramText:
    return hlo.read(gzip.decompress(packed).decode())


def compile_here(lowered: jax.stages.Lowered) -> tuple[Facts, bytes | None]:
    """By the compiler of this process, which a crash of it would end."""
    facts, packed = compile_unread(lowered)
    return facts if packed is None else dataclasses.replace(facts, text=_read(packed)), packed


def compile_unread(lowered: jax.stages.Lowered) -> tuple[Facts, bytes | None]:
    """Leaves the text of the program to whoever reads these facts."""
    start = time.monotonic()
    try:
        compiled: Any = lowered.compile()
    except jax.errors.JaxRuntimeError as e:
        if "RESOURCE_EXHAUSTED" not in str(e):
            raise
        why = " ".join(str(e).partition("RESOURCE_EXHAUSTED:")[2].splitlines()[:1]).strip()
        return Facts(memory=None, flops=None, text=None, refused=why, compile_s=time.monotonic() - start), None
    compile_s = time.monotonic() - start
    stats, cost, text = compiled.memory_analysis(), compiled.cost_analysis() or {}, compiled.as_text() or ""
    memory = Memory(
        arguments=stats.argument_size_in_bytes,
        outputs=stats.output_size_in_bytes,
        aliased=stats.alias_size_in_bytes,
        temporaries=stats.temp_size_in_bytes,
        program=stats.generated_code_size_in_bytes,
        peak=getattr(stats, "peak_memory_in_bytes", 0),
    )
    flops = float(cost["flops"]) if "flops" in cost else None
    packed = gzip.compress(text.encode(), 6)
    return Facts(memory=memory, flops=flops, text=None, compile_s=compile_s), packed


def _compile_in_background(
    lowered: jax.stages.Lowered, title: str, crashes: epath.Path | None
) -> tuple[Facts, bytes | None]:
    del crashes  # nothing is left of this process then
    return _in_background(lambda: compile_here(lowered), title)


def _in_background(function: Any, title: str) -> Any:
    """Calls in a thread, so that Ctrl-C is heard: the compiler would hear it only after its minutes."""
    outcome: list[Any] = []

    def call() -> None:
        try:
            outcome.extend((function(), None))
        except BaseException as e:
            outcome.extend((None, e))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()

    def has_ended(seconds: float) -> bool:
        thread.join(seconds)
        return not thread.is_alive()

    wait_until(has_ended, title)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def wait_until(has_ended: Callable[[float], bool], title: str) -> None:
    """Says on stderr how long it has taken: in one line on a terminal, now and then elsewhere.

    has_ended: waits so many seconds at most for what is waited for.
    """
    start = last = time.monotonic()
    if sys.stderr.isatty():
        with Console(stderr=True).status(f"compiling {title}") as status:
            while not has_ended(_LOOK_S):
                status.update(f"compiling {title}: {format_seconds(time.monotonic() - start)}")
        return
    while not has_ended(_LOOK_S):
        if time.monotonic() - last >= _LINE_EVERY_S:
            last = time.monotonic()
            print(f"compiling {title}: {format_seconds(last - start)}", file=sys.stderr, flush=True)
