"""A slice of the study: its training steps for several seeds, one by one and in one program, then its first runs.

    python -m benchmarks.gpu.studying --photos=DIR --out=DIR [--seconds=120]

What is finished stands in OUT/study, where `python -m benchmarks.study --out=OUT/study` goes on.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from benchmarks.gpu.jax_results import jax_results
from benchmarks.gpu.record import Results, parser
from benchmarks.study import __main__ as study
from benchmarks.study import arms, photos, plan
from benchmarks.study.runs import SECONDS
from benchmarks.study.seeds import time_step
from luab_jax.errors import ExitCode, UserError

PHOTOS = Path(os.environ.get("LUAB_JAX_TEST_DATA", "../shared/data")) / "imagenet_ab_40"
EPOCHS = 8.0


def measure(source: Path, results: Results, *, seconds: float, rehearse: bool) -> None:
    """seconds: For all of it; a run that would not end within them is not begun, the first of a model excepted."""
    began = time.monotonic()
    out = results.out / "study"
    photos.prepare(source, out, sorted({run.arm.clicks for run in plan.ordered()}, key=lambda of: of.name))
    results.add("photos", seconds=time.monotonic() - began)
    seeds, rounds, batch_size = (2, 1, 4) if rehearse else (5, 10, 64)
    for model in arms.MODELS:
        step = time_step(model, seeds=seeds, rounds=rounds, batch_size=batch_size)
        results.add(f"{model}, a step and seed", ms_one_by_one=step.apart, ms_in_one=step.together)
    left = seconds - (time.monotonic() - began)
    epochs = 0.5 if rehearse else EPOCHS
    code = study.main([f"--photos={source}", f"--out={out}", f"--budget={left:.0f}", f"--epochs={epochs}"])
    for path in sorted((out / "runs").glob(f"*/*/{SECONDS}"), key=lambda path: path.stat().st_mtime):
        run = path.parent.relative_to(out / "runs").as_posix()
        results.add(run, **json.loads(path.read_text()))
    if code != ExitCode.DONE:
        raise UserError(f"the study ended with exit code {int(code)}; what it says stands above")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--photos", type=Path, default=PHOTOS, help="a folder in the layout of imagenet_ab_40")
    options.add_argument("--seconds", type=float, default=120.0, help="for all of it")
    asked = options.parse_args()
    results = jax_results(asked.out, "study")
    try:
        measure(asked.photos, results, seconds=asked.seconds, rehearse=asked.rehearse)
    except UserError as e:
        results.failed("study", e)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
