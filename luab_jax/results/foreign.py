"""Which kinds of model are not experiments of ours: they were trained elsewhere, without a byproduct."""

from __future__ import annotations

import enum


class Foreign(enum.Enum):
    """How such a model was given; its value takes the place of a byproduct's target in results."""

    TIMM = "timm"
    """A weights file of timm in a native network."""
    FUNCTION = "function"
    """A Python function that was passed to `luab_jax.FunctionModel`."""
    PYTHON = "python"
    ONNX = "onnx"
    TORCH = "torch"
    HF = "hf"


FOREIGN = frozenset(kind.value for kind in Foreign)
