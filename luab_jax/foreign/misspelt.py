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


def refuse_misspelt(checkpoint: str, native: str) -> None:
    """Raises `UserError` for what can be no workdir: nothing, a kind that there is not, or a model without its kind.

    `native` is the kind of weights that are read natively. Only what is cheap to see is looked at: nothing of a path in
    a bucket.
    """
    if not checkpoint.strip():
        raise UserError(f"{option('checkpoint', checkpoint)}: is empty; name the workdir of a run or a model")
    if "://" in checkpoint or checkpoint.startswith(native):
        return
    called = option("checkpoint", checkpoint)
    for ending, prefix in _BY_ENDING.items():
        if checkpoint.endswith(ending):
            where = ":FUNCTION" if prefix == PYTHON else ""
            raise UserError(f"{called}: the workdir of a run is expected; did you mean {prefix}{checkpoint}{where}?")
    if os.path.exists(checkpoint):
        folder = epath.Path(checkpoint)
        if (folder / "config.json").exists() and (folder / "model.safetensors").exists():
            raise UserError(f"{called}: no workdir of a run; did you mean {HF}{checkpoint}?")
        return
    kind, colon, rest = checkpoint.partition(":")
    if not colon:
        return
    kinds = (native, *PREFIXES)
    near = difflib.get_close_matches(f"{kind.lower()}:", kinds, n=1)
    if near:
        raise UserError(f"{called}: there is no kind {kind!r} of model; did you mean {near[0]}{rest}?")
    if os.path.isdir(kind):
        raise UserError(
            f"{called}: no such folder; {option('step', rest)} beside {option('checkpoint', kind)}, if it is a step"
        )
    raise UserError(f"{called}: no such folder, and no kind of model; those are {', '.join(kinds)}")
