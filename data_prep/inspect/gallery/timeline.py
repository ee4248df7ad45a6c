"""The times below a picture of the gallery: when the mouse was on the image, and when something was clicked or put."""

from __future__ import annotations

from collections.abc import Iterator

from data_prep.inspect.gallery.overlay import time_colour
from luab_jax.byproducts.records import ImageRecord, Showing

_WIDTH, _LANE = 360, 16


def timeline(record: ImageRecord) -> str:
    """A lane for each showing that has times, each on its own scale."""
    lanes = [lane for showing in record.showings if (lane := "".join(_lane(showing)))]
    if not lanes:
        return ""
    placed = "".join(f'<g transform="translate(0 {number * _LANE})">{lane}</g>' for number, lane in enumerate(lanes))
    return f'<svg class="times" viewBox="0 0 {_WIDTH} {_LANE * len(lanes)}">{placed}</svg>'


def _lane(showing: Showing) -> Iterator[str]:
    moments = [p.time_ms for p in (*showing.trace, *showing.clicks, *showing.hovers, *showing.actions)]
    known = [time for time in moments if time is not None]
    if not known:
        return
    first, last = min(known), max(known)
    length = max(last - first, 1)
    room = _WIDTH - 60

    def at(time: int) -> float:
        return 6 + (time - first) / length * (room - 12)

    yield f'<line x1="6" x2="{room - 6}" y1="8" y2="8"/>'
    for start, end in _stays(showing, last):
        x, width = at(start), max(at(end) - at(start), 2)
        yield f'<rect x="{x:.1f}" y="5" width="{width:.1f}" height="6" rx="3"/>'
    for time in (action.time_ms for action in showing.actions):
        if time is not None:
            colour = time_colour((time - first) / length)
            yield f'<path d="M{at(time):.1f} 2v12" stroke="{colour}"/>'
    times = [click.time_ms for click in showing.clicks if click.time_ms is not None]
    for time in times:
        kind = "last" if time == times[-1] else "first"
        yield f'<circle class="{kind}" cx="{at(time):.1f}" cy="8" r="4"/>'
    yield f'<text x="{_WIDTH}" y="12" text-anchor="end">{(last - first) / 1000:.2f} s</text>'


def _stays(showing: Showing, last: int) -> Iterator[tuple[int, int]]:
    """From each entry of the mouse to its leaving; without entries the time of the trace."""
    entered: int | None = None
    for hover in showing.hovers:
        if hover.time_ms is None:
            continue
        if hover.entered:
            entered = hover.time_ms if entered is None else entered
        elif entered is not None:
            yield entered, max(hover.time_ms, entered)
            entered = None
    if entered is not None:
        yield entered, last
    times = [point.time_ms for point in showing.trace if point.time_ms is not None]
    if not showing.hovers and times:
        yield min(times), max(times)
