"""The study: `python -m benchmarks.study --photos=DIR --out=DIR [--budget=cpu-1h|cpu-8h|gpu-10min|SECONDS]`.

Prepares the photos and the suites that are made of them, chooses λ, trains every arm and its control in the order of
worth, scores each by every suite, and writes table and report (OUT/study.md, OUT/study.html). It stops when the next
run would not end within the budget. Interrupted, or started again with a further budget, it continues: finished runs
are kept, and the number of epochs stays what the first start set.

--photos  a folder in the layout of imagenet_ab_40 (real photos and boxes, simulated clicks)
--jobs=N  N runs at a time, each on its share of the cores (Linux, CPUs alone); the number of epochs follows from the
          time of one run on all cores, so that more runs end within the budget
--plan    prints the runs in their order, and runs nothing; with --out, by the names that --run takes there, and which
          of them are finished
--report  writes table and report of what is there, and runs nothing
--run     this run of the plan alone, in a study that has begun
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

import jax

from benchmarks.study import arms, photos, plan, runs
from benchmarks.study.schedule import Finished, Schedule
from luab_jax.data.reading import num_cores
from luab_jax.distributed.parent import is_parent
from luab_jax.errors import ExitCode, UserError
from luab_jax.io.atomic import atomic_file

BUDGETS = {"cpu-1h": 3600.0, "cpu-8h": 8 * 3600.0, "gpu-10min": 600.0}
SETTINGS = "study.json"
_MAX_EPOCHS = 30.0
_HEADLINE_SHARE = 0.5
"""Of the budget, which the choice of λ and three seeds of the headline may take for the ResNet, one run at a time."""


def main(argv: list[str] | None = None, finished: Finished | None = None) -> ExitCode:
    """finished: of every run of this call."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.out is None and not arguments.plan:
        parser.error("the following arguments are required: --out")
    out = Path(arguments.out or "")
    try:
        if arguments.plan:
            _print_plan(out if arguments.out else None)
            return ExitCode.DONE
        if arguments.run:
            is_parent()  # a child ends with its parent from here on
            _run_one(out, arguments.run)
            return ExitCode.DONE
        if not arguments.report:
            jobs, budget, epochs = _jobs(arguments.jobs), _seconds(arguments.budget), _epochs(arguments.epochs)
            start, epochs = _begin(Path(arguments.photos), out, budget, epochs)
            _run(Schedule(out, epochs, start + budget, jobs, finished))
        _report(out, is_asked_for=arguments.report)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return ExitCode.FAILED
    except KeyboardInterrupt:
        if not arguments.run:
            print("interrupted; the same command continues", file=sys.stderr)
        return ExitCode.STOPPED_RESUMABLE
    return ExitCode.DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", default="../shared/data/imagenet_ab_40")
    parser.add_argument("--out")
    parser.add_argument("--budget", default="cpu-1h", help="cpu-1h, cpu-8h, gpu-10min, or seconds")
    parser.add_argument("--epochs", type=float, help="instead of what the probe gives")
    parser.add_argument("--jobs", type=int, default=1, metavar="N")
    parser.add_argument("--run", metavar="MODEL/ARM-seedN")
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--report", action="store_true")
    return parser


def _seconds(budget: str) -> float:
    if budget in BUDGETS:
        return BUDGETS[budget]
    try:
        seconds = float(budget)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UserError(f"--budget={budget}: expected {', '.join(BUDGETS)}, or seconds")
    return seconds


def _epochs(wanted: float | None) -> float | None:
    if wanted is not None and not 0 < wanted < math.inf:
        raise UserError(f"--epochs={wanted:g}: expected a number above 0")
    return wanted


def _jobs(wanted: int) -> int:
    if not 1 <= wanted <= num_cores():
        raise UserError(f"--jobs={wanted}: expected 1 to {num_cores()}, the cores that this process may use")
    if wanted > 1 and not hasattr(os, "sched_setaffinity"):
        raise UserError(f"--jobs={wanted}: runs are bound to cores, which only Linux lets a process do")
    if wanted > 1 and jax.default_backend() != "cpu":
        raise UserError(
            f"--jobs={wanted}: several runs at a time would share the {jax.default_backend()}; leave it out"
        )
    return wanted


def _begin(source: Path, out: Path, budget: float, epochs: float | None) -> tuple[float, float]:
    """When the budget begins, and the epochs."""
    clicks = {run.arm.clicks for run in plan.ordered()}
    photos.prepare(source, out, sorted(clicks, key=lambda of: of.name))
    start = time.monotonic()  # the probe is part of the budget
    return start, _settings(out, budget, epochs)


def _print_plan(out: Path | None) -> None:
    """Of a study: with what λ it chose, and what is done."""
    weight = runs.chosen_weight(out) if out else None
    planned = [*plan.choosing(), *plan.ordered(weight)]
    for place, run in enumerate(planned, 1):
        done = "done" if out and runs.is_finished(out, run) else ""
        print(f"{place:3d}  {done:4}  {run.name:<28} {run.arm.about}")


def _run(schedule: Schedule) -> None:
    left = schedule.carry_out(plan.choosing(), arms.DEFAULT_LAMBDA)
    weight = runs.chosen_weight(schedule.out)
    if weight is not None:
        print(f"λ = {weight:g}, chosen on training photos that no run trained on")
        left = schedule.carry_out(plan.ordered(weight), weight)
    else:
        left = [*left, *plan.ordered()]
    if left:
        print(f"the budget is used up: {len(left)} runs, such as {left[0].name}, are left for another time")


def _report(out: Path, *, is_asked_for: bool) -> None:
    from benchmarks.study.report import NothingYetError, write

    try:
        print(write(out))
    except NothingYetError as e:
        if is_asked_for:
            raise
        print(f"{e} yet; the same command continues")


def _run_one(out: Path, name: str) -> None:
    if not (out / SETTINGS).exists():
        raise UserError(f"--out={out}: no study has begun there; start it without --run")
    weight = runs.chosen_weight(out)
    planned = [*plan.choosing(), *(plan.ordered(weight) if weight is not None else ())]
    found = next((run for run in planned if run.name == name), None)
    if found is None:
        why = (
            "until λ is chosen, --plan's first runs alone can be run"
            if weight is None
            else f"--plan --out={out} prints what is"
        )
        raise UserError(f"--run={name}: not in the plan; {why}")
    Schedule(out, _settings(out, 0.0, None), math.inf).carry_out([found], weight or arms.DEFAULT_LAMBDA)


def _settings(out: Path, budget: float, epochs: float | None) -> float:
    """The study's epochs: those of its first start."""
    from benchmarks.study.probe import epoch_seconds

    path = out / SETTINGS
    if path.exists():
        return float(json.loads(path.read_text())["epochs"])
    if epochs is None:
        seconds = epoch_seconds(out)
        num_runs = 3 * 3 + len(plan.choosing())
        epochs = min(_MAX_EPOCHS, max(1.0, _HEADLINE_SHARE * budget / (num_runs * seconds)))
        print(f"one epoch of the ResNet takes {seconds:.0f} s here: {epochs:.1f} epochs a run")
    epochs = float(f"{epochs:.3g}")
    with atomic_file(path) as part:
        part.write_text(json.dumps({"epochs": epochs, "budget_s": budget}))
    return epochs


if __name__ == "__main__":
    sys.exit(main())
