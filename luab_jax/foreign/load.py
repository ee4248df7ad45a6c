"""A model of others by what `--checkpoint` says: its kind is the text before the first colon."""

from __future__ import annotations

from collections.abc import Callable

from luab_jax.errors import UserError, option
from luab_jax.foreign.hf_folder import HF, load_hf
from luab_jax.foreign.model import FunctionModel
from luab_jax.foreign.onnx_file import ONNX, load_onnx
from luab_jax.foreign.options import Options
from luab_jax.foreign.python_function import PYTHON, load_python
from luab_jax.foreign.torch_module import TORCH, load_torch

_LOADERS: dict[str, Callable[[str, Options], FunctionModel]] = {
    ONNX: load_onnx,
    PYTHON: load_python,
    TORCH: load_torch,
    HF: load_hf,
}

PREFIXES = tuple(_LOADERS)


def is_foreign(checkpoint: str) -> bool:
    """Whether it names a model of others, rather than a workdir or weights of a native network."""
    return checkpoint.startswith(PREFIXES)


def load_foreign(checkpoint: str, options: Options) -> FunctionModel:
    """Loads and tries it on drawn images; raises `UserError` that says in one line why it cannot be scored."""
    prefix = next(prefix for prefix in PREFIXES if checkpoint.startswith(prefix))
    if not checkpoint.removeprefix(prefix):
        raise UserError(f"{option('checkpoint', checkpoint)}: a file, folder or module is missing after {prefix}")
    return _LOADERS[prefix](checkpoint, options)
