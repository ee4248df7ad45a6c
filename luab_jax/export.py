"""A checkpoint as weights for timm: `python -m luab_jax.export --checkpoint=WORKDIR --out=FILE.safetensors`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from absl import flags

from luab_jax import cli
from luab_jax.errors import ExitCode, UserError

if TYPE_CHECKING:
    from luab_jax.evaluation.loading import LoadedModel

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "The workdir of a run.", required=True)
_STEP = flags.DEFINE_string("step", "latest", "Which checkpoint: latest, best, or a step.")
_WEIGHTS = flags.DEFINE_enum(
    "weights",
    None,
    ["raw", "ema"],
    "Of a run with config.optim.ema_decay: ema, the moving average (the default), or raw, the last step's.",
)
_OUT = flags.DEFINE_string("out", None, "The .safetensors file to write; one that is there is replaced.", required=True)


def main() -> ExitCode:
    # After the flags, so that a usage error answers at once.
    from luab_jax import sharding
    from luab_jax.config import MeshConfig
    from luab_jax.evaluation.loading import load_stored
    from luab_jax.models.functional import num_parameters
    from luab_jax.models.timm_weights import save_timm

    if not _OUT.value.endswith(".safetensors"):
        cli.usage(f"--out={_OUT.value}: the format is safetensors, so the name should end in .safetensors")
    loaded = load_stored(_CHECKPOINT.value, _STEP.value, sharding.make_mesh(MeshConfig()), _WEIGHTS.value)
    params = {part: tree for part, tree in loaded.params.items() if part != "byproduct_head"}
    try:
        save_timm(_OUT.value, loaded.model, params, loaded.batch_stats)
    except OSError as e:
        raise UserError(f"--out={_OUT.value}: cannot be written ({e.strerror or e})") from e
    averaged = ", moving average" if loaded.identity.get("weights") == "ema" else ""
    told = f"{loaded.name}, step {loaded.identity['step']}{averaged}, {num_parameters(params):,} parameters"
    print(f"{_OUT.value}: {told}")
    if loaded.has_byproduct_head:
        print("left out: the byproduct head, which timm's models do not have")
    print(_how_to_load(loaded))
    return ExitCode.DONE


def _how_to_load(loaded: LoadedModel) -> str:
    """The call of timm, or why there is none."""
    from luab_jax.models.timm_models import timm_call

    call = timm_call(loaded.config, num_classes=loaded.num_classes, image_size=loaded.model.image_size)
    if call is None:
        return "timm has no network of this shape; names and layouts are those of its nearest"
    return f"read it by timm.{call[:-1]}, checkpoint_path='{_OUT.value}')"


if __name__ == "__main__":
    cli.run(main)
