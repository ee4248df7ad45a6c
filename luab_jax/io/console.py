"""What a person who waits sees: messages, and progress with rate and remaining time.

On a terminal `rich` draws a bar. It prints nothing useful into a log file, so off a terminal this module prints a line
now and then, which is what a job's log wants.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


def say(message: str, *, active: bool = True) -> None:
    """A line for the person who waits, on stderr, so that stdout stays a command's result."""
    if active:
        # In one write: between a line and its end, the line of a signal handler or of a thread may come in.
        print(f"{message}\n", end="", file=sys.stderr, flush=True)


def format_seconds(seconds: float) -> str:
    """`1h02m`, `3m05s` or `7s`."""
    total = int(seconds + 0.5)
    if total >= 3600:
        return f"{total // 3600}h{total % 3600 // 60:02d}m"
    return f"{total // 60}m{total % 60:02d}s" if total >= 60 else f"{total}s"


Item = TypeVar("Item")


def watched(
    items: Iterable[Item], title: str, *, unit: str, size: Callable[[Item], int] = lambda _: 1
) -> Iterator[Item]:
    """The same items, counted on the way; for work whose end is not known."""
    with Progress(title, None, unit=unit) as progress:
        for item in items:
            yield item
            progress.advance(size(item))


@contextlib.contextmanager
def compiling(what: str, *, active: bool = True) -> Iterator[None]:
    """Says before a compilation that it begins, since it may take minutes, and after it how long it took."""
    start = time.monotonic()
    say(f"compiling {what} ...", active=active)
    yield
    say(f"compiled {what} in {time.monotonic() - start:.1f} s", active=active)


def format_rate(per_second: float) -> str:
    """`1,234/s`; of slow work `2.5/s`, or `4.2/min`."""
    if per_second >= 9.95:
        return f"{per_second:,.0f}/s"
    return f"{per_second:.1f}/s" if per_second >= 0.95 or not per_second else f"{60 * per_second:.1f}/min"


class Progress:
    """Counts finished units against a total. Use as a context manager; `advance` may be called from any thread.

    Where the total is not known (`None`), work of less than `every_s` seconds says nothing.
    """

    def __init__(
        self,
        title: str,
        total: int | None,
        *,
        unit: str = "images",
        done: int = 0,
        every_s: float = 10.0,
        active: bool = True,
    ):
        """`done` units were finished by an earlier run: they count as done but not in the rate.

        One that is not active counts and says nothing.
        """
        self._title, self._total, self._unit = title, total, unit
        self._done = self._done_before = done
        self._every_s = every_s
        self._start = self._last_line = time.monotonic()
        self._quiet = total is None or not active
        self._active = active
        self._bar: Bar | None = None
        if active and sys.stderr.isatty():
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(f"{unit}  {{task.fields[rate]}}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=total is None,
            )
            self._task = self._bar.add_task(title, total=total, completed=done, rate="")

    @property
    def rate(self) -> float:
        """Units per second of this run."""
        return (self._done - self._done_before) / max(time.monotonic() - self._start, 1e-9)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def advance(self, count: int = 1) -> None:
        self._done += count
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, rate=format_rate(self.rate))
        elif self._active and (now := time.monotonic()) - self._last_line >= self._every_s:
            self._last_line = now
            self._quiet = False
            self._print_line()

    def _print_line(self) -> None:
        of, left = "", ""
        if self._total is not None:
            of = f"/{self._total:,}"
            if self.rate > 0:  # before the first unit nobody knows
                left = f", {format_seconds((self._total - self._done) / self.rate)} left"
        say(f"{self._title}: {self._done:,}{of} {self._unit}, {format_rate(self.rate)}{left}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif kind is None and not self._quiet:
            elapsed = time.monotonic() - self._start
            say(f"{self._title}: {self._done:,} {self._unit} in {format_seconds(elapsed)}, {format_rate(self.rate)}")
