"""Interrupts and damages real runs in every way we know of: `python -m tools.faults --kills=50 --seed=0`.

Prints a table of what was injected, what was lost and what the user saw; exit code 1 if anything was lost. Runs are
compared with an uninterrupted one: parameters, batch statistics and optimiser state to the last bit, and every value of
metrics.jsonl but the times.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from data_prep.argument_types import positive
from tools.faults import hosts, outputs, several, single, surroundings
from tools.faults.kills import kill_often
from tools.faults.runs import Training
from tools.faults.single import Row

GROUPS = ("kills", "single", "outputs", "surroundings", "several", "hosts")


def _uninterrupted(training: Training) -> tuple[Path, float]:
    """Its workdir, and how long its start takes where the compiled programs are kept already."""
    training.run(training.folder / "warm-up")
    workdir = training.folder / "uninterrupted"
    run = training.start(workdir)
    run.wait_until(lambda: "step 1/" in run.output)
    start_s = time.monotonic() - run.begun
    if run.wait():
        raise SystemExit(f"the uninterrupted run failed:\n{run.output}")
    return workdir, start_s


def _kills(folder: Path, kills: int, seed: int) -> Row:
    training = Training(folder / "kills", total_steps=60)
    reference, start_s = _uninterrupted(training)
    killed = kill_often(training, reference, start_s, kills, seed)
    hits = ", ".join(f"{count} in {'an' if what[0] == 'e' else 'a'} {what}" for what, count in killed.hits.items())
    lost = f"WRONG: {'; '.join(killed.differences)}" if killed.differences else "nothing"
    return Row(
        f"{sum(killed.hits.values())} x kill -9",
        f"at random moments: {hits}; the same command after each",
        f"{lost}: {killed.runs} runs ended bit-identical, {killed.repeated_steps} steps repeated in all",
        "resuming from step ...",
    )


def _rows(groups: list[str], folder: Path, kills: int, seed: int) -> Iterator[Row]:
    if "kills" in groups:
        yield _kills(folder, kills, seed)
    of_one_host = {"single": single.rows, "outputs": outputs.rows, "surroundings": surroundings.rows}
    if chosen := [name for name in of_one_host if name in groups]:
        training = Training(folder / "single", total_steps=12)
        reference = _uninterrupted(training)[0]
        for name in chosen:
            yield from of_one_host[name](training, reference)
    if "several" in groups:
        yield from several.rows(Training(folder / "several", total_steps=24))
    if "hosts" in groups:
        yield from hosts.rows(Training(folder / "hosts", total_steps=24))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.faults", description=__doc__)
    parser.add_argument("--kills", type=positive, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--groups", default=",".join(GROUPS), help=f"some of {','.join(GROUPS)}")
    parser.add_argument("--folder", help="where the runs go; otherwise a temporary one")
    arguments = parser.parse_args(argv)
    groups = arguments.groups.split(",")
    if unknown := [name for name in groups if name not in GROUPS]:
        parser.error(f"no group {', '.join(unknown)}")
    # What is ignored, as under nohup, the runs would inherit, and one of the faults is Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    start, wrong = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="luab_jax_faults_") as temporary:
        folder = Path(arguments.folder or temporary)
        print("| fault | how injected | lost | what the user saw |\n|---|---|---|---|", flush=True)
        for row in _rows(groups, folder, arguments.kills, arguments.seed):
            cells = [cell.replace(f"{folder}/", "").replace("|", "/").replace("\n", " ") for cell in row]
            print(f"| {' | '.join(cells)} |", flush=True)
            wrong += any("WRONG" in cell for cell in cells)
    print(f"{wrong} faults lost something, seed {arguments.seed}, {(time.monotonic() - start) / 60:.1f} minutes")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
