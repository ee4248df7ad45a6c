"""A slice of the study: its training steps for several seeds, one by one and in one program, then its first runs.

    python -m benchmarks.gpu.studying --photos=DIR --out=DIR [--seconds=120]

Finished runs are kept in OUT/study; `python -m benchmarks.study --out=OUT/study` resumes there.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks.gpu.jax_results import jax_results
from benchmarks.gpu.record import Results, parser
from benchmarks.study import __main__ as study
from benchmarks.study import arms, photos, plan
from benchmarks.study.seeds import time_step
from luab_jax.errors import ExitCode, UserError

PHOTOS = Path(os.environ.get("LUAB_JAX_TEST_DATA", "../shared/data")) / "imagenet_ab_40"
EPOCHS = 8.0


def measure(source: Path, results: Results, *, seconds: float, rehearse: bool) -> None:
    """seconds: For all of it; a run that would not end within them is not begun, so far as others of its model tell."""
    began = time.monotonic()
    out = results.out / ("study-rehearsal" if rehearse else "study")
    clicks = sorted({run.arm.clicks for run in plan.ordered()}, key=lambda of: of.name)
    photos.prepare(source, out, clicks, workers=1 if rehearse else None)  # a process takes longer to start than a toy
    results.add("photos", seconds=time.monotonic() - began)
    seeds, rounds, batch_size = (2, 1, 4) if rehearse else (5, 10, 64)
    for model in list(arms.MODELS)[: 1 if rehearse else None]:
        what = f"{model}, a step and seed"
        try:
            step = time_step(model, seeds=seeds, rounds=rounds, batch_size=batch_size)
            results.add(what, ms_one_by_one=step.apart, ms_in_one=step.together)
        except Exception as e:  # the runs go on
            results.failed(what, e)
    left = 1.0 if rehearse else max(1.0, seconds - (time.monotonic() - began))  # enough to begin with the first run
    epochs = 0.5 if rehearse else EPOCHS
    arguments = [f"--photos={source}", f"--out={out}", f"--budget={left:.0f}", f"--epochs={epochs}"]
    code = study.main(arguments, lambda run, facts: results.add(run, **facts))
    if code != ExitCode.DONE:
        raise UserError(f"the study ended with exit code {int(code)}; its message is above")


def _of_the_kit() -> float:
    """What gpu.sh has left for this step, less what the last run may take too long; 120 s without it."""
    return float(os.environ.get("LUAB_GPU_STEP_S", 140)) - 20


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--photos", type=Path, default=PHOTOS, help="a folder in the layout of imagenet_ab_40")
    options.add_argument("--seconds", type=float, default=_of_the_kit(), help="for all of it")
    asked = options.parse_args()
    results = jax_results(asked.out, "study")
    try:
        measure(asked.photos, results, seconds=asked.seconds, rehearse=asked.rehearse)
    except UserError as e:
        results.failed("study", e)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
