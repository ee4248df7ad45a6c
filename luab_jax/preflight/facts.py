"""A step compiled ahead of time, and what it says: memory, operations, cycles, collectives. Kept by program hash."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import importlib.metadata
import json
import os
import sys
import threading
import time
import zlib
from dataclasses import dataclass
from typing import Any

import jax
from etils import epath
from rich.console import Console

from luab_jax.io.atomic import write_bytes
from luab_jax.io.console import format_seconds
from luab_jax.preflight import hlo
from luab_jax.preflight.hlo import ProgramText

_FORMAT = 1
"""Part of the hash: what is kept by another format is not found."""
_LINE_EVERY_S = 30.0


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
    refused: str = ""
    """Why, if the compiler found no room."""
    compile_s: float


def program_hash(lowered: jax.stages.Lowered, topology: str) -> str:
    """Of all that decides what the compiler makes of a program."""
    digest = hashlib.sha256(lowered.as_text().encode())
    flags = [os.environ.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")]
    digest.update(json.dumps([_FORMAT, topology, versions(), flags]).encode())
    return digest.hexdigest()[:32]


def versions() -> dict[str, str]:
    versions = {}
    for name in ("jax", "jaxlib", "libtpu"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = ""
    return versions


def facts_of(lowered: jax.stages.Lowered, *, topology: str, cache: epath.Path | None, title: str) -> tuple[Facts, bool]:
    """Compiles, or finds what an earlier compilation of the same program said; the second tells which."""
    path = None if cache is None else cache / "preflight" / f"{program_hash(lowered, topology)}.json"
    if path is not None and (found := _read(path)) is not None:
        return found, True
    facts, text = _compile(lowered, title)
    if path is not None:
        _write(path, facts, text)
    return facts, False


def _text_path(path: epath.Path) -> epath.Path:
    """The optimised program lies beside its figures: to be read by people, and anew should this package learn more."""
    return path.with_suffix(".hlo.gz")


def _write(path: epath.Path, facts: Facts, text: str | None) -> None:
    values = dataclasses.asdict(facts)
    del values["text"]
    contents = {path: (json.dumps(values, indent=1) + "\n").encode()}
    if text is not None:
        contents = {_text_path(path): gzip.compress(text.encode(), 6)} | contents  # what names it comes last
    for target, content in contents.items():
        write_bytes(target, content, make_folder=True)


def _read(path: epath.Path) -> Facts | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        memory = values.pop("memory")
        if memory is None:
            return Facts(memory=None, text=None, **values)
        text = gzip.decompress(_text_path(path).read_bytes()).decode()
        return Facts(memory=Memory(**memory), text=hlo.read(text), **values)
    except (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error):
        return None  # not there, or damaged: compiled anew


def _compile(lowered: jax.stages.Lowered, title: str) -> tuple[Facts, str | None]:
    """With the text of the optimised program."""
    start = time.monotonic()
    try:
        compiled = _in_background(lowered.compile, title)
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
    return Facts(memory=memory, flops=flops, text=hlo.read(text), compile_s=compile_s), text


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
    _wait(thread, title)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def _wait(thread: threading.Thread, title: str) -> None:
    """Says on stderr how long it has taken: in one line on a terminal, now and then elsewhere."""
    start = last = time.monotonic()
    if sys.stderr.isatty():
        with Console(stderr=True).status(f"compiling {title}") as status:
            while thread.is_alive():
                thread.join(0.5)
                status.update(f"compiling {title}: {format_seconds(time.monotonic() - start)}")
        return
    while thread.is_alive():
        thread.join(0.5)
        if time.monotonic() - last >= _LINE_EVERY_S:
            last = time.monotonic()
            print(f"compiling {title}: {format_seconds(last - start)}", file=sys.stderr, flush=True)
