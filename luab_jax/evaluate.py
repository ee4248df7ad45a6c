"""Runs robustness suites on a checkpoint.

python -m luab_jax.evaluate --checkpoint=WORKDIR --suites=all|a,b --data=DIR --out=results.json
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from luab_jax import cli
from luab_jax.errors import ExitCode, UserError

if TYPE_CHECKING:
    from luab_jax.config import DistributedConfig
    from luab_jax.evaluation.engine import Missing
    from luab_jax.evaluation.results import Results
    from luab_jax.evaluation.suite import Suite

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    None,
    "The workdir of a run; timm:NAME:FILE.safetensors; or predictions:DIR, which scores what --predictions=DIR kept,"
    " without a model.",
    required=True,
)
_STEP = flags.DEFINE_string(
    "step",
    "latest",
    "Which checkpoint: latest, best (by eval top-1 or mAP, of a moving average if any: a selected score), or a step.",
)
_WEIGHTS = flags.DEFINE_enum(
    "weights",
    None,
    ["raw", "ema"],
    "Of a run with config.optim.ema_decay: ema, the moving average (the default, as `best` goes"
    " by it), or raw, the last step's. The results say so.",
)
_SUITES = flags.DEFINE_string("suites", "all", "all, or names separated by commas.")
_DATA = flags.DEFINE_string("data", None, "Folder of the prepared suites.", required=True)
_OUT = flags.DEFINE_string(
    "out", None, "results.json to write; finished suites in it are not run again.", required=True
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace the results of another checkpoint.")
_PREDICTIONS = flags.DEFINE_string("predictions", None, "A folder to keep all predictions in, two bytes a logit.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "Images per predict, over all devices.", lower_bound=1)
_EXAMPLES = flags.DEFINE_integer(
    "examples", 48, "Example images to keep beside --out, for the report's pictures; 0 keeps none.", lower_bound=0
)
_NUM_THREADS = flags.DEFINE_integer("num_threads", 0, "Decoding threads; 0 takes one per core.", lower_bound=0)

_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "One of several hosts, which find each other on a Cloud TPU pod, Slurm or Open MPI."
)
_COORDINATOR = flags.DEFINE_string("coordinator_address", "", "Elsewhere: host:port of process 0.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "And how many processes there are.", lower_bound=1)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "And which this is, from 0.", lower_bound=0)

_OTHERWISE = "instead of what the checkpoint states; the results say so."
_IMAGE_SIZE = flags.DEFINE_integer("image_size", None, f"Side of the input, pixels, {_OTHERWISE}", lower_bound=1)
_RESIZE_SIDE = flags.DEFINE_integer(
    "resize_side", None, f"Short side before the centre crop, pixels, {_OTHERWISE}", lower_bound=1
)
_FILTER = flags.DEFINE_enum("filter", None, ["bilinear", "bicubic", "bilinear_plain"], f"Resizing, {_OTHERWISE}")
_MEAN = flags.DEFINE_list("mean", None, f"Of the three channels, on [0, 1], {_OTHERWISE}")
_STD = flags.DEFINE_list("std", None, f"Of the three channels, on [0, 1], {_OTHERWISE}")


def main() -> ExitCode:
    # After the flags, so that a usage error answers at once.
    from luab_jax.evaluation.engine import choose_suites
    from luab_jax.hosts import WatchedHosts

    suites = choose_suites(_SUITES.value)
    hosts = _join_hosts()
    with WatchedHosts(hosts.heartbeat_timeout_s, saved="what was kept"):
        return _evaluate(suites)


def _evaluate(suites: Sequence[Suite]) -> ExitCode:
    import jax

    from luab_jax.evaluation import engine
    from luab_jax.evaluation.keep_examples import keep_examples
    from luab_jax.evaluation.results import Results

    is_first = jax.process_index() == 0
    model, predictor = _model()
    results = Results(_OUT.value, model, overwrite=_OVERWRITE.value)
    missing = engine.evaluate(model, predictor, _DATA.value, suites, results, _PREDICTIONS.value)
    why_no_examples = keep_examples(predictor, _DATA.value, suites, _OUT.value, _EXAMPLES.value)
    if is_first:
        _print_results(suites, results)
        _print_missing(missing)
    if not results.suites:
        raise UserError(
            f"no suite could run, for the reasons above; is --data={_DATA.value} the folder of the prepared data?"
        )
    if is_first and why_no_examples:
        print(f"no example images: {why_no_examples}")
    if is_first:
        print(f"results in {_OUT.value}")
    named = _SUITES.value != "all"
    return ExitCode.FAILED if named and missing else ExitCode.DONE


def _join_hosts() -> DistributedConfig:
    from luab_jax import sharding
    from luab_jax.config import DistributedConfig

    config = DistributedConfig(
        enabled=_DISTRIBUTED.value,
        coordinator_address=_COORDINATOR.value,
        num_processes=_NUM_PROCESSES.value,
        process_id=_PROCESS_ID.value,
    )
    sharding.init_distributed(config, prefix="--", flag="--distributed")
    return config


def _print_results(suites: Sequence[Suite], results: Results) -> None:
    from luab_jax.evaluation.report import compilation_line, suite_lines
    from luab_jax.evaluation.results import COMPILATIONS

    for suite in suites:
        if suite.name in results.suites:
            print("\n".join(suite_lines(suite.name, results.suites[suite.name])))
    if COMPILATIONS in results.content:
        print(compilation_line(results.content[COMPILATIONS]))


def _model() -> tuple[Any, Any]:
    """The model, and what predicts with it."""
    from luab_jax import sharding
    from luab_jax.config import MeshConfig
    from luab_jax.data.pipeline import Reading
    from luab_jax.evaluation.loading import load
    from luab_jax.evaluation.predict import Predictor
    from luab_jax.evaluation.saved import SAVED, SavedModel

    changes = _preprocessing_changes()
    if _CHECKPOINT.value.startswith(SAVED):
        if changes or _PREDICTIONS.value or _WEIGHTS.value:
            cli.usage(
                f"--checkpoint={_CHECKPOINT.value} runs no model: neither preprocessing, --weights nor --predictions"
                " apply"
            )
        saved = SavedModel(_CHECKPOINT.value.removeprefix(SAVED))
        return saved, saved
    mesh = sharding.make_mesh(MeshConfig())
    loaded = load(_CHECKPOINT.value, _STEP.value, mesh, changes, _WEIGHTS.value)
    return loaded, Predictor(loaded, mesh, _BATCH_SIZE.value, Reading(num_threads=_NUM_THREADS.value))


def _preprocessing_changes() -> dict[str, Any]:
    from luab_jax.data.transforms import ResizeFilter

    changes: dict[str, Any] = {}
    if _IMAGE_SIZE.value is not None:
        changes["image_size"] = _IMAGE_SIZE.value
    if _RESIZE_SIDE.value is not None:
        changes["resize_side"] = _RESIZE_SIDE.value
    if _FILTER.value is not None:
        changes["filter"] = ResizeFilter(_FILTER.value)
    for flag in (_MEAN, _STD):
        if flag.value is not None:
            changes[flag.name] = _three_numbers(flag.name, flag.value)
    return changes


def _three_numbers(name: str, texts: list[str]) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(text) for text in texts)
    except ValueError:
        cli.usage(f"--{name}={','.join(texts)}: expected three numbers, as in --{name}=0.5,0.5,0.5")
    return red, green, blue


def _print_missing(missing: Sequence[Missing]) -> None:
    """Suites that could not run for the same reason stand in one line."""
    by_reason = sorted(missing, key=lambda entry: entry.reason)
    for reason, entries in itertools.groupby(by_reason, key=lambda entry: entry.reason):
        print(f"not run: {', '.join(entry.suite.name for entry in entries)}: {reason}")


if __name__ == "__main__":
    cli.run(main)
