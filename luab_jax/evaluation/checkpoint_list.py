"""Several checkpoints of one command: patterns, names that tell them apart, and where the results of each go."""

from __future__ import annotations

import os
from collections.abc import Sequence

from etils import epath

from luab_jax.errors import UsageError, UserError
from luab_jax.io.console import say

RESULTS = "results.json"
_PATTERN = "*?["


def is_pattern(checkpoint: str) -> bool:
    """Whether it stands for all that match: `RUNS/*`, `onnx:MODELS/*.onnx`."""
    return any(character in checkpoint for character in _PATTERN)


def is_run(checkpoint: str) -> bool:
    """Whether it is the workdir of a run, where results may lie; else its kind stands before a colon."""
    kind, colon, _ = checkpoint.partition(":")
    return not colon or "/" in kind or checkpoint.startswith(f"{kind}://")


def expand(checkpoints: Sequence[str]) -> list[str]:
    """Patterns replaced by what matches, in order; folders without a checkpoint are left out with a line.

    Raises `UserError` for a pattern that nothing matches.
    """
    found: list[str] = []
    for checkpoint in checkpoints:
        if not is_pattern(checkpoint):
            found.append(checkpoint)
            continue
        kind = "" if is_run(checkpoint) else f"{checkpoint.partition(':')[0]}:"
        matching = _matching(checkpoint.removeprefix(kind))
        if not kind:
            runs = [path for path in matching if (epath.Path(path) / "checkpoints").exists()]
            if others := [path for path in matching if path not in runs]:
                say(f"left out, for they hold no checkpoint: {', '.join(others)}")
            matching = runs
        if not matching:
            raise UserError(
                f"--checkpoint={checkpoint}: nothing matches{'' if kind else ' that is the workdir of a run'}"
            )
        found += [f"{kind}{path}" for path in matching]
    return list(dict.fromkeys(found))


def _matching(pattern: str) -> list[str]:
    """Sorted; only the part after the last folder without a pattern is looked up."""
    parts = pattern.split("/")
    first = next(number for number, part in enumerate(parts) if is_pattern(part))
    root = epath.Path("/".join(parts[:first]) or ("/" if pattern.startswith("/") else "."))
    return sorted(os.fspath(path) for path in root.glob("/".join(parts[first:]))) if root.exists() else []


def names_of(checkpoints: Sequence[str]) -> dict[str, str]:
    """By a name for each, which can be that of a file: as many of its last parts as tell it from the others."""
    parts = [_parts(checkpoint) for checkpoint in checkpoints]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["_".join(of_one[-length:]) for of_one in parts]
        if len(set(names)) == len(names):
            break
    else:
        raise UsageError("two --checkpoint are the same")
    return dict(zip(names, checkpoints, strict=True))


def _parts(checkpoint: str) -> list[str]:
    path = checkpoint if is_run(checkpoint) else checkpoint.partition(":")[2]
    for ending in (".onnx", ".safetensors"):
        path = path.removesuffix(ending)
    return [part for part in path.replace(":", "/").split("/") if part not in ("", ".", "..")]


def outs_of(named: dict[str, str], out: str | None) -> dict[str, str]:
    """Where the results of each go: `OUT/NAME.json`, or beside the run."""
    if out is not None:
        if out.endswith(".json"):
            raise UsageError(f"--out={out}: with several checkpoints it is a folder, for NAME.json of each")
        return {name: os.path.join(out, f"{name}.json") for name in named}
    others = [checkpoint for checkpoint in named.values() if not is_run(checkpoint)]
    if others:
        raise UsageError(f"--out=DIR is missing: {others[0]} has no workdir for its results")
    return {name: os.path.join(checkpoint, RESULTS) for name, checkpoint in named.items()}
