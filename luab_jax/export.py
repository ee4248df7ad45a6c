"""A checkpoint as weights for timm: `python -m luab_jax.export --checkpoint=WORKDIR --out=FILE.safetensors`."""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

from luab_jax import cli
from luab_jax.errors import ExitCode

_COMMAND = cli.Command(
    "python -m luab_jax.export",
    "Writes a checkpoint as a safetensors file by timm's names, without the byproduct head,\n"
    "and prints the call of timm that reads it.",
    (
        "--checkpoint=RUNS/r50 --out=r50.safetensors",
        "--checkpoint=RUNS/vit_b --weights=ema --out=vit_b_average.safetensors",
        "--checkpoint=gs://BUCKET/runs/r50 --step=best --out=gs://BUCKET/r50.safetensors",
    ),
)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "The workdir of a run.", required=True, flag_values=_COMMAND.flags
)
_STEP = flags.DEFINE_string("step", "latest", "Which checkpoint: latest, best, or a step.", flag_values=_COMMAND.flags)
_WEIGHTS = flags.DEFINE_enum(
    "weights",
    None,
    ["raw", "ema"],
    "Of a run with config.optim.ema_decay: raw, the last step's (the default), or ema, the moving average.",
    flag_values=_COMMAND.flags,
)
_OUT = flags.DEFINE_string(
    "out",
    None,
    "The .safetensors file to write; one that is there is replaced.",
    required=True,
    flag_values=_COMMAND.flags,
)


def main(argv: Sequence[str] | None = None) -> ExitCode:
    """Runs the command; see `--help`."""
    return _COMMAND.run(_main, argv)


def _main(arguments: cli.Arguments) -> ExitCode:
    del arguments
    if not _OUT.value.endswith(".safetensors"):
        cli.usage(f"--out={_OUT.value}: the format is safetensors, so the name should end in .safetensors")
    from luab_jax import api  # after the flags, so that a usage error answers at once

    print(api.export_timm(_CHECKPOINT.value, _OUT.value, step=_STEP.value, weights=_WEIGHTS.value))
    return ExitCode.DONE


if __name__ == "__main__":
    cli.run_program(main)
