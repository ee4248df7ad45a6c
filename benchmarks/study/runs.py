"""One run: trained, then scored by every suite; what is finished is not run again."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path

import luab_jax
from benchmarks.study import arms, plan
from benchmarks.study.photos import CHOOSE, VAL
from benchmarks.study.plan import Run
from luab_jax.byproducts.targets import Target
from luab_jax.data.reading import num_cores
from luab_jax.errors import ExitCode, UserError
from luab_jax.evaluation.predictions import whole
from luab_jax.evaluation.procedures import localisation
from luab_jax.evaluation.scores.byproduct import byproduct_error
from luab_jax.evaluation.scores.classification import top_k
from luab_jax.evaluation.suite import Need, Part, Procedure, Scored, Suite
from luab_jax.io.atomic import atomic_file

SECONDS = "seconds.json"
"""What the call that finished a run took, beside its results; less than the whole where an earlier one was stopped."""


def _photos(name: str, split: str, about: str) -> Suite:
    return Suite(
        name, {"photos": Part(("clicks",), split)}, Scored(lambda parts: top_k(parts["photos"])), "top1", protocol=about
    )


PLACE = Suite(
    "place",
    {"clicked": Part(("clicks",), CHOOSE, reduce=whole)},
    Scored(lambda parts: byproduct_error(parts["clicked"])),
    "median_distance",
    needs=frozenset({Need.BYPRODUCT_HEAD}),
    protocol="the head's point against the last click of training photos that no run trained on",
)
LOCALISATION = Suite(
    "localisation_of_photos",
    {"val": Part(("clicks",), VAL)},
    Procedure(localisation),
    "max_box_acc_v2",
    needs=frozenset({Need.MAP}),
    protocol="MaxBoxAccV2 of the map of the true class",
    preprocessing="squashed to {side} x {side} (bilinear), no crop",
)
SUITES: tuple[str | Suite, ...] = (
    _photos("photos", VAL, "top-1 of the validation photos"),
    _photos("photos_to_choose", CHOOSE, "top-1 of training photos that no run trained on; λ is chosen by it"),
    "own_backgrounds",
    "own_corruptions",
    "own_occlusions",
    LOCALISATION,
)


class StoppedError(Exception):
    """Ctrl-C or SIGTERM; the same command continues."""


def is_finished(out: Path, run: Run) -> bool:
    return (out / "runs" / run.name / SECONDS).exists()


def results_path(out: Path, run: Run) -> Path:
    return out / "runs" / run.name / "results.json"


def chosen_weight(out: Path) -> float | None:
    """λ with the highest top-1 on `choose`, the smaller of equals; None until all that it is chosen from is there."""
    candidates = plan.choosing()
    if not all(is_finished(out, run) for run in candidates):
        return None

    def top1(run: Run) -> float:
        suites = luab_jax.read_results(results_path(out, run)).suites
        return float(suites["photos_to_choose"].scores["top1"].value)

    return max(candidates, key=top1).arm.weight


def is_verbose() -> bool:
    return bool(os.environ.get("LUAB_STUDY_VERBOSE"))


def carry_out(run: Run, out: Path, *, weight: float, epochs: float) -> float:
    """Trains and evaluates; the seconds that it took in this process. Raises `StoppedError`, `UserError`."""
    workdir = out / "runs" / run.name
    data = out / "data"
    config = arms.config(run.model, run.arm, run.seed, weight=weight, epochs=epochs, data=str(data))
    start = time.monotonic()
    with _quiet():
        code = luab_jax.train(config, str(workdir))
        if code == ExitCode.STOPPED_RESUMABLE:
            raise StoppedError
        if code != ExitCode.DONE:
            raise UserError(f"{run.name}: training ended with exit code {int(code)}")
        suites = SUITES if run.arm.target is Target.NONE else (*SUITES, PLACE)
        found = luab_jax.run_suites(workdir, str(data), list(suites), out=results_path(out, run), examples=0)
    if found.missing:  # the run is not finished: the table needs every score
        raise UserError(f"{run.name}: {'; '.join(f'{name}: {reason}' for name, reason in found.missing.items())}")
    seconds = time.monotonic() - start
    facts = {"seconds": seconds, "cores": num_cores(), "epochs": config.epochs, "length": run.arm.length}
    facts |= {"lambda": config.byproduct.weight}
    write_facts(workdir, facts)
    return seconds


def write_facts(workdir: Path, facts: dict[str, float]) -> None:
    """In one move: it is there when the run is finished, and others look for it meanwhile."""
    with atomic_file(workdir / SECONDS) as path:
        path.write_text(json.dumps(facts))


@contextlib.contextmanager
def _quiet():
    """The study prints a line for each run; LUAB_STUDY_VERBOSE=1 lets everything through."""
    if is_verbose():
        yield
        return
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing):
        before, sys.stderr = sys.stderr, nothing
        try:
            yield
        finally:
            sys.stderr = before
