"""A `--checkpoint` that names no kind of model: what was probably meant."""

from __future__ import annotations

import difflib
import os

from etils import epath

from luab_jax.errors import UserError, option
from luab_jax.foreign.hf_folder import HF
from luab_jax.foreign.load import PREFIXES
from luab_jax.foreign.onnx_file import ONNX
from luab_jax.foreign.python_function import PYTHON

_BY_ENDING = {".onnx": ONNX, ".py": PYTHON}
_NEAR = 0.8
"""Share of letters that a misspelt kind has in common with the kind: `tf:` is not `hf:`."""


def refuse_misspelt(checkpoint: str, native: str, saved: str) -> None:
    """Raises `UserError` for what can be no workdir: nothing, a kind that there is not, or a model without its kind.

    `native` is the kind of weights that are read natively, `saved` that of predictions, which no function but
    `run_suites` takes. Only what is cheap to see is looked at: nothing of a path in a bucket.
    """
    if not checkpoint.strip():
        raise UserError(f"{option('checkpoint', checkpoint)}: is empty; name the workdir of a run or a model")
    if checkpoint.startswith(native):
        return
    called = option("checkpoint", checkpoint)
    if checkpoint.startswith(saved):
        raise UserError(f"{called}: predictions are no model to load; run_suites takes {checkpoint!r} itself")
    kind, rest = _parts(checkpoint)
    kinds = (native, *PREFIXES, saved)
    if kind and not os.path.isdir(kind) and (near := difflib.get_close_matches(f"{kind.lower()}:", kinds, 1, _NEAR)):
        raise UserError(f"{called}: there is no kind {kind!r} of model; did you mean {near[0]}{rest}?")
    if "://" in checkpoint or os.path.exists(os.path.join(checkpoint, "checkpoints")):
        return
    if meant := _of_file(rest):
        raise UserError(f"{called}: the workdir of a run is expected; did you mean {meant}?")
    if os.path.exists(checkpoint):
        folder = epath.Path(checkpoint)
        if (folder / "config.json").exists() and (folder / "model.safetensors").exists():
            raise UserError(f"{called}: no workdir of a run; did you mean {HF}{checkpoint}?")
        return
    kind, colon, rest = checkpoint.partition(":")
    if not colon:
        return
    if os.path.isdir(kind):
        step = f"; {option('step', rest)} beside {option('checkpoint', kind)}, if it is a step" if rest else ""
        raise UserError(f"{called}: no such folder{step or f'; did you mean {kind}?'}")
    raise UserError(f"{called}: no such folder, and no kind of model; those are {', '.join(kinds)}")


def _parts(checkpoint: str) -> tuple[str, str]:
    """What may be meant as a kind, and what is left; no path is a kind, nor is the scheme of a bucket."""
    kind, colon, rest = checkpoint.partition(":")
    if not colon or rest.startswith("//") or "/" in kind or "." in kind or os.path.exists(checkpoint):
        return "", checkpoint
    return kind, rest


def _of_file(path: str) -> str | None:
    """What a path with the ending of a model was meant as; a function may follow behind a colon."""
    file, colon, function = path.rpartition(":")
    if colon and file.lower().endswith(".py"):
        return f"{PYTHON}{file}:{function or 'FUNCTION'}"
    for ending, prefix in _BY_ENDING.items():
        if path.lower().endswith(ending):
            return f"{prefix}{path}{':FUNCTION' if prefix == PYTHON else ''}"
    return None
