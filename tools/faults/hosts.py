"""Hosts that are lost one after the other, each a network namespace; `launch/elastic.py` goes on with those left."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tools.faults.network import Network, is_available
from tools.faults.runs import REPOSITORY, Started, Training, saved_steps
from tools.faults.several import HEARTBEAT_S, compared
from tools.faults.single import Row

BATCH = 12
"""Divides by 4, 3 and 1 hosts of one device; two steps are an epoch of 32 images."""
_OPTIONS = (f"--config.batch_size={BATCH}", f"--config.distributed.heartbeat_timeout_s={HEARTBEAT_S}")


def _elastic(training: Training, network: Network, workdir: Path, *options: str) -> Started:
    addresses = ",".join(network.hosts)
    launcher = [
        *(sys.executable, str(REPOSITORY / "launch" / "elastic.py"), f"--hosts={addresses}"),
        *("--on=ip netns exec {host}", "--devices_per_host=1", "--pause_s=1", *options, "--"),
    ]
    return Started([*launcher, *training.command(workdir, *_OPTIONS)], workdir)


def _steps(run: Started) -> list[int]:
    """Of the log, in the order in which they were printed."""
    words = [line.split()[1] for line in run.output.splitlines() if line.startswith("step ")]
    return [int(word.partition("/")[0].replace(",", "")) for word in words]


def _wait_for_starts(run: Started, number: int, step: int) -> bool:
    """Until the run has started `number` times and come to `step` of the last of these."""

    def is_there() -> bool:
        after = run.output.split("elastic: ")
        starts = [part for part in after if " hosts: " in part.partition("\n")[0]]
        return len(starts) >= number and any(
            line.startswith(f"step {step}/") for line in starts[number - 1].splitlines()
        )

    return run.wait_until(is_there)


def _last_words(run: Started, start: int) -> str:
    """What most of the hosts that were left said last, before they were started again."""
    parts = run.output.split("elastic: ")
    of_start = [i for i, part in enumerate(parts) if " hosts: " in part.partition("\n")[0]][start]
    errors = Counter(line for line in parts[of_start].splitlines() if line.startswith("error: "))
    codes = parts[of_start + 1].splitlines()[0] if len(parts) > of_start + 1 else "?"
    return f"{codes}: {errors.most_common(1)[0][0] if errors else 'WRONG: no message'}"


def lost(training: Training, reference: Path, numbers: list[int], name: str) -> Row:
    """Kills hosts of four in the middle of a run: the first of `numbers`, and after the restart the others at once."""
    workdir = training.folder / name.replace(" ", "_")
    with Network(4).up() as network:
        run = _elastic(training, network, workdir)
        if not _wait_for_starts(run, 1, 5):
            raise SystemExit(f"the hosts ended early:\n{run.output}")
        network.kill(network.hosts[numbers[0]])
        killed = time.monotonic()
        seconds = 0.0
        left = [4, 3]
        if run.wait_until(lambda: "elastic: 3 of 4 hosts" in run.output):
            seconds = time.monotonic() - killed
        if len(numbers) > 1:
            _wait_for_starts(run, 2, 11)
            for number in numbers[1:]:
                network.kill(network.hosts[number])
            left.append(4 - len(numbers))
        code = run.wait()
    verdict = "" if code == 0 else f"WRONG: exit code {code}: {run.output[-500:]!r}; "
    return Row(
        name,
        f"4 network namespaces, kill -9 of all its processes, batch {BATCH}; {' then '.join(map(str, left))} hosts",
        f"{verdict}{compared(workdir, reference)} of one uninterrupted host; steps {_repeated(run)} repeated",
        f"restarted after {seconds:.0f} s; {_last_words(run, 0)}",
    )


def _repeated(run: Started) -> int:
    steps = _steps(run)
    return len(steps) - len(set(steps))


def cut_off(training: Training, workdir: Path) -> Row:
    """The first host's cable is pulled: no connection is closed."""
    with Network(3).up() as network:
        run = _elastic(training, network, workdir, "--once")
        if not _wait_for_starts(run, 1, 5):
            raise SystemExit(f"the hosts ended early:\n{run.output}")
        network.cut_off(network.hosts[0])
        begun = time.monotonic()
        run.wait_until(lambda: run.output.count("error: host 1 of 3") >= 2, timeout_s=180)
        seconds = time.monotonic() - begun
        network.kill(network.hosts[0])
        code = run.wait()
    verdict = "" if code == 3 else f"WRONG: exit code {code}; "
    saved = max(saved_steps(workdir), default=0)
    return Row(
        "host 1 of 3 cut off",
        "its network interface is down: no connection is closed",
        f"{verdict}what came after step {saved}, which a rerun repeats",
        f"after {seconds:.0f} s; {_last_words(run, 0)}",
    )


def rows(training: Training) -> Iterator[Row]:
    if not is_available():
        yield Row("hosts", "network namespaces", "not run: they need root and `ip netns`", "")
        return
    reference = training.folder / "one_host"
    one = training.run(reference, _OPTIONS[0])
    if one.process.returncode:
        raise SystemExit(f"one host failed:\n{one.output}")
    yield lost(training, reference, [0], "first host of 4 lost")
    yield lost(training, reference, [1, 2, 3], "a middle host of 4 lost and then two more")
    yield lost(training, reference, [3], "last host of 4 lost")
    yield cut_off(training, training.folder / "cut_off")
