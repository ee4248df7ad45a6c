"""The study: `python -m benchmarks.study --photos=DIR --out=DIR [--budget=cpu-1h|cpu-8h|gpu-10min|SECONDS]`.

Prepares the photos and the suites that are made of them, chooses λ, trains every arm and its control in the order of
worth, scores each by every suite, and writes table and report (OUT/study.md, OUT/study.html). It stops when the next
run would not end within the budget. Interrupted, or started again with a further budget, it continues: finished runs
are kept, and the number of epochs stays what the first start set.

--photos  a folder in the layout of imagenet_ab_40 (real photos and boxes, simulated clicks)
--jobs=N  N runs at a time, each on its share of the cores: on CPUs, one for each core is fastest
--plan    prints the runs in their order, and runs nothing
--report  writes table and report of what is there, and runs nothing
--run     this run of the plan alone, in a study that has begun; --weight is λ of arms that state none
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

from benchmarks.study import arms, photos, plan
from benchmarks.study.schedule import Finished, Schedule
from luab_jax.errors import ExitCode, UserError

BUDGETS = {"cpu-1h": 3600.0, "cpu-8h": 8 * 3600.0, "gpu-10min": 600.0}
SETTINGS = "study.json"
_MAX_EPOCHS = 30.0
_HEADLINE_SHARE = 0.5
"""Of the budget, which three seeds of the headline may take for the ResNet: what the number of epochs follows from."""


def main(argv: list[str] | None = None, finished: Finished | None = None) -> ExitCode:
    """finished: of every run of this call."""
    arguments = _parser().parse_args(argv)
    out = Path(arguments.out)
    if arguments.plan:
        for place, run in enumerate([*plan.choosing(), *plan.ordered()], 1):
            print(f"{place:3d}  {run.name:<28} {run.arm.about}")
        return ExitCode.DONE
    try:
        if arguments.run:
            _run_one(out, arguments.run, arguments.weight)
            return ExitCode.DONE
        if not arguments.report:
            jobs, budget = _jobs(arguments.jobs), _seconds(arguments.budget)
            schedule = _begin(Path(arguments.photos), out, budget, arguments.epochs)
            schedule.jobs, schedule.finished = jobs, finished
            _run(schedule)
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
    parser.add_argument("--jobs", type=int, default=1, metavar="N")
    parser.add_argument("--run", metavar="MODEL/ARM-seedN")
    parser.add_argument("--weight", type=float, default=arms.DEFAULT_LAMBDA, metavar="λ")
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--report", action="store_true")
    return parser


def _seconds(budget: str) -> float:
    try:
        return BUDGETS[budget] if budget in BUDGETS else float(budget)
    except ValueError as e:
        raise UserError(f"--budget={budget}: expected {', '.join(BUDGETS)}, or seconds") from e


def _jobs(wanted: int) -> int:
    if wanted > 1 and not hasattr(os, "sched_setaffinity"):
        raise UserError(f"--jobs={wanted}: runs are bound to cores, which only Linux lets a process do")
    cores = len(os.sched_getaffinity(0)) if wanted != 1 else 1
    if not 1 <= wanted <= cores:
        raise UserError(f"--jobs={wanted}: expected 1 to {cores}, the cores of this machine")
    return wanted


def _begin(source: Path, out: Path, budget: float, epochs: float | None) -> Schedule:
    clicks = {run.arm.clicks for run in plan.ordered()}
    photos.prepare(source, out, sorted(clicks, key=lambda of: of.name))
    start = time.monotonic()  # the probe is part of the budget
    return Schedule(out, _settings(out, budget, epochs), start + budget)


def _run(schedule: Schedule) -> None:
    left = schedule.carry_out(plan.choosing(), arms.DEFAULT_LAMBDA)
    if not left:
        weight = _choose(schedule.out)
        left = schedule.carry_out([run.at(weight) for run in plan.ordered()], weight)
    if left:
        print(f"the budget is used up: {len(left)} runs, from {left[0].name} on, are left for another time")


def _run_one(out: Path, name: str, weight: float) -> None:
    planned = [*plan.choosing(), *plan.ordered()]
    known = {run.name: run for run in [*planned, *(run.at(weight) for run in planned)]}
    if name not in known:
        raise UserError(f"--run={name}: not in the plan; --plan prints it")
    if not (out / SETTINGS).exists():
        raise UserError(f"--out={out}: no study has begun there; start it without --run")
    if Schedule(out, _settings(out, 0.0, None), math.inf).carry_out([known[name]], weight):
        raise UserError(f"--run={name}: it did not finish")


def _settings(out: Path, budget: float, epochs: float | None) -> float:
    """The study's epochs: those of its first start."""
    from benchmarks.study.probe import epoch_seconds

    path = out / SETTINGS
    if path.exists():
        return float(json.loads(path.read_text())["epochs"])
    if epochs is None:
        seconds = epoch_seconds(out)
        runs = 3 * 3 + len(plan.choosing())
        epochs = min(_MAX_EPOCHS, max(1.0, _HEADLINE_SHARE * budget / (runs * seconds)))
        print(f"one epoch of the ResNet takes {seconds:.0f} s here: {epochs:.1f} epochs a run")
    path.write_text(json.dumps({"epochs": round(epochs, 2), "budget_s": budget}))
    return round(epochs, 2)


def _choose(out: Path) -> float:
    """λ with the highest top-1 on `choose`; the smaller of equals."""
    from benchmarks.study.report import value_of

    best = max(plan.choosing(), key=lambda run: value_of(out, run, "photos_to_choose", "top1"))
    assert best.arm.weight is not None
    print(f"λ = {best.arm.weight:g}, chosen on training photos that no run trained on")
    return best.arm.weight


if __name__ == "__main__":
    sys.exit(main())
