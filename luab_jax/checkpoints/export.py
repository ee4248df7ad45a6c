"""A run's checkpoint as a file of weights that timm reads."""

from __future__ import annotations

import os
from dataclasses import dataclass

from jax.sharding import Mesh

from luab_jax.checkpoints.load import load_stored
from luab_jax.errors import UserError, option
from luab_jax.models.functional import num_parameters
from luab_jax.models.timm_models import timm_call
from luab_jax.models.timm_weights import save_timm

Path = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class ExportedWeights:
    """What a written file holds. As text it is what the command prints."""

    path: str
    name: str
    """Of the run."""
    step: int
    averaged: bool
    """Whether these are the moving average of the weights."""
    num_parameters: int
    without_byproduct_head: bool
    """Whether the checkpoint has a byproduct head, which no model of timm has and which was left out."""
    timm_call: str | None
    """The expression that reads the file, or None where timm has no network of this shape."""

    def __str__(self) -> str:
        average = ", moving average" if self.averaged else ""
        lines = [f"{self.path}: {self.name}, step {self.step}{average}, {self.num_parameters:,} parameters"]
        if self.without_byproduct_head:
            lines.append("left out: the byproduct head, which timm's models do not have")
        if self.timm_call is None:
            lines.append("timm has no network of this shape; names and layouts are those of its nearest")
        else:
            lines.append(f"read it by {self.timm_call}")
        return "\n".join(lines)


def export_weights(checkpoint: Path, out: Path, mesh: Mesh, step: str, weights: str | None) -> ExportedWeights:
    """Writes `out`, a `.safetensors` file, which is replaced if it is there. Raises `UserError`."""
    out = os.fspath(out)
    if not out.endswith(".safetensors"):
        raise UserError(f"{option('out', out)}: the format is safetensors, so the name should end in .safetensors")
    loaded = load_stored(checkpoint, step, mesh, weights)
    params = {part: tree for part, tree in loaded.params.items() if not part.startswith("byproduct_head")}
    save_timm(out, loaded.model, params, loaded.batch_stats)
    call = timm_call(loaded.config, num_classes=loaded.num_classes, image_size=loaded.model.image_size)
    return ExportedWeights(
        path=out,
        name=loaded.name,
        step=loaded.identity["step"],
        averaged=loaded.identity.get("weights") == "ema",
        num_parameters=num_parameters(params),
        without_byproduct_head=loaded.has_byproduct_head,
        timm_call=None if call is None else f"timm.{call[:-1]}, checkpoint_path={out!r})",
    )
