"""The study: `python -m benchmarks.study --photos=DIR --out=DIR [--budget=cpu-1h|cpu-8h|gpu-10min|SECONDS]`.

Prepares the photos and the suites that are made of them, chooses λ, trains every arm and its control in the order of
worth, scores each by every suite, and writes table and report (OUT/study.md, OUT/study.html). It stops when the next
run would not end within the budget. Interrupted, or started again with a further budget, it continues: finished runs
are kept, and the number of epochs stays what the first start set.

--photos  a folder in the layout of imagenet_ab_40 (real photos and boxes, simulated clicks)
--plan    prints the runs in their order, and runs nothing
--report  writes table and report of what is there, and runs nothing
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.study import arms, photos, plan
from benchmarks.study.plan import Run
from luab_jax.errors import ExitCode, UserError

BUDGETS = {"cpu-1h": 3600.0, "cpu-8h": 8 * 3600.0, "gpu-10min": 600.0}
_MAX_EPOCHS = 30.0
_HEADLINE_SHARE = 0.5
"""Of the budget, which three seeds of the headline may take for the ResNet: what the number of epochs follows from."""


Finished = Callable[[str, dict[str, float]], None]
"""Told the name of a run that has ended and what stands in its `seconds.json`."""


def main(argv: list[str] | None = None, finished: Finished | None = None) -> ExitCode:
    """finished: of every run of this call."""
    arguments = _parser().parse_args(argv)
    out = Path(arguments.out)
    if arguments.plan:
        for place, run in enumerate([*plan.choosing(), *plan.ordered()], 1):
            print(f"{place:3d}  {run.name:<28} {run.arm.about}")
        return ExitCode.DONE
    try:
        if not arguments.report:
            _run(Path(arguments.photos), out, _seconds(arguments.budget), arguments.epochs, finished)
        from benchmarks.study.report import write

        print(write(out))
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return ExitCode.FAILED
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return ExitCode.STOPPED_RESUMABLE
    return ExitCode.DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", default="../shared/data/imagenet_ab_40")
    parser.add_argument("--out", required=True)
    parser.add_argument("--budget", default="cpu-1h", help="cpu-1h, cpu-8h, gpu-10min, or seconds")
    parser.add_argument("--epochs", type=float, help="instead of what the probe gives")
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--report", action="store_true")
    return parser


def _seconds(budget: str) -> float:
    try:
        return BUDGETS[budget] if budget in BUDGETS else float(budget)
    except ValueError as e:
        raise UserError(f"--budget={budget}: expected {', '.join(BUDGETS)}, or seconds") from e


def _run(source: Path, out: Path, budget: float, epochs: float | None, finished: Finished | None) -> None:
    clicks = {run.arm.clicks for run in plan.ordered()}
    photos.prepare(source, out, sorted(clicks, key=lambda of: of.name))
    start = time.monotonic()
    study = _settings(out, budget, epochs)
    for run in plan.choosing():
        _carry_out(run, out, study, arms.DEFAULT_LAMBDA, start + budget, finished)
    weight = _choose(out)
    for run in plan.ordered():
        if not _carry_out(run.at(weight), out, study, weight, start + budget, finished):
            print(f"the budget is used up: {run.name} and what comes after it are left for another time")
            return


def _settings(out: Path, budget: float, epochs: float | None) -> float:
    """The study's epochs: those of its first start."""
    from benchmarks.study.probe import epoch_seconds

    path = out / "study.json"
    if path.exists():
        return float(json.loads(path.read_text())["epochs"])
    if epochs is None:
        seconds = epoch_seconds(out)
        runs = 3 * 3 + len(plan.choosing())
        epochs = min(_MAX_EPOCHS, max(1.0, _HEADLINE_SHARE * budget / (runs * seconds)))
        print(f"one epoch of the ResNet takes {seconds:.0f} s here: {epochs:.1f} epochs a run")
    path.write_text(json.dumps({"epochs": round(epochs, 2), "budget_s": budget}))
    return round(epochs, 2)


def _carry_out(run: Run, out: Path, epochs: float, weight: float, end: float, finished: Finished | None) -> bool:
    """Whether there was time for it."""
    from benchmarks.study import runs

    if runs.is_finished(out, run):
        return True
    expected = _expected(out, run)
    if expected is not None and time.monotonic() + expected > end:
        return False
    try:
        seconds = runs.carry_out(run, out, weight=weight, epochs=epochs)
    except runs.StoppedError as e:
        raise KeyboardInterrupt from e
    print(f"{run.name:<28} {seconds:6.0f} s", flush=True)
    if finished is not None:
        finished(run.name, json.loads((out / "runs" / run.name / runs.SECONDS).read_text()))
    return True


def _expected(out: Path, run: Run) -> float | None:
    """Seconds, by the run of this model that was slowest for its length."""
    from benchmarks.study.runs import SECONDS

    known = [json.loads(path.read_text()) for path in (out / "runs" / run.model).glob(f"*/{SECONDS}")]
    rates = [facts["seconds"] / facts.get("length", 1) for facts in known]
    return max(rates) * run.arm.length if rates else None


def _choose(out: Path) -> float:
    """λ with the highest top-1 on `choose`; the smaller of equals."""
    from benchmarks.study.report import value_of
    from benchmarks.study.runs import is_finished

    runs = [run for run in plan.choosing() if is_finished(out, run)]
    if not runs:
        return arms.DEFAULT_LAMBDA
    best = max(runs, key=lambda run: value_of(out, run, "photos_to_choose", "top1"))
    assert best.arm.weight is not None
    print(f"λ = {best.arm.weight:g}, chosen on training photos that no run trained on")
    return best.arm.weight


if __name__ == "__main__":
    sys.exit(main())
