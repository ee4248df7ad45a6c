"""The order of a page's events: those of a tab as the page numbered them, several tabs merged by the server's time."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

SAME_CLOCK_MS = 5_000
"""Tabs whose clocks differ by less are taken to share one, as the tabs of one browser do: a clock is known only to
within the time that the tab's fastest request took. Nobody changes devices and works on within these seconds."""


class StoredBatch(NamedTuple):
    """A batch as the log keeps it, parsed."""

    tab: str
    number: int
    events: Sequence[dict[str, Any]]
    delay_ms: int = 0
    """From its sending by the tab's clock to its arrival by the server's."""


def ordered(batches: Iterable[StoredBatch]) -> Iterator[tuple[dict[str, Any], int]]:
    """All events, each once: those of a tab in their own order, several tabs merged by the server's time.

    With each come the ms to add to its time, so that it is by the clock of the first event.
    """
    tabs: dict[str, dict[int, Sequence[dict[str, Any]]]] = {}
    delays: dict[str, int] = {}
    for batch in batches:
        tabs.setdefault(batch.tab, {}).setdefault(batch.number, batch.events)
        delays[batch.tab] = min(delays.get(batch.tab, batch.delay_ms), batch.delay_ms)
    if len(tabs) == 1:
        (only,) = tabs.values()
        for number in sorted(only):
            yield from ((event, 0) for event in only[number])
        return
    clocks, first = _clocks(delays), None
    streams = [_stamped(tabs[tab], clocks[tab], place) for place, tab in enumerate(sorted(tabs))]
    for _, _, _, event, behind in heapq.merge(*streams):
        first = behind if first is None else first
        yield event, behind - first


def _clocks(delays: dict[str, int]) -> dict[str, int]:
    """By how many ms the clock of each tab is behind the fastest one: the same number for tabs of one clock."""
    clocks: dict[str, int] = {}
    behind, last = 0, min(delays.values(), default=0)
    least = last
    for tab, delay in sorted(delays.items(), key=lambda entry: entry[1]):
        if delay - last >= SAME_CLOCK_MS:
            behind = delay - least
        clocks[tab], last = behind, delay
    return clocks


def _stamped(
    batches: dict[int, Sequence[dict[str, Any]]], behind: int, place: int
) -> Iterator[tuple[float, int, int, Any, int]]:
    """With a key that never falls within the tab, whatever its clock did."""
    latest, count = 0.0, 0
    for number in sorted(batches):
        for event in batches[number]:
            latest = max(latest, event["t"])
            count += 1
            yield latest + behind, place, count, event, behind
