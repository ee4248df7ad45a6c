"""Progress in a log file: counts, a rate of this run only, and lines now and then."""

from __future__ import annotations

import io
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from luab_jax.io import console
from luab_jax.io.console import Progress, format_rate, format_seconds, watched


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (6.6, "7s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (185.0, "3m05s"),
        (3599.4, "59m59s"),
        (3599.6, "1h00m"),
        (3725.0, "1h02m"),
        (360_000.0, "100h00m"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("per_second", "text"),
    [
        (0.0, "0.0/s"),
        (0.03, "1.8/min"),
        (0.9, "54.0/min"),
        (1.0, "1.0/s"),
        (9.94, "9.9/s"),
        (9.96, "10/s"),
        (1234.4, "1,234/s"),
    ],
)
def test_slow_work_has_a_rate_too(per_second: float, text: str) -> None:
    assert format_rate(per_second) == text


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(console, "time", clock)
    return clock


def test_in_a_log_file_there_is_a_line_now_and_then_and_one_at_the_end(
    clock: Clock, capsys: pytest.CaptureFixture
) -> None:
    with Progress("prepare train", 1000, every_s=10.0) as bar:
        for _ in range(10):
            clock.now += 3
            bar.advance(100)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "prepare train: 400/1,000 images, 33/s, 18s left",
        "prepare train: 800/1,000 images, 33/s, 6s left",
        "prepare train: 1,000 images in 30s, 33/s",
    ]


def test_before_the_first_unit_no_remaining_time_is_told(clock: Clock, capsys: pytest.CaptureFixture) -> None:
    with Progress("job", 3, unit="shards", every_s=1.0) as bar:
        clock.now += 5
        bar.advance(0)
    assert capsys.readouterr().err.splitlines()[0] == "job: 0/3 shards, 0.0/s"


def test_without_a_total_short_work_is_silent_and_long_work_counts(clock: Clock, capsys: pytest.CaptureFixture) -> None:
    for pause, lines in ((1, []), (6, ["list x: 40 files, 3.3/s", "list x: 50 files in 18s, 2.8/s"])):
        for _ in watched([10, 30, 10], "list x", unit="files", size=lambda count: count):
            clock.now += pause
        assert capsys.readouterr().err.splitlines() == lines


def test_the_work_of_an_earlier_run_counts_as_done_but_not_in_the_rate(
    clock: Clock, capsys: pytest.CaptureFixture
) -> None:
    with Progress("evaluate", 1000, unit="batches", done=900, every_s=1.0) as bar:
        clock.now += 5
        bar.advance(50)
        assert bar.rate == pytest.approx(10)
    assert capsys.readouterr().err.splitlines()[0] == "evaluate: 950/1,000 batches, 10/s, 5s left"


def test_an_error_ends_without_a_line_of_success(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(KeyError), Progress("x", 2) as bar:
        bar.advance()
        raise KeyError
    assert capsys.readouterr().err == ""


def test_many_threads_may_advance() -> None:
    with Progress("x", 4000) as bar, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: bar.advance(), range(4000)))
        assert bar._done == 4000


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with Progress("prepare train", 40) as bar:
        bar.advance(10)
        time.sleep(0.01)
        bar.advance(30)
    assert "prepare train" in terminal.getvalue()
    assert "40/40" in terminal.getvalue()


def test_a_line_and_its_end_are_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler that tells of its signal between the two would do so in the middle of the line."""
    written: list[str] = []

    class Noting(io.StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            return super().write(text)

    monkeypatch.setattr(sys, "stderr", Noting())
    console.say("step 5/12")
    with Progress("val", 4, every_s=0.0) as progress:
        progress.advance(4)
    lines = [text for text in written if text]
    assert len(lines) == 3 and all(line.endswith("\n") for line in lines)
