"""Whether a network is the one after which it is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OVERRIDES = ("stage_sizes", "embed_dim", "depth", "num_heads", "registers", "mlp", "layer_scale")
_OF_A_PRESET: dict[str, tuple[Any, ...]] = {
    "model.width": (None, 64),
    "model.stem": ("imagenet",),
    "model.patch_size": (None, 16),
    "model.pool": ("token",),
    **dict.fromkeys((f"model.{field}" for field in _OVERRIDES), (None,)),
}
"""The values of a config's fields by which a network is the preset of its name."""


def changes(experiment: Mapping[str, Any]) -> str:
    """`width=16, stem=patch`: what a config changes in the preset. Empty if nothing, as of published weights."""
    changed = {name: experiment[name] for name in _OF_A_PRESET if name in experiment}
    return ", ".join(
        f"{name.removeprefix('model.')}={value}" for name, value in changed.items() if value not in _OF_A_PRESET[name]
    )
