"""Runs robustness suites on a checkpoint.

python -m luab_jax.evaluate --checkpoint=WORKDIR --suites=all|a,b --data=DIR --out=results.json
"""

from __future__ import annotations

from absl import flags

from luab_jax import cli
from luab_jax.errors import ExitCode, UserError

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "The workdir of a run.", required=True)
_STEP = flags.DEFINE_string(
    "step",
    "latest",
    "Which checkpoint: latest, best (by eval top-1 or mAP, so a selected score), or a step.",
)
_SUITES = flags.DEFINE_string("suites", "all", "all, or names separated by commas.")
_DATA = flags.DEFINE_string("data", None, "Folder of the prepared suites.", required=True)
_OUT = flags.DEFINE_string(
    "out", None, "results.json to write; finished suites in it are not run again.", required=True
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace the results of another checkpoint.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "Images per predict, over all devices.", lower_bound=1)
_NUM_THREADS = flags.DEFINE_integer("num_threads", 0, "Decoding threads; 0 takes one per core.", lower_bound=0)


def main() -> ExitCode:
    # After the flags, so that a usage error answers at once.
    from luab_jax import sharding
    from luab_jax.config import MeshConfig
    from luab_jax.data.pipeline import Reading
    from luab_jax.evaluation import engine
    from luab_jax.evaluation.loading import load
    from luab_jax.evaluation.predict import Predictor
    from luab_jax.evaluation.report import suite_lines

    suites = engine.choose_suites(_SUITES.value)
    mesh = sharding.make_mesh(MeshConfig())
    loaded = load(_CHECKPOINT.value, _STEP.value, mesh)
    results = engine.Results(_OUT.value, loaded, overwrite=_OVERWRITE.value)
    predictor = Predictor(loaded, mesh, _BATCH_SIZE.value, Reading(num_threads=_NUM_THREADS.value))
    missing = engine.evaluate(loaded, predictor, _DATA.value, suites, results)
    for suite in suites:
        if suite.name in results.suites:
            print("\n".join(suite_lines(suite.name, results.suites[suite.name])))
    for entry in missing:
        print(f"not run: {entry.suite.name}: {entry.reason}")
    if not results.suites:
        raise UserError(f"no suite could run; is --data={_DATA.value} the folder of the prepared data?")
    print(f"results in {_OUT.value}")
    named = _SUITES.value != "all"
    return ExitCode.FAILED if named and missing else ExitCode.DONE


if __name__ == "__main__":
    cli.run(main)
