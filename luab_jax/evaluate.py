"""Runs robustness suites on a checkpoint.

python -m luab_jax.evaluate --checkpoint=WORKDIR --suites=all|a,b --data=DIR --out=results.json
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from absl import flags

from luab_jax import cli
from luab_jax.errors import ExitCode
from luab_jax.evaluation import suite_names

if TYPE_CHECKING:
    from luab_jax.config import DistributedConfig


def _suites() -> str:
    text = f"Suites: {', '.join(suite_names.ALL)}; by name only: {', '.join(suite_names.BY_NAME_ONLY)}."
    return textwrap.fill(text, 100, subsequent_indent=" " * 6, break_on_hyphens=False)


_COMMAND = cli.Command(
    "python -m luab_jax.evaluate",
    "Scores a checkpoint by the robustness suites whose data it finds below --data.\n"
    "The same command continues after an interruption; suites that are in --out are not run again.",
    (
        "--checkpoint=RUNS/r50 --suites=all --data=DATA --out=RUNS/r50/results.json",
        "--checkpoint=timm:resnet50.tv_in1k:FILE.safetensors --suites=imagenet,imagenet_a --data=DATA --out=timm.json",
        "--checkpoint='RUNS/*' --step=best --suites=imagenet --data=gs://BUCKET/data --out=BEST",
    ),
    lists=_suites,
)
_CHECKPOINT = flags.DEFINE_multi_string(
    "checkpoint",
    None,
    "The workdir of a run; timm:NAME:FILE.safetensors; a model of others: onnx:FILE, torch:timm/NAME[:FILE],"
    " torch:MODULE:FUNCTION, hf:FOLDER or python:MODULE:FUNCTION; or"
    " predictions:DIR, which scores what --predictions=DIR kept, without a model. Several, or a"
    " pattern in quotes ('RUNS/*'), are evaluated in one pass.",
    required=True,
    flag_values=_COMMAND.flags,
)
_STEP = flags.DEFINE_string(
    "step",
    "latest",
    "Which checkpoint: latest, best (by eval top-1 or mAP of the raw weights: a selected score), or a step.",
    flag_values=_COMMAND.flags,
)
_WEIGHTS = flags.DEFINE_enum(
    "weights",
    None,
    ["raw", "ema", "both"],
    "Of a run with config.optim.ema_decay: raw, the last step's, which DeiT reports (the default); ema, the moving"
    " average; or both, which writes the average's results beside --out, as NAME.ema.json.",
    flag_values=_COMMAND.flags,
)
_TIMM_SIZE = flags.DEFINE_enum(
    "timm_size",
    None,
    ["test", "train"],
    "Of timm's weights that have two input sizes: test, the one that timm's own validation takes (the default), or"
    " train. The results say so.",
    flag_values=_COMMAND.flags,
)
_DTYPE = flags.DEFINE_enum(
    "dtype",
    "float32",
    ["float32", "bfloat16"],
    "Type of activations and products, whatever the run was trained in. The results say so.",
    flag_values=_COMMAND.flags,
)
_OF_OTHERS = "Of models of others:"
_CLASSES = flags.DEFINE_string(
    "classes",
    None,
    f"{_OF_OTHERS} the class id of each output in their order, one a line; ImageNet's wnids if left out.",
    flag_values=_COMMAND.flags,
)
_OUTPUTS = flags.DEFINE_enum(
    "outputs",
    None,
    ["logits", "probabilities"],
    f"{_OF_OTHERS} what they return, if they do not say it.",
    flag_values=_COMMAND.flags,
)
_CHANNELS = flags.DEFINE_enum(
    "channels", None, ["rgb", "bgr"], f"{_OF_OTHERS} order of the channels.", flag_values=_COMMAND.flags
)
_LAYOUT = flags.DEFINE_enum(
    "layout",
    None,
    ["nhwc", "nchw"],
    f"{_OF_OTHERS} order of the axes, if they do not say it.",
    flag_values=_COMMAND.flags,
)
_CLASSIFIER = flags.DEFINE_string(
    "classifier",
    None,
    f"{_OF_OTHERS} FILE.npy of text embeddings, a row for each class: the model's image embeddings are classified by"
    " the nearest (zero-shot).",
    flag_values=_COMMAND.flags,
)
_MAPS = flags.DEFINE_string(
    "maps",
    None,
    f"{_OF_OTHERS} rise, or rise:MASKS: localisation by occlusion, 1,000 (or MASKS) predictions for each image.",
    flag_values=_COMMAND.flags,
)
_FONT = flags.DEFINE_string(
    "font",
    None,
    "SourceHanSerifSC-ExtraLight.otf, with which imagenet_w_generated draws its watermark on the images.",
    flag_values=_COMMAND.flags,
)
_TRUST = flags.DEFINE_bool(
    "trust",
    False,
    f"{_OF_OTHERS} unpickle their files, which can run any code that they hold. Only for files of your own.",
    flag_values=_COMMAND.flags,
)
_SUITES = flags.DEFINE_string("suites", "all", "all, or names separated by commas.", flag_values=_COMMAND.flags)
_DATA = flags.DEFINE_string("data", None, "Folder of the prepared suites.", required=True, flag_values=_COMMAND.flags)
_OUT = flags.DEFINE_string(
    "out",
    None,
    "results.json to write; finished suites in it are not run again. Of a run it is WORKDIR/results.json if left out."
    " With several checkpoints it is a folder.",
    flag_values=_COMMAND.flags,
)
_OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Replace the results of another checkpoint.", flag_values=_COMMAND.flags
)
_PREDICTIONS = flags.DEFINE_string(
    "predictions", None, "A folder to keep all predictions in, two bytes a logit.", flag_values=_COMMAND.flags
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size",
    None,
    "Images per predict, over all devices; 256 if it is not given, but no fewer than 32 a device.",
    lower_bound=1,
    flag_values=_COMMAND.flags,
)
_EXAMPLES = flags.DEFINE_integer(
    "examples",
    48,
    "Example images to keep beside --out, for the report's pictures; 0 keeps none.",
    lower_bound=0,
    flag_values=_COMMAND.flags,
)
_NUM_THREADS = flags.DEFINE_integer(
    "num_threads", 0, "Decoding threads; 0 takes one per core.", lower_bound=0, flag_values=_COMMAND.flags
)
_WORKERS = flags.DEFINE_integer(
    "workers",
    0,
    "Processes that decode sets of some thousand images in place of the threads; -1 takes one per core.",
    lower_bound=-1,
    flag_values=_COMMAND.flags,
)
_CACHE = flags.DEFINE_string(
    "cache",
    None,
    "A local folder that keeps whole shards of --data, fetched once per host: DIR, or DIR:SIZE as in /mnt/ssd:200GB.",
    flag_values=_COMMAND.flags,
)

_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "One of several hosts, which find each other on a Cloud TPU pod, Slurm or Open MPI.",
    flag_values=_COMMAND.flags,
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator_address", "", "Elsewhere: host:port of process 0.", flag_values=_COMMAND.flags
)
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "And how many processes there are.", lower_bound=1, flag_values=_COMMAND.flags
)
_PROCESS_ID = flags.DEFINE_integer(
    "process_id", None, "And which this is, from 0.", lower_bound=0, flag_values=_COMMAND.flags
)

_OTHERWISE = "instead of what the checkpoint states; the results say so."
_IMAGE_SIZE = flags.DEFINE_integer(
    "image_size", None, f"Side of the input, pixels, {_OTHERWISE}", lower_bound=1, flag_values=_COMMAND.flags
)
_RESIZE_SIDE = flags.DEFINE_integer(
    "resize_side",
    None,
    f"Short side before the centre crop, pixels, {_OTHERWISE}",
    lower_bound=1,
    flag_values=_COMMAND.flags,
)
_FILTER = flags.DEFINE_enum(
    "filter", None, ["bilinear", "bicubic", "bilinear_plain"], f"Resizing, {_OTHERWISE}", flag_values=_COMMAND.flags
)
_MEAN = flags.DEFINE_list("mean", None, f"Of the three channels, on [0, 1], {_OTHERWISE}", flag_values=_COMMAND.flags)
_STD = flags.DEFINE_list("std", None, f"Of the three channels, on [0, 1], {_OTHERWISE}", flag_values=_COMMAND.flags)


def main(argv: Sequence[str] | None = None) -> ExitCode:
    """Runs the command; see `--help`."""
    words = list(sys.argv[1:] if argv is None else map(str, argv))
    return _COMMAND.run(partial(_main, words), argv)


def _main(words: Sequence[str], arguments: cli.Arguments) -> ExitCode:
    # After the flags, so that a usage error answers at once.
    del arguments
    if _DISTRIBUTED.value or _COORDINATOR.value:
        from luab_jax.distributed import parent

        if parent.is_parent():
            return parent.watch("luab_jax.evaluate", words)
    from luab_jax.distributed.watchdog import WatchedHosts
    from luab_jax.evaluation.checkpoint_list import RESULTS, expand, is_pattern, is_run
    from luab_jax.evaluation.run import check_places
    from luab_jax.evaluation.runner import choose_suites

    choose_suites(_SUITES.value)
    check_places(_OUT.value, _PREDICTIONS.value)
    hosts = _join_hosts()
    with WatchedHosts(hosts.heartbeat_timeout_s, saved="what was kept"):
        checkpoints = _CHECKPOINT.value
        if len(checkpoints) > 1 or is_pattern(checkpoints[0]):
            return _evaluate_together(expand(checkpoints))
        [checkpoint] = checkpoints
        if _OUT.value is None and not is_run(checkpoint):
            cli.usage("--out=... is missing")
        out = _OUT.value or f"{checkpoint}/{RESULTS}"
        if _WEIGHTS.value != "both":
            return _evaluate(checkpoint, _WEIGHTS.value, out)
        if _PREDICTIONS.value:
            cli.usage("--weights=both with --predictions: the folder is for one set of weights; evaluate them in turn")
        # The average first: a run that keeps none is told at once.
        average = _evaluate(checkpoint, "ema", f"{out.removesuffix('.json')}.ema.json")
        return max(average, _evaluate(checkpoint, "raw", out))


def _evaluate(checkpoint: str, weights: str | None, out: str) -> ExitCode:
    import jax

    from luab_jax import api

    results = api.run_suites(
        _model(checkpoint, weights),
        _DATA.value,
        _SUITES.value,
        out,
        **_options(),
    )
    if jax.process_index() == 0:
        print(results)
        print(f"results in {out}")
    named = _SUITES.value != "all"
    return ExitCode.FAILED if named and results.missing else ExitCode.DONE


def _evaluate_together(checkpoints: list[str]) -> ExitCode:
    """In one pass. A checkpoint that cannot be loaded or scored is named at the end, and makes the exit code."""
    import jax

    from luab_jax import api
    from luab_jax.errors import UserError
    from luab_jax.evaluation.checkpoint_list import names_of, outs_of
    from luab_jax.evaluation.saved_predictions import SAVED

    if any(checkpoint.startswith(SAVED) for checkpoint in checkpoints):
        cli.usage(f"--checkpoint={SAVED}DIR decodes no image; score it by itself")
    named = names_of(checkpoints)
    outs = outs_of(named, _OUT.value)
    weights = ("ema", "raw") if _WEIGHTS.value == "both" else (_WEIGHTS.value,)
    models, places = {}, {}
    for name, checkpoint in named.items():
        for of_one in weights:
            key = f"{name}.ema" if weights == ("ema", "raw") and of_one == "ema" else name
            models[key] = partial(_model, checkpoint, of_one)
            places[key] = outs[name] if key == name else f"{outs[name].removesuffix('.json')}.ema.json"
    found = api.run_suites_together(
        models,
        _DATA.value,
        _SUITES.value,
        places,
        **_options(),
    )
    failed = {name: outcome for name, outcome in found.items() if isinstance(outcome, UserError)}
    done = {name: outcome for name, outcome in found.items() if not isinstance(outcome, UserError)}
    if jax.process_index() == 0:
        for name, outcome in done.items():
            print(f"{name}\n{textwrap.indent(str(outcome), '  ')}\n  results in {places[name]}")
        cli.tell_repeated_requests()
        for name, error in failed.items():
            print(f"error: {name}: {error}", file=sys.stderr)
    incomplete = _SUITES.value != "all" and any(outcome.missing for outcome in done.values())
    return ExitCode.FAILED if failed or incomplete else ExitCode.DONE


def _options() -> dict[str, Any]:
    """Those of one checkpoint and of several alike."""
    return {
        "maps": _MAPS.value,
        "font": _FONT.value,
        "overwrite": _OVERWRITE.value,
        "predictions": _PREDICTIONS.value,
        "examples": _EXAMPLES.value,
        "batch_size": _BATCH_SIZE.value,
        "num_threads": _NUM_THREADS.value,
        "workers": _WORKERS.value,
        "cache": _CACHE.value,
    }


def _join_hosts() -> DistributedConfig:
    from luab_jax.config import DistributedConfig
    from luab_jax.distributed import sharding

    config = DistributedConfig(
        enabled=_DISTRIBUTED.value,
        coordinator_address=_COORDINATOR.value,
        num_processes=_NUM_PROCESSES.value,
        process_id=_PROCESS_ID.value,
    )
    sharding.init_distributed(config, prefix="--", flag="--distributed")
    return config


def _model(checkpoint: str, weights: str | None) -> Any:
    """What a --checkpoint names."""
    from luab_jax import api
    from luab_jax.data.transforms import ResizeFilter
    from luab_jax.evaluation.saved_predictions import SAVED

    changes = {
        "image_size": _IMAGE_SIZE.value,
        "resize_side": _RESIZE_SIDE.value,
        "filter": ResizeFilter(_FILTER.value) if _FILTER.value else None,
        "mean": _MEAN.value,
        "std": _STD.value,
    }
    if checkpoint.startswith(SAVED):
        other = (_PREDICTIONS.value, _WEIGHTS.value, _TIMM_SIZE.value, _FONT.value, _COMMAND.flags["dtype"].present)
        if any(other) or any(value is not None for value in changes.values()):
            cli.usage(
                f"--checkpoint={checkpoint} runs no model: neither preprocessing, --weights, --timm_size,"
                " --dtype, --font nor --predictions apply"
            )
        return checkpoint
    for name in ("mean", "std"):
        if changes[name] is not None:
            changes[name] = _three_numbers(name, changes[name])
    return api.load(
        checkpoint,
        step=_STEP.value,
        weights=weights,
        dtype=_DTYPE.value,
        timm_size=_TIMM_SIZE.value,
        classes=_CLASSES.value,
        outputs=_OUTPUTS.value,
        channels=_CHANNELS.value,
        layout=_LAYOUT.value,
        classifier=_CLASSIFIER.value,
        trust=_TRUST.value,
        **changes,
    )


def _three_numbers(name: str, texts: list[str]) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(text) for text in texts)
    except ValueError:
        cli.usage(f"--{name}={','.join(texts)}: expected three numbers, as in --{name}=0.5,0.5,0.5")
    return red, green, blue


if __name__ == "__main__":
    cli.run_program(main)
